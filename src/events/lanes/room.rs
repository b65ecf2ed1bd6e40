//! How much of what waits is kept in memory, over all webhooks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of waiting events that all webhooks keep in memory together.
const WHOLE: usize = 32 << 20;

/// Room for waiting events, which all webhooks share.
///
/// A webhook may have as much of it as is still free, as switches share their memory among their ports ("dynamic
/// thresholds", Choudhury and Hahne 1998): alone it gets half, two get a third each, and whatever their number,
/// there is something left for one that needs none yet.
#[derive(Debug)]
pub struct LaneRoom {
    whole: usize,
    used: AtomicUsize,
}

impl Default for LaneRoom {
    fn default() -> Self {
        Self::of(WHOLE)
    }
}

impl LaneRoom {
    fn of(whole: usize) -> Self {
        Self { whole, used: AtomicUsize::new(0) }
    }
}

/// What one webhook has of it.
#[derive(Debug)]
pub(super) struct Share {
    room: Arc<LaneRoom>,
    own: usize,
}

impl Share {
    pub(super) fn of(room: Arc<LaneRoom>) -> Self {
        Self { room, own: 0 }
    }

    /// Takes so many bytes, if there is room for them.
    pub(super) fn try_take(&mut self, bytes: usize) -> bool {
        let (own, whole) = (self.own, self.room.whole);
        let take = |used: usize| (own + bytes <= whole.saturating_sub(used)).then_some(used + bytes);
        let has_room = self.room.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if has_room {
            self.own += bytes;
        }
        has_room
    }

    /// Takes so many bytes, whether or not there is room: a lane whose turn it is needs what comes next.
    pub(super) fn take(&mut self, bytes: usize) {
        self.own += bytes;
        self.room.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.own -= bytes;
        self.room.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(share: &mut Share) -> usize {
        while share.try_take(1) {}
        share.own
    }

    #[test]
    fn one_alone_gets_half_and_several_share_it_with_something_left_for_another() {
        let room = Arc::new(LaneRoom::of(1200));
        let shares = || Share::of(Arc::clone(&room));
        let (mut first, mut second, mut third) = (shares(), shares(), shares());
        assert_eq!(fill(&mut first), 600);
        assert_eq!(fill(&mut second), 300);
        // What the first gives back the second may have, until they have the same.
        first.give_back(200);
        assert_eq!((fill(&mut second), fill(&mut first)), (400, 400));
        assert_eq!(fill(&mut third), 200);
        assert!(!third.try_take(usize::MAX / 2));
        drop((first, third));
        assert_eq!((fill(&mut second), room.used.load(Ordering::Relaxed)), (600, 600));
    }

    #[test]
    fn what_a_lane_needs_it_gets_and_others_get_less_for_it() {
        let room = Arc::new(LaneRoom::of(1000));
        let (mut first, mut second) = (Share::of(Arc::clone(&room)), Share::of(Arc::clone(&room)));
        first.take(5000);
        assert!(!second.try_take(1) && !first.try_take(1));
        first.give_back(4900);
        assert_eq!(fill(&mut second), 450);
    }
}
