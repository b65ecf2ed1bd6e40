//! Two sockets at once, of which the test says what comes on which, and when.

use super::*;

/// A frame without an identity, as often as you like.
const TYPING: &str = r#"{"type":"typing"}"#;

fn frame(name: &str) -> String {
    format!(r#"{{"type":"events","name":"{name}"}}"#)
}

/// Reads on to a goodbye, and says with which code it came.
async fn hear_goodbye(socket: &mut ServerSocket) -> u16 {
    loop {
        match soon(socket.next()).await.expect("a goodbye").unwrap() {
            Message::Close(Some(frame)) => return frame.code.into(),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until a goodbye is there, without reading it, and so without answering it.
async fn await_goodbye(socket: &mut ServerSocket) {
    soon(socket.get_mut().readable()).await.unwrap();
}

/// Answers a goodbye, and waits for the other end's end.
async fn part(mut socket: ServerSocket) {
    while let Some(Ok(_)) = soon(socket.next()).await {}
}

/// Answers the ping that a new socket has to answer.
async fn answer_ping(socket: &mut ServerSocket) {
    assert!(matches!(soon(socket.next()).await, Some(Ok(Message::Ping(_)))));
    socket.flush().await.unwrap();
}

impl World {
    /// With a connection that is renewed as soon as may be.
    async fn renewing() -> Self {
        let life = Duration::from_millis(1);
        Self::with_tokens_of(life, |_, session| session.backoff_max = Duration::from_millis(300)).await
    }

    /// With an old socket, and a new one that has just been let in.
    async fn overlapping() -> (Self, ServerSocket, ServerSocket) {
        let mut world = Self::renewing().await;
        let old = world.connected().await;
        let (query, new) = world.socket().await;
        assert_eq!(query, "sid=2&isReconnect=true");
        (world, old, new)
    }

    async fn expect_events(&mut self, frames: &[&str]) {
        for frame in frames {
            self.expect_event(frame).await;
        }
    }

    /// Proves that nothing else came: something said later is the next that does.
    async fn and_nothing_else(&mut self, socket: &mut ServerSocket) {
        say(socket, &frame("the end")).await;
        self.expect_event(&frame("the end")).await;
    }
}

#[tokio::test]
async fn what_comes_on_both_sockets_is_one_event_and_in_the_old_ones_order() {
    let (mut world, mut old, mut new) = World::overlapping().await;
    let [a, b, c] = ["a", "b", "c"].map(frame);
    for text in [&b, TYPING, &c, TYPING, TYPING] {
        say(&mut new, text).await;
    }
    answer_ping(&mut new).await;
    // The goodbye is there, and is answered when it is read.
    for text in [&a, &b, TYPING] {
        say(&mut old, text).await;
    }
    world.expect_events(&[&a, &b, TYPING]).await;
    part(old).await;
    world.expect_events(&[&c, TYPING, TYPING]).await;
    // It came once on each, and now once more.
    say(&mut new, &b).await;
    world.expect_event(&b).await;
    world.and_nothing_else(&mut new).await;
    assert_eq!(world.user.status().state, ConnectionState::Connected);
}

#[tokio::test]
async fn copies_that_come_when_the_old_socket_is_gone_are_copies_all_the_same() {
    let (mut world, mut old, mut new) = World::overlapping().await;
    for text in [TYPING, TYPING, ANSWER] {
        say(&mut old, text).await;
    }
    world.expect_events(&[TYPING, TYPING, ANSWER]).await;
    answer_ping(&mut new).await;
    part(old).await;
    for text in [TYPING, TYPING, ANSWER, TYPING] {
        say(&mut new, text).await;
    }
    world.expect_event(TYPING).await;
    world.and_nothing_else(&mut new).await;
}

#[tokio::test]
async fn a_frame_that_comes_twice_on_one_socket_is_two_events_once_the_overlap_is_forgotten() {
    let (mut world, mut old, mut new) = World::overlapping().await;
    say(&mut old, TYPING).await;
    world.expect_event(TYPING).await;
    answer_ping(&mut new).await;
    part(old).await;
    // The next renewal is proof that this one is over.
    let (_, mut next) = world.socket().await;
    say(&mut new, TYPING).await;
    world.expect_event(TYPING).await;
    answer_ping(&mut next).await;
    part(new).await;
    world.and_nothing_else(&mut next).await;
}

#[tokio::test]
async fn what_the_old_socket_says_behind_our_goodbye_is_an_event() {
    let (mut world, mut old, mut new) = World::overlapping().await;
    answer_ping(&mut new).await;
    say(&mut new, &frame("late")).await;
    await_goodbye(&mut old).await;
    say(&mut old, &frame("early")).await;
    world.expect_event(&frame("early")).await;
    assert_eq!(hear_goodbye(&mut old).await, 1000);
    part(old).await;
    world.expect_event(&frame("late")).await;
}

#[tokio::test]
async fn messages_change_over_in_order() {
    let mut world = World::renewing().await;
    let mut old = world.connected().await;
    world.post(1);
    world.post(2);
    let first = hear(&mut old).await;
    world.expect_sent(1).await;
    let (_, mut new) = world.socket().await;
    answer_ping(&mut new).await;
    ack(&mut old, &first).await;
    assert!(matches!(world.note().await, Note::Finished(1, Verdict::Acked(_))));
    assert_eq!(hear_goodbye(&mut old).await, 1000);
    // The platform has read all of the old socket.
    part(old).await;
    let second = hear(&mut new).await;
    assert_eq!(second["id"], 1002);
    ack(&mut new, &second).await;
    world.expect_sent(2).await;
    assert!(matches!(world.note().await, Note::Finished(2, Verdict::Acked(_))));
}

#[tokio::test]
async fn an_old_socket_that_breaks_costs_no_more_than_a_look_into_the_history() {
    let (mut world, old, mut new) = World::overlapping().await;
    answer_ping(&mut new).await;
    drop(old);
    world.and_nothing_else(&mut new).await;
    assert_eq!(world.user.status().state, ConnectionState::Connected);
}

#[tokio::test]
async fn what_only_a_lost_new_socket_brought_is_an_event_in_the_end() {
    let mut world = World::renewing().await;
    let mut old = world.connected().await;
    world.post(1);
    let first = hear(&mut old).await;
    world.expect_sent(1).await;
    let (_, mut new) = world.socket().await;
    for text in [TYPING, "{}"] {
        say(&mut new, text).await;
    }
    part_at_once(new).await;
    say(&mut old, TYPING).await;
    world.expect_event(TYPING).await;
    world.expect_event("{}").await;
    ack(&mut old, &first).await;
    assert!(matches!(world.note().await, Note::Finished(1, Verdict::Acked(_))));
    assert!(world.user.status().last_error.unwrap().contains("could not be renewed"));
}

async fn part_at_once(mut socket: ServerSocket) {
    socket.close(None).await.unwrap();
    part(socket).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_stores_what_both_sockets_brought_once() {
    let (mut world, mut old, mut new) = World::overlapping().await;
    say(&mut new, TYPING).await;
    say(&mut new, &frame("on the new one")).await;
    answer_ping(&mut new).await;
    await_goodbye(&mut old).await;
    say(&mut old, &frame("on the old one")).await;
    world.expect_event(&frame("on the old one")).await;
    world.stop();
    say(&mut old, TYPING).await;
    part(old).await;
    world.expect_events(&[TYPING, &frame("on the new one")]).await;
    assert_eq!(hear_goodbye(&mut new).await, 1001);
    part(new).await;
    soon(world.task).await.unwrap();
    assert!(world.notes.recv().await.is_none_or(|note| matches!(note, Note::Saved(_))));
}
