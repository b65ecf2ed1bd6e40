//! Recent events, for those who ask for them: the inbox and the live tail.
//!
//! Both read the store, each from where it is: nothing is kept in memory for a reader, however slow it
//! is, and nothing for an event. Whoever waits has a bell, which is rung when an event of the right
//! user is on stable storage; while nobody waits, that costs one look at a counter.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::sync::Notify;

use super::{Event, EventId, Events, kept::Resumption, receive::Shared};
use crate::{
    names::UserName,
    store::{StoreError, StoredEvent, UserNumber},
};

/// Recent events, of all users. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct RecentEvents {
    shared: Arc<Shared>,
}

/// Whose events somebody asks for.
pub enum Whose {
    /// One user's.
    Of(UserNumber),
    /// Those of all users whose names are let pass.
    All(Box<dyn Fn(&UserName) -> bool + Send + Sync>),
}

/// How far somebody has read: up to the event of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// How much is read at once, at most; one event in any case.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// So many events.
    pub events: usize,
    /// So many bytes of frames, and what the last of them is longer.
    pub bytes: usize,
}

/// Some events, in order.
#[derive(Debug)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where to go on.
    pub next: Cursor,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What comes after the cursor is no longer kept, or not all of it; or nobody knows the cursor.
    #[error("what came after this event is no longer kept, at least not all of it")]
    Gone,
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Events {
    /// Recent events, for those who ask for them.
    pub fn recent(&self) -> RecentEvents {
        RecentEvents { shared: Arc::clone(&self.shared) }
    }
}

impl RecentEvents {
    /// Before the oldest that is kept.
    pub fn oldest(&self) -> Cursor {
        Cursor(self.shared.retention().kept().first() - 1)
    }

    /// Behind the newest.
    pub fn newest(&self) -> Cursor {
        Cursor(self.shared.bells.newest())
    }

    /// Behind this event. An error if it is not one of theirs, or if some of what came after it is gone.
    pub fn after(&self, whose: &Whose, id: EventId) -> Result<Cursor, ReadError> {
        let store = &self.shared.store;
        let number = id.number;
        if number == 0 || number > self.shared.bells.newest() || id != store.event_id(number) {
            return Err(ReadError::Gone);
        }
        let is_good = match whose {
            Whose::Of(user) => {
                let resumption = self.shared.retention().kept().resumption(*user, number);
                match resumption {
                    Resumption::Good => true,
                    Resumption::IfStored => store.has_event(*user, number)?,
                    Resumption::Bad => false,
                }
            }
            Whose::All(_) => !self.has_lost(whose, Cursor(number)),
        };
        if is_good { Ok(Cursor(number)) } else { Err(ReadError::Gone) }
    }

    /// The id by which one who begins at this cursor can go on later; none if there is no event yet
    /// to go on from.
    pub fn resume_id(&self, whose: &Whose, at: Cursor) -> Result<Option<EventId>, StoreError> {
        let store = &self.shared.store;
        let number = match whose {
            Whose::All(_) => Some(at.0).filter(|number| *number > 0),
            Whose::Of(user) => {
                let newest = store.events_between(*user, self.oldest().0, at.0).next_back();
                newest.transpose()?.map(|event| event.number)
            }
        };
        Ok(number.map(|number| store.event_id(number)))
    }

    /// What comes after the cursor, as far as it is on stable storage.
    pub fn read(&self, whose: &Whose, from: Cursor, most: Most) -> Result<Page, ReadError> {
        let up_to = self.shared.bells.newest();
        let page = match whose {
            Whose::Of(user) => {
                let stored = self.shared.store.events_between(*user, from.0, up_to);
                self.page(stored.map(|event| Ok((*user, event?))), up_to, most)?
            }
            Whose::All(is_meant) => {
                let arrivals = self.shared.store.arrivals(from.0, up_to);
                let stored = arrivals.map(|arrival| self.stored(arrival?, is_meant));
                self.page(stored.filter_map(Result::transpose), up_to, most)?
            }
        };
        // Looked at behind the reading: what went while it was read may be missing in it.
        if self.has_lost(whose, from) { Err(ReadError::Gone) } else { Ok(page) }
    }

    /// Rings from now on when there is something new.
    pub fn listen(&self, whose: &Whose) -> Listener {
        let user = match whose {
            Whose::Of(user) => Some(*user),
            Whose::All(_) => None,
        };
        let bell = Arc::new(Notify::new());
        let key = self.shared.bells.hang(user, Arc::clone(&bell));
        Listener { shared: Arc::clone(&self.shared), key, bell }
    }

    fn stored(
        &self,
        (number, user): (u64, UserNumber),
        is_meant: &(dyn Fn(&UserName) -> bool + Send + Sync),
    ) -> Result<Option<(UserNumber, StoredEvent)>, StoreError> {
        if !is_meant(&self.shared.store.user_name(user)?) {
            return Ok(None);
        }
        Ok(self.shared.store.event(user, number)?.map(|event| (user, event)))
    }

    fn page(
        &self,
        stored: impl Iterator<Item = Result<(UserNumber, StoredEvent), StoreError>>,
        up_to: u64,
        most: Most,
    ) -> Result<Page, StoreError> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in stored {
            let (user, event) = event?;
            bytes += event.frame.len();
            events.push(self.event(user, event)?);
            if events.len() >= most.events || bytes >= most.bytes {
                break;
            }
        }
        let is_cut = events.len() >= most.events || bytes >= most.bytes;
        let last = events.last().map(|event| event.id.number).filter(|_| is_cut);
        Ok(Page { events, next: Cursor(last.unwrap_or(up_to)) })
    }

    fn event(&self, user: UserNumber, stored: StoredEvent) -> Result<Event, StoreError> {
        let store = &self.shared.store;
        Ok(Event {
            id: store.event_id(stored.number),
            user: store.user_name(user)?,
            bot: store.bot_name(stored.bot)?,
            kind: stored.kind,
            received_at: stored.received_at,
            in_reply_to: stored.in_reply_to,
            source: stored.source,
            speaker: stored.speaker,
            frame: stored.frame,
        })
    }

    fn has_lost(&self, whose: &Whose, from: Cursor) -> bool {
        let retention = self.shared.retention();
        match whose {
            Whose::Of(user) => retention.kept().lost_one_of(*user, from.0),
            Whose::All(is_meant) => retention.kept().lost_any(from.0, |user| {
                // A name that can't be read is nobody's to rule out.
                self.shared.store.user_name(user).map_or(true, |name| is_meant(&name))
            }),
        }
    }
}

/// Hears of new events until it is dropped. To be made before the look that finds nothing.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    key: BellKey,
    bell: Arc<Notify>,
}

impl Listener {
    /// Waits for an event that came since the last call, or since this was made. It may have been read
    /// already. Cancel-safe.
    pub async fn heard(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.bells.take_down(self.key);
    }
}

/// Whose events a bell is for (none: everyone's), and which one it is.
type BellKey = (Option<UserNumber>, u64);

/// The newest event on stable storage, and who wants to hear of newer ones.
#[derive(Debug)]
pub(super) struct Bells {
    newest: AtomicU64,
    hanging: AtomicUsize,
    bells: Mutex<BTreeMap<BellKey, Arc<Notify>>>,
    next: AtomicU64,
}

impl Bells {
    /// `newest` is the number of the newest event.
    pub(super) fn new(newest: u64) -> Self {
        Self {
            newest: AtomicU64::new(newest),
            hanging: AtomicUsize::new(0),
            bells: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    fn newest(&self) -> u64 {
        self.newest.load(SeqCst)
    }

    /// The user's event of this number is on stable storage. To be called in the order of the numbers.
    pub(super) fn ring(&self, user: UserNumber, number: u64) {
        // Whoever hangs a bell up counts it first and looks at the newest then; so of the two, one
        // sees the other.
        self.newest.store(number, SeqCst);
        if self.hanging.load(SeqCst) == 0 {
            return;
        }
        let bells = self.lock();
        for of in [Some(user), None] {
            bells.range((of, 0)..=(of, u64::MAX)).for_each(|(_, bell)| bell.notify_one());
        }
    }

    fn hang(&self, user: Option<UserNumber>, bell: Arc<Notify>) -> BellKey {
        let key = (user, self.next.fetch_add(1, SeqCst));
        self.lock().insert(key, bell);
        self.hanging.fetch_add(1, SeqCst);
        key
    }

    fn take_down(&self, key: BellKey) {
        self.hanging.fetch_sub(1, SeqCst);
        self.lock().remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BellKey, Arc<Notify>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
