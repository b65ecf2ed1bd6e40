//! The places that an event is given in the lanes of its user.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Ahead, LanePlace, Source, Subscriber};
use crate::store::{LaneSlots, UserNumber, WebhookNumber};

/// Who is asked whether it wants an event; all others are passed by.
#[derive(Debug)]
pub(super) enum Places {
    All,
    AllBut(Vec<WebhookNumber>),
    Only(Vec<WebhookNumber>),
}

impl Places {
    /// Has an event given its places in the lanes of its user, and tells what is ahead of it.
    pub(super) fn give(
        &self,
        subscribers: &[Arc<dyn Subscriber>],
        user: UserNumber,
        event_type: &str,
        source: Source,
    ) -> (LaneSlots, Ahead) {
        let give = |lane: &Arc<dyn Subscriber>| {
            if self.have(lane.webhook()) {
                lane.give(user, event_type, source)
            } else {
                LanePlace { slot: lane.pass_by(user), ahead: Ahead::Little }
            }
        };
        let places: SmallVec<[LanePlace; 2]> = subscribers.iter().map(give).collect();
        (places.iter().map(|place| place.slot).collect(), ahead(&places))
    }

    /// Whether a webhook is asked.
    fn have(&self, webhook: WebhookNumber) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(others) => !others.contains(&webhook),
            Self::Only(these) => these.contains(&webhook),
        }
    }
}

/// What is ahead of an event that has these places: much, if it is so wherever it is wanted.
fn ahead(places: &[LanePlace]) -> Ahead {
    let mut wanted = places.iter().filter(|place| place.slot.wanted).peekable();
    let is_much = wanted.peek().is_some() && wanted.all(|place| place.ahead == Ahead::Much);
    if is_much { Ahead::Much } else { Ahead::Little }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LaneSlot;

    #[test]
    fn an_event_is_far_behind_if_it_is_wherever_it_is_wanted() {
        let place = |wanted, ahead| {
            let slot = LaneSlot { webhook: WebhookNumber(1), sequence: 1, wanted };
            LanePlace { slot, ahead }
        };
        let (soon, late) = (place(true, Ahead::Little), place(true, Ahead::Much));
        let unwanted = place(false, Ahead::Little);
        assert_eq!(ahead(&[late, unwanted, late]), Ahead::Much);
        assert_eq!(ahead(&[late, soon, unwanted]), Ahead::Little);
        assert_eq!((ahead(&[unwanted]), ahead(&[])), (Ahead::Little, Ahead::Little), "nothing holds it up");
    }
}
