//! What was missed, and what may have arrived.

use super::*;
use crate::store::Seen;

const EVENT: &str = r#"{"type":"bot_response"}"#;

fn plan(actions: &[Action]) -> &FetchPlan {
    let plans: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::FetchHistory(plan) => Some(plan),
            _ => None,
        })
        .collect();
    assert_eq!(plans.len(), 1, "{actions:?}");
    plans[0]
}

fn is_recovery(plan: &FetchPlan) -> bool {
    matches!(plan.purpose, Purpose::Recovery(_))
}

fn looked_up(plan: &FetchPlan) -> Vec<u64> {
    plan.look_up.iter().map(|id| id.get() - 1000).collect()
}

fn held(in_reply_to: Option<u64>) -> Action {
    let in_reply_to = in_reply_to.map(|number| ClientMessageId::new(1000 + number).unwrap());
    Action::HoldEvent { in_reply_to, answer: Answer::Yes }
}

fn seen(millis: u64) -> Seen {
    let at = Timestamp::from_millis(millis);
    Seen { up_to: at, holes: Vec::new(), alive_at: at }
}

/// Reconnected, with the recovery under way.
fn recovering() -> Rig {
    let mut rig = Rig::open();
    rig.drop_connection();
    assert!(is_recovery(plan(&rig.reconnect_only())));
    rig
}

#[test]
fn the_first_connect_fetches_nothing_and_notes_the_platforms_time() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let grant = rig.grant();
    rig.feed(Input::TokenGranted(grant));
    let at = rig.now.mono;
    rig.feed(Input::UrlIssued { url: url("s"), at });
    let opened = rig.feed(Input::Opened(Skew(60_000)));
    assert!(!opened.iter().any(|action| matches!(action, Action::FetchHistory(_))), "{opened:?}");
    let seen = rig.session.memory().seen.clone().unwrap();
    assert_eq!(seen.alive_at, START.plus(secs(60)));
    assert!(START.plus(secs(60)).since(seen.up_to) <= secs(1));
    assert_eq!(rig.frame(EVENT), [Action::StoreEvent { in_reply_to: None, answer: Answer::Yes }]);
}

#[test]
fn every_later_connect_recovers_and_holds_events_back_until_it_is_done() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.ack(1);
    rig.wait(secs(5));
    rig.feed(Input::Heard(Line::Main));
    rig.drop_connection();
    let opened = rig.reconnect_only();
    let plan = plan(&opened);
    let Purpose::Recovery(before) = &plan.purpose else { panic!("{plan:?}") };
    assert_eq!(before.alive_at, START.plus(secs(5)), "when it was last heard of");
    assert_eq!(plan.until, rig.now.mono + secs(30));
    assert_eq!(plan.last_sent, ClientMessageId::new(1001).ok());
    assert_eq!(plan.token, Some(Secret::new("T1")));
    assert_eq!(rig.frame(EVENT), [held(Some(1))]);
    assert_eq!(rig.frame(r#"{"type":"pong"}"#), []);
    assert_eq!(rig.nothing_found(), [Action::Release]);
    let new = seen(1_800_000_004_000);
    rig.feed(Input::Released { seen: Some(new.clone()), stalled: secs(0) });
    let remembered = rig.session.memory().seen.clone().unwrap();
    assert_eq!(remembered.up_to, new.up_to);
    assert!(remembered.alive_at > before.alive_at, "the gap is over");
    assert!(matches!(rig.frame(EVENT)[..], [Action::StoreEvent { .. }]));
}

#[test]
fn a_restart_recovers_as_well_unless_it_is_switched_off() {
    for recover in [true, false] {
        let mut rig = Rig::with(|settings, beginnings| {
            settings.recover = recover;
            beginnings.memory.history = ConnectHistory::Before;
            beginnings.memory.seen = Some(seen(17));
        });
        rig.feed(Input::Start);
        let opened = rig.finish_connecting();
        let asks = opened.iter().any(|action| matches!(action, Action::FetchHistory(_)));
        assert_eq!(asks, recover);
        let holds = matches!(rig.frame(EVENT)[..], [Action::HoldEvent { .. }]);
        assert_eq!(holds, recover);
    }
}

#[test]
fn what_can_not_be_stored_is_not_seen() {
    let mut rig = recovering();
    let before = rig.session.memory().seen.clone().unwrap();
    rig.nothing_found();
    rig.feed(Input::Released { seen: None, stalled: secs(0) });
    assert_eq!(rig.session.memory().seen.as_ref().unwrap().up_to, before.up_to);
}

#[test]
fn a_recovery_outlives_its_socket_but_not_its_time() {
    let mut rig = recovering();
    let until = rig.now.mono + secs(30);
    assert_eq!(deeds(rig.drop_connection()), []);
    // What comes on the next socket is held back as well, but no longer.
    rig.wait(secs(2));
    let again = rig.reconnect_only();
    assert_eq!(plan(&again).until, until);
    rig.frame(EVENT);
    assert_eq!(deeds(rig.drop_connection()), []);
    assert_eq!(rig.history_fails(), [Action::Remember, Action::Release], "also while nothing is connected");
}

/// What was held back is known once it is stored, and what was missed before it must not pass for known
/// with it, whenever the process dies.
#[test]
fn what_was_not_looked_for_is_remembered_before_anything_newer_is_stored() {
    let ways: [fn(&mut Rig) -> Vec<Action>; 2] = [Rig::history_fails, |rig| rig.feed(Input::Stop)];
    for way in ways {
        let mut rig = recovering();
        let missed = rig.session.memory().seen.as_ref().unwrap().alive_at.plus(secs(1));
        rig.wait(secs(5));
        rig.frame(EVENT);
        let actions = way(&mut rig);
        let place = |wanted: &Action| actions.iter().position(|action| action == wanted);
        assert!(place(&Action::Remember) < place(&Action::Release), "{actions:?}");
        assert!(rig.session.memory().seen.as_ref().unwrap().has_hole_at(missed), "{actions:?}");
    }
    let mut rig = recovering();
    assert_eq!(rig.nothing_found(), [Action::Release], "nothing is in doubt");
}

#[test]
fn what_was_left_to_the_history_is_remembered_once() {
    let mut rig = Rig::open();
    rig.wait(secs(5));
    let at = rig.now.wall;
    assert!(rig.session.left_to_history(at, rig.now));
    assert!(!rig.session.left_to_history(at, rig.now), "it is in the hole");
    assert!(rig.session.memory().seen.as_ref().unwrap().has_hole_at(at));
    rig.feed(Input::Stop);
    rig.wait(secs(5));
    assert!(rig.session.left_to_history(rig.now.wall, rig.now), "also at the end");
}

#[test]
fn a_history_that_could_not_be_read_is_read_again_ever_less_often() {
    let mut rig = recovering();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        rig.history_fails();
        rig.feed(Input::Released { seen: None, stalled: secs(0) });
        let began = rig.now.mono;
        let again = loop {
            let actions = rig.tick();
            rig.feed(Input::Heard(Line::Main));
            if actions.iter().any(|action| matches!(action, Action::FetchHistory(_))) {
                break actions;
            }
        };
        assert!(matches!(plan(&again).purpose, Purpose::Retry(_)));
        assert!(matches!(rig.frame(EVENT)[..], [Action::HoldEvent { .. }]), "in order this time, too");
        pauses.push(rig.now.mono - began);
    }
    assert!(pauses[0] >= secs(60) && pauses[0] <= secs(75), "{pauses:?}");
    assert!(pauses[1] >= secs(120), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= secs(20 * 60)), "{pauses:?}");
    rig.nothing_found();
    rig.feed(Input::Released { seen: None, stalled: secs(0) });
    for _ in 0..200 {
        let actions = rig.tick();
        rig.feed(Input::Heard(Line::Main));
        assert!(!actions.iter().any(|action| matches!(action, Action::FetchHistory(_))), "it is whole now");
    }
}

#[test]
fn a_stop_lets_go_of_what_was_held_back() {
    let mut rig = recovering();
    rig.frame(EVENT);
    let stopped = deeds(rig.feed(Input::Stop));
    assert_eq!(stopped, [Action::Close { code: 1001 }, Action::StopFetching, Action::Release]);
}

#[test]
fn messages_that_were_never_sent_go_out_during_a_recovery() {
    let mut rig = recovering();
    assert_eq!(rig.post(1), [send(1)]);
    rig.sent(1);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1)))]);
}

#[test]
fn a_new_token_from_reading_the_history_is_kept() {
    let mut rig = recovering();
    let access = Access { token: Secret::new("T2"), ..access(START.plus(secs(86_400))) };
    let grant = Some(Grant { access, platform_user_id: None });
    let reply = HistoryReply { found: Default::default(), reading: Reading::Whole, grant };
    assert!(rig.feed(Input::HistoryRead(reply)).contains(&Action::Remember));
    let memory = rig.session.memory();
    assert_eq!(memory.access.as_ref().unwrap().token, Secret::new("T2"));
    assert_eq!(memory.platform_user_id.as_deref(), Some("u-1"));
}

#[test]
fn that_the_connection_is_up_is_noted_now_and_then() {
    let mut rig = Rig::open();
    let before = rig.session.memory().seen.clone().unwrap().alive_at;
    rig.wait(secs(3600));
    rig.feed(Input::Heard(Line::Main));
    assert!(rig.feed(Input::TimePassed).contains(&Action::Remember));
    assert_eq!(rig.session.memory().seen.as_ref().unwrap().alive_at, before.plus(secs(3600)));
}

// ---- Messages that may have arrived.

#[test]
fn an_overdue_message_is_looked_for_and_what_is_behind_it_waits() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.wait(secs(10));
    rig.feed(Input::Heard(Line::Main));
    let due = rig.feed(Input::TimePassed);
    let asked = plan(&due);
    assert!(!is_recovery(asked));
    assert_eq!(looked_up(asked), [1]);
    assert_eq!(rig.post(3), [], "neither sent nor asked for again");
    assert!(matches!(rig.frame(EVENT)[..], [Action::StoreEvent { .. }]), "nothing is held back for it");
    assert_eq!(rig.found(&[1]), [finished(1, Verdict::Found), send(2)]);
}

#[test]
fn what_is_not_found_or_can_not_be_looked_for_is_sent_again() {
    for answer in [Rig::nothing_found, Rig::history_fails] {
        let mut rig = Rig::open();
        rig.post(1);
        rig.sent(1);
        rig.wait(secs(10));
        rig.feed(Input::TimePassed);
        assert_eq!(answer(&mut rig), [send(1)]);
    }
}

#[test]
fn an_ack_ends_the_look_up() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.wait(secs(10));
    rig.feed(Input::TimePassed);
    let acked = [finished(1, Verdict::Acked(ack(1))), Action::StopFetching, send(2)];
    assert_eq!(rig.ack(1), acked);
    assert_eq!(rig.found(&[1]), [], "nobody waits for it");
}

#[test]
fn after_a_drop_the_recovery_answers_the_look_up() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 3);
    for number in 1..=3 {
        rig.post(number);
        rig.sent(number);
    }
    rig.drop_connection();
    let opened = rig.reconnect_only();
    assert!(is_recovery(plan(&opened)));
    assert_eq!(looked_up(plan(&opened)), [1, 2, 3]);
    assert!(!opened.contains(&send(1)));
    assert_eq!(rig.post(4), []);
    let done = [finished(1, Verdict::Found), finished(3, Verdict::Found), Action::Release, send(2)];
    assert_eq!(rig.found(&[1, 3]), done);
}

#[test]
fn without_recovery_the_look_up_asks_by_itself() {
    let mut rig = Rig::open_with(|settings, _| settings.recover = false);
    rig.post(1);
    rig.sent(1);
    rig.drop_connection();
    let opened = rig.reconnect_only();
    assert!(!is_recovery(plan(&opened)));
    assert_eq!(looked_up(plan(&opened)), [1]);
    // The next socket asks again.
    assert_eq!(deeds(rig.drop_connection()), [Action::StopFetching]);
    assert_eq!(looked_up(plan(&rig.reconnect_only())), [1]);
    assert_eq!(rig.found(&[1]), [finished(1, Verdict::Found)]);
}

#[test]
fn what_was_sent_after_the_history_was_asked_is_not_taken_for_lost() {
    let mut rig = Rig::open();
    rig.drop_connection();
    rig.reconnect_only();
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(10));
    rig.feed(Input::Heard(Line::Main));
    assert!(!deeds(rig.feed(Input::TimePassed)).contains(&send(1)));
    let asked = rig.nothing_found();
    assert_eq!(asked[0], Action::Release);
    assert_eq!(looked_up(plan(&asked)), [1]);
    assert_eq!(rig.nothing_found(), [send(1)]);
}

#[test]
fn what_a_kill_left_uncertain_is_looked_for_first_and_answers_events_once_it_is_found() {
    let mut rig = Rig::with(|_, beginnings| {
        beginnings.memory.history = ConnectHistory::Before;
        beginnings.memory.seen = Some(seen(17));
        let uncertain = message(1, Expectation::Ack, START.plus(TTL));
        beginnings.pending = vec![QueuedMessage { certainty: Certainty::Unknown, ..uncertain }];
    });
    rig.feed(Input::Start);
    let opened = rig.finish_connecting();
    assert_eq!(looked_up(plan(&opened)), [1]);
    rig.found(&[1]);
    rig.feed(Input::Released { seen: None, stalled: secs(0) });
    let id = ClientMessageId::new(1001).ok();
    assert_eq!(rig.frame(EVENT), [Action::StoreEvent { in_reply_to: id, answer: Answer::Yes }]);
}

#[test]
fn the_last_attempt_is_looked_for_too_before_a_message_ends() {
    let mut rig = Rig::open_with(|settings, _| settings.max_attempts = 1);
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(10));
    let due = rig.feed(Input::TimePassed);
    assert_eq!(looked_up(plan(&due)), [1]);
    assert_eq!(rig.nothing_found(), [finished(1, Verdict::Expired(FinalReason::NoAck))]);
}

#[test]
fn a_message_that_expires_during_its_look_up_ends_it() {
    let mut rig = Rig::open_with(|settings, _| settings.history_timeout = secs(5000));
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(10));
    rig.feed(Input::TimePassed);
    rig.wait(TTL);
    rig.feed(Input::Heard(Line::Main));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(due.contains(&finished(1, Verdict::Expired(FinalReason::Ttl))), "{due:?}");
    assert!(due.contains(&Action::StopFetching), "{due:?}");
}
