//! How many deliveries a webhook gets at once, without I/O and without a clock.
//!
//! ```text
//!            nothing gets through             something does
//!   Open ───────────────────────────> Probing ──────────────> Open
//!     │  410                             │  410
//!     └──────────────> Disabled <────────┘        Disabled ── enable ──> Open
//! ```
//!
//! Beside that, a webhook that sent `Retry-After` is *held* until then, in whatever state.
//!
//! While probing, one delivery at a time goes out. Failures count as "nothing gets through" when
//! they come from more than one user: one user's poison event waits in its own lane and throttles
//! nobody. A user whose deliveries haven't failed may probe at once; the others take their turn.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::{clock::Timestamp, retry::Backoff, store::UserNumber};

/// However patient a webhook's retries are, whether it is back is asked this often.
const LONGEST_PROBE_DELAY: Duration = Duration::from_secs(10);
/// How many past standstills are remembered.
const STANDSTILLS: usize = 32;

/// Whether and how much a webhook may be sent.
#[derive(Debug)]
pub struct Gate {
    max_in_flight: usize,
    in_flight: usize,
    state: State,
    held: Option<Hold>,
    /// Users whose deliveries failed since something last got through.
    failing: HashSet<UserNumber>,
    probes: Backoff,
    /// Times in which nothing was sent: events don't age in them.
    standstills: Vec<(Timestamp, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Probing { next: Instant },
    Disabled { since: Timestamp },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    since: Timestamp,
    until: Instant,
}

/// What the gate says to one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Go,
    /// Not before this moment; ask again then.
    NotBefore(Instant),
    /// Not now; whatever changes that will say so.
    Wait,
}

/// Whether a success brought the webhook back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It was there all along.
    None,
    /// Nothing had got through before: whatever waits is due now.
    Back,
}

impl Gate {
    /// An open gate.
    pub fn new(max_in_flight: usize, backoff_min: Duration, backoff_max: Duration) -> Self {
        Self {
            max_in_flight,
            in_flight: 0,
            state: State::Open,
            held: None,
            failing: HashSet::new(),
            probes: Backoff::new(backoff_min, backoff_max.min(LONGEST_PROBE_DELAY)),
            standstills: Vec::new(),
        }
    }

    /// Whether any delivery at all could go now; asked before an event is taken out of its lane.
    pub fn admission(&self, now: Instant) -> Admission {
        if let State::Disabled { .. } = self.state {
            return Admission::Wait;
        }
        if let Some(hold) = self.held
            && hold.until > now
        {
            return Admission::NotBefore(hold.until);
        }
        let most = if let State::Probing { .. } = self.state { 1 } else { self.max_in_flight };
        if self.in_flight < most { Admission::Go } else { Admission::Wait }
    }

    /// Whether this user's delivery may go, given that some may.
    pub fn admission_of(&self, user: UserNumber, now: Instant) -> Admission {
        match self.state {
            State::Probing { next } if next > now && self.failing.contains(&user) => {
                Admission::NotBefore(next)
            }
            _ => Admission::Go,
        }
    }

    /// A delivery went out.
    pub fn started(&mut self) {
        self.in_flight += 1;
    }

    /// A delivery came back, with whatever outcome; one of the three below follows, or none.
    pub fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The receiver took an event, or refused just that event: it is there.
    pub fn answered(&mut self) -> Recovery {
        self.failing.clear();
        self.probes.reset();
        match self.state {
            State::Probing { .. } => {
                self.state = State::Open;
                Recovery::Back
            }
            State::Open | State::Disabled { .. } => Recovery::None,
        }
    }

    /// A delivery failed and will be tried again.
    pub fn failed(&mut self, user: UserNumber, now: Instant, rng: &mut fastrand::Rng) {
        self.failing.insert(user);
        let is_down = self.failing.len() > 1 || matches!(self.state, State::Probing { .. });
        if is_down && !matches!(self.state, State::Disabled { .. }) {
            self.state = State::Probing { next: now + self.probes.next(rng) };
        }
    }

    /// The receiver asked to be left alone until then.
    pub fn hold(&mut self, since: Timestamp, until: Instant) {
        let until = self.held.map_or(until, |hold| hold.until.max(until));
        let since = self.held.map_or(since, |hold| hold.since);
        self.held = Some(Hold { since, until });
    }

    /// The receiver said that it is gone.
    pub fn disable(&mut self, since: Timestamp) {
        if !self.is_disabled() {
            self.state = State::Disabled { since };
        }
    }

    /// Lifts holds and disabling.
    pub fn enable(&mut self, now: Timestamp) {
        if let State::Disabled { since } = self.state {
            self.stood_still(since, now);
            self.state = State::Open;
        }
        if let Some(hold) = self.held.take() {
            self.stood_still(hold.since, now);
        }
        self.failing.clear();
        self.probes.reset();
    }

    /// Ends a hold whose time is over.
    pub fn tick(&mut self, mono: Instant, wall: Timestamp) {
        if let Some(hold) = self.held
            && hold.until <= mono
        {
            self.held = None;
            self.stood_still(hold.since, wall);
        }
    }

    /// Whether the webhook is disabled.
    pub fn is_disabled(&self) -> bool {
        matches!(self.state, State::Disabled { .. })
    }

    /// Whether nothing gets through at the moment.
    pub fn is_failing(&self) -> bool {
        !self.failing.is_empty() || self.held.is_some() || matches!(self.state, State::Probing { .. })
    }

    /// An event's age: the time since its receipt in which it could have been sent.
    pub fn age(&self, received: Timestamp, now: Timestamp) -> Duration {
        let current = match (self.state, self.held) {
            (State::Disabled { since }, _) => Some((since, now)),
            (_, Some(hold)) => Some((hold.since, now)),
            _ => None,
        };
        let still: Duration = self
            .standstills
            .iter()
            .copied()
            .chain(current)
            .map(|(from, to)| to.since(from.max(received)))
            .sum();
        now.since(received).saturating_sub(still)
    }

    fn stood_still(&mut self, from: Timestamp, to: Timestamp) {
        if self.standstills.len() == STANDSTILLS {
            self.standstills.remove(0);
        }
        self.standstills.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);
    const CAROL: UserNumber = UserNumber(3);

    fn gate() -> (Gate, fastrand::Rng, Instant) {
        let gate = Gate::new(4, Duration::from_millis(500), Duration::from_secs(300));
        (gate, fastrand::Rng::with_seed(7), Instant::now())
    }

    fn fail(gate: &mut Gate, user: UserNumber, now: Instant, rng: &mut fastrand::Rng) {
        gate.started();
        gate.ended();
        gate.failed(user, now, rng);
    }

    #[tokio::test]
    async fn at_most_max_in_flight_at_once() {
        let (mut gate, _, now) = gate();
        for _ in 0..4 {
            assert_eq!(gate.admission(now), Admission::Go);
            gate.started();
        }
        assert_eq!(gate.admission(now), Admission::Wait);
        gate.ended();
        assert_eq!(gate.admission(now), Admission::Go);
    }

    #[tokio::test]
    async fn one_users_poison_event_throttles_nobody() {
        let (mut gate, mut rng, now) = gate();
        for _ in 0..100 {
            fail(&mut gate, ALICE, now, &mut rng);
        }
        gate.started();
        assert_eq!(gate.admission(now), Admission::Go);
        assert_eq!(gate.admission_of(BOB, now), Admission::Go);
    }

    #[tokio::test]
    async fn when_nothing_gets_through_one_at_a_time_probes_until_something_does() {
        let (mut gate, mut rng, now) = gate();
        fail(&mut gate, ALICE, now, &mut rng);
        fail(&mut gate, BOB, now, &mut rng);
        let Admission::NotBefore(next) = gate.admission_of(ALICE, now) else { panic!("must wait") };
        assert!(next > now && next <= now + Duration::from_millis(500));
        assert_eq!(gate.admission_of(CAROL, now), Admission::Go, "a user that hasn't failed may probe");
        gate.started();
        assert_eq!(gate.admission(now), Admission::Wait, "one at a time");
        gate.ended();
        assert_eq!(gate.admission_of(ALICE, next), Admission::Go);
        assert_eq!(gate.answered(), Recovery::Back);
        assert_eq!(gate.answered(), Recovery::None);
        assert_eq!(gate.admission_of(ALICE, now), Admission::Go);
        assert!(!gate.is_failing());
    }

    #[tokio::test]
    async fn whether_it_is_back_is_asked_every_few_seconds() {
        let (mut gate, mut rng, now) = gate();
        for _ in 0..1000 {
            fail(&mut gate, ALICE, now, &mut rng);
            fail(&mut gate, BOB, now, &mut rng);
            if let Admission::NotBefore(next) = gate.admission_of(BOB, now) {
                assert!(next <= now + LONGEST_PROBE_DELAY);
            }
        }
    }

    #[tokio::test]
    async fn a_hold_is_never_shorter_than_told_and_enable_lifts_it() {
        let (mut gate, _, now) = gate();
        let (long, short) = (now + Duration::from_secs(60), now + Duration::from_secs(5));
        gate.hold(Timestamp::from_millis(0), long);
        gate.hold(Timestamp::from_millis(10), short);
        assert_eq!(gate.admission(now), Admission::NotBefore(long));
        gate.enable(Timestamp::from_millis(20));
        assert_eq!(gate.admission(now), Admission::Go);
    }

    #[tokio::test]
    async fn events_do_not_age_while_nothing_may_be_sent() {
        let (mut gate, _, _) = gate();
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        gate.disable(at(100));
        assert_eq!(gate.admission(Instant::now()), Admission::Wait);
        assert_eq!(gate.age(at(90), at(150)), Duration::from_secs(10));
        gate.enable(at(200));
        assert_eq!(gate.age(at(90), at(250)), Duration::from_secs(60));
        assert_eq!(gate.age(at(150), at(250)), Duration::from_secs(50));
        assert_eq!(gate.age(at(240), at(250)), Duration::from_secs(10));
    }
}
