//! What is to be delivered next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Setup, Shared};
use crate::{
    clock::{Now, Timestamp},
    events::{
        Ahead, DeliveryCounts, Event, LastOutcome,
        lanes::{Given, InStore, LaneEvent, Lanes, Loaded, Next, Started},
    },
    letters::Replay,
    ordered,
    store::{DeadLetter, DeadLetterId, ReplayMark, StoreError, UserNumber, WebhookRecord},
    webhook::{
        AttemptResult,
        gate::{Admission, Gate},
        replays::Replays,
    },
};

/// How long to wait before a store that can't be read is asked again.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Behind so many others more than may be under way, an event goes out no later for being stored a little later: they take
/// longer than it waits for its commit (2 ms, [`Urgency::Soon`](crate::store::Urgency::Soon)) at 100,000 a second. When fewer
/// are left, the next event is stored at once, and takes along what waits.
const MUCH_AHEAD: u64 = 256;

/// What a webhook has to deliver, and what it may.
#[derive(Debug)]
pub(super) struct State {
    pub(super) setup: Arc<Setup>,
    /// Whether it takes no more events.
    pub(super) is_retired: bool,
    pub(super) lanes: Lanes,
    pub(super) gate: Gate,
    pub(super) replays: Replays,
    /// What a restart must know of the gate.
    pub(super) record: WebhookRecord,
    /// Started events that wait for their next attempt, by when it is due.
    due: BTreeMap<(Instant, u64), UserNumber>,
    /// When the store is asked again for waiting events, after it could not be read.
    load_again: Option<Instant>,
    pub(super) rng: fastrand::Rng,
    pub(super) last_attempt: Option<LastAttempt>,
    pub(super) trouble: Trouble,
    pub(super) counts: DeliveryCounts,
    /// Attempts that were begun.
    begun: u64,
    /// Until when the webhook's time keeper sleeps, if it does.
    pub(super) alarm: Option<Instant>,
}

/// What came of the latest attempt. It is put into words only when somebody asks.
#[derive(Debug)]
pub(super) struct LastAttempt {
    /// Without the answer's body.
    result: AttemptResult,
    at: Timestamp,
}

impl LastAttempt {
    pub(super) fn new(result: &AttemptResult, at: Timestamp) -> Self {
        let AttemptResult { outcome, status, ref failure, answer: _, took } = *result;
        Self {
            result: AttemptResult { outcome, status, failure: failure.clone(), answer: Vec::new(), took },
            at,
        }
    }
}

/// Whether the log says that the webhook fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    Told,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Turn {
    /// This is delivered.
    Deliver(Job),
    /// What waits in this lane is loaded, and then asked for again.
    Load {
        /// Whose lane.
        user: UserNumber,
        /// Which of the user's events.
        these: InStore,
    },
}

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) setup: Arc<Setup>,
    pub(super) user: UserNumber,
    pub(super) started: Started,
    pub(super) errand: Errand,
}

/// Where an event on its way out comes from.
#[derive(Debug)]
pub(super) enum Errand {
    /// From its lane.
    Lane,
    /// It is a dead letter that is delivered after all.
    Replay(Box<DeadLetter>, ReplayMark),
}

impl Job {
    fn replay(setup: Arc<Setup>, user: UserNumber, replay: Replay) -> Self {
        let Replay { letter, mark, event } = replay;
        let started = Started {
            item: LaneEvent { event, sequence: letter.position.sequence },
            attempts: letter.attempts.saturating_add(mark.attempts),
            format: letter.format,
            last_status: letter.last_status,
        };
        Self { setup, user, started, errand: Errand::Replay(Box::new(letter), mark) }
    }

    pub(super) fn event(&self) -> &Event {
        &self.started.item.event
    }

    /// Which attempt this is, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.started.attempts.saturating_add(1)
    }

    /// How often its event was tried, this time included, since it came or was to be replayed.
    pub(super) fn tries(&self) -> u32 {
        match &self.errand {
            Errand::Lane => self.attempt(),
            Errand::Replay(_, mark) => mark.attempts.saturating_add(1),
        }
    }

    /// What its event is as a dead letter.
    pub(super) fn letter_id(&self, shared: &Shared) -> DeadLetterId {
        DeadLetterId::of(shared.number, self.event().id.number)
    }
}

impl State {
    pub(super) fn new(lanes: Lanes, gate: Gate, record: WebhookRecord, setup: Arc<Setup>) -> Self {
        let max_in_flight = setup.settings.max_in_flight;
        Self {
            setup,
            is_retired: false,
            lanes,
            gate,
            replays: Replays::new(max_in_flight),
            record,
            due: BTreeMap::new(),
            load_again: None,
            rng: fastrand::Rng::new(),
            last_attempt: None,
            alarm: None,
            trouble: Trouble::None,
            counts: DeliveryCounts::default(),
            begun: 0,
        }
    }

    /// Gives an event its sequence number in the user's lane, if it is wanted, and tells what goes out before it.
    pub(super) fn give(&mut self, user: UserNumber, wanted: bool) -> (u64, Ahead) {
        let Given { sequence, ahead } = self.lanes.give(user, wanted);
        let much = MUCH_AHEAD + self.setup.settings.max_in_flight as u64;
        (sequence, if ahead < much { Ahead::Little } else { Ahead::Much })
    }

    /// Takes what goes next through the gate, if anything may.
    pub(super) fn take(&mut self, shared: &Shared, now: Now) -> Option<Turn> {
        self.gate.tick(now.mono, now.wall);
        loop {
            match self.gate.admission(now.mono) {
                Admission::Go => {}
                Admission::NotBefore(_) | Admission::Wait => return None,
            }
            let job = match self.choose(shared, now.mono)? {
                Turn::Deliver(job) => job,
                load @ Turn::Load { .. } => {
                    self.gate.load_started();
                    return Some(load);
                }
            };
            match self.gate.admission_of(job.user, now.mono) {
                Admission::Go => {
                    self.gate.started(now.mono);
                    self.begun += 1;
                    if let Errand::Lane = job.errand {
                        self.replays.live_started();
                    }
                    return Some(Turn::Deliver(job));
                }
                Admission::NotBefore(at) => self.park(&job, at),
                Admission::Wait => self.park(&job, now.mono),
            }
        }
    }

    /// A retry that is due, else the next event of the lane whose turn it is; now and then, and when
    /// there is neither, a replay.
    fn choose(&mut self, shared: &Shared, now: Instant) -> Option<Turn> {
        if self.replays.have_their_turn()
            && let Some(job) = self.take_replay(shared, now)
        {
            return Some(Turn::Deliver(job));
        }
        let live = self.take_due(now).map(Turn::Deliver).or_else(|| self.take_fresh(now));
        live.or_else(|| self.take_replay(shared, now).map(Turn::Deliver))
    }

    fn take_due(&mut self, now: Instant) -> Option<Job> {
        loop {
            let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
            let ((_, event), user) = entry.remove_entry();
            if let Some(started) = self.lanes.started(user, event) {
                let setup = Arc::clone(&self.setup);
                return Some(Job { setup, user, started, errand: Errand::Lane });
            }
        }
    }

    fn take_fresh(&mut self, now: Instant) -> Option<Turn> {
        if self.load_again.is_some_and(|at| at > now) {
            return None;
        }
        self.load_again = None;
        match self.lanes.next(self.setup.settings.format) {
            Next::Nothing => None,
            Next::Start { user, started } => {
                let setup = Arc::clone(&self.setup);
                Some(Turn::Deliver(Job { setup, user, started, errand: Errand::Lane }))
            }
            Next::Load { user, these } => Some(Turn::Load { user, these }),
        }
    }

    /// Takes what was loaded of a lane after [`Turn::Load`].
    pub(super) fn loaded(&mut self, user: UserNumber, loaded: Result<Loaded, StoreError>, now: Instant) {
        self.gate.load_ended();
        match loaded {
            Ok(loaded) => self.lanes.loaded(user, loaded),
            Err(StoreError::Unavailable(_)) => {
                // The store says so itself. The lane is asked first the next time.
                self.lanes.not_loaded(user);
                self.load_again = Some(now + STORE_PAUSE);
            }
            // The lane stands still until the next start, and keeps what it has: to go on with what comes
            // later would be to take all before it for finished.
            Err(_) => {}
        }
    }

    fn take_replay(&mut self, shared: &Shared, now: Instant) -> Option<Job> {
        loop {
            let user = self.replays.next(now)?;
            match shared.letters.next_replay(shared.number, user) {
                Ok(Some(replay)) => return Some(Job::replay(Arc::clone(&self.setup), user, replay)),
                Ok(None) => self.replays.nothing_left(user),
                Err(StoreError::Unavailable(_)) => self.replays.wait(user, now + STORE_PAUSE),
                Err(error) => {
                    tracing::error!(webhook = %shared.name, user = shared.name_of(user), %error, "a dead letter can't be read; the user's replays stand still");
                    self.replays.nothing_left(user);
                }
            }
        }
    }

    /// Keeps a started event for later.
    pub(super) fn park(&mut self, job: &Job, until: Instant) {
        match job.errand {
            Errand::Lane => {
                self.due.insert((until, job.event().id.number), job.user);
            }
            Errand::Replay(..) => self.replays.wait(job.user, until),
        }
    }

    pub(super) fn everything_is_due(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.due);
        self.due = ordered::map(waiting.into_iter().map(|((at, event), user)| ((at.min(now), event), user)));
        self.replays.everything_is_due();
    }

    /// How many attempts were begun so far, if something may go out now and doesn't, or is being loaded.
    pub(super) fn lingers_after(&self, now: Instant) -> Option<u64> {
        let is_due = self.due.keys().next().is_some_and(|(at, _)| *at <= now);
        let is_ready = self.lanes.has_ready() && self.load_again.is_none();
        let may_go = self.gate.admission(now) == Admission::Go && (is_due || is_ready);
        (may_go || self.gate.is_loading()).then_some(self.begun)
    }

    /// What came of the latest attempt.
    pub(super) fn last_outcome(&self) -> Option<LastOutcome> {
        let LastAttempt { result, at } = self.last_attempt.as_ref()?;
        Some(LastOutcome { summary: result.summary(), at: *at })
    }

    /// Whether something is due before the time keeper looks.
    pub(super) fn is_due_earlier(&self, now: Instant) -> bool {
        self.wake_at(now).is_some_and(|at| self.alarm.is_none_or(|alarm| at < alarm))
    }

    /// When something may be sent again that may not be now.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        match self.gate.admission(now) {
            Admission::NotBefore(at) => Some(at),
            Admission::Wait => None,
            Admission::Go => {
                let live = self.due.keys().next().map(|(at, _)| *at);
                live.into_iter().chain(self.load_again).chain(self.replays.next_due()).min()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, events::lanes::Order, names::WebhookName, store::LaneRecord, webhook::Sender};

    const USER: UserNumber = UserNumber(1);

    /// One user's lane, of which two events are in the store.
    fn state() -> State {
        let settings = config::Webhook::new(url::Url::parse("http://127.0.0.1/").unwrap());
        let sender = Sender::new(&WebhookName::new("crm").unwrap(), &settings).unwrap();
        let mut lanes = Lanes::new(Order::Kept, Arc::default());
        lanes.restore(USER, LaneRecord::default(), 2, 2);
        let gate = Gate::new(&settings);
        State::new(lanes, gate, WebhookRecord::default(), Arc::new(Setup { settings, sender }))
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_read_is_asked_again_after_a_pause() {
        let (mut state, now) = (state(), Instant::now());
        let Some(Turn::Load { user, .. }) = state.take_fresh(now) else { panic!("it is in the store") };
        assert!(state.take_fresh(now).is_none(), "it is being loaded");
        state.gate.load_started();
        assert_eq!(state.lingers_after(now), Some(0), "a look at the store that never ends is noticed");
        state.loaded(user, Err(StoreError::Unavailable("its disk failed".to_owned())), now);
        assert!(state.take_fresh(now).is_none(), "no hot loop");
        assert_eq!(state.lingers_after(now), None);
        assert_eq!(state.wake_at(now), Some(now + STORE_PAUSE));
        assert!(matches!(state.take_fresh(now + STORE_PAUSE), Some(Turn::Load { user: USER, .. })));
    }

    #[tokio::test]
    async fn much_is_ahead_of_an_event_if_it_is_more_than_may_be_under_way_and_256() {
        let mut state = state();
        let few = MUCH_AHEAD + state.setup.settings.max_in_flight as u64;
        // Two are in the store, and the lane is one that has something to start.
        let sequences = 3..few;
        for sequence in sequences {
            assert_eq!(state.give(USER, true), (sequence, Ahead::Little));
        }
        assert_eq!(state.give(USER, true), (few, Ahead::Much));
    }

    #[tokio::test]
    async fn a_lane_that_cannot_be_read_stands_still_and_keeps_what_it_has() {
        let (mut state, now) = (state(), Instant::now());
        assert!(matches!(state.take_fresh(now), Some(Turn::Load { .. })));
        state.loaded(USER, Err(StoreError::Unreadable("an event record is damaged".to_owned())), now);
        let sequence = state.lanes.give(USER, true).sequence;
        state.lanes.arrived(USER, LaneEvent::sample(3, sequence));
        assert!(state.take_fresh(now + STORE_PAUSE).is_none());
        assert!(!state.lanes.is_past(USER, 1) && !state.lanes.is_past(USER, 3));
        assert_eq!(state.lanes.undelivered(USER), 3);
    }
}
