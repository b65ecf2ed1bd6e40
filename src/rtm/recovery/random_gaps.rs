//! Recovery under random histories: whatever was known, came live, was held back or sent by ourselves,
//! and however the platform cuts its pages, the result is every missed event once, in order, and
//! nothing else.

use std::{collections::HashSet, time::Duration};

use proptest::{prelude::*, sample::Index};
use serde_json::{json, value::to_raw_value};

use super::*;
use crate::{
    messages::{Arrival, Fingerprint, OwnMessage},
    rtm::token::Skew,
    store::Said,
};

/// The platform's clock is so far ahead.
const SKEW: Skew = Skew(90_000);
const BEGAN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const MOST: usize = 500;

/// What became of something that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It came live, with its id.
    Came,
    /// It came live, without an id.
    CameUntold,
    /// It was missed.
    Missed,
    /// It was pushed behind the gap and is held back, with its id, or without one.
    Held,
    HeldUntold,
    /// We said it ourselves, and the history tells by which id, or not.
    Own,
    OwnUntold,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Missed),
        2 => Just(Fate::Came),
        1 => Just(Fate::CameUntold),
        2 => Just(Fate::Held),
        1 => Just(Fate::HeldUntold),
        1 => Just(Fate::Own),
        1 => Just(Fate::OwnUntold),
    ]
}

/// Something that was said, `gap` milliseconds after what was said before.
#[derive(Debug, Clone)]
struct Line {
    fate: Fate,
    direction: Direction,
    gap: u64,
    /// One of few, so that many are the same.
    text: u8,
}

fn line() -> impl Strategy<Value = Line> {
    // Sometimes in the same moment; what is the same text is never so close that nobody could tell.
    let gap = prop_oneof![Just(0u64), 1u64..50, 5_000u64..200_000];
    let direction = prop_oneof![Just(Direction::Incoming), Just(Direction::Outgoing)];
    (fate(), direction, gap, 0u8..4).prop_map(|(fate, direction, gap, text)| {
        let direction = match fate {
            Fate::Own | Fate::OwnUntold => Direction::Incoming,
            _ => direction,
        };
        Line { fate, direction, gap, text }
    })
}

#[derive(Debug, Clone)]
struct Platform {
    lines: Vec<Line>,
    /// What was said before, and is known by its age alone.
    old: usize,
    page: usize,
    /// In which order each page is.
    shuffle: Vec<Index>,
    /// Before these requests something new is said, which shifts the pages; it is pushed as well.
    shifts: Vec<bool>,
    tells_more: bool,
    pages: Pages,
}

/// How its pages are turned, and what it makes of a record's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pages {
    ByOffset,
    /// By the id of a record, which is the newest of the next page, or the one behind it is.
    ById {
        inclusive: bool,
    },
    /// It pays no attention to ids.
    IdsIgnored,
}

impl Pages {
    fn turning(self) -> Turning {
        if self == Self::ByOffset { Turning::ByOffset } else { Turning::ById }
    }
}

fn pages() -> impl Strategy<Value = Pages> {
    prop_oneof![
        2 => Just(Pages::ByOffset),
        2 => any::<bool>().prop_map(|inclusive| Pages::ById { inclusive }),
        1 => Just(Pages::IdsIgnored),
    ]
}

fn platform() -> impl Strategy<Value = Platform> {
    let lines = proptest::collection::vec(line(), 0..60);
    let shuffle = proptest::collection::vec(any::<Index>(), 1..40);
    // Not for ever: a page that never brings anything new ends the reading.
    let shifts =
        (0usize..20, 0usize..5).prop_map(|(from, many)| [vec![false; from], vec![true; many]].concat());
    // A page that starts with the record it was asked by has to have room for another.
    (lines, 0usize..30, 2usize..25, shuffle, shifts, any::<bool>(), pages()).prop_map(
        |(lines, old, page, shuffle, shifts, tells_more, pages)| Platform {
            lines,
            old,
            page,
            shuffle,
            shifts,
            tells_more,
            pages,
        },
    )
}

/// A line in its place.
#[derive(Debug, Clone)]
struct Spoken {
    id: String,
    line: Line,
    at: Timestamp,
    text: String,
}

impl Spoken {
    fn record(&self) -> Record {
        let mut json = json!({
            "_id": self.id,
            "type": if self.direction() == Direction::Incoming { "incoming" } else { "outgoing" },
            "timestampValue": self.at.as_millis(),
            "components": [{"data": {"text": self.text}}],
        });
        if self.line.fate == Fate::Own {
            json["userMsgId"] = json!(self.own_id());
        }
        Record::parse(to_raw_value(&json).unwrap()).unwrap()
    }

    fn direction(&self) -> Direction {
        self.line.direction
    }

    fn own_id(&self) -> u64 {
        self.id.trim_start_matches("ms-").parse::<u64>().unwrap() + 1
    }

    fn said(&self, late: u64) -> Said {
        let at = self.at.plus(Duration::from_millis(late));
        match self.direction() {
            Direction::Incoming => Said::by_user(&self.text, at),
            Direction::Outgoing => Said::by_bot(&self.text, at),
        }
    }

    fn own(&self) -> OwnMessage {
        let sent = SKEW.to_ours(self.at.minus(Duration::from_millis(3)));
        OwnMessage {
            number: MessageNumber(self.own_id()),
            id: ClientMessageId::new(self.own_id()).unwrap(),
            text: Fingerprint::of(self.text.as_bytes()),
            sent: (sent, sent),
            sends: 1,
            arrival: Arrival::Sure,
        }
    }
}

/// The history as a test knows it, oldest first.
struct World {
    said: Vec<Spoken>,
    platform: Platform,
}

impl World {
    fn new(platform: Platform) -> Self {
        let mut at = BEGAN;
        let mut last_of_text = std::collections::HashMap::new();
        let mut said = Vec::new();
        for (n, line) in platform.lines.iter().enumerate() {
            at = at.plus(Duration::from_millis(line.gap));
            // The same words by the same one so soon could be the same event.
            let key = (line.text, line.direction == Direction::Incoming);
            if let Some(last) = last_of_text.get(&key) {
                at = at.max(Timestamp::plus(*last, Duration::from_secs(5)));
            }
            last_of_text.insert(key, at);
            said.push(Spoken { id: id(n), line: line.clone(), at, text: format!("text {}", line.text) });
        }
        Self { said, platform }
    }

    fn knowledge(&self, records: &[Record]) -> Knowledge {
        let with =
            |fates: &'static [Fate]| self.said.iter().filter(move |said| fates.contains(&said.line.fate));
        let came: HashSet<&String> = with(&[Fate::Came]).map(|said| &said.id).collect();
        let now = self.said.last().map_or(BEGAN, |last| last.at);
        Knowledge {
            seen: Seen { up_to: BEGAN, holes: Vec::new(), alive_at: BEGAN },
            ids: records.iter().map(|record| record.id.clone()).filter(|id| came.contains(id)).collect(),
            said: with(&[Fate::CameUntold]).map(|said| said.said(1)).collect(),
            own: with(&[Fate::Own, Fate::OwnUntold]).map(Spoken::own).collect(),
            skew: SKEW,
            horizon: Timestamp::from_millis(0),
            now,
        }
    }

    fn held(&self) -> Vec<Likeness> {
        let held = self.said.iter().filter_map(|said| match said.line.fate {
            Fate::Held => Some(Likeness { message_id: Some(said.id.clone()), ..Likeness::default() }),
            Fate::HeldUntold => Some(Likeness { said: Some(said.said(1)), ..Likeness::default() }),
            _ => None,
        });
        held.collect()
    }

    /// Everything, newest first, with what is from before our time behind it.
    fn newest_first(&self) -> Vec<Record> {
        let old = (1..=self.platform.old as u64).map(|n| {
            let at = BEGAN.as_millis() - n;
            let json = json!({"_id": format!("old-{n}"), "type": "outgoing", "timestampValue": at});
            Record::parse(to_raw_value(&json).unwrap()).unwrap()
        });
        self.said.iter().rev().map(Spoken::record).chain(old).collect()
    }

    /// Something new is said while the history is read, and pushed.
    fn shift(&mut self) {
        let at = self.said.last().map_or(BEGAN, |last| last.at).plus(Duration::from_secs(5));
        let line = Line { fate: Fate::Held, direction: Direction::Outgoing, gap: 0, text: 9 };
        self.said.push(Spoken { id: id(self.said.len()), line, at, text: "new".to_owned() });
    }

    /// Where a page begins.
    fn place(&self, next: &Next, all: &[Record]) -> usize {
        let found = |id: &String| all.iter().position(|record| record.id == *id).expect("it was shown");
        match (next, self.platform.pages) {
            (Next::Offset(offset), _) => *offset,
            (Next::OlderThan(id), Pages::ById { inclusive }) => found(id) + usize::from(!inclusive),
            (Next::OlderThan(_), Pages::ByOffset | Pages::IdsIgnored) => 0,
        }
    }

    fn page(&mut self, request: usize, next: &Next) -> Page {
        if self.platform.shifts.get(request) == Some(&true) {
            self.shift();
        }
        let all = self.newest_first();
        let offset = self.place(next, &all);
        let end = all.len().min(offset + self.platform.page);
        let mut records = all.get(offset..end).unwrap_or_default().to_vec();
        for n in (1..records.len()).rev() {
            let shuffle = &self.platform.shuffle;
            records.swap(n, shuffle[(request + n) % shuffle.len()].index(n + 1));
        }
        let more = if self.platform.tells_more && end == all.len() { More::No } else { More::Perhaps };
        Page { returned: records.len(), records, more }
    }

    /// Reads the history as a fetch does.
    fn gather(&mut self) -> Gathered {
        let mut gathered = Gathered::default();
        let wanted = Wanted { missed: Some(MOST), ..Wanted::default() };
        for request in 0..1000 {
            let next = match self.platform.pages.turning() {
                Turning::ByOffset => Next::Offset(gathered.offset()),
                Turning::ById => gathered.next_by_id(),
            };
            let page = self.page(request, &next);
            let added = gathered.add(page, self.platform.pages.turning());
            let knowledge = self.knowledge(gathered.records());
            if let Some(end) = gathered.is_enough(added, &knowledge, &wanted) {
                assert_eq!(end, End::Complete);
                return gathered;
            }
        }
        panic!("it never ends");
    }
}

/// An id that sorts as its number does.
fn id(n: usize) -> String {
    format!("ms-{n:06}")
}

/// Whether a line is known without the history.
fn is_known(line: &Line) -> bool {
    matches!(line.fate, Fate::Came | Fate::CameUntold | Fate::Own | Fate::OwnUntold)
}

fn has_come(line: &Line) -> bool {
    matches!(line.fate, Fate::Came | Fate::CameUntold)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_missed_event_once_in_order_and_nothing_else(platform in platform()) {
        // What is lost behind twenty in a row that are known, some of which came, is beyond what a recovery
        // promises.
        let runs = platform.lines.split(|line| !is_known(line));
        let proofs = runs.filter(|run| run.iter().any(has_come));
        prop_assume!(proofs.map(<[_]>::len).max().unwrap_or_default() < 20);
        let mut world = World::new(platform);
        let gathered = world.gather();
        let knowledge = world.knowledge(gathered.records());
        let conclusion = conclude(gathered, Halt::Enough, &knowledge, MOST, None);
        let held: Vec<&Spoken> = world.said.iter()
            .filter(|said| matches!(said.line.fate, Fate::Held | Fate::HeldUntold)).collect();
        let result: Vec<(String, bool)> = conclusion.steps(&world.held()).into_iter().map(|step| match step {
            Step::Missed(place) => (conclusion.missed[place].record.id.clone(), false),
            Step::Held(place) => (held[place].id.clone(), true),
        }).collect();
        let expected: Vec<(String, bool)> = world.said.iter().filter_map(|said| match said.line.fate {
            Fate::Missed => Some((said.id.clone(), false)),
            Fate::Held | Fate::HeldUntold => Some((said.id.clone(), true)),
            Fate::Came | Fate::CameUntold | Fate::Own | Fate::OwnUntold => None,
        }).collect();
        prop_assert_eq!(result, expected);
        let own: BTreeSet<_> = world.said.iter()
            .filter(|said| matches!(said.line.fate, Fate::Own | Fate::OwnUntold))
            .map(|said| MessageNumber(said.own_id())).collect();
        prop_assert_eq!(&conclusion.found, &own);
        prop_assert_eq!(conclusion.shortfall, None);
        prop_assert!(world.said.iter().all(|said| conclusion.seen.up_to.plus(seen::LATE) >= said.at || said.line.text == 9));
    }
}
