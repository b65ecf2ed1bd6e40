//! Lanes under random lives, against what was received.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::Timestamp,
    events::{EventId, Source, Speaker},
    names::{BotName, UserName},
};

const USERS: u32 = 3;

impl LaneEvent {
    /// An event that says nothing.
    pub(crate) fn sample(number: u64, sequence: u64) -> Self {
        let event = Event {
            id: EventId { store: 1, number },
            user: UserName::new("u").unwrap(),
            bot: BotName::new("b").unwrap(),
            kind: "bot_response".into(),
            received_at: Timestamp::from_millis(0),
            in_reply_to: None,
            source: Source::Live,
            speaker: Speaker::Bot,
            frame: Bytes::from_static(b"{}"),
        };
        Self { event: Arc::new(event), sequence }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// An event for a user, wanted or not.
    Receive(u32, bool),
    /// One pending commit is done.
    Commit,
    /// Start something, or begin to load what waits.
    Next,
    /// The n-th lane that is being loaded was, or the store could not be read.
    Load(usize, bool),
    /// The n-th started event is delivered.
    Finish(usize),
    /// An attempt of the n-th started event failed.
    Fail(usize),
    /// The daemon is killed and starts again.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..USERS, prop::bool::weighted(0.8)).prop_map(|(user, wanted)| Step::Receive(user, wanted)),
        8 => Just(Step::Commit),
        8 => Just(Step::Next),
        6 => (0usize..4, prop::bool::weighted(0.8)).prop_map(|(n, is_there)| Step::Load(n, is_there)),
        6 => (0usize..8).prop_map(Step::Finish),
        2 => (0usize..8).prop_map(Step::Fail),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..400)
}

/// What the store would hold, and what a receiver would have seen.
struct World {
    order: Order,
    lanes: Lanes,
    /// Every event: user, number, sequence, wanted.
    log: Vec<(UserNumber, u64, u64, bool)>,
    committed: usize,
    records: HashMap<UserNumber, LaneRecord>,
    running: Vec<(UserNumber, Started)>,
    loading: Vec<(UserNumber, InStore)>,
    delivered: HashMap<UserNumber, Vec<u64>>,
}

impl World {
    fn new(order: Order) -> Self {
        Self {
            order,
            lanes: Lanes::new(order, Arc::default()),
            log: Vec::new(),
            committed: 0,
            records: HashMap::new(),
            running: Vec::new(),
            loading: Vec::new(),
            delivered: HashMap::new(),
        }
    }

    /// Whether anything was to be done.
    fn next(&mut self) -> bool {
        match self.lanes.next(BodyFormat::Envelope) {
            Next::Nothing => return false,
            Next::Start { user, started } => {
                let number = started.item.event.id.number;
                let is_durable = self.log[..self.committed].iter().any(|(_, n, ..)| *n == number);
                assert!(is_durable, "started before durable");
                self.running.push((user, started));
            }
            Next::Load { user, these } => {
                assert!(self.loading.iter().all(|(other, _)| *other != user), "loaded twice at once");
                self.check_one(user, these);
                self.loading.push((user, these));
            }
        }
        true
    }

    /// If the last of what is to be loaded is said to be the only one, it is.
    fn check_one(&mut self, user: UserNumber, InStore { after, until, is_one }: InStore) {
        let is_here = |n: u64| self.running.iter().any(|(_, one)| one.item.event.id.number == n);
        let of_user = self.log.iter().filter(|(u, _, _, wanted)| *u == user && *wanted).map(|(_, n, ..)| *n);
        let wanted: Vec<u64> = of_user.filter(|n| (after + 1..=until).contains(n)).collect();
        if is_one && wanted.last() == Some(&until) {
            let open = wanted.into_iter().filter(|n| !is_here(*n) && !self.lanes.is_past(user, *n));
            assert_eq!(open.collect::<Vec<_>>(), [until]);
        }
    }

    /// What the store has for a lane, some time after it was asked for.
    fn load(&mut self, index: usize) {
        let (user, InStore { after, until, is_one }) = self.loading.remove(index);
        // One commit more is visible than has been announced.
        let visible = self.log.iter().take(self.committed + 1);
        let of_user = visible.filter(|(u, _, _, wanted)| *u == user && *wanted);
        let mut found: Vec<_> = of_user.filter(|(_, n, ..)| (after + 1..=until).contains(n)).collect();
        if is_one && found.last().is_some_and(|(_, n, ..)| *n == until) {
            found.drain(..found.len() - 1);
        }
        let more = found.len() > WINDOW;
        found.truncate(WINDOW);
        let looked_at = found.last().filter(|_| more).map(|(_, n, ..)| *n);
        let items = found.into_iter().map(|(_, n, s, _)| LaneEvent::sample(*n, *s)).collect();
        self.lanes.loaded(user, Loaded { items, looked_at });
    }

    fn finish(&mut self, index: usize) {
        let (user, started) = self.running.remove(index);
        let number = started.item.event.id.number;
        let (_, record) = self.lanes.finished(user, number).unwrap();
        self.records.insert(user, record);
        self.delivered.entry(user).or_default().push(number);
    }

    fn restart(&mut self) {
        // What was not committed is gone; its numbers are given again.
        self.log.truncate(self.committed);
        self.running.clear();
        self.loading.clear();
        self.lanes = Lanes::new(self.order, Arc::default());
        for user in (0..USERS).map(UserNumber) {
            let newest = self.log.iter().rev().find(|(u, ..)| *u == user);
            let (number, given) = newest.map_or((0, 0), |(_, number, given, _)| (*number, *given));
            self.lanes.restore(user, self.records.get(&user).cloned().unwrap_or_default(), given, number);
        }
    }

    /// Nothing that a receiver is still owed may be forgotten.
    fn check_open(&mut self) {
        for (user, number, _, wanted) in &self.log {
            let is_delivered = self.delivered.get(user).is_some_and(|delivered| delivered.contains(number));
            assert!(
                !wanted || is_delivered || !self.lanes.is_past(*user, *number),
                "{number} is taken for finished"
            );
        }
    }

    fn step(&mut self, step: &Step) {
        self.act(step);
        self.check_open();
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Receive(user, wanted) => {
                let user = UserNumber(user);
                let sequence = self.lanes.give(user, wanted).sequence;
                let number = self.log.len() as u64 + 1;
                self.log.push((user, number, sequence, wanted));
            }
            Step::Commit => {
                if let Some((user, number, sequence, wanted)) = self.log.get(self.committed).copied() {
                    self.committed += 1;
                    if wanted {
                        self.lanes.arrived(user, LaneEvent::sample(number, sequence));
                    }
                }
            }
            Step::Next => drop(self.next()),
            Step::Load(n, is_there) if !self.loading.is_empty() => {
                let index = n % self.loading.len();
                if is_there {
                    self.load(index);
                } else {
                    self.lanes.not_loaded(self.loading.remove(index).0);
                }
            }
            Step::Finish(n) if !self.running.is_empty() => self.finish(n % self.running.len()),
            Step::Fail(n) if !self.running.is_empty() => {
                let (user, started) = &self.running[n % self.running.len()];
                let record = self.lanes.attempted(*user, started.item.event.id.number, Some(503)).unwrap();
                self.records.insert(*user, record);
            }
            Step::Restart => self.restart(),
            Step::Load(..) | Step::Finish(_) | Step::Fail(_) => {}
        }
        if self.order == Order::Kept {
            let users: BTreeSet<_> = self.running.iter().map(|(user, _)| user.0).collect();
            assert_eq!(users.len(), self.running.len(), "two of one user under way");
        }
    }

    /// Delivers all that is left, and checks that everything came, once, in order.
    fn settle(&mut self) {
        while self.committed < self.log.len() {
            self.step(&Step::Commit);
        }
        loop {
            while self.next() || !self.loading.is_empty() {
                if !self.loading.is_empty() {
                    self.load(0);
                }
            }
            if self.running.is_empty() {
                break;
            }
            self.finish(0);
        }
        for user in (0..USERS).map(UserNumber) {
            let wanted: Vec<u64> = self
                .log
                .iter()
                .filter(|(u, .., wanted)| *u == user && *wanted)
                .map(|(_, n, ..)| *n)
                .collect();
            let sequences: Vec<u64> = self
                .log
                .iter()
                .filter(|(u, .., wanted)| *u == user && *wanted)
                .map(|(_, _, s, _)| *s)
                .collect();
            assert_eq!(sequences, (1..=wanted.len() as u64).collect::<Vec<_>>(), "sequences have no holes");
            let mut delivered = self.delivered.remove(&user).unwrap_or_default();
            if self.order == Order::Kept {
                assert!(delivered.is_sorted(), "out of order: {delivered:?}");
            }
            delivered.sort_unstable();
            assert_eq!(delivered, wanted);
            assert_eq!(self.lanes.undelivered(user), 0);
            assert!(self.log.iter().all(|(_, number, ..)| self.lanes.is_past(user, *number)));
        }
    }
}

proptest! {
    #[test]
    fn every_event_once_in_order_over_restarts(steps in steps(), kept: bool) {
        let mut world = World::new(if kept { Order::Kept } else { Order::Lifted });
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}

#[test]
fn the_format_of_what_may_have_been_tried_is_kept_until_it_is_finished() {
    let pinned = Attempted { event: 1, attempts: 0, format: BodyFormat::Form, last_status: None };
    let record = LaneRecord { attempted: vec![pinned], ..LaneRecord::default() };
    let mut lanes = Lanes::new(Order::Kept, Arc::default());
    lanes.restore(UserNumber(0), record.clone(), 2, 2);
    let Next::Load { user, .. } = lanes.next(BodyFormat::Envelope) else { panic!("it is in the store") };
    let items = vec![LaneEvent::sample(1, 1), LaneEvent::sample(2, 2)];
    lanes.loaded(user, Loaded { items, looked_at: None });
    let Next::Start { started, .. } = lanes.next(BodyFormat::Envelope) else { panic!("it waits") };
    assert_eq!((started.attempts, started.format), (0, BodyFormat::Form));
    assert_eq!(lanes.lanes[&user].record(), record, "also while it is under way");
    let tried = lanes.attempted(user, 1, Some(503)).unwrap().attempted;
    assert_eq!(
        tried.iter().map(|tried| (tried.attempts, tried.format)).collect::<Vec<_>>(),
        [(1, BodyFormat::Form)]
    );
    assert_eq!(lanes.finished(user, 1).unwrap().1.attempted, []);
    let Next::Start { started, .. } = lanes.next(BodyFormat::Envelope) else { panic!("it waits") };
    assert_eq!(started.format, BodyFormat::Envelope);
}

#[test]
fn a_retried_event_keeps_its_attempts_and_its_format_over_a_restart() {
    let mut world = World::new(Order::Kept);
    use Step::{Commit, Fail, Load, Next, Receive, Restart};
    for step in [Receive(0, true), Commit, Next, Fail(0), Restart, Next, Load(0, true), Next] {
        world.step(&step);
    }
    let (_, started) = &world.running[0];
    assert_eq!((started.attempts, started.last_status), (1, Some(503)));
}

#[test]
fn a_lane_is_small() {
    assert!(size_of::<Lane>() <= 136, "{} bytes", size_of::<Lane>());
}

#[test]
fn ahead_of_an_event_are_those_of_its_lane_and_one_of_each_lane_that_has_one_to_start() {
    let [alice, bob, carol] = [1, 2, 3].map(UserNumber);
    let mut lanes = Lanes::new(Order::Kept, Arc::default());
    let mut ahead = Vec::new();
    for (number, user) in (1..).zip([alice, alice, bob, carol]) {
        let given = lanes.give(user, true);
        lanes.arrived(user, LaneEvent::sample(number, given.sequence));
        ahead.push(given.ahead);
    }
    assert_eq!(ahead, [0, 2, 1, 2]);
    assert!(matches!(lanes.next(BodyFormat::Envelope), Next::Start { user, .. } if user == alice));
    assert_eq!(lanes.give(alice, true).ahead, 4, "what is under way is ahead, too");
    assert_eq!(lanes.give(carol, false), Given { sequence: 1, ahead: 3 });
    lanes.set_order(Order::Lifted);
    assert_eq!(
        lanes.give(alice, false).ahead,
        5,
        "two that wait, and three lanes; what is under way holds up nobody"
    );
}
