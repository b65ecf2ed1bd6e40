//! What is taken for a repeat, and what never is, however much there is of it and over a restart.

use std::collections::HashSet;

use rtm_bridge::config::{Durability, EventFilter};
use serde_json::json;

use crate::support::{ALICE, World, crm, within};

/// So many identities of a user are remembered.
const REMEMBERED: usize = 1_000;

fn bot_says(identity: &str, text: &str) -> String {
    let message = json!([{"type": "text", "cInfo": {"body": text}}]);
    json!({"type": "bot_response", "messageId": identity, "message": message}).to_string()
}

async fn world() -> World {
    World::start_silent(|config| {
        crm(config).events = EventFilter::Only(vec!["bot_response".to_owned(), "typing".to_owned()]);
        config.store.durability = Durability::Os;
    })
    .await
}

impl World {
    /// Pushes frames, and one more that is new; answers with how many events came until that one.
    async fn come(&self, frames: &[String], last: &str) -> usize {
        let before = self.receiver.events().len();
        for frame in frames.iter().chain([&bot_says(last, last)]) {
            assert_eq!(self.control().push_raw(ALICE, frame.clone()), 1);
        }
        let is_there = |events: &[crate::support::Request]| {
            events.last().is_some_and(|event| event.text.as_deref() == Some(last))
        };
        let events = within(last, self.receiver.wait_until(is_there)).await;
        let ids: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(ids.len(), events.len(), "each event came once");
        events.len() - before - 1
    }

    async fn start_again(&mut self) {
        self.restart().await;
        self.all_connected().await;
    }
}

#[tokio::test]
async fn the_latest_thousand_frames_are_known_again_also_after_a_restart() {
    let mut world = world().await;
    let frames: Vec<_> =
        (0..REMEMBERED + 100).map(|n| bot_says(&format!("ms-{n}"), &n.to_string())).collect();
    assert_eq!(world.come(&frames, "first").await, frames.len());
    // "first" is one of the thousand.
    let latest = &frames[frames.len() - REMEMBERED + 1..];
    assert_eq!(world.come(latest, "second").await, 0);
    world.start_again().await;
    let latest = &latest[1..];
    assert_eq!(world.come(latest, "third").await, 0);
    // Older ones may be events again: the memory is bounded.
    assert_eq!(world.come(&frames[..50], "fourth").await, 50);
}

#[tokio::test]
async fn chunks_and_frames_without_an_identity_are_never_repeats() {
    let mut world = world().await;
    let chunks: Vec<_> =
        (0..REMEMBERED + 200).map(|n| bot_says("ms-stream", &format!("chunk {n}"))).collect();
    assert_eq!(world.come(&chunks, "first").await, chunks.len());
    let typing = vec![r#"{"type":"typing","from":"bot"}"#.to_owned(); 200];
    assert_eq!(world.come(&typing, "second").await, typing.len());
    world.start_again().await;
    assert_eq!(world.come(&typing, "third").await, typing.len());
    let more: Vec<_> = (0..50).map(|n| bot_says("ms-stream", &format!("other chunk {n}"))).collect();
    assert_eq!(world.come(&more, "fourth").await, more.len());
}
