//! Callers that wait for answers: whose turn it is.

use super::*;

const ANSWER: &str = r#"{"type":"bot_response","messageId":"ms-1"}"#;

impl Rig {
    /// A message whose answer a caller waits for, as it is told.
    fn post_awaited(&mut self, number: u64) -> Vec<Action> {
        assert_eq!(self.feed(Input::TurnBegan(MessageNumber(number))), []);
        self.post(number)
    }

    fn give_up(&mut self, number: u64) -> Vec<Action> {
        self.feed(Input::TurnEnded(MessageNumber(number)))
    }

    /// Sends a message that may be sent, and acks it.
    fn sent_and_acked(&mut self, number: u64) -> Vec<Action> {
        assert_eq!(self.sent(number), [mark(number)]);
        let mut actions = self.ack(number);
        assert_eq!(actions.remove(0), finished(number, Verdict::Acked(ack(number))));
        actions
    }

    /// The bot's answer, taken to be to this message, comes and is stored.
    fn answer_to(&mut self, number: u64) -> Vec<Action> {
        let id = ClientMessageId::new(1000 + number).unwrap();
        let stored = Action::StoreEvent { in_reply_to: Some(id), answer: Answer::Yes };
        assert_eq!(self.frame(ANSWER), [stored]);
        self.feed(Input::EventStored { answered: Some(id), stalled: Duration::ZERO })
    }
}

#[test]
fn later_messages_wait_for_the_answer_that_somebody_waits_for() {
    let mut rig = Rig::open();
    assert_eq!(rig.post_awaited(1), [send(1)]);
    assert_eq!(rig.post(2), []);
    assert_eq!(rig.sent_and_acked(1), []);
    assert_eq!(rig.answer_to(1), [], "its caller may go on collecting");
    assert_eq!(rig.give_up(1), [send(2)]);
}

#[test]
fn a_caller_that_gives_up_lets_the_others_go() {
    let mut rig = Rig::open();
    rig.post_awaited(1);
    rig.post_awaited(2);
    assert_eq!(rig.post(3), []);
    rig.sent_and_acked(1);
    assert_eq!(rig.give_up(2), [], "the first still waits");
    rig.wait(secs(3));
    assert_eq!(rig.give_up(1), [send(2)]);
    assert_eq!(rig.sent_and_acked(2), [send(3)]);
}

#[test]
fn frames_that_await_no_ack_wait_their_turn_as_well() {
    let mut rig = Rig::open();
    rig.post_awaited(1);
    assert_eq!(rig.post_unacked(2), []);
    rig.sent_and_acked(1);
    assert_eq!(rig.give_up(1), [send(2)]);
}

#[test]
fn an_answer_that_is_owed_is_waited_for_until_2_s_after_the_ack() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post_awaited(2);
    assert_eq!(rig.sent_and_acked(1), [], "the answer to 1 would be taken for the answer to 2");
    assert_eq!(rig.answer_to(1), [send(2)]);

    let mut rig = Rig::open();
    rig.post(1);
    rig.post_awaited(2);
    rig.sent_and_acked(1);
    rig.wait(Duration::from_millis(1999));
    assert_eq!(rig.feed(Input::TimePassed), []);
    assert_eq!(rig.session.deadline(), Some(rig.now.mono + Duration::from_millis(1)));
    assert_eq!(rig.tick(), [send(2)]);
}

#[test]
fn an_answer_before_the_ack_is_an_answer() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post_awaited(2);
    rig.sent(1);
    assert_eq!(rig.answer_to(1), [], "not before the ack");
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
}

#[test]
fn an_answer_to_the_latest_settles_no_earlier_one() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post(2);
    rig.post_awaited(3);
    assert_eq!(rig.sent_and_acked(1), [send(2)]);
    rig.wait(secs(1));
    assert_eq!(rig.sent_and_acked(2), []);
    assert_eq!(rig.answer_to(2), [], "it may as well be the answer to 1, and the one to 2 still to come");
    assert_eq!(rig.tick(), [send(3)], "2 s after the ack of 1");
}

#[test]
fn nobody_waits_for_answers_that_only_others_are_owed() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post(2);
    assert_eq!(rig.sent_and_acked(1), [send(2)]);
}

#[test]
fn an_agent_owes_no_answers() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post_awaited(2);
    rig.sent_and_acked(1);
    assert_eq!(rig.feed(Input::TalksTo(Partner::Agent)), [send(2)]);
    assert_eq!(rig.sent_and_acked(2), []);
    rig.post_awaited(3);
    assert_eq!(rig.give_up(2), [send(3)]);
    rig.sent_and_acked(3);
    rig.feed(Input::TalksTo(Partner::Bot));
    rig.post_awaited(4);
    assert_eq!(rig.give_up(3), [], "the bot owes one again");
    assert_eq!(rig.tick(), [send(4)]);
}

#[test]
fn with_several_in_flight_those_before_are_acked_first() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 4);
    rig.post(1);
    assert_eq!(rig.sent(1), [mark(1)]);
    assert_eq!(rig.post_awaited(2), []);
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.ack(1).len(), 1);
    assert_eq!(rig.tick(), [send(2)]);
    rig.sent(2);
    assert_eq!(rig.give_up(2), [send(3)]);
}

#[test]
fn a_message_that_waits_for_its_turn_still_expires() {
    let mut rig = Rig::open();
    rig.post_awaited(1);
    rig.sent_and_acked(1);
    let short = message(2, Expectation::Ack, rig.now.wall.plus(secs(5)));
    assert_eq!(rig.feed(Input::Message(short)), []);
    rig.wait(secs(5));
    assert_eq!(rig.feed(Input::TimePassed).first(), Some(&finished(2, Verdict::Expired(FinalReason::Ttl))));
}

#[test]
fn what_was_sent_is_sent_again_whoever_waits() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.sent(2);
    // A repeat of the first request, whose caller waits.
    rig.feed(Input::TurnBegan(MessageNumber(1)));
    rig.post(3);
    rig.drop_connection();
    assert!(rig.reconnect().contains(&send(1)));
    rig.sent(1);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
    assert_eq!(rig.sent_and_acked(2), [], "but nothing new goes out");
    assert_eq!(rig.give_up(1), [send(3)]);
}

#[test]
fn a_turn_outlives_the_connection() {
    let mut rig = Rig::open();
    rig.post_awaited(1);
    rig.post(2);
    rig.sent_and_acked(1);
    rig.drop_connection();
    assert_eq!(
        deeds(rig.reconnect()).iter().filter(|action| matches!(action, Action::Send { .. })).count(),
        0
    );
    assert_eq!(rig.give_up(1), [send(2)]);
}

#[test]
fn what_was_owed_before_a_restart_is_owed_after_it() {
    let begin = |passed| {
        let mut rig = Rig::open_with(|_, beginnings| {
            beginnings.last_sent = Some(ClientMessageId::new(1001).unwrap());
            beginnings.unanswered_for = Some(passed);
            beginnings.awaited = [MessageNumber(2)].into();
        });
        rig.post(2)
    };
    assert_eq!(begin(Duration::from_millis(500)), []);
    assert_eq!(begin(secs(2)), [send(2)]);
}
