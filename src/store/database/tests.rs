use std::collections::{BTreeMap, VecDeque};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};

use super::*;
use crate::messages::ClientMessageId;
use crate::store::{
    UserNumber,
    checkpoint::{self, CarryOver},
    commit::Write,
    keys,
    nudge::Nudge,
    overlay::{Entries, Load, Stay, Staying},
    wal::{self, Closed, Files, Wal},
    worker::{self, Counters},
};

#[derive(Debug, Clone)]
enum Step {
    Write(u8, Option<u8>),
    /// A key that never was, and its removal a little later.
    Create(u8),
    RemoveCreated,
    /// What is written behind can be seen before its commit.
    Announce(u8, Option<u8>),
    /// The log goes on in another file.
    Switch,
    /// The oldest closed segment gets into the database, or some of it stays in the log.
    CarryOver(Stay),
    /// Some of what stays is written once more.
    Move,
    /// The process is killed and starts again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = || (0u8..60, prop::option::weighted(0.7, any::<u8>()));
    let step = prop_oneof![
        20 => write().prop_map(|(key, value)| Step::Write(key, value)),
        4 => any::<u8>().prop_map(Step::Create),
        4 => Just(Step::RemoveCreated),
        2 => write().prop_map(|(key, value)| Step::Announce(key, value)),
        1 => Just(Step::Switch),
        1 => Just(Step::CarryOver(Stay::Refused)),
        2 => Just(Step::CarryOver(Stay::Allowed)),
        2 => Just(Step::Move),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..300)
}

/// The first keys are of a kind that has no numbers, those behind them messages', which may stay in the log, and the
/// others events'.
const FIRST_MESSAGE: u8 = 40;
const FIRST_EVENT: u8 = 150;
const PER_USER: u8 = 16;

/// The key that stands for a number; they have one order.
fn name(key: u8) -> IVec {
    match key {
        ..FIRST_MESSAGE => IVec::from(&[keys::kind::USER, key]),
        FIRST_MESSAGE..FIRST_EVENT => {
            let id = ClientMessageId::new(u64::from(key % PER_USER) + 1).unwrap();
            keys::message(UserNumber((key / PER_USER).into()), id)
        }
        _ => keys::event(UserNumber((key / PER_USER).into()), (key % PER_USER).into()),
    }
}

fn number(name: &[u8]) -> u8 {
    match (name[0], keys::trailing_u64(name)) {
        (keys::kind::MESSAGE, Some(id)) => name[4] * PER_USER + id as u8 - 1,
        (_, Some(number)) => name[4] * PER_USER + number as u8,
        (_, None) => name[1],
    }
}

const SLOTS: usize = 4;

/// Files of the log that all worlds of a test use one after the other, as a store does.
struct Slots {
    directory: tempfile::TempDir,
    /// The last commit in them.
    commits: std::cell::Cell<u64>,
}

impl Slots {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        wal::make_directory(directory.path()).unwrap();
        let files = wal::read(directory.path(), Counters::default()).unwrap().files;
        (0..SLOTS).for_each(|slot| files.make(slot).unwrap());
        Self { directory, commits: std::cell::Cell::new(0) }
    }
}

struct World<'a> {
    slots: &'a Slots,
    database: Database,
    handle: Arc<Handle>,
    nudge: Nudge<Handle>,
    wal: Wal,
    closed: VecDeque<Closed>,
    /// The one that the database has and doesn't speak of yet.
    carried: Option<Closed>,
    staying: Vec<Staying>,
    free: Vec<usize>,
    /// Announced, and to be in the next commit.
    announced: Vec<Write>,
    model: BTreeMap<u8, u8>,
    /// Keys from 60 to 255 are created once each.
    created: std::ops::Range<u8>,
}

impl<'a> World<'a> {
    fn new(slots: &'a Slots) -> Self {
        let config = sled::Config::new().temporary(true);
        let handle = Arc::new(Handle::new(config.open().unwrap(), config));
        let counters = Counters { commits: slots.commits.get(), backlog: 0 };
        handle.db().insert(keys::meta(worker::COUNTERS), counters.to_bytes()).unwrap();
        let files = wal::read(slots.directory.path(), counters).unwrap().files;
        let overlay = Arc::new(Overlay::new(Entries::default(), Arc::clone(&files)));
        let mut world = Self {
            slots,
            database: Database::new(Arc::clone(&handle), overlay),
            handle,
            nudge: Nudge::start().unwrap(),
            wal: Wal::begin_at(files, 0, 0, counters),
            closed: VecDeque::new(),
            carried: None,
            staying: Vec::new(),
            free: Vec::new(),
            announced: Vec::new(),
            model: BTreeMap::new(),
            created: 60..60,
        };
        world.restart();
        world
    }

    /// Goes on where the log ends.
    fn restart(&mut self) {
        let in_database = Counters::of(&self.handle).unwrap();
        let replay = wal::read(self.slots.directory.path(), in_database).unwrap();
        assert_eq!((replay.gap_before, replay.counters.commits), (None, self.slots.commits.get()));
        (self.free, self.closed, self.carried) = (replay.free(), replay.closed.clone(), None);
        self.staying.clear();
        let overlay = Overlay::beside(self.handle.db(), replay.writes.clone(), Arc::clone(&replay.files));
        self.database = Database::new(Arc::clone(&self.handle), Arc::new(overlay));
        while self.free.is_empty() {
            self.carry_over_in(&replay.files, Stay::Refused);
        }
        let slot = self.free.pop().unwrap();
        self.wal = Wal::begin_at(Arc::clone(&replay.files), replay.turn(), slot, replay.counters);
    }

    fn commit(&mut self, write: Option<Write>) {
        let mut writes = std::mem::take(&mut self.announced);
        writes.extend(write);
        self.wal.begin();
        writes.iter().for_each(|write| self.wal.add(write));
        let counters = Counters { commits: self.slots.commits.get() + 1, backlog: 0 };
        self.slots.commits.set(counters.commits);
        self.wal.append(counters, worker::Sync::System).unwrap();
        self.database.overlay().committed(writes.iter().zip(self.wal.places()));
    }

    fn write(&mut self, key: u8, value: Option<u8>) -> Write {
        let name = name(key);
        match value {
            Some(value) => {
                self.model.insert(key, value);
                Write::Put(name, IVec::from(&[value]))
            }
            None => {
                self.model.remove(&key);
                Write::Remove(name)
            }
        }
    }

    fn carry_over(&mut self, stay: Stay) {
        let files = Arc::clone(self.wal.files());
        let stay = if self.staying.is_empty() { stay } else { Stay::Refused };
        self.carry_over_in(&files, stay);
    }

    fn carry_over_in(&mut self, files: &Arc<Files>, stay: Stay) {
        let closed = self.closed.front().copied();
        let task = CarryOver {
            before: self.carried.map(|carried| carried.counters),
            closed,
            stay,
            files: Arc::clone(files),
            overlay: Arc::clone(self.database.overlay()),
            handle: Arc::clone(&self.handle),
        };
        self.staying = checkpoint::carry_over(&task, &self.nudge).unwrap().staying;
        if let Some(carried) = self.carried.take() {
            self.free.push(carried.segment.slot());
        }
        if self.staying.is_empty() {
            self.carried = self.closed.pop_front();
        }
    }

    /// Writes some of what stays once more, and what else was announced.
    fn move_some(&mut self) {
        if self.staying.is_empty() {
            return;
        }
        let some = self.staying.split_off(self.staying.len() / 2);
        let moving = self.database.overlay().still_there(&some);
        let moving: Vec<_> = moving.map(|one| Write::Put(one.key.clone(), one.value.clone())).collect();
        self.announced.splice(..0, moving);
        self.commit(None);
        if self.staying.is_empty() {
            self.carried = self.closed.pop_front();
        }
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Write(key, value) => {
                let write = self.write(key, value);
                self.commit(Some(write));
            }
            Step::Announce(key, value) => {
                let write = self.write(key, value);
                self.database.overlay().announce(std::iter::once(&write));
                self.announced.push(write);
            }
            Step::Create(value) if self.created.end < u8::MAX => {
                let key = self.created.end;
                self.created.end += 1;
                self.model.insert(key, value);
                self.commit(Some(Write::Create(name(key), IVec::from(&[value]))));
            }
            Step::RemoveCreated => {
                let Some(key) = self.created.next() else { return };
                self.act(&Step::Write(key, None));
            }
            // Not in the middle of a commit.
            Step::Switch if self.announced.is_empty() => {
                while self.free.is_empty() {
                    self.carry_over(Stay::Refused);
                }
                let slot = self.free.pop().unwrap();
                self.closed.push_back(self.wal.switch(slot));
            }
            Step::CarryOver(stay) => self.carry_over(stay),
            Step::Move => self.move_some(),
            // What was only announced may be lost; the model doesn't know what was before.
            Step::Restart if self.announced.is_empty() => self.restart(),
            Step::Switch | Step::Restart | Step::Create(_) => {}
        }
    }
}

fn plain(entry: Result<(IVec, IVec), StoreError>) -> (u8, u8) {
    let (key, value) = entry.unwrap();
    (number(&key), value[0])
}

#[test]
fn log_and_database_look_like_one() {
    let slots = Slots::new();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let cases = (steps(), 0u8..90, 0u8..90, any::<Vec<bool>>());
    runner
        .run(&cases, |(steps, from, length, ends)| looks_like_one(&slots, &steps, from, length, ends))
        .unwrap();
}

fn looks_like_one(
    slots: &Slots,
    steps: &[Step],
    from: u8,
    length: u8,
    ends: Vec<bool>,
) -> Result<(), TestCaseError> {
    let mut world = World::new(slots);
    for step in steps {
        world.act(step);
    }
    let overlay = world.database.overlay();
    prop_assert_eq!(overlay.load(), overlay.counted());
    let to = from.saturating_add(length);
    let keys = name(from)..name(to);
    let expected: Vec<_> = world.model.range(from..to).map(|(key, value)| (*key, *value)).collect();
    prop_assert_eq!(world.database.range(keys.clone()).map(plain).collect::<Vec<_>>(), &expected[..]);
    let mut reversed: Vec<_> = world.database.range(keys.clone()).rev().map(plain).collect();
    reversed.reverse();
    prop_assert_eq!(&reversed, &expected);
    // From both ends, in any turn.
    let (mut scan, mut rest) = (world.database.range(keys), &expected[..]);
    for front in ends.into_iter().chain([true, false].into_iter().cycle().take(2 * expected.len() + 2)) {
        let (found, wanted) = if front {
            (scan.next(), rest.split_off_first())
        } else {
            (scan.next_back(), rest.split_off_last())
        };
        prop_assert_eq!(found.map(plain), wanted.copied());
    }
    for key in 0..=u8::MAX {
        let found = world.database.get(name(key)).unwrap().map(|value| value[0]);
        prop_assert_eq!(found, world.model.get(&key).copied());
    }
    // For the next one.
    while world.carried.is_some() || !world.closed.is_empty() {
        world.carry_over(Stay::Refused);
    }
    Ok(())
}

#[test]
fn a_look_misses_nothing_that_moves_meanwhile() {
    let slots = Slots::new();
    let mut world = World::new(&slots);
    for key in 10..200 {
        world.act(&Step::Write(key, Some(key)));
    }
    let (from, to) = (name(10), name(200));
    let mut scan = world.database.range(from..to);
    assert_eq!(scan.next().map(plain), Some((10, 10)));
    assert_eq!(scan.next_back().map(plain), Some((199, 199)));
    world.act(&Step::Switch);
    world.act(&Step::CarryOver(Stay::Refused));
    assert_eq!(scan.next().map(plain), Some((11, 11)));
    world.act(&Step::Write(100, None));
    world.act(&Step::Switch);
    world.act(&Step::CarryOver(Stay::Refused));
    let expected: Vec<_> = (12..199).filter(|key| *key != 100).collect();
    assert_eq!(scan.map(plain).map(|(key, _)| key).collect::<Vec<_>>(), expected);
}

#[test]
fn a_start_forgets_removals_of_what_the_database_does_not_have() {
    let slots = Slots::new();
    let mut world = World::new(&slots);
    for key in [1, 2] {
        world.act(&Step::Write(key, Some(key)));
    }
    world.act(&Step::Switch);
    world.act(&Step::CarryOver(Stay::Refused));
    // The database says that it has them when it is asked for more.
    world.act(&Step::CarryOver(Stay::Refused));
    world.act(&Step::Write(3, Some(3)));
    for key in [2, 3, 4] {
        world.act(&Step::Write(key, None));
    }
    assert_eq!(world.database.overlay().load(), Load { keys: 3, removals: 3 });
    world.act(&Step::Restart);
    let load = world.database.overlay().load();
    assert_eq!(load, Load { keys: 1, removals: 1 }, "the database has 2, and never had 3 and 4");
    let stored = [1, 2, 3, 4].map(|key| world.database.get(name(key)).unwrap().is_some());
    assert_eq!(stored, [true, false, false, false]);
}

#[test]
fn what_stays_in_the_log_is_never_in_the_database() {
    let slots = Slots::new();
    let mut world = World::new(&slots);
    // Messages' keys, of which every other one goes at once.
    for key in 60..100 {
        world.act(&Step::Create(key));
        if key % 2 == 0 {
            world.act(&Step::RemoveCreated);
        }
    }
    world.act(&Step::Switch);
    world.act(&Step::CarryOver(Stay::Allowed));
    assert_eq!((world.staying.len(), world.carried), (20, None), "its file is still needed");
    world.act(&Step::Write(99, Some(1)));
    while !world.staying.is_empty() {
        world.act(&Step::Move);
    }
    assert!(world.carried.is_some());
    let own = world.handle.db().len();
    assert_eq!(own, 1, "the database has nothing but its own record");
    let found = |world: &World<'_>, key: u8| world.database.get(name(key)).unwrap().map(|value| value[0]);
    for key in 80..100 {
        assert_eq!(found(&world, key), world.model.get(&key).copied());
    }
    assert_eq!(found(&world, 99), Some(1), "what was written since is not undone");
    // The file is free when the database says that it needs it no more.
    world.act(&Step::CarryOver(Stay::Refused));
    world.act(&Step::Restart);
    for key in 80..100 {
        assert_eq!(found(&world, key), world.model.get(&key).copied());
    }
}

#[test]
fn a_record_that_is_nowhere_is_an_error_and_no_endless_search() {
    let slots = Slots::new();
    let mut world = World::new(&slots);
    let write = world.write(1, Some(5));
    let nowhere = wal::Place::of(wal::Segment::NEVER, &(0..1));
    world.database.overlay().committed([(&write, nowhere)].into_iter());
    let error = world.database.get(name(1)).unwrap_err();
    assert!(matches!(&error, StoreError::Unreadable(why) if why.contains("store verify")), "{error}");
    assert!(world.database.scan_prefix(name(1)).next().unwrap().is_err());
}

#[test]
fn a_prefix_ends_where_others_begin() {
    assert_eq!(end_of(&[1, 2]), Some(IVec::from(&[1, 3])));
    assert_eq!(end_of(&[1, 255, 255]), Some(IVec::from(&[2])));
    assert_eq!(end_of(&[255]), None);
    assert_eq!(end_of(&[]), None);
}
