//! Every rule of recovery, one by one.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::{
    messages::{Arrival, Fingerprint, OwnMessage},
    rtm::token::Skew,
    store::{Hole, Said},
};

const HOUR: u64 = 3_600_000;
/// Times of tests are milliseconds after this.
const ZERO: u64 = 1_800_000_000_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(ZERO + millis)
}

fn of(json: &Value) -> Record {
    Record::parse(to_raw_value(json).unwrap()).unwrap()
}

fn bots(id: &str, millis: u64, text: &str) -> Record {
    of(
        &json!({"_id": id, "type": "outgoing", "timestampValue": ZERO + millis, "components": [{"data": {"text": text}}]}),
    )
}

fn users(id: &str, millis: u64, text: &str, given: Option<u64>) -> Record {
    of(&json!({"_id": id, "type": "incoming", "timestampValue": ZERO + millis, "userMsgId": given,
        "components": [{"data": {"text": text}}]}))
}

fn own(number: u64, millis: u64, text: &str) -> OwnMessage {
    OwnMessage {
        number: MessageNumber(number),
        id: ClientMessageId::new(1000 + number).unwrap(),
        text: Fingerprint::of(text.as_bytes()),
        sent: (at(millis), at(millis)),
        sends: 1,
        arrival: Arrival::Unsure,
    }
}

/// At 100 hours; all before 50 hours is known, and the connection was up until 90 hours.
fn knowledge() -> Knowledge {
    Knowledge {
        seen: Seen { up_to: at(50 * HOUR), holes: Vec::new(), alive_at: at(90 * HOUR) },
        ids: HashSet::new(),
        said: Vec::new(),
        own: Vec::new(),
        skew: Skew::default(),
        horizon: at(76 * HOUR),
        now: at(100 * HOUR),
    }
}

fn standing(record: Record, knowledge: &Knowledge) -> Standing {
    knowledge.sort_out(&[record], None)[0]
}

fn page(records: Vec<Record>, more: More) -> Page {
    Page { returned: records.len(), records, more }
}

fn recovery() -> Wanted {
    Wanted { missed: Some(500), ..Wanted::default() }
}

/// What was read of these pages, and why no more.
fn read(pages: Vec<Page>, knowledge: &Knowledge, wanted: &Wanted) -> (Gathered, Option<End>) {
    let mut gathered = Gathered::default();
    for page in pages {
        let added = gathered.add(page, Turning::ByOffset);
        if let Some(end) = gathered.is_enough(added, knowledge, wanted) {
            return (gathered, Some(end));
        }
    }
    (gathered, None)
}

fn many(ids: std::ops::Range<u64>) -> Vec<Record> {
    ids.map(|n| bots(&format!("ms-{n}"), 99 * HOUR - n, "x")).collect()
}

fn knows(ids: std::ops::Range<u64>) -> Knowledge {
    Knowledge { ids: ids.map(|n| format!("ms-{n}")).collect(), ..knowledge() }
}

// ---- What a record is.

#[test]
fn age_decides_where_nothing_else_does() {
    let known = knowledge();
    for (hours, expected) in [
        (49, Standing::Known),
        // Nobody remembers whether it came, but it could have.
        (60, Standing::Known),
        (77, Standing::Missed),
        (95, Standing::Missed),
    ] {
        assert_eq!(standing(bots("a", hours * HOUR, "x"), &known), expected, "{hours} h");
    }
    let long_gone =
        Knowledge { seen: Seen { alive_at: at(60 * HOUR), ..known.seen.clone() }, ..known.clone() };
    assert_eq!(standing(bots("a", 59 * HOUR, "x"), &long_gone), Standing::Known);
    assert_eq!(standing(bots("a", 61 * HOUR, "x"), &long_gone), Standing::TooOld);
    assert_eq!(standing(bots("a", 77 * HOUR, "x"), &long_gone), Standing::Missed);
}

#[test]
fn behind_what_is_known_nothing_is_missed_but_in_holes() {
    let mut known = knowledge();
    known.seen.holes = vec![Hole { from: at(91 * HOUR), to: at(92 * HOUR) }];
    let settled = Some(at(95 * HOUR));
    let standings: Vec<_> =
        [96, 94, 92, 91, 90].map(|hours| known.sort_out(&[bots("a", hours * HOUR, "x")], settled)[0]).into();
    let (missed, known) = (Standing::Missed, Standing::Known);
    assert_eq!(standings, [missed, known, missed, missed, known]);
}

#[test]
fn an_id_that_came_is_known_whoever_gave_it() {
    let known = Knowledge { ids: ["ms-1".to_owned(), "5".to_owned()].into(), ..knowledge() };
    assert_eq!(standing(bots("ms-1", 95 * HOUR, "x"), &known), Standing::Known);
    assert_eq!(standing(users("ms-2", 95 * HOUR, "x", Some(5)), &known), Standing::Known);
    assert_eq!(standing(users("ms-2", 95 * HOUR, "x", Some(6)), &known), Standing::Missed);
}

#[test]
fn what_was_said_without_an_id_is_known_once_within_two_seconds() {
    let said = Said::by_bot("Hi", at(95 * HOUR));
    let known = Knowledge { said: vec![said], ..knowledge() };
    for (millis, text, expected) in [
        (0, "Hi", Standing::Known),
        (2000, " Hi\n", Standing::Known),
        (2001, "Hi", Standing::Missed),
        (0, "hi", Standing::Missed),
    ] {
        assert_eq!(standing(bots("a", 95 * HOUR + millis, text), &known), expected, "{millis} {text:?}");
    }
    assert_eq!(standing(users("a", 95 * HOUR, "Hi", None), &known), Standing::Missed, "somebody else");
    let twice = [bots("a", 95 * HOUR + 1000, "Hi"), bots("b", 95 * HOUR + 100, "Hi")];
    assert_eq!(known.sort_out(&twice, None), [Standing::Missed, Standing::Known], "the nearest");
}

#[test]
fn our_own_words_are_ours_by_their_id_or_within_a_minute() {
    let known = Knowledge { own: vec![own(1, 95 * HOUR, "Hi")], skew: Skew(5000), ..knowledge() };
    // The platform's clock is five seconds ahead.
    let ours = Standing::Own(0);
    for (millis, text, given, expected) in [
        (5_000, "Hi", None, ours),
        (65_000, "Hi", None, ours),
        (65_001, "Hi", None, Standing::Missed),
        (5_000, "other", None, Standing::Missed),
        (5_000, "Hi", Some(1001), ours),
        (HOUR, "Hi", Some(1001), ours),
        (5_000, "other", Some(1001), Standing::Missed),
        (5_000, "Hi", Some(1002), Standing::Missed),
    ] {
        let record = users("a", 95 * HOUR + millis, text, given);
        assert_eq!(standing(record, &known), expected, "{millis} {text:?} {given:?}");
    }
    assert_eq!(standing(bots("a", 95 * HOUR + 5000, "Hi"), &known), Standing::Missed, "an echo of the bot's");
}

#[test]
fn what_was_sent_several_times_may_be_there_several_times() {
    let sent = (at(95 * HOUR), at(95 * HOUR + 600_000));
    let message = OwnMessage { sent, sends: 2, ..own(1, 0, "Hi") };
    let known = Knowledge { own: vec![message], ..knowledge() };
    let records: Vec<_> =
        [0, 300_000, 600_000].iter().map(|n| users(&n.to_string(), 95 * HOUR + n, "Hi", None)).collect();
    let standings = known.sort_out(&records, None);
    assert_eq!(standings.iter().filter(|standing| **standing == Standing::Own(0)).count(), 2);
    let told: Vec<_> = records.iter().map(|r| users(&r.id, 0, "Hi", Some(1001))).collect();
    assert_eq!(known.sort_out(&told, None), [Standing::Own(0); 3], "an id is sure");
}

#[test]
fn the_words_of_a_message_that_arrived_are_not_those_of_one_that_was_lost() {
    let arrived = OwnMessage { arrival: Arrival::Sure, ..own(1, 95 * HOUR, "yes") };
    let known = Knowledge { own: vec![own(2, 95 * HOUR + 10, "yes"), arrived], ..knowledge() };
    assert_eq!(standing(users("a", 95 * HOUR + 9, "yes", None), &known), Standing::Own(1));
}

#[test]
fn the_words_alone_do_not_prove_that_a_message_left_which_nobody_saw_go() {
    for (given, expected) in [(None, 0), (Some(1001), 1)] {
        let message = OwnMessage { arrival: Arrival::Untold, ..own(1, 95 * HOUR, "yes") };
        let known = Knowledge { own: vec![message], ..knowledge() };
        let record = users("a", 95 * HOUR, "yes", given);
        let (gathered, _) = read(vec![page(vec![record], More::No)], &known, &recovery());
        let conclusion = conclude(gathered, Halt::Enough, &known, 500, None);
        assert_eq!((conclusion.found.len(), conclusion.missed.len()), (expected, 0));
    }
}

// ---- When to stop.

#[test]
fn reading_stops_behind_enough_that_is_known() {
    let known = knows(3..100);
    let (gathered, end) =
        read(vec![page(many(0..20), More::Perhaps), page(many(20..40), More::Perhaps)], &known, &recovery());
    assert_eq!((end, gathered.records().len()), (Some(End::Complete), 40));
    // A single known record proves nothing, however small the pages are.
    let (_, end) =
        read(many(3..6).into_iter().map(|r| page(vec![r], More::Perhaps)).collect(), &known, &recovery());
    assert_eq!(end, None);
    let older = bots("old", 40 * HOUR, "x");
    let (_, end) = read(vec![page(vec![older], More::Perhaps)], &known, &recovery());
    assert_eq!(end, Some(End::Complete), "but its age does");
}

#[test]
fn reading_stops_where_there_is_no_more() {
    for last in [page(many(0..3), More::No), page(Vec::new(), More::Perhaps)] {
        assert_eq!(read(vec![last], &knowledge(), &recovery()).1, Some(End::Complete));
    }
    let same = || page(many(0..3), More::Perhaps);
    assert_eq!(read(vec![same(), same()], &knowledge(), &recovery()).1, None, "the pages were shifted");
    let stuck = std::iter::repeat_with(same).take(7).collect();
    assert_eq!(read(stuck, &knowledge(), &recovery()).1, Some(End::Stuck));
}

/// They are sent while a history is read, too: before anything that was missed is stored.
#[test]
fn what_we_said_ourselves_does_not_end_the_reading() {
    let said = |n: u64| users(&format!("own-{n}"), 99 * HOUR - n, "Hi", Some(1000 + n));
    let known = Knowledge {
        own: (0..40)
            .map(|n| OwnMessage { text: Fingerprint::of(b"Hi"), ..own(n, 99 * HOUR - n, "Hi") })
            .collect(),
        ..knows(100..101)
    };
    let pages = |came: Vec<Record>| {
        vec![
            page((0..20).map(said).collect(), More::Perhaps),
            page([(20..40).map(said).collect(), came].concat(), More::Perhaps),
        ]
    };
    assert_eq!(read(pages(Vec::new()), &known, &recovery()).1, None);
    assert_eq!(read(pages(many(100..101)), &known, &recovery()).1, Some(End::Complete));
    assert_eq!(read(pages(many(101..102)), &known, &recovery()).1, None);
}

#[test]
fn reading_goes_on_behind_what_is_known_while_there_is_a_hole() {
    let mut known = knows(0..20);
    known.seen.holes = vec![Hole { from: at(91 * HOUR), to: at(92 * HOUR) }];
    let pages =
        |from| vec![page(many(0..20), More::Perhaps), page(vec![bots("h", from, "x")], More::Perhaps)];
    assert_eq!(read(pages(91 * HOUR), &known, &recovery()).1, None);
    assert_eq!(read(pages(91 * HOUR - 1), &known, &recovery()).1, Some(End::Complete));
    // A hole that is too old is nobody's concern.
    known.horizon = at(93 * HOUR);
    assert_eq!(read(pages(91 * HOUR), &known, &recovery()).1, Some(End::Complete));
}

#[test]
fn a_look_up_stops_at_what_it_looks_for_or_before_it_was_sent() {
    let known = Knowledge { own: vec![own(1, 95 * HOUR, "Hi")], ..knowledge() };
    let wanted = Wanted {
        missed: None,
        look_up: [MessageNumber(1)].into(),
        look_up_from: Some(at(95 * HOUR - 60_000)),
    };
    let stops = |record: Record| read(vec![page(vec![record], More::Perhaps)], &known, &wanted).1;
    assert_eq!(stops(users("a", 95 * HOUR, "Hi", None)), Some(End::Complete));
    assert_eq!(stops(bots("a", 95 * HOUR, "Hi")), None);
    assert_eq!(stops(bots("a", 94 * HOUR, "Hi")), Some(End::Complete));
}

// ---- What comes of it.

#[test]
fn the_newest_are_recovered_where_there_are_too_many() {
    let known = knowledge();
    let wanted = Wanted { missed: Some(3), ..Wanted::default() };
    let (gathered, end) = read(vec![page(many(0..5), More::Perhaps)], &known, &wanted);
    assert_eq!(end, Some(End::TooMany));
    let conclusion = conclude(gathered, Halt::TooMany, &known, 3, None);
    let ids: Vec<_> = conclusion.missed.iter().map(|missed| missed.record.id.as_str()).collect();
    assert_eq!(ids, ["ms-2", "ms-1", "ms-0"]);
    assert_eq!(conclusion.shortfall, Some(Shortfall::TooMany));
    let hole = Hole { from: at(90 * HOUR).minus(Duration::from_secs(60)), to: at(99 * HOUR - 2) };
    assert_eq!((conclusion.seen.up_to, conclusion.seen.holes), (known.seen.up_to, vec![hole]));
}

#[test]
fn a_reading_that_was_cut_leaves_what_it_did_not_reach() {
    let known = knowledge();
    for halt in [Halt::TimedOut, Halt::Failed] {
        let (gathered, _) = read(vec![page(many(0..5), More::Perhaps)], &known, &recovery());
        let conclusion = conclude(gathered, halt, &known, 500, None);
        assert_eq!(conclusion.missed.len(), 5, "what was read is recovered");
        assert_eq!(conclusion.seen.holes[0].to, at(99 * HOUR - 4));
        assert!(conclusion.shortfall.is_some());
        let nothing = conclude(Gathered::default(), halt, &known, 500, None);
        assert_eq!(nothing.seen.holes[0].to, known.now);
        let from = known.seen.alive_at.minus(Duration::from_secs(60));
        assert_eq!(nothing.stretch(&known.seen, known.now), (from, known.now));
    }
}

#[test]
fn an_answer_belongs_to_the_latest_message_before_it() {
    let known = Knowledge { own: vec![own(1, 95 * HOUR, "Hi")], ..knowledge() };
    let records = vec![
        bots("push", 94 * HOUR, "news"),
        users("ours", 95 * HOUR, "Hi", Some(1001)),
        bots("answer", 95 * HOUR + 1, "Hello"),
        users("elsewhere", 95 * HOUR + 2, "Hey", Some(7)),
    ];
    let (gathered, _) = read(vec![page(records, More::No)], &known, &recovery());
    let before = ClientMessageId::new(900).ok();
    let conclusion = conclude(gathered, Halt::Enough, &known, 500, before);
    let answers: Vec<_> = conclusion.missed.iter().map(|missed| missed.in_reply_to).collect();
    assert_eq!(answers, [before, ClientMessageId::new(1001).ok(), None]);
    assert_eq!(conclusion.found, [MessageNumber(1)].into());
    assert_eq!(conclusion.seen.up_to, at(95 * HOUR + 2).minus(seen::LATE));
}

#[test]
fn live_frames_take_the_places_of_their_records() {
    let missed: Vec<_> =
        [bots("a", 1, "one"), bots("b", 2, "two"), bots("c", 3, "three"), users("d", 4, "four", Some(5))]
            .into_iter()
            .map(|record| Missed { record, in_reply_to: None })
            .collect();
    let by_id = |id: &str| Likeness { message_id: Some(id.to_owned()), ..Likeness::default() };
    let said = Likeness { said: Some(Said::by_bot("three", at(1500))), ..Likeness::default() };
    let elsewhere = Likeness { user_msg_id: Some("5".to_owned()), ..Likeness::default() };
    let held = [Likeness::default(), by_id("b"), by_id("b"), said, elsewhere, by_id("new")];
    use Step::{Held, Missed as Recovered};
    assert_eq!(
        merge::merge(&missed, &held),
        [Recovered(0), Held(0), Held(1), Held(2), Held(3), Held(4), Held(5)]
    );
    // Two ids that differ tell two events apart.
    let other = Likeness {
        user_msg_id: Some("6".to_owned()),
        said: Some(Said::by_user("four", at(4))),
        ..Likeness::default()
    };
    assert_eq!(merge::merge(&missed[3..], &[other]), [Recovered(0), Held(0)]);
}
