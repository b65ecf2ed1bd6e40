//! Who wants which user's events, and whether all of them are past one.

use std::{collections::BTreeMap, sync::Arc};

use super::Subscriber;
use crate::{
    names::WebhookName,
    store::{ByUser, LaneSlots, UserNumber, Wanted, WebhookNumber},
};

/// Who wants events.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Every configured webhook.
    pub webhooks: BTreeMap<WebhookName, Arc<dyn Subscriber>>,
    /// Which of them want which user's events.
    pub routes: ByUser<Route>,
    /// Who has events of a user to finish without wanting more: a webhook that the user no longer
    /// has, or that is no longer configured.
    pub leftovers: ByUser<Vec<Arc<dyn Subscriber>>>,
}

/// Who wants a user's events; one list for all users whose events go the same way.
pub type Route = Arc<[Arc<dyn Subscriber>]>;

impl Subscribers {
    /// Who wants the user's events.
    pub(super) fn route(&self, user: UserNumber) -> Route {
        self.routes.get(&user).cloned().unwrap_or_default()
    }

    /// Those that come after these: whoever had a route has something left.
    pub(super) fn taking_over(mut self, before: Self) -> Self {
        for (user, route) in before.routes {
            let leftovers = self.leftovers.entry(user).or_default();
            leftovers.extend(route.iter().cloned());
            let kept = self.routes.get(&user).map(|route| &**route).unwrap_or_default();
            let mut seen: Vec<WebhookNumber> = kept.iter().map(|subscriber| subscriber.webhook()).collect();
            leftovers.retain(|leftover| {
                let is_new = !seen.contains(&leftover.webhook());
                seen.push(leftover.webhook());
                is_new
            });
            if leftovers.is_empty() {
                self.leftovers.remove(&user);
            }
        }
        self
    }

    /// Whether nobody has this event still to finish. Where `wanted` doesn't tell who wants it and somebody isn't past it, its
    /// places are asked for; without them it is taken for unfinished.
    pub(super) fn are_past(
        &self,
        user: UserNumber,
        event: u64,
        wanted: Wanted,
        places: impl FnOnce() -> Option<LaneSlots>,
    ) -> bool {
        let is_by = |lane: &Arc<dyn Subscriber>| wanted.is_by(lane.webhook());
        // A lane that doesn't want this one doesn't matter, whatever older events it has to finish.
        let mut waiting =
            self.lanes(user).filter(|lane| is_by(lane) != Some(false) && !lane.is_past(user, event));
        match waiting.try_fold(false, |is_unknown, lane| match is_by(lane) {
            Some(true) => Err(()),
            told => Ok(is_unknown || told.is_none()),
        }) {
            Ok(false) => return true,
            Ok(true) => {}
            Err(()) => return false,
        }
        let Some(places) = places() else { return false };
        let wanted = places.iter().filter(|place| place.wanted);
        let mut waiting =
            wanted.flat_map(|place| self.lanes(user).filter(|lane| lane.webhook() == place.webhook));
        waiting.all(|lane| lane.is_past(user, event))
    }

    /// Whoever may have something of the user's to finish.
    fn lanes(&self, user: UserNumber) -> impl Iterator<Item = &Arc<dyn Subscriber>> {
        let (route, leftovers) = (self.routes.get(&user), self.leftovers.get(&user));
        route.into_iter().flat_map(|of| &**of).chain(leftovers.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::{
        events::{Ahead, DeliveryCounts, Event, LanePlace, Source, WebhookState, WebhookStatus},
        store::LaneSlot,
    };

    const ALICE: UserNumber = UserNumber(1);

    /// A webhook of this number that is past all events before this one.
    #[derive(Debug)]
    struct Lane(u32, u64);

    impl Subscriber for Lane {
        fn webhook(&self) -> WebhookNumber {
            WebhookNumber(self.0)
        }

        fn give(&self, user: UserNumber, _: &str, _: Source) -> LanePlace {
            LanePlace { slot: self.pass_by(user), ahead: Ahead::Little }
        }

        fn pass_by(&self, _: UserNumber) -> LaneSlot {
            slot(self.0, false)
        }

        fn assembles(&self, _: &str) -> bool {
            false
        }

        fn arrived(&self, _: UserNumber, _: &Arc<Event>, _: u64) {}

        fn is_past(&self, _: UserNumber, event: u64) -> bool {
            event < self.1
        }

        fn undelivered(&self, _: UserNumber) -> u64 {
            0
        }

        fn status(&self) -> WebhookStatus {
            WebhookStatus {
                name: WebhookName::new("lane").unwrap(),
                state: WebhookState::Ok,
                backlog: 0,
                last_outcome: None,
                counts: DeliveryCounts::default(),
            }
        }

        fn enable(&self) {}
    }

    fn slot(webhook: u32, wanted: bool) -> LaneSlot {
        LaneSlot { webhook: WebhookNumber(webhook), sequence: 1, wanted }
    }

    fn alices(route: Vec<Lane>) -> Subscribers {
        let route: Route = route.into_iter().map(|lane| Arc::new(lane) as Arc<dyn Subscriber>).collect();
        Subscribers { routes: [(ALICE, route)].into_iter().collect(), ..Subscribers::default() }
    }

    fn left(subscribers: &Subscribers) -> Vec<u32> {
        let leftovers = subscribers.leftovers.get(&ALICE).into_iter().flatten();
        leftovers.map(|leftover| leftover.webhook().0).collect()
    }

    #[test]
    fn whoever_had_a_route_and_has_none_has_something_left_once() {
        let first = alices(vec![Lane(1, 0), Lane(2, 0)]);
        let second = alices(vec![Lane(2, 0), Lane(3, 0)]).taking_over(first);
        assert_eq!(left(&second), [1]);
        let third = Subscribers { leftovers: second.leftovers.clone(), ..alices(vec![Lane(3, 0)]) };
        assert_eq!(left(&third.taking_over(second)), [1, 2]);
    }

    #[test]
    fn whoever_is_there_as_before_has_nothing_left() {
        let second = alices(vec![Lane(1, 0)]).taking_over(alices(vec![Lane(1, 0)]));
        assert!(second.leftovers.is_empty());
    }

    #[test]
    fn only_those_who_want_an_event_must_be_past_it() {
        let subscribers = alices(vec![Lane(1, 9), Lane(2, 5)]);
        let by = |first, second| Wanted::by(&[slot(1, first), slot(2, second)]);
        let are_past = |event, wanted| subscribers.are_past(ALICE, event, wanted, || panic!("it is told"));
        assert!(are_past(4, by(true, true)));
        assert!(!are_past(5, by(true, true)));
        assert!(are_past(5, by(true, false)));
        assert!(are_past(4, Wanted::UNKNOWN), "whoever wants it");
    }

    #[test]
    fn its_places_tell_who_wants_an_event_where_nothing_else_does() {
        let subscribers = alices(vec![Lane(1, 9), Lane(2, 5)]);
        let are_past = |places| subscribers.are_past(ALICE, 5, Wanted::UNKNOWN, || places);
        assert!(are_past(Some(smallvec![slot(1, true), slot(2, false)])));
        assert!(!are_past(Some(smallvec![slot(1, true), slot(2, true)])));
        assert!(!are_past(None), "what can't be read is not taken for finished");
    }

    #[test]
    fn a_webhook_that_has_something_left_must_be_past_it_too() {
        let before = alices(vec![Lane(1, 5)]);
        let subscribers = alices(vec![Lane(2, 9)]).taking_over(before);
        let wanted = Wanted::by(&[slot(1, true), slot(2, true)]);
        assert!(!subscribers.are_past(ALICE, 5, wanted, || None));
        assert!(subscribers.are_past(ALICE, 4, wanted, || None));
    }
}
