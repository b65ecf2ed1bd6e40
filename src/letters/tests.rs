//! Dead letters as a whole, on a real store.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{
    clock::Timestamp,
    config::BodyFormat,
    events::{Source, Speaker},
    names::{BotName, UserName, WebhookName},
    store::{
        DeadLetter, DeadLetterId, LaneRecord, LastRun, Position, ReplayMark, Store, UserNumber,
        WebhookNumber, testing,
    },
};

const CRM: WebhookNumber = WebhookNumber(1);
const OLD: WebhookNumber = WebhookNumber(2);
const ALICE: UserNumber = UserNumber(1);
const BOB: UserNumber = UserNumber(2);
const LATEST: DeadLetterId = DeadLetterId(u64::MAX);

/// Remembers whom it was told of.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<UserNumber>>);

impl Replayer for Told {
    fn replay(&self, users: &[UserNumber]) {
        self.0.lock().unwrap().extend(users);
    }
}

struct World {
    _directory: tempfile::TempDir,
    store: Arc<Store>,
    letters: DeadLetters,
    told: Arc<Told>,
}

impl World {
    /// The users alice and bob, the configured webhook crm, and old, which is not configured.
    fn new() -> Self {
        let (_directory, store) = testing::store();
        for name in ["alice", "bob"] {
            store.user_number(&UserName::new(name).unwrap()).unwrap();
        }
        for name in ["crm", "old"] {
            store.webhook_number(&WebhookName::new(name).unwrap()).unwrap();
        }
        store.bot_number(&BotName::new("support").unwrap()).unwrap();
        let letters = DeadLetters::load(store.clone()).unwrap();
        let told = Arc::new(Told::default());
        letters.connect(CRM, told.clone());
        Self { _directory, store, letters, told }
    }

    /// Buries an event, and waits until that is on stable storage.
    async fn bury(&self, webhook: WebhookNumber, user: UserNumber, event: u64) -> DeadLetter {
        let letter = letter(webhook, user, event);
        self.letters.bury(&letter, frame(event), &LaneRecord::default());
        self.settle().await;
        letter
    }

    /// Waits until everything that was handed over is on stable storage.
    async fn settle(&self) {
        self.store.save_user(ALICE, &Default::default()).await.unwrap();
    }

    fn all(&self) -> Filter {
        self.letters.filter(None, None, |_| true).unwrap()
    }

    async fn listed(&self) -> Vec<u64> {
        let page = self.letters.page(&mut self.all(), LATEST, 100).await.unwrap();
        page.letters.iter().map(|listed| listed.letter.position.event).collect()
    }

    fn next(&self, user: UserNumber) -> Option<u64> {
        self.letters.next_replay(CRM, user).unwrap().map(|replay| replay.letter.position.event)
    }

    async fn replay(&self, letter: &DeadLetter) -> ReplayOutcome {
        self.letters.replay(&mut self.all(), letter.id()).await.unwrap()
    }
}

fn frame(event: u64) -> Bytes {
    // Every third is too large to lie in the store's database.
    Bytes::from(vec![b' '; if event.is_multiple_of(3) { 20_000 } else { 10 }])
}

fn letter(webhook: WebhookNumber, user: UserNumber, event: u64) -> DeadLetter {
    DeadLetter {
        webhook,
        user,
        position: Position { event, sequence: event },
        format: BodyFormat::Frame,
        attempts: 1,
        last_status: Some(422),
        reason: "refused".to_owned(),
        dead_at: Timestamp::now(),
        received_at: Timestamp::now(),
        bot: crate::store::BotNumber(1),
        kind: "bot_response".into(),
        in_reply_to: None,
        source: Source::Live,
        speaker: Speaker::Bot,
        frame_length: frame(event).len() as u32,
    }
}

fn attempt(number: u32) -> FailedAttempt {
    FailedAttempt { number, at: Timestamp::now(), end: AttemptEnd::Status(422), answer: b"no".to_vec() }
}

#[tokio::test]
async fn pages_are_newest_first_and_the_cursor_holds_whatever_comes_and_goes() {
    let world = World::new();
    for event in 1..=5 {
        world.bury(CRM, ALICE, event).await;
    }
    let page = world.letters.page(&mut world.all(), LATEST, 2).await.unwrap();
    let events: Vec<_> = page.letters.iter().map(|listed| listed.letter.position.event).collect();
    assert_eq!((events, page.rest), (vec![5, 4], Rest::Some));
    let last = page.letters[1].letter.id();
    assert_eq!(world.letters.remove(&mut world.all(), last).await.unwrap(), Removal::Done);
    world.bury(CRM, ALICE, 6).await;
    let page = world.letters.page(&mut world.all(), last, 3).await.unwrap();
    let events: Vec<_> = page.letters.iter().map(|listed| listed.letter.position.event).collect();
    assert_eq!((events, page.rest), (vec![3, 2, 1], Rest::None));
}

#[tokio::test]
async fn a_filter_holds_for_lists_and_single_letters_alike() {
    let world = World::new();
    let (alices, bobs) = (world.bury(CRM, ALICE, 1).await, world.bury(OLD, BOB, 2).await);
    let filter = |webhook, user| world.letters.filter(webhook, user, |_| true).unwrap();
    let only_bob = || world.letters.filter(None, None, |user| user.as_str() == "bob").unwrap();
    for mut filter in [filter(Some("old"), None), filter(None, Some("bob")), only_bob()] {
        let page = world.letters.page(&mut filter, LATEST, 10).await.unwrap();
        assert_eq!(page.letters.len(), 1);
        assert_eq!(page.letters[0].letter, bobs);
    }
    assert!(world.letters.find(&mut only_bob(), alices.id()).unwrap().is_none());
    let outcome = world.letters.replay(&mut only_bob(), alices.id()).await.unwrap();
    assert_eq!(outcome, ReplayOutcome::NotThere);
    let removal = world.letters.remove(&mut only_bob(), alices.id()).await.unwrap();
    assert_eq!(removal, Removal::NotThere);
    assert_eq!(world.letters.filter(Some("crn"), None, |_| true).err(), Some(UnknownName::Webhook));
    assert_eq!(world.letters.filter(None, Some("carol"), |_| true).err(), Some(UnknownName::User));
}

#[tokio::test]
async fn a_letter_goes_with_all_that_belongs_to_it() {
    let world = World::new();
    for event in [1, 3] {
        let letter = letter(CRM, ALICE, event);
        world.letters.note_attempt(ALICE, letter.id(), attempt(1));
        world.letters.bury(&letter, frame(event), &LaneRecord::default());
        world.settle().await;
        let details = world.letters.find(&mut world.all(), letter.id()).unwrap().unwrap();
        assert_eq!((details.body.unwrap().bytes, details.history.attempts().len()), (frame(event), 1));
        assert_eq!(world.replay(&letter).await, ReplayOutcome::Marked);
        assert_eq!(world.letters.remove(&mut world.all(), letter.id()).await.unwrap(), Removal::Done);
        assert_eq!(world.letters.remove(&mut world.all(), letter.id()).await.unwrap(), Removal::NotThere);
        assert!(world.letters.find(&mut world.all(), letter.id()).unwrap().is_none());
        assert!(world.store.dead_letter_frame(&letter).is_err());
        assert_eq!(world.store.history(ALICE, letter.id()).unwrap(), History::default());
        assert_eq!(world.next(ALICE), None);
    }
    assert_eq!(world.letters.total(), 0);
}

#[tokio::test]
async fn letters_are_counted_by_webhook_and_once_also_over_a_restart() {
    let world = World::new();
    for event in 1..=3 {
        world.bury(CRM, ALICE, event).await;
    }
    world.bury(OLD, ALICE, 4).await;
    world.bury(CRM, ALICE, 3).await;
    let counts = |letters: &DeadLetters| (letters.count(CRM), letters.count(OLD), letters.total());
    assert_eq!(counts(&world.letters), (3, 1, 4));
    assert_eq!(counts(&DeadLetters::load(world.store.clone()).unwrap()), (3, 1, 4));
    let removed =
        world.letters.remove_all(&mut world.letters.filter(Some("crm"), None, |_| true).unwrap()).await;
    assert_eq!(removed.unwrap(), 3);
    assert_eq!(counts(&world.letters), (0, 1, 1));
}

#[tokio::test]
async fn a_users_letters_are_replayed_in_the_order_of_their_events() {
    let world = World::new();
    let mut marked = Vec::new();
    for (user, event) in [(ALICE, 1), (BOB, 2), (ALICE, 3)] {
        marked.push(world.bury(CRM, user, event).await);
    }
    for letter in marked.iter().rev() {
        assert_eq!(world.replay(letter).await, ReplayOutcome::Marked);
    }
    assert_eq!(*world.told.0.lock().unwrap(), [ALICE, BOB, ALICE]);
    assert_eq!(world.letters.users_with_replays(CRM).unwrap(), [ALICE, BOB]);
    assert_eq!((world.next(ALICE), world.next(BOB)), (Some(1), Some(2)));
    world.letters.delivered(&marked[0]);
    assert_eq!(world.next(ALICE), Some(3), "at once, though the store still shows the first");
    world.settle().await;
    assert_eq!((world.next(ALICE), world.listed().await), (Some(3), vec![3, 2]));
}

#[tokio::test]
async fn a_replay_in_vain_is_a_dead_letter_again_with_its_new_attempts() {
    let world = World::new();
    let letter = world.bury(CRM, ALICE, 1).await;
    world.replay(&letter).await;
    let mark = world.letters.next_replay(CRM, ALICE).unwrap().unwrap().mark;
    world.letters.replay_failed(&letter, ReplayMark { attempts: 1, ..mark }, attempt(2));
    let replay = world.letters.next_replay(CRM, ALICE).unwrap().unwrap();
    assert_eq!(replay.mark.attempts, 1, "known before it is on disk");
    let dead = DeadLetter { attempts: 3, reason: "again".to_owned(), ..letter.clone() };
    world.letters.died_again(&dead, attempt(3));
    assert_eq!(world.next(ALICE), None, "at once, though the store still shows the mark");
    world.settle().await;
    let details = world.letters.find(&mut world.all(), letter.id()).unwrap().unwrap();
    assert_eq!((details.listed.letter, details.listed.replay), (dead, None));
    assert_eq!(details.history.attempts().len(), 2);
    assert_eq!((world.next(ALICE), world.letters.total()), (None, 1));
}

#[tokio::test]
async fn a_letter_whose_replay_ends_while_it_is_read_is_listed_as_it_is_then() {
    let world = World::new();
    let read = world.bury(CRM, ALICE, 1).await;
    world.replay(&read).await;
    let again = DeadLetter { dead_at: read.dead_at.plus(Duration::from_secs(1)), ..read.clone() };
    world.letters.died_again(&again, attempt(2));
    world.settle().await;
    let listed = world.letters.shared.listed(read.clone()).unwrap().unwrap();
    assert_eq!((listed.letter, listed.replay), (again, None));
    world.letters.remove(&mut world.all(), read.id()).await.unwrap();
    assert!(world.letters.shared.listed(read).unwrap().is_none());
}

#[tokio::test]
async fn a_letter_that_is_removed_during_its_replay_does_not_come_back() {
    let world = World::new();
    for outcome in ["delivered", "failed", "dead"] {
        let letter = world.bury(CRM, ALICE, 1).await;
        world.replay(&letter).await;
        let replay = world.letters.next_replay(CRM, ALICE).unwrap().unwrap();
        world.letters.remove(&mut world.all(), letter.id()).await.unwrap();
        match outcome {
            "delivered" => world.letters.delivered(&replay.letter),
            "failed" => world.letters.replay_failed(&replay.letter, replay.mark, attempt(2)),
            _ => world.letters.died_again(&replay.letter, attempt(2)),
        }
        world.settle().await;
        assert_eq!((world.listed().await, world.letters.total()), (vec![], 0), "{outcome}");
        assert_eq!((world.next(ALICE), world.store.histories_after(None).count()), (None, 0), "{outcome}");
    }
}

#[tokio::test]
async fn letters_of_a_webhook_that_is_not_configured_are_left_alone() {
    let world = World::new();
    let (old, _) = (world.bury(OLD, ALICE, 1).await, world.bury(CRM, ALICE, 2).await);
    assert_eq!(world.replay(&old).await, ReplayOutcome::WebhookNotConfigured(OLD));
    let replayed = world.letters.replay_all(&mut world.all()).await.unwrap();
    assert_eq!(replayed, Replayed { marked: 1, left_alone: 1 });
    assert_eq!(world.next(ALICE), Some(2));
    world.letters.disconnect(CRM);
    let replayed = world.letters.replay_all(&mut world.all()).await.unwrap();
    assert_eq!(replayed, Replayed { marked: 0, left_alone: 2 });
}

#[tokio::test]
async fn thousands_are_replayed_and_removed_in_batches() {
    let world = World::new();
    for event in 1u64..=2_000 {
        let user = if event.is_multiple_of(2) { ALICE } else { BOB };
        let letter = DeadLetter { frame_length: 2, ..letter(CRM, user, event) };
        world.letters.bury(&letter, Bytes::from_static(b"{}"), &LaneRecord::default());
    }
    world.settle().await;
    let mut alices = world.letters.filter(None, Some("alice"), |_| true).unwrap();
    assert_eq!(world.letters.replay_all(&mut alices).await.unwrap().marked, 1_000);
    assert_eq!(world.store.replays_of(CRM, ALICE).count(), 1_000);
    assert_eq!(world.store.replays_of(CRM, BOB).count(), 0);
    assert_eq!(world.letters.remove_all(&mut alices).await.unwrap(), 1_000);
    assert_eq!(world.store.replays_of(CRM, ALICE).count(), 0);
    assert_eq!(
        (world.letters.total(), world.letters.remove_all(&mut world.all()).await.unwrap()),
        (1_000, 1_000)
    );
    assert_eq!(world.listed().await, [0; 0]);
}

#[tokio::test]
async fn old_letters_go_and_it_is_known_when_the_next_one_is_due() {
    let world = World::new();
    let life = Duration::from_secs(3600);
    let now = Timestamp::now();
    let mut buried = Vec::new();
    for (webhook, event, minutes) in
        [(CRM, 1, 90), (CRM, 2, 30), (CRM, 3, 61), (CRM, 4, 59), (CRM, 5, 120), (OLD, 6, 120)]
    {
        let dead_at = now.minus(Duration::from_secs(minutes * 60));
        let letter = DeadLetter { dead_at, ..letter(webhook, ALICE, event) };
        world.letters.bury(&letter, frame(event), &LaneRecord::default());
        buried.push(letter);
    }
    world.settle().await;
    // These are to be delivered, old or not; but the last one's webhook was removed then.
    world.replay(&buried[4]).await;
    let mark = ReplayMark { requested_at: now, attempts: 0 };
    world.store.mark_replay(&buried[5], mark, |_| {}).unwrap();
    let expired = world.letters.expire(life, now).await.unwrap();
    assert_eq!((expired.removed, world.listed().await), (3, vec![5, 4, 2]));
    assert_eq!(expired.next, now.plus(Duration::from_secs(60)));
}

#[tokio::test]
async fn what_a_crash_left_of_attempts_is_swept_and_nothing_else() {
    let world = World::new();
    let id = |event| DeadLetterId::of(CRM, event);
    for event in 1..=4 {
        world.letters.note_attempt(ALICE, id(event), attempt(1));
    }
    // 1 was delivered, 2 is dead, 3 was delivered out of order, 4 still waits.
    let at = |event| Position { event, sequence: event };
    let lane = LaneRecord { done: at(2), done_ahead: vec![at(3)], attempted: Vec::new() };
    world.letters.bury(&letter(CRM, ALICE, 2), frame(2), &lane);
    world.settle().await;
    assert_eq!(world.letters.sweep_histories().await.unwrap(), 2);
    world.settle().await;
    let left: Vec<_> = world.store.histories_after(None).map(|entry| entry.unwrap().1).collect();
    assert_eq!(left, [id(2), id(4)]);
}

#[tokio::test]
async fn a_mark_that_was_promised_is_there_after_a_restart() {
    let (directory, store) = testing::store();
    let letter = letter(CRM, ALICE, 3);
    {
        store.user_number(&UserName::new("alice").unwrap()).unwrap();
        store.webhook_number(&WebhookName::new("crm").unwrap()).unwrap();
        store.bot_number(&BotName::new("support").unwrap()).unwrap();
        let letters = DeadLetters::load(store.clone()).unwrap();
        letters.connect(CRM, Arc::new(Told::default()));
        letters.bury(&letter, frame(3), &LaneRecord::default());
        store.save_user(ALICE, &Default::default()).await.unwrap();
        let mut all = letters.filter(None, None, |_| true).unwrap();
        assert_eq!(letters.replay(&mut all, letter.id()).await.unwrap(), ReplayOutcome::Marked);
    }
    drop(store);
    let store = Store::open(&testing::settings(directory.path())).unwrap();
    assert_eq!(store.last_run(), LastRun::Cut, "as after a kill");
    let letters = DeadLetters::load(store).unwrap();
    assert_eq!(letters.users_with_replays(CRM).unwrap(), [ALICE]);
    let replay = letters.next_replay(CRM, ALICE).unwrap().unwrap();
    assert_eq!((replay.letter, replay.event.frame.clone()), (letter, frame(3)));
}
