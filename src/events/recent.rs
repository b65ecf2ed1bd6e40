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

use super::{Event, EventId, Events, Source, kept::Resumption, receive::Shared};
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
            if event.source == Source::Assembled {
                // Its chunks were events already.
                continue;
            }
            bytes += event.frame.len();
            events.push(Event::of(&self.shared.store, user, event)?);
            if events.len() >= most.events || bytes >= most.bytes {
                break;
            }
        }
        let is_cut = events.len() >= most.events || bytes >= most.bytes;
        let last = events.last().map(|event| event.id.number).filter(|_| is_cut);
        Ok(Page { events, next: Cursor(last.unwrap_or(up_to)) })
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

    pub(super) fn newest(&self) -> u64 {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        clock::Timestamp,
        config,
        events::{Received, Reception, Subscribers},
        messages::Messages,
        names::BotName,
        rtm::frame::FrameHead,
        store::{Store, testing},
        users::User,
    };

    /// Most of what a test reads at once.
    const STEP: Most = Most { events: 7, bytes: 1 << 20 };

    fn load(store: &Arc<Store>, recent: u64) -> Events {
        let kept = config::Store { recent, ..testing::settings("unused".as_ref()) };
        let messages = Messages::load(store.clone(), config::Messages::default(), &kept).unwrap();
        Events::load(store.clone(), messages, &kept, Subscribers::default()).unwrap()
    }

    fn user(store: &Store, name: &str) -> Arc<User> {
        let name = UserName::new(name).unwrap();
        let number = store.user_number(&name).unwrap();
        Arc::new(User::new(name, number, BotName::new("support").unwrap(), Timestamp::now()))
    }

    async fn hand_over(events: &Events, user: &Arc<User>, n: usize) -> (u64, oneshot::Receiver<()>) {
        let frame = Bytes::from(format!(r#"{{"type":"events","n":{n},"filling":"{}"}}"#, "x".repeat(200)));
        let head = FrameHead::parse(&frame).unwrap();
        let received = Received::sample(&frame);
        match events.receive(user, &head, received).await.unwrap() {
            Reception::Event { id, durable, .. } => (id.number, durable.unwrap()),
            Reception::Repeat => panic!("no frame is a repeat"),
        }
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.id.number).collect()
    }

    #[tokio::test]
    async fn pages_of_one_user_and_of_all_go_on_where_the_last_one_ended() {
        let (_directory, store) = testing::store();
        let events = load(&store, 1 << 20);
        let (alice, bob) = (user(&store, "alice"), user(&store, "bob"));
        let recent = events.recent();
        assert_eq!((recent.oldest(), recent.newest()), (Cursor(0), Cursor(0)));
        for n in 0..20 {
            let whose = if n % 3 == 0 { &bob } else { &alice };
            hand_over(&events, whose, n).await.1.await.unwrap();
        }
        let alices: Vec<u64> = (1..=20).filter(|number| (number - 1) % 3 != 0).collect();
        let all: Vec<u64> = (1..=20).collect();
        let everyone = || Whose::All(Box::new(|_| true));
        let not_bob = Whose::All(Box::new(|name: &UserName| name.as_str() != "bob"));
        for (whose, expected) in [(Whose::Of(alice.number), &alices), (everyone(), &all), (not_bob, &alices)]
        {
            let (mut cursor, mut seen) = (recent.oldest(), Vec::new());
            loop {
                let page = recent.read(&whose, cursor, STEP).unwrap();
                if page.events.is_empty() {
                    assert_eq!(page.next, recent.newest());
                    break;
                }
                seen.extend(numbers(&page));
                cursor = page.next;
            }
            assert_eq!(seen, *expected);
        }
        let by_bytes = Most { bytes: 500, ..STEP };
        let page = recent.read(&everyone(), recent.oldest(), by_bytes).unwrap();
        assert_eq!(numbers(&page), [1, 2, 3], "and what the last of them is longer");
        let whose = Whose::Of(alice.number);
        let id = |number| store.event_id(number);
        assert_eq!(recent.resume_id(&whose, Cursor(16)).unwrap(), Some(id(15)));
        assert_eq!(recent.resume_id(&everyone(), Cursor(16)).unwrap(), Some(id(16)));
        assert_eq!(recent.resume_id(&whose, Cursor(0)).unwrap(), None);
        assert_eq!(recent.after(&whose, id(15)).unwrap(), Cursor(15));
        for unknown in [id(16), id(0), id(21), EventId { store: id(1).store ^ 1, number: 15 }] {
            assert!(matches!(recent.after(&whose, unknown), Err(ReadError::Gone)), "{unknown}");
        }
    }

    #[tokio::test]
    async fn a_bell_rings_for_its_user_only() {
        let (_directory, store) = testing::store();
        let events = load(&store, 1 << 20);
        let (alice, bob) = (user(&store, "alice"), user(&store, "bob"));
        let recent = events.recent();
        let hers = recent.listen(&Whose::Of(alice.number));
        let all = recent.listen(&Whose::All(Box::new(|_| true)));
        hand_over(&events, &bob, 1).await.1.await.unwrap();
        all.heard().await;
        let silence = Duration::from_millis(20);
        assert!(tokio::time::timeout(silence, hers.heard()).await.is_err());
        hand_over(&events, &alice, 2).await.1.await.unwrap();
        hers.heard().await;
        drop((hers, all));
        assert_eq!(recent.shared.bells.hanging.load(SeqCst), 0);
        assert!(recent.shared.bells.lock().is_empty());
    }

    /// What a reader saw, one run of events after the other: between two runs it was told of a loss.
    async fn follow(recent: RecentEvents, whose: Whose, last: u64) -> Vec<(Cursor, Vec<u64>)> {
        let listener = recent.listen(&whose);
        let mut runs = vec![(recent.oldest(), Vec::new())];
        let mut cursor = runs[0].0;
        while cursor.0 < last {
            match recent.read(&whose, cursor, STEP) {
                Ok(page) => {
                    cursor = page.next;
                    runs.last_mut().unwrap().1.extend(numbers(&page));
                    if page.events.is_empty() && cursor.0 < last {
                        listener.heard().await;
                    }
                    tokio::task::yield_now().await;
                }
                Err(ReadError::Gone) => {
                    cursor = recent.oldest();
                    runs.push((cursor, Vec::new()));
                }
                Err(error) => panic!("{error}"),
            }
        }
        runs
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn readers_miss_nothing_that_they_are_not_told_of_while_events_come_and_go() {
        const EVENTS: u64 = 3_000;
        let (_directory, store) = testing::store();
        let events = load(&store, 8 << 10);
        let people = [user(&store, "alice"), user(&store, "bob")];
        let mut readers = Vec::new();
        for reader in 0..6 {
            let whose = match reader % 3 {
                2 => Whose::All(Box::new(|_| true)),
                which => Whose::Of(people[which].number),
            };
            // Of one user, the last event of all may be the other's: what counts is the last of both.
            readers.push((reader % 3, tokio::spawn(follow(events.recent(), whose, EVENTS - 1))));
        }
        let mut owners = Vec::new();
        for n in 0..EVENTS as usize {
            let owner = usize::from(n % 5 == 0 || n as u64 == EVENTS - 1);
            let (number, durable) = hand_over(&events, &people[owner], n).await;
            assert_eq!(number, n as u64 + 1);
            owners.push(owner);
            if n % 10 == 9 {
                durable.await.unwrap();
            }
        }
        // Both users' last events: whoever still waits is woken.
        for (at, person) in people.iter().enumerate() {
            hand_over(&events, person, at).await.1.await.unwrap();
            owners.push(at);
        }
        for (which, reader) in readers {
            let runs = reader.await.unwrap();
            for (from, seen) in runs {
                let Some(last) = seen.last() else { continue };
                let expected: Vec<u64> = (from.0 + 1..=*last)
                    .filter(|number| which == 2 || owners[*number as usize - 1] == which)
                    .collect();
                let differ = seen.iter().zip(&expected).find(|(seen, expected)| seen != expected);
                assert!(seen == expected, "reader {which} from {from:?}, (seen, expected): {differ:?}");
            }
        }
    }
}
