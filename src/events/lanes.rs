//! The lanes of one webhook: one FIFO per user, without I/O and without a clock.
//!
//! A lane keeps a small window of its events in memory; what lies beyond is only in the store, so
//! memory doesn't grow with the backlog. An event that was started stays the lane's until it is
//! finished, in whatever order that happens; [`LaneRecord`] says what a restart must not repeat.

mod room;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;

pub use room::LaneRoom;

use super::Event;
use crate::{
    config::BodyFormat,
    prefetch::prefetch,
    store::{Attempted, ByUser, LaneRecord, Position, UserNumber},
};

/// Events that a lane keeps in memory beyond those it has started; few in this crate's own tests, so that they
/// get beyond it.
pub const WINDOW: usize = if cfg!(test) { 8 } else { 32 };
/// What an event takes beside its frame.
const EVENT_BYTES: usize = 256;

/// Whether a lane may have several events under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Kept,
    /// As they come.
    Lifted,
}

/// An event in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Its sequence number in the lane.
    pub sequence: u64,
}

impl LaneEvent {
    /// About what it takes in memory.
    fn size(&self) -> usize {
        EVENT_BYTES + self.event.frame.len()
    }

    /// Its place in the lane.
    pub fn position(&self) -> Position {
        Position { event: self.event.id.number, sequence: self.sequence }
    }
}

/// An event that was started: it is under way, or waits for its next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The event.
    pub item: LaneEvent,
    /// How many attempts have been made.
    pub attempts: u32,
    /// The body's shape, fixed by the first attempt.
    pub format: BodyFormat,
    /// The status of the last answer.
    pub last_status: Option<u16>,
}

/// What a lane says when it is asked for its next event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This one is started now.
    Start {
        /// Whose lane.
        user: UserNumber,
        /// What.
        started: Started,
    },
    /// The store has more: hand it over with [`Lanes::loaded`] and ask again. Other lanes may go on meanwhile.
    Load {
        /// Whose lane.
        user: UserNumber,
        /// Which of the user's events.
        these: InStore,
    },
    /// No lane has anything to start.
    Nothing,
}

/// What an event was given by its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Its sequence number.
    pub sequence: u64,
    /// At least so many events go out before it: those of its lane, but for what is under way where that holds up nobody, and
    /// one of each lane that has one to start.
    pub ahead: u64,
}

/// What waits in a lane and is only in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InStore {
    /// It is after this event...
    pub after: u64,
    /// ... and not after this one.
    pub until: u64,
    /// Whether that is the only one, if the webhook wants it: then there is nothing to look for.
    pub is_one: bool,
}

/// The next events of a lane, as the store has them.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Those that the webhook wants, oldest first.
    pub items: Vec<LaneEvent>,
    /// The last event that was looked at, if there may be more behind it.
    pub looked_at: Option<u64>,
}

/// What of a lane is not in its window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Beyond {
    /// Nothing that is known to be on stable storage.
    #[default]
    Nothing,
    /// What comes after this event, and is only in the store.
    Stored { after: u64 },
    /// The same, and it is being loaded, as far as this event.
    Loading { after: u64, until: u64 },
}

impl Beyond {
    /// After which event there is more.
    fn after(self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Stored { after } | Self::Loading { after, .. } => Some(after),
        }
    }
}

/// What few lanes have, and each only at times. It is kept apart, since what an event costs most in a lane that
/// nothing touched for long is to get the lane into the processor's cache.
#[derive(Debug, Default, PartialEq, Eq)]
struct Apart {
    /// Finished beyond `done`, in order.
    ahead: Vec<Position>,
    /// What comes behind the window. While it is loaded, the window is empty.
    beyond: Beyond,
    /// What was tried before the restart, until it is started again; what only may have been tried,
    /// until it is tried for certain.
    tried_before: Vec<Attempted>,
}

/// What a lane has apart that has nothing apart.
static NOTHING_APART: Apart = Apart { ahead: Vec::new(), beyond: Beyond::Nothing, tried_before: Vec::new() };

#[derive(Debug, Default)]
struct Lane {
    /// The last sequence number given.
    given: u64,
    /// Everything up to here is finished.
    done: Position,
    /// Events that wait, in order.
    window: SmallVec<[LaneEvent; 1]>,
    /// The newest event that is known to be on stable storage. The store may show later ones
    /// already, whose commit is still in progress.
    arrived: u64,
    /// Its sequence number: what was given a later one is still being committed.
    arrived_sequence: u64,
    /// One, as a rule.
    started: SmallVec<[Started; 1]>,
    apart: Option<Box<Apart>>,
    /// Whether it stands in the queue of lanes that have something to start.
    is_ready: bool,
}

impl Lane {
    fn apart(&self) -> &Apart {
        self.apart.as_deref().unwrap_or(&NOTHING_APART)
    }

    /// The same to be changed, made where there was nothing.
    fn apart_mut(&mut self) -> &mut Apart {
        self.apart.get_or_insert_default()
    }

    fn set_beyond(&mut self, beyond: Beyond) {
        if beyond != Beyond::Nothing || self.apart.is_some() {
            self.apart_mut().beyond = beyond;
        }
    }

    /// No longer among what was tried before.
    fn forget_tried(&mut self, event: u64) {
        if let Some(apart) = &mut self.apart {
            apart.tried_before.retain(|tried| tried.event != event);
        }
    }

    fn has_next(&self, order: Order) -> bool {
        let something = !self.window.is_empty() || matches!(self.apart().beyond, Beyond::Stored { .. });
        something && (order == Order::Lifted || self.started.is_empty())
    }

    /// Whether it is to be put among the lanes that have something to start, and is not there.
    fn gets_ready(&mut self, order: Order) -> bool {
        let was_ready = self.is_ready;
        self.is_ready |= self.has_next(order);
        self.is_ready && !was_ready
    }

    /// What is only in the store, if anything is: it is being loaded from now on.
    fn load(&mut self) -> Option<InStore> {
        let Beyond::Stored { after } = self.apart().beyond else { return None };
        self.set_beyond(Beyond::Loading { after, until: self.arrived });
        let here = (self.started.len() + self.window.len()) as u64;
        let is_next = self.arrived_sequence == self.done.sequence + here + 1;
        // What finished ahead may be the newest, as a restart finds it.
        Some(InStore { after, until: self.arrived, is_one: is_next && self.apart().ahead.is_empty() })
    }

    /// How many events have a number and are not finished.
    fn unfinished(&self) -> u64 {
        self.given - self.done.sequence - self.apart().ahead.len() as u64
    }

    fn finish(&mut self, event: u64) -> Option<Started> {
        let index = self.started.iter().position(|started| started.item.event.id.number == event)?;
        let finished = self.started.remove(index);
        self.forget_tried(event);
        let position = finished.item.position();
        let is_oldest = self.started.iter().all(|other| position.event < other.item.event.id.number);
        if self.apart().ahead.is_empty() && is_oldest {
            // As it is in a lane that keeps its order. What is not started comes later: it is not even looked at.
            self.done = position;
            return Some(finished);
        }
        let open = self.first_open();
        let ahead = &mut self.apart_mut().ahead;
        let at = ahead.partition_point(|ahead| ahead.event < position.event);
        ahead.insert(at, position);
        let settled = ahead.partition_point(|ahead| ahead.event < open);
        let last = ahead.drain(..settled).next_back();
        self.done = last.unwrap_or(self.done);
        Some(finished)
    }

    /// The first event that may not be finished. After a restart, what finished out of order lies
    /// beyond events that are not even loaded.
    fn first_open(&self) -> u64 {
        self.first_open_behind(self.arrived)
    }

    /// The same, where what is still being committed is known to come after this event.
    fn first_open_behind(&self, arrived: u64) -> u64 {
        let started = self.started.iter().map(|started| started.item.event.id.number);
        let waiting = self.window.first().map(|item| item.event.id.number);
        let stored = self.apart().beyond.after().map(|after| after + 1);
        let on_its_way = (self.given > self.arrived_sequence).then_some(arrived + 1);
        started.chain(waiting).chain(stored).chain(on_its_way).min().unwrap_or(u64::MAX)
    }

    fn record(&self) -> LaneRecord {
        let tried = self.started.iter().filter(|started| started.attempts > 0);
        let tried = tried.map(|started| Attempted {
            event: started.item.event.id.number,
            attempts: started.attempts,
            format: started.format,
            last_status: started.last_status,
        });
        LaneRecord {
            done: self.done,
            done_ahead: self.apart().ahead.clone(),
            attempted: tried.chain(self.apart().tried_before.iter().cloned()).collect(),
        }
    }

    fn start(&mut self, item: LaneEvent, format: BodyFormat) -> Started {
        let event = item.event.id.number;
        let started = match self.apart().tried_before.iter().find(|tried| tried.event == event) {
            Some(&Attempted { attempts, format, last_status, .. }) => {
                Started { item, attempts, format, last_status }
            }
            None => Started { item, attempts: 0, format, last_status: None },
        };
        if started.attempts > 0 {
            // It is recorded as a started one from now on.
            self.forget_tried(event);
        }
        self.started.push(started.clone());
        started
    }
}

/// Lanes that have something to start, in turn.
#[derive(Debug, Default)]
struct Ready(VecDeque<UserNumber>);

impl Ready {
    /// Puts a lane behind the others, if it has something to start and is not among them.
    fn push(&mut self, user: UserNumber, lane: &mut Lane, order: Order) {
        if lane.gets_ready(order) {
            self.0.push_back(user);
        }
    }

    /// The same before the others: it had its turn already, and had to wait for the store.
    fn push_first(&mut self, user: UserNumber, lane: &mut Lane, order: Order) {
        if lane.gets_ready(order) {
            self.0.push_front(user);
        }
    }
}

/// What all lanes are past, as far as is known. It spares a look at the lane of each event that is to be forgotten:
/// nothing touched that one for long, so its memory is in no cache.
#[derive(Debug, Default)]
struct Past {
    /// Every event before this one.
    before: u64,
    /// How often a lane was looked at since that was found out.
    looks: usize,
}

/// The lanes of one webhook.
#[derive(Debug)]
pub struct Lanes {
    order: Order,
    lanes: ByUser<Lane>,
    past: Past,
    ready: Ready,
    /// What the events in the windows take of the memory that all webhooks share.
    share: room::Share,
}

impl Lanes {
    /// No lanes yet.
    pub fn new(order: Order, room: Arc<LaneRoom>) -> Self {
        let share = room::Share::of(room);
        Self { order, lanes: ByUser::default(), past: Past::default(), ready: Ready::default(), share }
    }

    /// Goes by another order; what is under way ends as it began.
    pub fn set_order(&mut self, order: Order) {
        self.order = order;
        self.lanes.iter_mut().for_each(|(user, lane)| self.ready.push(*user, lane, order));
    }

    /// Fixes the body's shape of what was started and leaves no record of that before its first attempt is
    /// over; answers with what to remember of the lanes, so that a restart repeats it in the same shape.
    pub fn pin_formats(&mut self) -> Vec<(UserNumber, LaneRecord)> {
        let mut pinned = Vec::new();
        for (user, lane) in &mut self.lanes {
            let is_known = |event: u64| lane.apart().tried_before.iter().any(|tried| tried.event == event);
            let untried = lane.started.iter().filter(|started| started.attempts == 0);
            let new = untried.map(|started| (started.item.event.id.number, started.format));
            let new: Vec<_> = new.filter(|(event, _)| !is_known(*event)).collect();
            if !new.is_empty() {
                let fixed = |(event, format)| Attempted { event, attempts: 0, format, last_status: None };
                lane.apart_mut().tried_before.extend(new.into_iter().map(fixed));
                pinned.push((*user, lane.record()));
            }
        }
        pinned
    }

    /// Takes up a lane where the last run left it. `given` is the last sequence number given in it,
    /// `newest` the user's newest event in the store.
    pub fn restore(&mut self, user: UserNumber, record: LaneRecord, given: u64, newest: u64) {
        let finished_ahead = record.done_ahead.len() as u64;
        let given = record
            .done_ahead
            .iter()
            .map(|ahead| ahead.sequence)
            .fold(given.max(record.done.sequence), u64::max);
        let has_backlog = given > record.done.sequence + finished_ahead;
        let apart = Apart {
            ahead: record.done_ahead,
            beyond: if has_backlog { Beyond::Stored { after: record.done.event } } else { Beyond::Nothing },
            tried_before: record.attempted,
        };
        let mut lane = Lane {
            given,
            done: record.done,
            arrived: newest,
            arrived_sequence: given,
            apart: (apart != NOTHING_APART).then(|| Box::new(apart)),
            ..Lane::default()
        };
        self.ready.push(user, &mut lane, self.order);
        self.past = Past::default();
        self.lanes.insert(user, lane);
    }

    /// Gives the lane's next sequence number if the event is wanted; else tells the last one.
    pub fn give(&mut self, user: UserNumber, wanted: bool) -> Given {
        let lane = self.lanes.entry(user).or_default();
        let beside = if self.order == Order::Lifted { lane.started.len() as u64 } else { 0 };
        let ahead = lane.unfinished() - beside + self.ready.0.len() as u64;
        lane.given += u64::from(wanted);
        Given { sequence: lane.given, ahead }
    }

    /// An event that was given a number is on stable storage now.
    pub fn arrived(&mut self, user: UserNumber, item: LaneEvent) {
        let lane = self.lanes.entry(user).or_default();
        let size = item.size();
        lane.arrived = lane.arrived.max(item.event.id.number);
        lane.arrived_sequence = lane.arrived_sequence.max(item.sequence);
        let is_all_here = lane.apart().beyond == Beyond::Nothing;
        if is_all_here && lane.window.len() < WINDOW && self.share.try_take(size) {
            lane.window.push(item);
        } else if is_all_here {
            // The store is asked for what comes after the last event known here.
            let previous = lane.window.last().map(|last| last.event.id.number);
            let started = lane.started.iter().map(|started| started.item.event.id.number).max();
            let after = previous.or(started).unwrap_or(0).max(lane.done.event);
            lane.set_beyond(Beyond::Stored { after });
        }
        self.ready.push(user, lane, self.order);
    }

    /// Starts the next event of the lane whose turn it is.
    pub fn next(&mut self, format: BodyFormat) -> Next {
        while let Some(user) = self.ready.0.pop_front() {
            let Some(lane) = self.lanes.get_mut(&user) else { continue };
            lane.is_ready = false;
            if !lane.has_next(self.order) {
                continue;
            }
            if !lane.window.is_empty() {
                let item = lane.window.remove(0);
                // It was not looked at since it was stored, and is put into a body next.
                prefetch(&*item.event);
                prefetch(&*item.event.frame);
                prefetch(item.event.user.as_str());
                self.share.give_back(item.size());
                let started = lane.start(item, format);
                self.ready.push(user, lane, self.order);
                return Next::Start { user, started };
            }
            if let Some(these) = lane.load() {
                return Next::Load { user, these };
            }
        }
        Next::Nothing
    }

    /// Takes what the store has for a lane after [`Next::Load`]. The lane is the next to be asked.
    pub fn loaded(&mut self, user: UserNumber, Loaded { items, looked_at }: Loaded) {
        let Some(lane) = self.lanes.get_mut(&user) else { return };
        let Beyond::Loading { until, .. } = lane.apart().beyond else { return };
        for item in items {
            let number = item.event.id.number;
            let is_finished =
                number <= lane.done.event || lane.apart().ahead.iter().any(|ahead| ahead.event == number);
            let is_durable = number <= lane.arrived;
            let is_known = lane.started.iter().any(|started| started.item.event.id.number == number);
            if is_durable && !is_finished && !is_known {
                self.share.take(item.size());
                lane.window.push(item);
            }
        }
        // More may have come since it was asked for.
        let after = looked_at.unwrap_or(until);
        lane.set_beyond(if after < lane.arrived { Beyond::Stored { after } } else { Beyond::Nothing });
        if lane.window.is_empty()
            && looked_at.is_none()
            && let Some(apart) = &mut lane.apart
        {
            // What was tried before is gone from the store: it was finished, and that went unrecorded.
            apart.tried_before.clear();
        }
        self.ready.push_first(user, lane, self.order);
    }

    /// The store could not be read after [`Next::Load`]: the lane will ask for it again.
    pub fn not_loaded(&mut self, user: UserNumber) {
        let Some(lane) = self.lanes.get_mut(&user) else { return };
        if let Beyond::Loading { after, .. } = lane.apart().beyond {
            lane.set_beyond(Beyond::Stored { after });
            self.ready.push_first(user, lane, self.order);
        }
    }

    /// Whether a lane has something to start.
    pub fn has_ready(&self) -> bool {
        !self.ready.0.is_empty()
    }

    /// An attempt failed, and another will follow.
    pub fn attempted(
        &mut self,
        user: UserNumber,
        event: u64,
        last_status: Option<u16>,
    ) -> Option<LaneRecord> {
        let lane = self.lanes.get_mut(&user)?;
        let started = lane.started.iter_mut().find(|started| started.item.event.id.number == event)?;
        started.attempts = started.attempts.saturating_add(1);
        started.last_status = last_status;
        lane.forget_tried(event);
        Some(lane.record())
    }

    /// A started event, to be tried again.
    pub fn started(&self, user: UserNumber, event: u64) -> Option<Started> {
        self.lanes.get(&user)?.started.iter().find(|started| started.item.event.id.number == event).cloned()
    }

    /// An event is delivered, or dead: the lane goes on. Answers with what to remember of the lane.
    pub fn finished(&mut self, user: UserNumber, event: u64) -> Option<(Started, LaneRecord)> {
        let lane = self.lanes.get_mut(&user)?;
        let finished = lane.finish(event)?;
        let record = lane.record();
        self.ready.push(user, lane, self.order);
        Some((finished, record))
    }

    /// Whether a lane is past an event: nothing that it has still to finish is that event or older.
    pub fn is_past(&mut self, user: UserNumber, event: u64) -> bool {
        if self.past.looks >= self.lanes.len() {
            self.past = self.find_past();
        }
        if event < self.past.before {
            return true;
        }
        self.past.looks += 1;
        let Some(lane) = self.lanes.get(&user) else { return true };
        lane.unfinished() == 0
            || event < lane.first_open()
            || lane.apart().ahead.iter().any(|ahead| ahead.event == event)
    }

    /// What all lanes are past. It looks at each, so it is for when as many were looked at one by one.
    fn find_past(&self) -> Past {
        // Events arrive in the order of their numbers: what is still being committed comes after all of them.
        let newest = self.lanes.values().map(|lane| lane.arrived).max().unwrap_or(0);
        let open = self.lanes.values().filter(|lane| lane.unfinished() > 0);
        let before = open.map(|lane| lane.first_open_behind(newest)).min().unwrap_or(newest + 1);
        Past { before, looks: 0 }
    }

    /// Users whose lanes have something to finish.
    pub fn users_with_backlog(&self) -> impl Iterator<Item = UserNumber> + '_ {
        self.lanes.iter().filter(|(_, lane)| lane.unfinished() > 0).map(|(user, _)| *user)
    }

    /// The oldest event that a lane may not have finished, as far as that is known without the store: whose,
    /// and its number. There is none that is older.
    pub fn oldest(&self) -> Option<(UserNumber, u64)> {
        let open = self.lanes.iter().filter(|(_, lane)| lane.unfinished() > 0);
        open.map(|(user, lane)| (*user, lane.first_open())).min_by_key(|(_, event)| *event)
    }

    /// How many events of the user's lane are not finished.
    pub fn undelivered(&self, user: UserNumber) -> u64 {
        self.lanes.get(&user).map_or(0, Lane::unfinished)
    }

    /// How many events of all lanes are not finished.
    pub fn backlog(&self) -> u64 {
        self.lanes.values().map(Lane::unfinished).sum()
    }
}
