//! What is sent, when, and how it ends.

use super::*;

#[test]
fn one_message_at_a_time_in_order() {
    let mut rig = Rig::open();
    assert_eq!(rig.post(1), [send(1)]);
    assert_eq!(rig.post(2), []);
    assert_eq!(rig.sent(1), [mark(1)]);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
    assert_eq!(rig.sent(2), [mark(2)]);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2)))]);
}

#[test]
fn as_many_in_flight_as_allowed() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    assert_eq!(rig.post(1), [send(1)]);
    assert_eq!(rig.sent(1), [mark(1)]);
    assert_eq!(rig.post(2), [send(2)]);
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.sent(2), [mark(2)]);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2))), send(3)]);
    rig.sent(3);
    // After a drop, in order again.
    rig.close(1006);
    let resent = [rig.reconnect(), rig.sent(1)].concat();
    assert_eq!(
        deeds(resent),
        [send(1), mark(1)],
        "one at a time after a drop that a message may have caused"
    );
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(3)]);
}

#[test]
fn what_waits_at_the_start_is_sent_first_and_in_order() {
    let mut rig = Rig::open_with(|_, beginnings| {
        beginnings.pending = (1..=2).map(|n| message(n, Expectation::Ack, START.plus(TTL))).collect();
    });
    assert_eq!(rig.post(3), []);
    rig.sent(1);
    assert_eq!(rig.ack(1).last(), Some(&send(2)));
}

#[test]
fn a_message_that_is_told_of_twice_is_sent_once() {
    let mut rig = Rig::open_with(|_, beginnings| {
        beginnings.pending = vec![message(1, Expectation::Ack, START.plus(TTL))];
    });
    assert_eq!(rig.post(1), []);
    rig.sent(1);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1)))]);
}

#[test]
fn acks_that_name_nothing_awaited_are_ignored() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    for ignored in [
        r#"{"type":"ack","ok":true}"#,
        r#"{"type":"ack","ok":true,"replyto":1002}"#,
        r#"{"type":"ack","ok":true,"replyto":"x"}"#,
        r#"{"type":"ack","ok":false,"replyto":1}"#,
        r#"{"type":"pong","replyto":1001}"#,
    ] {
        assert_eq!(rig.frame(ignored), [], "{ignored}");
    }
    assert_eq!(rig.frame(r#"{"type":"ok","replyto":"1001"}"#).len(), 2, "no word on ok counts as ok");
}

#[test]
fn a_negative_ack_rejects() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    let nack = r#"{"type":"ack","ok":false,"replyto":1001,"message":"no"}"#;
    let verdict = Verdict::Rejected(FinalReason::RefusedByPlatform, Some(nack.into()));
    assert_eq!(rig.frame(nack), [finished(1, verdict)]);
}

#[test]
fn without_an_ack_it_is_sent_again_and_then_given_up() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.post(2);
    for attempt in 1..=3 {
        assert_eq!(rig.sent(1), [mark(1)], "{attempt}");
        rig.wait(secs(10));
        rig.feed(Input::Heard(Line::Main));
        rig.feed(Input::TimePassed);
        let due = deeds(rig.nothing_found());
        if attempt < 3 {
            assert_eq!(due.last(), Some(&send(1)));
        } else {
            assert!(due.contains(&finished(1, Verdict::Expired(FinalReason::NoAck))));
            assert_eq!(due.last(), Some(&send(2)));
        }
    }
}

#[test]
fn an_ack_after_a_resend_counts_and_one_from_before_a_reconnect_too() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.wait(secs(10));
    rig.feed(Input::TimePassed);
    assert_eq!(rig.nothing_found(), [send(1)]);
    rig.sent(1);
    rig.drop_connection();
    // It is being written when the old ack comes.
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1)))]);
    assert_eq!(rig.sent(1), []);
    assert_eq!(rig.session.outbox.len(), 0);
}

#[test]
fn sends_that_a_disconnect_cut_off_are_not_attempts_but_five_of_them_are_enough() {
    let mut rig = Rig::open_with(|settings, _| settings.max_attempts = 1);
    rig.post(1);
    for _ in 1..=4 {
        rig.sent(1);
        let dropped = deeds(rig.drop_connection());
        assert_eq!(dropped, []);
        assert_eq!(deeds(rig.reconnect()), [send(1)]);
    }
    rig.sent(1);
    assert_eq!(deeds(rig.drop_connection()), [finished(1, Verdict::Expired(FinalReason::NoAck))]);
}

#[test]
fn a_write_that_broke_may_have_arrived() {
    let mut rig = Rig::open();
    rig.post(1);
    assert_eq!(deeds(rig.drop_connection()), [mark(1)]);
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
}

#[test]
fn a_message_that_is_too_large_is_never_sent_again_and_the_next_goes_on() {
    let mut rig = Rig::open_with(|settings, _| settings.in_flight = 2);
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.sent(2);
    let closed = deeds(rig.close(1009));
    assert_eq!(closed, [finished(2, Verdict::Rejected(FinalReason::TooLarge, None))], "the last sent");
    assert_eq!(deeds(rig.reconnect()), [send(1)]);
}

#[test]
fn a_1009_after_the_ack_blames_nobody() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.ack(1);
    assert_eq!(deeds(rig.close(1009)), []);
}

#[test]
fn a_1007_drops_the_message_that_caused_it() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    assert_eq!(
        deeds(rig.close(1007)),
        [finished(1, Verdict::Rejected(FinalReason::RefusedByPlatform, None))]
    );
}

#[test]
fn a_message_too_large_to_write_ends_and_an_unreadable_one_is_tried_as_often_as_any() {
    let mut rig = Rig::open();
    rig.post(1);
    let too_large = rig.feed(Input::NotSent(MessageNumber(1), NotSent::TooLarge));
    assert_eq!(too_large, [finished(1, Verdict::Rejected(FinalReason::TooLarge, None))]);
    rig.post(2);
    for attempt in 1..=3 {
        assert_eq!(rig.feed(Input::NotSent(MessageNumber(2), NotSent::Unreadable)), [], "{attempt}");
        rig.wait(secs(10));
        rig.feed(Input::Heard(Line::Main));
        rig.feed(Input::TimePassed);
        let due = deeds(rig.nothing_found());
        let expected = match attempt {
            3 => finished(2, Verdict::Expired(FinalReason::NoAck)),
            _ => send(2),
        };
        assert!(due.contains(&expected), "{due:?}");
    }
}

#[test]
fn time_to_live_ends_a_message_wherever_it_is() {
    let expired = |number| finished(number, Verdict::Expired(FinalReason::Ttl));
    // Disconnected.
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.post(1);
    rig.wait(TTL);
    assert_eq!(rig.feed(Input::TimePassed), [expired(1)]);
    // In flight, and behind it.
    let mut rig = Rig::open_with(|settings, _| settings.ack_timeout = secs(5000));
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    rig.wait(TTL);
    rig.feed(Input::Heard(Line::Main));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(due.contains(&expired(1)) && due.contains(&expired(2)), "{due:?}");
    assert!(!due.contains(&send(2)));
    // At the start.
    let mut rig = Rig::with(|_, beginnings| beginnings.pending = vec![message(1, Expectation::Ack, START)]);
    assert_eq!(rig.feed(Input::Start)[0], expired(1));
}

#[test]
fn a_wall_clock_that_jumps_ahead_expires_messages_within_seconds() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.post(1);
    rig.now.wall = rig.now.wall.plus(TTL);
    assert!(rig.session.deadline().unwrap() - rig.now.mono <= secs(10));
    assert_eq!(rig.tick(), [finished(1, Verdict::Expired(FinalReason::Ttl))]);
}

#[test]
fn what_is_not_acked_is_sent_once_in_order() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    assert_eq!(rig.post_unacked(2), [], "not before the message that was accepted before it");
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.ack(1), [finished(1, Verdict::Acked(ack(1))), send(2)]);
    assert_eq!(rig.sent(2), [finished(2, Verdict::Sent), send(3)]);
    rig.sent(3);
    assert_eq!(rig.frame(r#"{"type":"ack","ok":true,"replyto":1002}"#), []);
}

#[test]
fn what_is_sent_once_ends_with_the_connection() {
    let gone = |number| finished(number, Verdict::Expired(FinalReason::Disconnected));
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post_unacked(2);
    assert_eq!(deeds(rig.drop_connection()), [gone(2)]);
    assert_eq!(rig.post_unacked(3), [gone(3)], "while not connected");
    let mut rig = Rig::with(|_, beginnings| {
        beginnings.pending = vec![message(4, Expectation::Nothing, START.plus(TTL))];
    });
    assert_eq!(rig.feed(Input::Start)[0], gone(4), "from before a restart");
}

#[test]
fn the_users_rate_is_kept() {
    let mut rig = Rig::open_with(|settings, _| {
        settings.message_rate = Some(Rate { count: 2, per: secs(1) });
    });
    for number in 1..=3 {
        rig.post(number);
    }
    rig.sent(1);
    rig.ack(1);
    rig.sent(2);
    assert_eq!(rig.ack(2), [finished(2, Verdict::Acked(ack(2)))]);
    let before = rig.now.mono;
    assert_eq!(rig.tick(), [send(3)]);
    assert_eq!(rig.now.mono - before, Duration::from_millis(500));
}
