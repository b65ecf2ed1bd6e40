//! Whose dead letters are replayed next, without I/O and without a clock.
//!
//! Replays share the webhook's gate with its live deliveries, and must not crowd them out: at most a
//! part of what may be under way are replays, and while both wait, most turns are the live ones'.
//! Each user's go one at a time, in the order of their events, so that they are in order among
//! themselves. What is replayed is read from the store when its turn comes: only users are kept here.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::ControlFlow,
};

use tokio::time::Instant;

use crate::store::UserNumber;

/// One of so many deliveries that may be under way may be a replay; one may always.
const SHARE: usize = 4;
/// Live deliveries between two replays, while both wait.
const LIVE_TURNS: u32 = 3;

/// The replays of one webhook.
#[derive(Debug)]
pub struct Replays {
    /// Users with something to replay.
    users: HashMap<UserNumber, Condition>,
    /// Those whose next replay may go, in turn.
    ready: VecDeque<UserNumber>,
    /// Those whose next attempt waits, by when it is due.
    waiting: BTreeSet<(Instant, UserNumber)>,
    under_way: usize,
    most: usize,
    /// Live deliveries since the last replay.
    live: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ready,
    Waiting(Instant),
    UnderWay,
}

impl Replays {
    /// Nothing to replay yet, at a webhook with this `max_in_flight`.
    pub fn new(max_in_flight: usize) -> Self {
        Self {
            users: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            under_way: 0,
            most: (max_in_flight / SHARE).max(1),
            live: 0,
        }
    }

    /// Goes by another `max_in_flight`.
    pub fn set_most(&mut self, max_in_flight: usize) {
        self.most = (max_in_flight / SHARE).max(1);
    }

    /// There is something to replay of this user.
    pub fn add(&mut self, user: UserNumber) {
        if !self.users.contains_key(&user) {
            self.make_ready(user);
        }
    }

    /// Whether a replay goes before a live delivery now.
    pub fn have_their_turn(&self) -> bool {
        self.live >= LIVE_TURNS
    }

    /// A live delivery goes out.
    pub fn live_started(&mut self) {
        self.live = self.live.saturating_add(1);
    }

    /// The user whose replay goes next. It counts as under way until one of [`Replays::ended`],
    /// [`Replays::wait`] and [`Replays::nothing_left`] says otherwise.
    pub fn next(&mut self, now: Instant) -> Option<UserNumber> {
        while let Some((_, user)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.pop_first();
            self.make_ready(user);
        }
        if self.under_way >= self.most {
            return None;
        }
        let user = self.ready.pop_front()?;
        self.users.insert(user, Condition::UnderWay);
        self.under_way += 1;
        self.live = 0;
        Some(user)
    }

    /// A replay is over, one way or the other: the user's next one may go.
    pub fn ended(&mut self, user: UserNumber) {
        if self.release(user).is_continue() {
            self.make_ready(user);
        }
    }

    /// A replay is tried again at this moment, and the user's later ones wait for it.
    pub fn wait(&mut self, user: UserNumber, until: Instant) {
        if self.release(user).is_continue() {
            self.users.insert(user, Condition::Waiting(until));
            self.waiting.insert((until, user));
        }
    }

    /// There is nothing to replay of this user.
    pub fn nothing_left(&mut self, user: UserNumber) {
        if self.release(user).is_continue() {
            self.users.remove(&user);
        }
    }

    /// Whatever waits need wait no more.
    pub fn everything_is_due(&mut self) {
        for (_, user) in std::mem::take(&mut self.waiting) {
            self.make_ready(user);
        }
    }

    /// When the next one may go that may not go now.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at).filter(|_| self.under_way < self.most)
    }

    fn release(&mut self, user: UserNumber) -> ControlFlow<()> {
        if self.users.get(&user) != Some(&Condition::UnderWay) {
            return ControlFlow::Break(());
        }
        self.under_way -= 1;
        ControlFlow::Continue(())
    }

    fn make_ready(&mut self, user: UserNumber) {
        self.users.insert(user, Condition::Ready);
        self.ready.push_back(user);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const ALICE: UserNumber = UserNumber(1);
    const BOB: UserNumber = UserNumber(2);

    #[test]
    fn users_take_turns_and_each_has_one_under_way() {
        let (mut replays, now) = (Replays::new(8), Instant::now());
        [ALICE, BOB, ALICE].into_iter().for_each(|user| replays.add(user));
        assert_eq!((replays.next(now), replays.next(now)), (Some(ALICE), Some(BOB)));
        replays.add(ALICE);
        assert_eq!(replays.next(now), None);
        replays.ended(BOB);
        assert_eq!(replays.next(now), Some(BOB));
        replays.nothing_left(BOB);
        replays.ended(ALICE);
        assert_eq!(replays.next(now), Some(ALICE));
        replays.nothing_left(ALICE);
        assert_eq!(replays.next(now), None);
    }

    #[test]
    fn a_retry_waits_for_its_time_or_until_everything_is_due() {
        let (mut replays, now) = (Replays::new(1), Instant::now());
        let later = now + Duration::from_secs(60);
        replays.add(ALICE);
        let waits_again = |replays: &mut Replays, now| {
            assert_eq!(replays.next(now), Some(ALICE));
            replays.wait(ALICE, later);
            assert_eq!((replays.next(now), replays.next_due()), (None, Some(later)));
        };
        waits_again(&mut replays, now);
        replays.everything_is_due();
        waits_again(&mut replays, now);
        assert_eq!(replays.next(later), Some(ALICE));
    }

    #[test]
    fn only_a_part_of_what_is_under_way_are_replays() {
        for (max_in_flight, most) in [(1, 1), (3, 1), (32, 8)] {
            let (mut replays, now) = (Replays::new(max_in_flight), Instant::now());
            (0..100).for_each(|user| replays.add(UserNumber(user)));
            let started = std::iter::from_fn(|| replays.next(now)).count();
            assert_eq!(started, most);
        }
    }

    #[test]
    fn most_turns_are_the_live_deliveries() {
        let (mut replays, now) = (Replays::new(32), Instant::now());
        replays.add(ALICE);
        let mut order = String::new();
        for _ in 0..9 {
            if replays.have_their_turn() && replays.next(now).is_some() {
                order.push('r');
                replays.ended(ALICE);
            } else {
                order.push('l');
                replays.live_started();
            }
        }
        assert_eq!(order, "lllrlllrl");
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Add(u32),
        Next,
        Ended(u32),
        Wait(u32, u64),
        Nothing(u32),
        Pass(u64),
        AllDue,
    }

    fn step() -> impl Strategy<Value = Step> {
        let user = 0u32..5;
        prop_oneof![
            3 => user.clone().prop_map(Step::Add),
            4 => Just(Step::Next),
            2 => user.clone().prop_map(Step::Ended),
            2 => (user.clone(), 0u64..500).prop_map(|(user, millis)| Step::Wait(user, millis)),
            1 => user.prop_map(Step::Nothing),
            2 => (0u64..300).prop_map(Step::Pass),
            1 => Just(Step::AllDue),
        ]
    }

    proptest! {
        #[test]
        fn nobody_is_forgotten_and_never_too_many_go(steps in prop::collection::vec(step(), 0..200)) {
            let (mut replays, mut now) = (Replays::new(8), Instant::now());
            let mut under_way: Vec<UserNumber> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(user) => replays.add(UserNumber(user)),
                    Step::Next => {
                        if let Some(user) = replays.next(now) {
                            prop_assert!(!under_way.contains(&user), "two of one user");
                            under_way.push(user);
                        }
                    }
                    Step::Ended(user) => replays.ended(UserNumber(user)),
                    Step::Wait(user, millis) => {
                        replays.wait(UserNumber(user), now + Duration::from_millis(millis));
                    }
                    Step::Nothing(user) => replays.nothing_left(UserNumber(user)),
                    Step::Pass(millis) => now += Duration::from_millis(millis),
                    Step::AllDue => replays.everything_is_due(),
                }
                if let Step::Ended(user) | Step::Wait(user, _) | Step::Nothing(user) = step {
                    under_way.retain(|other| other.0 != user);
                }
                prop_assert!(under_way.len() <= 2);
                prop_assert_eq!(replays.under_way, under_way.len());
                let stands = replays.ready.len() + replays.waiting.len() + under_way.len();
                prop_assert_eq!(replays.users.len(), stands, "everyone stands in one place");
            }
        }
    }
}
