//! Life signs and events.

use super::*;

#[test]
fn an_idle_socket_is_pinged_and_dead_when_nothing_answers() {
    let mut rig = Rig::open();
    rig.wait(secs(15));
    assert_eq!(rig.feed(Input::TimePassed), [Action::SendWsPing(Line::Main)]);
    rig.wait(secs(9));
    assert_eq!(rig.feed(Input::TimePassed), []);
    rig.wait(secs(1));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [Action::Close { code: 1001 }]);
    assert!(rig.backoff() <= Duration::from_millis(500));
}

#[test]
fn any_traffic_is_life() {
    let mut rig = Rig::open();
    rig.wait(secs(15));
    rig.feed(Input::TimePassed);
    rig.wait(secs(9));
    rig.frame(r#"{"type":"pong"}"#);
    rig.wait(secs(9));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [Action::SendJsonPing { id: 1 }]);
    rig.wait(secs(6));
    assert!(rig.feed(Input::TimePassed).contains(&Action::SendWsPing(Line::Main)));
}

#[test]
fn the_platforms_own_ping_goes_out_every_30_seconds_with_an_id_of_no_message() {
    let mut rig = Rig::open();
    let taken = QueuedMessage { id: ClientMessageId::new(2).unwrap(), ..message(1, Expectation::Ack, START) };
    rig.feed(Input::Message(QueuedMessage { expires_at: START.plus(TTL), ..taken }));
    let mut ids = Vec::new();
    for _ in 0..9 {
        rig.wait(secs(10));
        rig.feed(Input::Heard(Line::Main));
        for action in rig.feed(Input::TimePassed) {
            if let Action::SendJsonPing { id } = action {
                ids.push(id);
            }
        }
    }
    assert_eq!(ids, [1, 3, 4]);
}

#[test]
fn while_nobody_can_read_the_clocks_of_the_socket_stand_still() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(5));
    rig.wait(secs(600));
    rig.feed(Input::Stalled(secs(600)));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(!due.contains(&Action::SendWsPing(Line::Main)) && !due.contains(&send(1)), "{due:?}");
    assert_eq!(rig.session.status().state, ConnectionState::Connected);
}

#[test]
fn an_event_answers_the_latest_message_that_was_sent_before_it() {
    let event = |in_reply_to: Option<u64>, answer| Action::StoreEvent {
        in_reply_to: in_reply_to.map(|id| ClientMessageId::new(id).unwrap()),
        answer,
    };
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    assert_eq!(rig.frame(r#"{"type":"bot_response"}"#), [event(None, Answer::Yes)], "a push");
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    assert_eq!(rig.frame(r#"{"type":"Bot_Response"}"#), [event(Some(1001), Answer::Yes)]);
    rig.sent(2);
    assert_eq!(rig.frame(r#"{"type":"events"}"#), [event(Some(1002), Answer::No)]);
    assert_eq!(rig.frame(r#"{"type":"user_message","id":5}"#), [event(None, Answer::No)]);
    for reply in ["ack", "pong", "hello", "ready", "ok"] {
        assert_eq!(rig.frame(&format!(r#"{{"type":"{reply}"}}"#)), [], "{reply}");
    }
    // Sending an earlier one again doesn't make it the latest.
    rig.wait(secs(10));
    rig.feed(Input::TimePassed);
    assert_eq!(rig.nothing_found(), [send(1)]);
    rig.sent(1);
    assert_eq!(rig.frame("{}"), [event(Some(1002), Answer::No)]);
}

#[test]
fn the_latest_message_is_known_across_a_restart() {
    let id = ClientMessageId::new(77).unwrap();
    let mut rig = Rig::open_with(|_, beginnings| beginnings.last_sent = Some(id));
    assert_eq!(
        rig.frame(r#"{"type":"bot_response"}"#),
        [Action::StoreEvent { in_reply_to: Some(id), answer: Answer::Yes }]
    );
}
