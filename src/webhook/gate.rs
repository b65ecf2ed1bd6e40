//! How many deliveries a webhook gets at once, without I/O and without a clock.
//!
//! ```text
//!            nothing gets through             something does
//!   Open ───────────────────────────> Probing ──────────────> Open
//!     │  410                             │  410
//!     └──────────────> Disabled <────────┘        Disabled ── enable ──> Open
//! ```
//!
//! Beside that, a webhook that sent `Retry-After` is *held* until then, in whatever state, and a
//! webhook with a `rate` gets no more attempts than that, whichever attempts they are.
//!
//! While probing, one delivery at a time goes out. Failures count as "nothing gets through" when
//! they come from more than one user: one user's poison event waits in its own lane and throttles
//! nobody. A user whose deliveries haven't failed may probe at once; the others take their turn.

use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::{clock::Timestamp, config, rate::Bucket, retry::Backoff, store::UserNumber};

/// However patient a webhook's retries are, whether it is back is asked this often.
const LONGEST_PROBE_DELAY: Duration = Duration::from_secs(10);
/// How many past standstills are remembered.
const STANDSTILLS: usize = 32;

/// Whether and how much a webhook may be sent.
#[derive(Debug)]
pub struct Gate {
    max_in_flight: usize,
    in_flight: usize,
    /// How many loads of events are under way: each has the place of the delivery that it is for.
    loading: usize,
    /// What the webhook's rate has left.
    allowance: Option<Bucket>,
    state: State,
    held_until: Option<Instant>,
    /// Since when nothing is sent, while it is disabled or held.
    still_since: Option<Timestamp>,
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
    Disabled,
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
    /// An open gate for a webhook with these settings.
    pub fn new(settings: &config::Webhook) -> Self {
        let config::Webhook { max_in_flight, rate, backoff_min, backoff_max, .. } = *settings;
        Self {
            max_in_flight,
            in_flight: 0,
            loading: 0,
            allowance: rate.map(Bucket::of),
            state: State::Open,
            held_until: None,
            still_since: None,
            failing: HashSet::new(),
            probes: Backoff::new(backoff_min, backoff_max.min(LONGEST_PROBE_DELAY)),
            standstills: Vec::new(),
        }
    }

    /// Goes by other settings. A hold and a disabling stay; a webhook that nothing got through to is asked
    /// at once whether it is there now.
    pub fn reconfigure(&mut self, old: &config::Webhook, new: &config::Webhook, now: Instant) {
        self.max_in_flight = new.max_in_flight;
        if old.rate != new.rate {
            self.allowance = new.rate.map(Bucket::of);
        }
        self.probes = Backoff::new(new.backoff_min, new.backoff_max.min(LONGEST_PROBE_DELAY));
        if let State::Probing { next } = &mut self.state {
            *next = now;
        }
    }

    /// Whether any delivery at all could go now; asked before an event is taken out of its lane.
    pub fn admission(&self, now: Instant) -> Admission {
        if self.is_disabled() {
            return Admission::Wait;
        }
        if let Some(until) = self.held_until
            && until > now
        {
            return Admission::NotBefore(until);
        }
        let most = if let State::Probing { .. } = self.state { 1 } else { self.max_in_flight };
        if self.in_flight + self.loading >= most {
            return Admission::Wait;
        }
        match self.allowance.as_ref().map(|allowance| allowance.look(now)) {
            Some(Err(at)) => Admission::NotBefore(at),
            Some(Ok(())) | None => Admission::Go,
        }
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

    /// Before a delivery can go out, what it delivers must be loaded.
    pub fn load_started(&mut self) {
        self.loading += 1;
    }

    /// A load ended, with whatever outcome: its place is free.
    pub fn load_ended(&mut self) {
        self.loading = self.loading.saturating_sub(1);
    }

    /// Whether something is being loaded.
    pub fn is_loading(&self) -> bool {
        self.loading > 0
    }

    /// A delivery goes out now.
    pub fn started(&mut self, now: Instant) {
        self.in_flight += 1;
        if let Some(allowance) = &mut self.allowance {
            // It was asked whether there is one left.
            let _ = allowance.take(now);
        }
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
            State::Open | State::Disabled => Recovery::None,
        }
    }

    /// A delivery failed and will be tried again.
    pub fn failed(&mut self, user: UserNumber, now: Instant, rng: &mut fastrand::Rng) {
        self.failing.insert(user);
        let is_down = self.failing.len() > 1 || matches!(self.state, State::Probing { .. });
        if is_down && !self.is_disabled() {
            self.state = State::Probing { next: now + self.probes.next(rng) };
        }
    }

    /// The receiver asked to be left alone until then.
    pub fn hold(&mut self, since: Timestamp, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
        self.still_since.get_or_insert(since);
    }

    /// The receiver said that it is gone.
    pub fn disable(&mut self, since: Timestamp) {
        self.state = State::Disabled;
        self.still_since.get_or_insert(since);
    }

    /// Lifts holds and disabling.
    pub fn enable(&mut self, now: Timestamp) {
        if self.is_disabled() {
            self.state = State::Open;
        }
        self.held_until = None;
        self.goes_on(now);
        self.failing.clear();
        self.probes.reset();
    }

    /// Ends a hold whose time is over.
    pub fn tick(&mut self, mono: Instant, wall: Timestamp) {
        if self.held_until.is_some_and(|until| until <= mono) {
            self.held_until = None;
            if !self.is_disabled() {
                self.goes_on(wall);
            }
        }
    }

    /// Whether a delivery is under way.
    pub fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// Whether the webhook is disabled.
    pub fn is_disabled(&self) -> bool {
        matches!(self.state, State::Disabled)
    }

    /// Whether nothing gets through at the moment.
    pub fn is_failing(&self) -> bool {
        !self.failing.is_empty() || self.held_until.is_some() || matches!(self.state, State::Probing { .. })
    }

    /// An event's age: the time since its receipt in which it could have been sent.
    pub fn age(&self, received: Timestamp, now: Timestamp) -> Duration {
        let current = self.still_since.map(|since| (since, now));
        let still: Duration = self
            .standstills
            .iter()
            .copied()
            .chain(current)
            .map(|(from, to)| to.since(from.max(received)))
            .sum();
        now.since(received).saturating_sub(still)
    }

    /// Something may be sent again.
    fn goes_on(&mut self, to: Timestamp) {
        let Some(from) = self.still_since.take() else { return };
        if self.standstills.len() == STANDSTILLS {
            self.standstills.remove(0);
        }
        self.standstills.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);
    const CAROL: UserNumber = UserNumber(3);

    fn settings(rate: Option<config::Rate>) -> config::Webhook {
        let url = url::Url::parse("http://127.0.0.1/").unwrap();
        config::Webhook { max_in_flight: 4, rate, ..config::Webhook::new(url) }
    }

    fn gate() -> (Gate, fastrand::Rng, Instant) {
        (Gate::new(&settings(None)), fastrand::Rng::with_seed(7), Instant::now())
    }

    fn fail(gate: &mut Gate, user: UserNumber, now: Instant, rng: &mut fastrand::Rng) {
        gate.started(now);
        gate.ended();
        gate.failed(user, now, rng);
    }

    #[tokio::test]
    async fn at_most_max_in_flight_at_once() {
        let (mut gate, _, now) = gate();
        for _ in 0..4 {
            assert_eq!(gate.admission(now), Admission::Go);
            gate.started(now);
        }
        assert_eq!(gate.admission(now), Admission::Wait);
        gate.ended();
        assert_eq!(gate.admission(now), Admission::Go);
    }

    #[tokio::test]
    async fn what_is_loaded_to_be_sent_has_its_place() {
        let (mut gate, _, now) = gate();
        (0..3).for_each(|_| gate.started(now));
        gate.load_started();
        assert_eq!(gate.admission(now), Admission::Wait);
        gate.load_ended();
        assert_eq!(gate.admission(now), Admission::Go);
    }

    #[tokio::test]
    async fn a_rate_lets_its_count_through_at_once_and_then_one_after_the_other() {
        let rate = config::Rate { count: 2, per: Duration::from_secs(1) };
        let (mut gate, now) = (Gate::new(&settings(Some(rate))), Instant::now());
        for _ in 0..2 {
            assert_eq!(gate.admission(now), Admission::Go);
            gate.started(now);
            gate.ended();
        }
        let next = now + Duration::from_millis(500);
        assert_eq!(gate.admission(now), Admission::NotBefore(next));
        assert_eq!(gate.admission(next), Admission::Go);
    }

    #[tokio::test]
    async fn one_users_poison_event_throttles_nobody() {
        let (mut gate, mut rng, now) = gate();
        for _ in 0..100 {
            fail(&mut gate, ALICE, now, &mut rng);
        }
        gate.started(now);
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
        gate.started(now);
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
    async fn other_settings_keep_a_disabling_and_let_a_probe_go_at_once() {
        let (mut gate, mut rng, now) = gate();
        let other = config::Webhook { max_in_flight: 2, ..settings(None) };
        fail(&mut gate, ALICE, now, &mut rng);
        fail(&mut gate, BOB, now, &mut rng);
        gate.reconfigure(&settings(None), &other, now);
        assert_eq!(gate.admission_of(ALICE, now), Admission::Go);
        assert_eq!(gate.answered(), Recovery::Back);
        gate.started(now);
        gate.started(now);
        assert_eq!(gate.admission(now), Admission::Wait, "max_in_flight is 2 now");
        gate.disable(Timestamp::from_millis(0));
        gate.reconfigure(&other, &settings(None), now);
        assert!(gate.is_disabled());
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

    /// What may happen to a gate.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// So many milliseconds pass.
        Pass(u64),
        /// Whoever may go, goes: of this user.
        Start(u32),
        /// A delivery under way got through.
        Answered(usize),
        /// A delivery under way failed, perhaps with a `Retry-After` in milliseconds.
        Failed(usize, Option<u64>),
        /// A delivery under way was answered with 410.
        Gone(usize),
        /// Somebody enables the webhook.
        Enable,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..2_000).prop_map(Step::Pass),
            8 => (0u32..4).prop_map(Step::Start),
            3 => (0usize..4).prop_map(Step::Answered),
            4 => ((0usize..4), prop::option::weighted(0.2, 1u64..5_000)).prop_map(|(n, hold)| Step::Failed(n, hold)),
            1 => (0usize..4).prop_map(Step::Gone),
            1 => Just(Step::Enable),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// A gate and what it promised.
    struct World {
        gate: Gate,
        rate: config::Rate,
        rng: fastrand::Rng,
        start: Instant,
        now: Instant,
        under_way: Vec<UserNumber>,
        went_out: Vec<Instant>,
        held_until: Option<Instant>,
        is_disabled: bool,
    }

    impl World {
        fn new(rate: config::Rate) -> Self {
            let now = Instant::now();
            Self {
                gate: Gate::new(&settings(Some(rate))),
                rate,
                rng: fastrand::Rng::with_seed(7),
                start: now,
                now,
                under_way: Vec::new(),
                went_out: Vec::new(),
                held_until: None,
                is_disabled: false,
            }
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(1_000_000).plus(self.now - self.start)
        }

        fn start(&mut self, user: UserNumber) {
            self.gate.tick(self.now, self.wall());
            let admission = self.gate.admission(self.now);
            if let Admission::NotBefore(at) = admission {
                assert!(at > self.now, "a wait that is over already would be a hot loop");
            }
            if admission != Admission::Go || self.gate.admission_of(user, self.now) != Admission::Go {
                return;
            }
            assert!(!self.is_disabled, "nothing goes out after a 410");
            assert!(
                self.held_until.is_none_or(|until| until <= self.now),
                "nothing goes out before a hold ends"
            );
            self.gate.started(self.now);
            self.under_way.push(user);
            self.went_out.push(self.now);
            assert!(self.under_way.len() <= 4, "no more than max_in_flight");
        }

        fn end(&mut self, n: usize) -> Option<UserNumber> {
            let user =
                (!self.under_way.is_empty()).then(|| self.under_way.remove(n % self.under_way.len()))?;
            self.gate.ended();
            Some(user)
        }

        fn act(&mut self, step: Step) {
            match step {
                Step::Pass(millis) => self.now += Duration::from_millis(millis),
                Step::Start(user) => self.start(UserNumber(user)),
                Step::Answered(n) => {
                    if self.end(n).is_some() {
                        self.gate.answered();
                        assert!(
                            !matches!(self.gate.state, State::Probing { .. }),
                            "a success ends the probing"
                        );
                    }
                }
                Step::Failed(n, hold) => {
                    let Some(user) = self.end(n) else { return };
                    self.gate.failed(user, self.now, &mut self.rng);
                    if let Some(millis) = hold {
                        let until = self.now + Duration::from_millis(millis);
                        self.gate.hold(self.wall(), until);
                        self.held_until = self.held_until.max(Some(until));
                    }
                }
                Step::Gone(n) => {
                    if self.end(n).is_some() {
                        self.gate.disable(self.wall());
                        self.is_disabled = true;
                    }
                }
                Step::Enable => {
                    self.gate.enable(self.wall());
                    (self.is_disabled, self.held_until) = (false, None);
                }
            }
        }

        /// In no window of time did more go out than the rate and one burst allow.
        fn check_rate(&self) {
            let interval = self.rate.per / self.rate.count;
            for (first, from) in self.went_out.iter().enumerate() {
                for (count, to) in (1u32..).zip(&self.went_out[first..]) {
                    let most = f64::from(self.rate.count) + (*to - *from).div_duration_f64(interval);
                    assert!(f64::from(count) <= most + 1e-6, "{count} within {:?}", *to - *from);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn it_keeps_what_it_promised(steps in steps(), count in 1u32..20) {
            let mut world = World::new(config::Rate { count, per: Duration::from_secs(1) });
            for step in steps {
                world.act(step);
                let most = if matches!(world.gate.state, State::Probing { .. }) { 1 } else { 4 };
                let is_full = world.gate.in_flight >= most;
                prop_assert!(!is_full || world.gate.admission(world.now) != Admission::Go);
            }
            world.check_rate();
        }

        #[test]
        fn no_event_is_older_than_the_time_since_its_receipt(
            steps in steps(), received in 900_000u64..1_100_000
        ) {
            let mut world = World::new(config::Rate { count: 10, per: Duration::from_secs(1) });
            let mut before = Duration::ZERO;
            for step in steps {
                world.act(step);
                world.gate.tick(world.now, world.wall());
                let age = world.gate.age(Timestamp::from_millis(received), world.wall());
                prop_assert!(age <= world.wall().since(Timestamp::from_millis(received)));
                prop_assert!(world.gate.standstills.len() == STANDSTILLS || age >= before, "nobody gets younger");
                before = age;
            }
        }
    }
}
