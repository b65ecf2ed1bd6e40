use std::{collections::BTreeSet, fs, io::Cursor, ops::ControlFlow, path::Path, sync::Arc};

use bytes::Bytes;

use super::{
    compact::{Step, compact_until},
    kinds::KINDS,
    *,
};
use crate::{
    clock::Timestamp,
    config::{BodyFormat, Secret},
    events::AgentRecord,
    letters::{AttemptEnd, FailedAttempt, History},
    messages::{Fingerprint, MessageStatus},
    names::{BotName, ClientName, UserName, WebhookName},
    store::{
        Access, Attempted, BotNumber, ConnectHistory, DeadLetter, DeadLetterId, EncodedMessage, Idempotency,
        LaneRecord, LastRun, MessageEnd, Position, ReplayMark, Seen, Store, StreamMark, UserRecord,
        WebhookNumber, WebhookRecord,
        testing::settings,
        tests::{ALICE, append, append_marked, append_with, message},
    },
    template::{Template, TemplateSource},
    trace::{SpanId, TraceContext, TraceId},
};

const TOKEN: &str = "an-access-token";

/// A store with records of every kind, small and large, text and not, closed in order.
async fn store_with_everything(path: &Path) {
    let store = Store::open(&settings(path)).unwrap();
    assert_eq!(store.user_number(&UserName::new("alice").unwrap()).unwrap(), ALICE);
    let webhook = store.webhook_number(&WebhookName::new("crm").unwrap()).unwrap();
    let client = store.client_number(&ClientName::new("crm").unwrap()).unwrap();
    store.bot_number(&BotName::new("support").unwrap()).unwrap();
    let access =
        Access { token: Secret::new(TOKEN), expires_at: Timestamp::from_millis(9), granted_for: [7; 16] };
    let user = UserRecord {
        access: Some(access),
        platform_user_id: Some("u-1".to_owned()),
        history: ConnectHistory::Before,
        seen: Some(Seen {
            up_to: Timestamp::from_millis(3),
            holes: Vec::new(),
            alive_at: Timestamp::from_millis(4),
        }),
    };
    store.save_user(ALICE, &user).await.unwrap();
    let hold = WebhookRecord { held_until: Some(Timestamp::from_millis(5)), ..WebhookRecord::default() };
    store.save_webhook(webhook, &hold);
    for number in 1..=4 {
        accept(&store, number, number % 2 == 0, (number == 3).then_some(client)).await;
    }
    finish_first(&store).await;
    append(&store, Bytes::from_static(b"{\"type\":\"bot_response\"}")).await;
    append(&store, Bytes::from(vec![b'x'; 100_000])).await;
    let agents = AgentRecord::begun(BotNumber(1), Timestamp::from_millis(6));
    append_with(&store, Bytes::from_static(b"\xff\x00"), &agents).await;
    append_marked(&store, Bytes::from_static(b"{}"), StreamMark::Behind(2)).await;
    store.keep_template(&template()).unwrap();
    bury(&store, webhook, 1);
    bury(&store, webhook, 2);
    // The newest commit's journal stays; the first may go.
    let journal = store.accepted_after(crate::messages::MessageNumber(0)).next().unwrap().unwrap();
    store.forget_accepted(&journal, 1).unwrap();
    store.close();
}

/// A template of more than one part.
fn template() -> Template {
    let source = TemplateSource {
        file: "desk.xml".to_owned(),
        content_type: "text/xml".to_owned(),
        text: "<t>{{ text }}</t>\n".repeat(500),
    };
    Template::compile(source).unwrap()
}

async fn accept(store: &Store, number: u64, is_large: bool, client: Option<crate::store::ClientNumber>) {
    let mut new = message(1_000 + number, number);
    if is_large {
        new.content.fields = Bytes::from(vec![b'f'; 50_000]);
        new.content.bot_custom_data = Some(Bytes::from_static(b"[1]"));
    }
    new.trace = client.is_some().then(|| {
        let (trace, span) = (TraceId::new([7; 16]).unwrap(), SpanId::new([8; 8]).unwrap());
        Box::new(TraceContext::new(trace, span))
    });
    new.idempotency = client.map(|client| Idempotency { client, key: Fingerprint([0xab; 16]) });
    let reserved = store.reserve(10).await.unwrap();
    let (sender, done) = tokio::sync::oneshot::channel();
    store.accept_message(new, reserved, move |result| sender.send(result.is_ok()).unwrap()).unwrap();
    assert!(done.await.unwrap());
}

async fn finish_first(store: &Store) {
    let new = message(1_001, 1);
    let record = crate::messages::MessageRecord {
        status: MessageStatus::Acked,
        final_at: Some(Timestamp::from_millis(77)),
        ..new.record
    };
    let (sender, done) = tokio::sync::oneshot::channel();
    let on_durable = Box::new(move || sender.send(()).unwrap());
    let footprint =
        store.queued_messages().map(Result::unwrap).find(|queued| queued.id == new.id).unwrap().footprint;
    let record = EncodedMessage::of(&record);
    store.finish_message(MessageEnd { user: ALICE, id: new.id, footprint, record, on_durable });
    done.await.unwrap();
}

/// Makes a dead letter of an event, which was tried, and is to be tried again.
fn bury(store: &Store, webhook: WebhookNumber, number: u64) {
    let event = store.event(ALICE, number).unwrap().unwrap();
    let position = Position { event: number, sequence: number };
    let letter = DeadLetter {
        webhook,
        user: ALICE,
        position,
        format: BodyFormat::Envelope,
        attempts: 3,
        last_status: Some(400),
        reason: "refused".to_owned(),
        dead_at: Timestamp::from_millis(8),
        received_at: event.received_at,
        bot: event.bot,
        kind: event.kind,
        in_reply_to: event.in_reply_to,
        source: event.source,
        speaker: event.speaker,
        frame_length: u32::try_from(event.frame.len()).unwrap(),
    };
    let attempted = Attempted { event: 3, attempts: 1, format: BodyFormat::Form, last_status: None };
    let lane = LaneRecord { done: position, attempted: vec![attempted], ..LaneRecord::default() };
    store.add_dead_letter(&letter, event.frame, &lane);
    let mut history = History::default();
    let answer = b"no\xff".to_vec();
    history.add(FailedAttempt {
        number: 1,
        at: Timestamp::from_millis(7),
        end: AttemptEnd::Status(400),
        answer,
    });
    store.save_history(ALICE, letter.id(), &history);
    store.made_identity(ALICE, || "someone".to_owned()).unwrap();
    store.save_replay(&letter, ReplayMark { requested_at: Timestamp::from_millis(9), attempts: 1 });
}

fn exported(path: &Path) -> (Exported, Vec<String>) {
    let mut out = Vec::new();
    let exported = export(&settings(path), &mut out, &mut |_| {}).unwrap();
    let text = String::from_utf8(out).unwrap();
    (exported, text.lines().map(str::to_owned).collect())
}

fn imported(path: &Path, lines: &[String]) -> Result<Imported, OfflineError> {
    import(&settings(path), &mut Cursor::new(lines.join("\n") + "\n"), &mut |_| {})
}

/// What the test store must still hold, as the daemon reads it.
fn check_everything(path: &Path) {
    let store = Store::open(&settings(path)).unwrap();
    assert_eq!(store.last_run(), LastRun::Closed);
    assert_eq!(store.user_name(ALICE).unwrap().as_str(), "alice");
    assert_eq!(store.user(ALICE).unwrap().history, ConnectHistory::Before);
    assert_eq!(store.made_identity(ALICE, || "another".to_owned()).unwrap(), "someone");
    let queued: Vec<_> = store.queued_messages().map(|queued| queued.unwrap().number.0).collect();
    assert_eq!(queued, [2, 3, 4]);
    let content = store.message_content(ALICE, crate::messages::MessageNumber(4)).unwrap();
    assert_eq!((content.fields.len(), content.bot_custom_data.as_deref()), (50_000, Some(&b"[1]"[..])));
    let sizes: Vec<_> = store.events_after(ALICE, 0).map(|event| event.unwrap().frame.len()).collect();
    assert_eq!(sizes, [23, 100_000, 2, 2]);
    let letters: Vec<_> = store.dead_letters_after(DeadLetterId(0)).map(Result::unwrap).collect();
    let frames = letters.iter().map(|letter| store.dead_letter_frame(letter).unwrap().len());
    assert_eq!(frames.collect::<Vec<_>>(), [23, 100_000]);
    for letter in &letters {
        assert_eq!(store.history(ALICE, letter.id()).unwrap().attempts().len(), 1);
        assert_eq!(store.replay_of(letter).unwrap().unwrap().attempts, 1);
    }
    let agents = AgentRecord::begun(BotNumber(1), Timestamp::from_millis(6));
    assert_eq!(store.agent_records().unwrap(), [(ALICE, agents)]);
    assert_eq!(store.chosen_up_to().unwrap(), 1);
    assert_eq!(store.template(template().id()).unwrap().as_ref(), Some(template().source()));
    store.close();
}

#[test]
fn every_kind_of_record_is_in_the_table() {
    let source = include_str!("../keys.rs");
    let kinds = source.split("pub(super) mod kind {").nth(1).unwrap().split("\n}").next().unwrap();
    let declared: BTreeSet<u8> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split("0x").nth(1))
        .map(|digits| u8::from_str_radix(digits.trim_end_matches(';'), 16).unwrap())
        .collect();
    assert_eq!(declared, KINDS.iter().map(|kind| kind.byte).collect());
    let words: BTreeSet<_> = KINDS.iter().map(|kind| kind.word).collect();
    assert_eq!(words.len(), KINDS.len());
}

#[tokio::test]
async fn an_export_imported_is_the_same_store() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_with_everything(directory.path()).await;
    let nonce = Store::open(&settings(directory.path())).map(|store| {
        store.close();
        store.event_id(1).store
    });
    let (before, lines) = exported(directory.path());
    assert_eq!(before.damages, Damages::default());
    assert!(!lines.iter().any(|line| line.contains(TOKEN)), "access tokens stay out");
    let words: BTreeSet<_> = KINDS.iter().map(|kind| kind.word).collect();
    let seen: BTreeSet<_> = words
        .iter()
        .copied()
        .filter(|word| lines.iter().any(|line| line.starts_with(&format!(r#"{{"kind":"{word}""#))))
        .collect();
    assert_eq!(seen, words, "the test store has records of every kind");
    assert_eq!(imported(other.path(), &lines).unwrap(), Imported { records: before.records, unreadable: 0 });
    let (_, again) = exported(other.path());
    // The head tells when it was made.
    assert_eq!(lines[1..], again[1..]);
    check_everything(other.path());
    let store = Store::open(&settings(other.path())).unwrap();
    assert_eq!(store.event_id(1).store, nonce.unwrap(), "event ids go on");
    assert_eq!(append(&store, Bytes::from_static(b"{}")).await, 5, "numbers go on");
}

#[tokio::test]
async fn the_form_of_an_export_is_stable() {
    let directory = tempfile::tempdir().unwrap();
    store_with_everything(directory.path()).await;
    let (_, lines) = exported(directory.path());
    let of = |word: &str| lines.iter().find(|line| line.contains(&format!(r#""kind":"{word}""#))).unwrap();
    insta::assert_snapshot!(of("event"), @r#"{"kind":"event","key":{"number":1,"user":1},"fields":{"bot":1,"in_reply_to":null,"kind":"bot_response","received_at":"1970-01-01T00:00:00.005Z","slots":[{"sequence":1,"wanted":true,"webhook":1}],"source":"live","speaker":"bot"},"text":"{\"type\":\"bot_response\"}"}"#);
    insta::assert_snapshot!(of("user"), @r#"{"kind":"user","key":{"user":1},"fields":{"access":null,"history":"Before","platform_user_id":"u-1","seen":{"alive_at":"1970-01-01T00:00:00.004Z","holes":[],"up_to":"1970-01-01T00:00:00.003Z"}}}"#);
    insta::assert_snapshot!(of("agents"), @r#"{"kind":"agents","key":{"user":1},"fields":{"session":{"agent":{"id":"a-1","name":null},"bot":1,"grounds":"Told","since":"1970-01-01T00:00:00.006Z"},"unreported":[{"agent":{"id":"a-1","name":null},"at":"1970-01-01T00:00:00.006Z","state":"started"}]}}"#);
    insta::assert_snapshot!(of("idempotency"), @r#"{"kind":"idempotency","key":{"client":1,"key":"abababababababababababababababab","user":1},"fields":{"at":"1970-01-01T00:00:00.001Z","fingerprint":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"id":1003}}"#);
    insta::assert_snapshot!(lines.last().unwrap(), @r#"{"end":{"records":40,"unreadable":0}}"#);
}

#[tokio::test]
async fn of_a_damaged_store_what_can_be_read_is_saved() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_with_everything(directory.path()).await;
    let (whole, _) = exported(directory.path());
    let verified = verify(&settings(directory.path()), &mut |_| {}).unwrap();
    assert_eq!((verified.damages.count, verified.orphans), (0, 0));
    assert_eq!(verified.payload_files, 4);
    assert_eq!(verified.records["event"], 4);
    fs::remove_file(directory.path().join("payloads/e-00000001-0000000000000002")).unwrap();
    fs::write(directory.path().join("payloads/e-00000001-00000000000000ff"), "an orphan").unwrap();
    let verified = verify(&settings(directory.path()), &mut |_| {}).unwrap();
    assert_eq!((verified.damages.count, verified.orphans), (1, 1));
    assert!(verified.damages.first[0].contains("event record 300000000100000000"), "{verified:?}");
    let (saved, lines) = exported(directory.path());
    assert_eq!((saved.records, saved.damages.count), (whole.records - 1, 1));
    assert_eq!(imported(other.path(), &lines).unwrap().unreadable, 1);
    let store = Store::open(&settings(other.path())).unwrap();
    assert_eq!(store.events_after(ALICE, 0).count(), 3);
}

#[tokio::test]
async fn an_import_is_whole_or_not_at_all() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    store_with_everything(directory.path()).await;
    let (_, lines) = exported(directory.path());
    let error = imported(directory.path(), &lines).unwrap_err();
    assert!(matches!(error, OfflineError::NotEmpty(_)) && error.needs_a_person(), "{error}");
    let mut wrong = lines.clone();
    wrong[3] = wrong[3].replace("kind", "sort");
    let mut short = lines.clone();
    short.remove(4);
    for (lines, line) in
        [(&lines[..lines.len() - 1], lines.len()), (&wrong, 4), (&short, short.len()), (&lines[1..], 1)]
    {
        match imported(other.path(), lines) {
            Err(OfflineError::BadLine { line: found, .. }) => assert_eq!(found, line as u64),
            other => panic!("{other:?}"),
        }
        assert!(matches!(verify(&settings(other.path()), &mut |_| {}), Err(OfflineError::Missing(_))));
        assert_eq!(fs::read_dir(other.path().join("payloads")).unwrap().count(), 0);
    }
    imported(other.path(), &lines).unwrap();
    check_everything(other.path());
}

#[tokio::test]
async fn a_compaction_shrinks_the_file_and_keeps_everything() {
    let directory = tempfile::tempdir().unwrap();
    store_with_everything(directory.path()).await;
    {
        let store = Store::open(&settings(directory.path())).unwrap();
        let mut last = 0;
        for _ in 0..2_000 {
            last = append(&store, Bytes::from(vec![b'z'; 4_000])).await;
        }
        for number in 5..=last {
            store.remove_event(ALICE, number, 4_000);
        }
        store.close();
    }
    let (_, lines) = exported(directory.path());
    let compacted = compact(&settings(directory.path()), &mut |_| {}).unwrap();
    assert!(compacted.after < compacted.before / 4, "{compacted:?}");
    assert_eq!(exported(directory.path()).1[1..], lines[1..]);
    check_everything(directory.path());
}

#[tokio::test]
async fn a_compaction_that_is_cut_short_anywhere_leaves_a_whole_store() {
    let directory = tempfile::tempdir().unwrap();
    store_with_everything(directory.path()).await;
    {
        let store = Store::open(&settings(directory.path())).unwrap();
        for _ in 0..400 {
            append(&store, Bytes::from(vec![b'z'; 4_000])).await;
        }
        for number in 4..=403 {
            store.remove_event(ALICE, number, 4_000);
        }
        // Still there: more than one batch is copied.
        for _ in 0..1_100 {
            append(&store, Bytes::from(vec![b'z'; 4_000])).await;
        }
        store.close();
    }
    let (_, lines) = exported(directory.path());
    let is_copying = |step: Step| matches!(step, Step::Copying(_));
    let ends: [&dyn Fn(Step) -> bool; 4] =
        [&is_copying, &|step| step == Step::Copied, &|step| step == Step::OldSetAside, &|step| {
            step == Step::NewInPlace
        }];
    for end in ends {
        let cut = |step| if end(step) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert_eq!(compact_until(&settings(directory.path()), &mut { cut }).unwrap(), None);
        assert_eq!(exported(directory.path()).1[1..], lines[1..]);
        Store::open(&settings(directory.path())).unwrap().close();
        assert!(!directory.path().join("sled.new").exists() && !directory.path().join("sled.old").exists());
    }
    assert!(compact(&settings(directory.path()), &mut |_| {}).is_ok());
}

#[test]
fn a_running_bridge_keeps_its_store() {
    let (directory, store) = crate::store::testing::store();
    let _keep: Arc<Store> = store;
    let (settings, mut out) = (settings(directory.path()), Vec::new());
    for error in [
        verify(&settings, &mut |_| {}).unwrap_err(),
        export(&settings, &mut out, &mut |_| {}).unwrap_err(),
        compact(&settings, &mut |_| {}).unwrap_err(),
        import(&settings, &mut Cursor::new(""), &mut |_| {}).unwrap_err(),
    ] {
        assert!(matches!(error, OfflineError::Open(OpenError::InUse { .. })), "{error}");
        assert!(!error.needs_a_person());
    }
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere");
    assert!(matches!(verify(&settings(&path), &mut |_| {}), Err(OfflineError::Missing(_))));
    assert!(!path.exists());
}
