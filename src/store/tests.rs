//! The store as a whole: what survives, what is refused, and what its disk space does.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;

use super::{records::MAX_INLINE, testing::settings, *};
use crate::{
    clock::Timestamp,
    events::{AgentRecord, Source, Speaker},
    messages::{
        Certainty, ClientMessageId, Expectation, Fingerprint, MessageContent, MessageNumber, MessageRecord,
        MessageStatus,
    },
    names::UserName,
};

pub(super) const ALICE: UserNumber = UserNumber(1);

pub(super) fn event(frame: Bytes) -> NewEvent {
    NewEvent {
        user: ALICE,
        bot: BotNumber(1),
        kind: "bot_response".into(),
        received_at: Timestamp::from_millis(5),
        in_reply_to: None,
        source: Source::Live,
        speaker: Speaker::Bot,
        slots: [LaneSlot { webhook: WebhookNumber(1), sequence: 1, wanted: true }].into_iter().collect(),
        journal: JournalEntry {
            user: ALICE,
            size: frame.len() as u32,
            identity: 1,
            content: 2,
            said: None,
            wanted: Wanted::UNKNOWN,
        },
        frame,
    }
}

/// Stores an event and waits until it is durable.
pub(super) async fn append(store: &Store, frame: Bytes) -> u64 {
    append_marked(store, frame, StreamMark::Keep).await
}

pub(super) async fn append_marked(store: &Store, frame: Bytes, mark: StreamMark) -> u64 {
    let reserved = store.reserve(frame.len()).await.unwrap();
    let (sender, durable) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move |number| {
        let _ = sender.send(number);
    });
    store.append_streamed(event(frame).encode(), mark, reserved, on_durable).unwrap();
    durable.await.unwrap()
}

/// The same with what is to be remembered of the user's agents.
pub(super) async fn append_with(store: &Store, frame: Bytes, agents: &AgentRecord) {
    let reserved = store.reserve(frame.len()).await.unwrap();
    let (sender, durable) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move |number| {
        let _ = sender.send(number);
    });
    store.append_event_and_agents(event(frame).encode(), agents, reserved, on_durable).unwrap();
    durable.await.unwrap();
}

pub(super) fn message(id: u64, number: u64) -> NewMessage {
    let record = MessageRecord {
        number: MessageNumber(number),
        status: MessageStatus::Queued,
        reason: None,
        certainty: Certainty::None,
        expectation: Expectation::Ack,
        attempts: 0,
        created_at: Timestamp::from_millis(1),
        sent_at: None,
        acked_at: None,
        final_at: None,
        ack: None,
        replies: Vec::new(),
        fingerprint: Fingerprint([0; 16]),
        text_fingerprint: Fingerprint([0; 16]),
    };
    NewMessage {
        user: ALICE,
        id: ClientMessageId::new(id).unwrap(),
        generated: true,
        expires_at: Timestamp::from_millis(9),
        record,
        content: MessageContent { fields: Bytes::from_static(b"{}"), bot_custom_data: None },
        idempotency: None,
        trace: None,
    }
}

#[test]
fn a_short_frame_lies_in_its_record_and_leaves_its_own_memory_free() {
    for (length, is_short) in [(1, true), (700, true), (MAX_INLINE, true), (MAX_INLINE + 1, false)] {
        let frame = Bytes::from(vec![b'x'; length]);
        let encoded = event(frame.clone()).encode();
        assert_eq!(encoded.frame(), &frame);
        assert_eq!(frame.is_unique(), is_short, "{length} bytes");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let small = Bytes::from_static(b"{\"type\":\"bot_response\"}");
    let large = Bytes::from(vec![b'x'; 100_000]);
    let nonce = {
        let store = Store::open(&settings(directory.path())).unwrap();
        let alice = UserName::new("alice").unwrap();
        assert_eq!(store.user_number(&alice).unwrap(), ALICE);
        assert_eq!(append(&store, small.clone()).await, 1);
        assert_eq!(append(&store, large.clone()).await, 2);
        store.event_id(1).store
    };
    let store = Store::open(&settings(directory.path())).unwrap();
    assert_eq!(store.event_id(1).store, nonce);
    assert_eq!(store.user_name(ALICE).unwrap().as_str(), "alice");
    let events: Vec<_> = store.events_after(ALICE, 0).map(Result::unwrap).collect();
    assert_eq!(
        events.iter().map(|event| (event.number, &event.frame)).collect::<Vec<_>>(),
        [(1, &small), (2, &large)]
    );
    assert_eq!(append(&store, small).await, 3, "numbers go on");
}

#[tokio::test]
async fn numbers_go_on_although_everything_was_delivered_and_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = Store::open(&settings(directory.path())).unwrap();
        for expected in 1..=3 {
            let number = append(&store, Bytes::from_static(b"{}")).await;
            assert_eq!(number, expected);
            store.remove_event(ALICE, number, 2);
        }
        store.close();
        assert_eq!(store.last_run(), LastRun::Cut);
    }
    let store = Store::open(&settings(directory.path())).unwrap();
    assert_eq!(store.last_run(), LastRun::Closed);
    assert_eq!(store.events_after(ALICE, 0).count(), 0);
    assert_eq!(append(&store, Bytes::from_static(b"{}")).await, 4);
}

#[tokio::test]
async fn many_writers_share_a_commit() {
    let (_directory, store) = testing::store();
    let commits = store.commits();
    let before = *commits.borrow();
    let writers: Vec<_> = (0..500)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { append(&store, Bytes::from_static(b"{}")).await })
        })
        .collect();
    let mut numbers = Vec::new();
    for writer in writers {
        numbers.push(writer.await.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=500).collect::<Vec<_>>());
    let used = *commits.borrow() - before;
    assert!(used < 250, "{used} commits for 500 concurrent writes");
}

#[tokio::test]
async fn a_messages_deferred_status_is_read_before_it_is_on_disk_and_later_writes_win() {
    let (_directory, store) = testing::store();
    let new = message(7, 1);
    let (id, mut record) = (new.id, new.record.clone());
    let reserved = store.reserve(10).await.unwrap();
    let (sender, done) = tokio::sync::oneshot::channel();
    let accepted = store.accept_message(new, reserved, move |result| sender.send(result.is_ok()).unwrap());
    let footprint = accepted.unwrap();
    assert!(done.await.unwrap());
    record.status = MessageStatus::Sent;
    store.save_message(ALICE, id, &record);
    assert_eq!(store.message(ALICE, id).unwrap().unwrap().status, MessageStatus::Sent);
    record.status = MessageStatus::Acked;
    let (sender, done) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move || sender.send(()).unwrap());
    let record = EncodedMessage::of(&record);
    store.finish_message(MessageEnd { user: ALICE, id, footprint, record, on_durable });
    done.await.unwrap();
    assert_eq!(store.message(ALICE, id).unwrap().unwrap().status, MessageStatus::Acked);
    assert_eq!(store.queued_messages().count(), 0);
}

#[tokio::test]
async fn what_a_message_takes_is_told_alike_at_its_acceptance_and_by_a_look_at_the_queue() {
    let (_directory, store) = testing::store();
    let mut footprints = Vec::new();
    for (number, length, custom) in
        [(1, 10, None), (2, 10, Some(Bytes::from_static(b"{}"))), (3, 50_000, None)]
    {
        let mut new = message(number, number);
        new.content = MessageContent { fields: vec![b'f'; length].into(), bot_custom_data: custom };
        let reserved = store.reserve(10).await.unwrap();
        footprints.push(store.accept_message(new, reserved, |result| result.unwrap()).unwrap());
    }
    store.settled().await.unwrap();
    let queued: Vec<_> = store.queued_messages().map(Result::unwrap).collect();
    assert_eq!(queued.iter().map(|queued| queued.footprint).collect::<Vec<_>>(), footprints);
    assert!(store.payloads.bytes() > 0, "the last one has a file");
    let (sender, done) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move || sender.send(()).unwrap());
    let (id, record) = (queued[2].id, EncodedMessage::of(&message(3, 3).record));
    store.finish_message(MessageEnd { user: ALICE, id, footprint: footprints[2], record, on_durable });
    done.await.unwrap();
    assert_eq!(store.payloads.bytes(), 0);
}

/// What a kill leaves: a store's directory while it is open.
fn as_after_a_kill(open: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["", "wal", "sled", "sled/blobs", "payloads"] {
        let Ok(entries) = fs::read_dir(open.join(part)) else { continue };
        fs::create_dir_all(copy.path().join(part)).unwrap();
        for entry in entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
            fs::copy(entry.path(), copy.path().join(part).join(entry.file_name())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn what_only_the_log_has_is_taken_up_by_the_next_start_and_seen_by_the_tools() {
    let (directory, store) = testing::store();
    for number in 1..=20 {
        assert_eq!(append(&store, Bytes::from_static(b"{}")).await, number);
    }
    let copy = as_after_a_kill(directory.path());
    assert!(wal::size_on_disk(copy.path()) > 0);
    let found = offline::verify(&settings(copy.path()), &mut |_| {}).unwrap();
    assert_eq!((found.records["event"], found.damages.count), (20, 0));
    for life in 0..2 {
        let store = Store::open(&settings(copy.path())).unwrap();
        let expected = if life == 0 { LastRun::Cut } else { LastRun::Closed };
        assert_eq!(store.last_run(), expected);
        assert_eq!(store.events_after(ALICE, 0).count(), 20);
        store.close();
    }
}

#[tokio::test]
async fn a_log_that_lost_its_end_or_its_start_is_damage() {
    let (directory, store) = testing::store();
    for _ in 0..20 {
        append(&store, Bytes::from_static(b"{}")).await;
    }
    let copy = as_after_a_kill(directory.path());
    let log = copy.path().join("wal/0");
    let mut whole = fs::read(&log).unwrap();
    let length_at = |at: usize| 24 + u32::from_be_bytes(whole[at + 4..at + 8].try_into().unwrap()) as usize;
    let mut end = 0;
    while length_at(end) > 24 {
        end += length_at(end);
    }
    whole.truncate(end);
    let refusal = || {
        let error = Store::open(&settings(copy.path())).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }) && error.needs_a_person(), "{error}");
        error.to_string()
    };
    fs::write(&log, &whole[..whole.len() / 2]).unwrap();
    assert!(refusal().contains("can't be read any more"));
    let first = 24 + u32::from_be_bytes(whole[4..8].try_into().unwrap()) as usize;
    fs::write(&log, &whole[first..]).unwrap();
    assert!(refusal().contains("goes on with commit 2"), "{}", refusal());
    fs::write(&log, &whole).unwrap();
    assert_eq!(Store::open(&settings(copy.path())).unwrap().events_after(ALICE, 0).count(), 20);
}

#[test]
fn a_store_without_a_log_is_taken_over() {
    let (directory, store) = testing::store();
    store.user_number(&UserName::new("alice").unwrap()).unwrap();
    store.close();
    drop(store);
    // As the first layout was: everything is in the database.
    offline::compact(&settings(directory.path()), &mut |_| ()).unwrap();
    let database =
        sled::Config::new().path(directory.path().join("sled")).segment_size(2 << 20).open().unwrap();
    let layout = || database.get(keys::meta("schema")).unwrap().unwrap();
    assert_eq!(*layout(), 5u32.to_be_bytes());
    database.insert(keys::meta("schema"), &1u32.to_be_bytes()).unwrap();
    drop(database);
    fs::remove_dir_all(directory.path().join("wal")).unwrap();
    for _ in 0..2 {
        let store = Store::open(&settings(directory.path())).unwrap();
        assert_eq!(store.user_name(ALICE).unwrap().as_str(), "alice");
        store.close();
    }
}

#[tokio::test]
async fn more_than_the_log_holds_is_carried_over() {
    let directory = tempfile::tempdir().unwrap();
    // The log of so small a store has two files.
    let settings = config::Store { max_size: 64 << 20, ..settings(directory.path()) };
    let store = Store::open(&settings).unwrap();
    let (frame, mut last) = (Bytes::from(vec![b'a'; 4_000]), None);
    for _ in 0..6_000 {
        last = Some(append_later(&store, frame.clone()).await);
    }
    assert_eq!(last.unwrap().await.unwrap(), 6_000);
    assert!(wal::size_on_disk(directory.path()) < 10 << 20);
    assert_eq!(
        store.events_after(ALICE, 0).map(Result::unwrap).filter(|event| event.frame == frame).count(),
        6_000
    );
    store.close();
    drop(store);
    let reopened = Store::open(&settings).unwrap();
    assert_eq!(reopened.events_after(ALICE, 0).count(), 6_000);
}

/// Accepts a message and ends it, acked.
async fn acked(store: &Store, number: u64) {
    let (new, reserved) = (message(number, number), store.reserve(10).await.unwrap());
    let (id, mut record) = (new.id, new.record.clone());
    record.status = MessageStatus::Acked;
    let footprint = store.accept_message(new, reserved, |result| result.unwrap()).unwrap();
    let (record, on_durable) = (EncodedMessage::of(&record), Box::new(|| ()));
    store.finish_message(MessageEnd { user: ALICE, id, footprint, record, on_durable });
}

/// Writes over all of a small store's log, in many commits.
async fn write_over_the_log(store: &Store) {
    let frame = Bytes::from(vec![b'a'; 4_000]);
    for _ in 0..150 {
        let mut under_way = Vec::new();
        for _ in 0..20 {
            under_way.push(append_later(store, frame.clone()).await);
        }
        for event in under_way {
            store.remove_event(ALICE, event.await.unwrap(), frame.len());
        }
    }
}

#[tokio::test]
async fn statuses_outlive_the_logs_turns_and_what_was_forgotten_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let small = |path: &Path| config::Store { max_size: 64 << 20, ..settings(path) };
    let store = Store::open(&small(directory.path())).unwrap();
    for number in 1..=1_000 {
        acked(&store, number).await;
    }
    write_over_the_log(&store).await;
    let mut forgotten = 0;
    for journal in store.accepted_after(MessageNumber(0)).map(Result::unwrap) {
        if journal.messages.iter().all(|message| message.id.get() <= 600) {
            store.forget_accepted(&journal, 0).unwrap();
            forgotten += journal.messages.len() as u64;
        }
    }
    store.settled().await.unwrap();
    assert!((1..=600).contains(&forgotten), "{forgotten}");
    let check = |store: &Store| {
        for number in 1..=1_000 {
            let found = store.message(ALICE, ClientMessageId::new(number).unwrap()).unwrap();
            let status = (number > forgotten).then_some(MessageStatus::Acked);
            assert_eq!(found.map(|record| record.status), status, "message {number}");
        }
    };
    check(&store);
    let copy = as_after_a_kill(directory.path());
    check(&Store::open(&small(copy.path())).unwrap());
    write_over_the_log(&store).await;
    check(&store);
    store.close();
    drop(store);
    let reopened = Store::open(&small(directory.path())).unwrap();
    check(&reopened);
    write_over_the_log(&reopened).await;
    check(&reopened);
}

#[test]
fn a_second_opener_is_told_so() {
    let (directory, store) = testing::store();
    let error = Store::open(&settings(directory.path())).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(!error.needs_a_person());
    drop(store);
    Store::open(&settings(directory.path())).unwrap();
}

#[test]
fn a_newer_layout_is_refused_and_left_alone() {
    let (directory, store) = testing::store();
    drop(store);
    let database =
        sled::Config::new().path(directory.path().join("sled")).segment_size(2 << 20).open().unwrap();
    database.insert(keys::meta("schema"), &99u32.to_be_bytes()).unwrap();
    drop(database);
    let error = Store::open(&settings(directory.path())).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }) && error.needs_a_person(), "{error}");
}

#[test]
fn damage_is_a_clear_error_and_never_an_empty_store() {
    for offset in [0, 4096, 100_000] {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Store::open(&settings(directory.path())).unwrap();
            for name in 0..200 {
                store.user_number(&UserName::new(&format!("user-{name}")).unwrap()).unwrap();
            }
            store.close();
        }
        let log = directory.path().join("sled/db");
        let mut bytes = fs::read(&log).unwrap();
        let end = (offset + 4096).min(bytes.len());
        if offset >= end {
            continue;
        }
        bytes[offset..end].fill(0xa5);
        fs::write(&log, &bytes).unwrap();
        match Store::open(&settings(directory.path())) {
            Err(error) => {
                assert!(error.needs_a_person(), "{error}");
                assert!(error.to_string().contains("damaged"), "{error}");
            }
            // sled found a whole state before the damage: nothing may be silently missing then.
            Ok(store) => assert_eq!(store.user_name(UserNumber(200)).unwrap().as_str(), "user-199"),
        }
    }
}

#[test]
fn a_damaged_snapshot_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    // sled writes its snapshot when it opens what is there already.
    for _ in 0..2 {
        let store = Store::open(&settings(directory.path())).unwrap();
        store.user_number(&UserName::new("alice").unwrap()).unwrap();
        store.close();
    }
    let mut snapshots = 0;
    for entry in fs::read_dir(directory.path().join("sled")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
            fs::write(&path, b"").unwrap();
            snapshots += 1;
        }
    }
    assert!(snapshots > 0, "sled keeps a snapshot");
    let store = Store::open(&settings(directory.path())).unwrap();
    assert_eq!(store.user_name(ALICE).unwrap().as_str(), "alice");
}

#[test]
fn its_directory_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, _store) = testing::store();
    let mode = |path: &str| fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("."), 0o700);
    assert_eq!((mode("sled/db"), mode("sled/conf")), (0o600, 0o600));
}

/// What the log may take beside the records of that test, in bytes.
const SETTLES_BELOW: u64 = 480_000_000;

/// Bodies of all sizes come and go beside many small records that stay: the disk's use must settle.
#[tokio::test]
async fn disk_use_stays_flat_under_churn_of_all_sizes() {
    let (directory, store) = testing::store();
    let residents = 100_000u64;
    let mut last = None;
    for number in 1..=residents {
        let reserved = store.reserve(100).await.unwrap();
        let (sender, done) = tokio::sync::oneshot::channel();
        store
            .accept_message(message(number, number), reserved, move |_| {
                let _ = sender.send(());
            })
            .unwrap();
        last = Some(done);
    }
    last.unwrap().await.unwrap();
    let mut sizes = Vec::new();
    // It grows to what the log's garbage may hold, sooner or later as the commits are small or large, and then
    // no more.
    while sizes.len() < 48 && !has_settled(&sizes) {
        let mut numbers = Vec::new();
        for index in 0..4_000usize {
            let length = match index % 50 {
                0 => 98_304,
                1 => 8_192,
                _ => [40, 750, 2_048, 4_096][index % 4],
            };
            numbers.push((append_later(&store, Bytes::from(vec![b'a'; length])).await, length));
        }
        for (number, length) in numbers {
            store.remove_event(ALICE, number.await.unwrap(), length);
        }
        // A durable write behind the removals: they are on disk then.
        append(&store, Bytes::from_static(b"{}")).await;
        sizes.push(store.size_on_disk());
        assert!(sizes.last() < Some(&SETTLES_BELOW), "disk use grows: {sizes:?}");
    }
    assert_eq!(fs::read_dir(directory.path().join("payloads")).unwrap().count(), 0);
    let blobs = directory.path().join("sled/blobs");
    assert_eq!(fs::read_dir(blobs).map_or(0, Iterator::count), 0, "sled never syncs its blob files");
}

/// Whether the last rounds added next to nothing.
fn has_settled(sizes: &[u64]) -> bool {
    let Some([before, .., after]) = sizes.len().checked_sub(8).map(|from| &sizes[from..]) else {
        return false;
    };
    *after <= before + before / 200
}

async fn append_later(store: &Store, frame: Bytes) -> tokio::sync::oneshot::Receiver<u64> {
    append_encoded(store, event(frame).encode()).await
}

async fn append_encoded(store: &Store, encoded: EncodedEvent) -> tokio::sync::oneshot::Receiver<u64> {
    let reserved = store.reserve(encoded.frame().len()).await.unwrap();
    let (sender, durable) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move |number| {
        let _ = sender.send(number);
    });
    store.append_event(encoded, reserved, on_durable).unwrap();
    durable
}

fn can_wait() -> EncodedEvent {
    let mut encoded = event(Bytes::from_static(b"{}")).encode();
    encoded.urgency = Urgency::Soon;
    encoded
}

#[tokio::test]
async fn the_journal_of_a_large_commit_is_divided_and_says_the_same() {
    let (directory, store) = testing::store();
    let mut last = None;
    // More than one commit takes.
    for _ in 0..2_500 {
        last = Some(append_encoded(&store, can_wait()).await);
    }
    assert_eq!(last.unwrap().await, Ok(2_500));
    let journals: Vec<_> = store.journals().collect::<Result<_, _>>().unwrap();
    assert!(journals.iter().all(|journal| journal.entries.len() <= 64));
    let numbers =
        journals.iter().flat_map(|journal| journal.first..journal.first + journal.entries.len() as u64);
    assert!(numbers.eq(1..=2_500));
    let arrivals: Vec<_> = store.arrivals(1_000, 1_100).map(|arrival| arrival.unwrap().0).collect();
    assert!(arrivals.into_iter().eq(1_001..=1_100));
    store.close();
    drop(store);
    let store = Store::open(&settings(directory.path())).unwrap();
    assert_eq!(append_later(&store, Bytes::from_static(b"{}")).await.await, Ok(2_501));
}

#[tokio::test]
async fn an_event_that_can_wait_is_stored_by_itself_and_never_behind_a_later_one() {
    let (_directory, store) = testing::store();
    let alone = append_encoded(&store, can_wait()).await;
    assert_eq!(alone.await, Ok(1), "nobody else commits anything");
    let mut earlier = append_encoded(&store, can_wait()).await;
    let later = append_later(&store, Bytes::from_static(b"{}")).await;
    assert_eq!(later.await, Ok(3));
    assert_eq!(earlier.try_recv(), Ok(2));
}
