//! Whether the daemon makes progress: commits, dispatch, sessions.
//!
//! A part hangs when something waits for it, and it got nothing done for [`LIMIT`]. Idle parts hang never, so
//! nothing has to be made up for them to do. While the store can't be written, whatever waits for it is
//! excused: a restart would not help.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::webhooks::SharedWebhooks;
use crate::{
    ops::{Health, Progress},
    store::{Standing, Store},
    users::Users,
};

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long something may wait for a part that gets nothing done.
const LIMIT: Duration = Duration::from_secs(60);

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Commits,
    /// A webhook's dispatcher.
    Dispatch(String),
    /// A user's session.
    Session(String),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Commits => f.write_str("the store's commits"),
            Self::Dispatch(webhook) => write!(f, "the dispatch of webhook {webhook}"),
            Self::Session(user) => write!(f, "the session of user {user}"),
        }
    }
}

/// The parts that something waits for, and how much each had done at that moment.
type Waiting = BTreeMap<Part, u64>;

/// Since when each part that something waits for has got nothing done.
#[derive(Debug, Default)]
struct Pulse {
    still: BTreeMap<Part, (u64, Instant)>,
}

impl Pulse {
    /// Takes a look in; the parts that hang.
    fn judge(&mut self, waiting: Waiting, now: Instant, limit: Duration) -> Vec<Part> {
        let mut before = std::mem::take(&mut self.still);
        for (part, done) in waiting {
            let since =
                before.remove(&part).filter(|(then, _)| *then == done).map_or(now, |(_, since)| since);
            self.still.insert(part, (done, since));
        }
        let hanging =
            self.still.iter().filter(|(_, (_, since))| now.saturating_duration_since(*since) >= limit);
        hanging.map(|(part, _)| part.clone()).collect()
    }
}

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) struct Vitals {
    pub(super) store: Arc<Store>,
    pub(super) users: Arc<Users>,
    pub(super) webhooks: SharedWebhooks,
}

impl Vitals {
    /// Blocks where what it looks at does.
    fn look(&self) -> Waiting {
        let mut waiting = Waiting::new();
        if *self.store.standing().borrow() != Standing::Writable {
            return waiting;
        }
        if self.store.is_awaited() {
            waiting.insert(Part::Commits, *self.store.commits().borrow());
        }
        for (name, dispatcher) in self.webhooks.dispatchers() {
            if let Some(begun) = dispatcher.lingers_after() {
                waiting.insert(Part::Dispatch(name.to_string()), begun);
            }
        }
        for user in self.users.all() {
            if let Some(taken) = user.mailbox.waits_after() {
                waiting.insert(Part::Session(user.name.to_string()), taken);
            }
        }
        waiting
    }
}

/// Keeps [`Health`]'s progress in step until `stop`. `patience` tells how long a session may rightly be
/// occupied with one thing, as things are now, should that be longer than [`LIMIT`].
pub(super) async fn watch(
    vitals: Vitals,
    health: Arc<Health>,
    patience: impl Fn() -> Duration + Send,
    stop: CancellationToken,
) {
    let mut pulse = Pulse::default();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let limit = LIMIT.max(patience());
        let looking = vitals.clone();
        let look = tokio::task::spawn_blocking(move || looking.look());
        let hanging = match tokio::time::timeout(limit, look).await {
            Ok(Ok(waiting)) => pulse.judge(waiting, Instant::now(), limit),
            Ok(Err(error)) => {
                tracing::error!(%error, "the look at the daemon's progress panicked");
                continue;
            }
            Err(_) => {
                tell(&health, "something that the daemon's parts share");
                continue;
            }
        };
        match hanging.first() {
            Some(part) => tell(&health, &part.to_string()),
            None => moves(&health),
        }
    }
}

fn moves(health: &Health) {
    if health.progress() == Progress::Stalled {
        tracing::info!("there is progress again: the service manager's watchdog is served");
    }
    health.set_progress(Progress::Moving);
}

fn tell(health: &Health, part: &str) {
    if health.progress() == Progress::Moving {
        tracing::error!(part, "no progress: the service manager's watchdog is no longer served");
    }
    health.set_progress(Progress::Stalled);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        clock::Timestamp,
        config,
        daemon::webhooks::Webhooks,
        events::{
            Ahead, DeliveryCounts, Event, EventId, Events, Gap, LanePlace, Report, Route, Source, Speaker,
            Subscriber, Subscribers, WebhookState, WebhookStatus,
        },
        letters::DeadLetters,
        messages::Messages,
        names::{BotName, UserName, WebhookName},
        store::{LaneSlot, UserNumber, WebhookNumber, testing},
        users::{Command, User},
        webhook::Dispatcher,
    };

    fn waiting(parts: &[(Part, u64)]) -> Waiting {
        parts.iter().cloned().collect()
    }

    #[test]
    fn who_waits_long_without_anything_done_hangs() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        let session = |taken| waiting(&[(Part::Session("alice".into()), taken)]);
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(pulse.judge(session(1), after(0), LIMIT), []);
        assert_eq!(pulse.judge(session(1), after(59), LIMIT), []);
        assert_eq!(pulse.judge(session(1), after(60), LIMIT), [Part::Session("alice".into())]);
        assert_eq!(pulse.judge(session(2), after(61), LIMIT), [], "it got something done");
        assert_eq!(pulse.judge(session(2), after(121), LIMIT).len(), 1);
        assert_eq!(pulse.judge(waiting(&[]), after(122), LIMIT), [], "nothing waits");
        assert_eq!(pulse.judge(session(2), after(130), LIMIT), [], "it waits anew");
    }

    struct World {
        _directory: tempfile::TempDir,
        vitals: Vitals,
        alice: Arc<User>,
        events: Events,
    }

    /// A store, the user alice whom no session serves, and the webhook `crm`.
    fn world() -> World {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (directory, store) = testing::store();
        let kept = testing::settings("unused".as_ref());
        let name = UserName::new("alice").unwrap();
        let number = store.user_number(&name).unwrap();
        let alice = Arc::new(User::new(name, number, BotName::new("support").unwrap(), Timestamp::now()));
        let users = Arc::new(Users::default());
        users.insert(alice.clone());
        let messages = Messages::load(store.clone(), config::Messages::default(), &kept).unwrap();
        let events = Events::load(store.clone(), messages, &kept, Subscribers::default()).unwrap();
        let letters = DeadLetters::load(store.clone()).unwrap();
        let crm = WebhookName::new("crm").unwrap();
        let settings = config::Webhook::new("http://127.0.0.1:9/".parse().unwrap());
        let dispatcher = Dispatcher::load(&crm, &settings, store.clone(), letters, Arc::default()).unwrap();
        let webhooks = SharedWebhooks::new(Webhooks::new([(crm, dispatcher)].into()));
        // What the start itself commits.
        while store.is_awaited() {
            std::thread::yield_now();
        }
        World { _directory: directory, vitals: Vitals { store, users, webhooks }, alice, events }
    }

    #[tokio::test]
    async fn a_session_that_takes_no_commands_is_waited_for() {
        let World { _directory, vitals, alice, .. } = world();
        assert_eq!(vitals.look(), waiting(&[]));
        alice.mailbox.post(Command::Reconnect);
        assert_eq!(vitals.look(), waiting(&[(Part::Session("alice".into()), 0)]));
        alice.mailbox.take().await;
        assert_eq!(vitals.look(), waiting(&[]));
    }

    #[tokio::test]
    async fn a_commit_that_does_not_end_is_waited_for() {
        let World { _directory, vitals, alice, events } = world();
        // What runs on the commit thread holds it up: here, a webhook that takes no event.
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let stuck: Arc<dyn Subscriber> = Arc::new(Stuck(Mutex::new(held)));
        let routes = [(alice.number, Route::from([stuck]))].into_iter().collect();
        events.resubscribe(Subscribers { routes, ..Subscribers::default() });
        let gap = |n| Report::Gap(Gap { recovered: n, ..GAP });
        events.announce(&alice, gap(1)).await.unwrap();
        events.announce(&alice, gap(2)).await.unwrap();
        let look = vitals.look();
        assert!(matches!(look.keys().collect::<Vec<_>>()[..], [Part::Commits]), "{look:?}");
        drop(let_go);
        vitals.store.settled().await.unwrap();
        // They are told of before the thread is through with them.
        while !vitals.look().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_dispatcher_that_starts_nothing_is_waited_for() {
        let World { _directory, vitals, alice, events } = world();
        let (_, dispatcher) = vitals.webhooks.dispatchers().into_iter().next().unwrap();
        dispatcher.start(events);
        let event = Event {
            id: EventId { store: 1, number: 1 },
            user: alice.name.clone(),
            bot: alice.bot.clone(),
            kind: "bot_response".into(),
            received_at: Timestamp::now(),
            in_reply_to: None,
            source: Source::Live,
            speaker: Speaker::Bot,
            frame: bytes::Bytes::from_static(b"{}"),
        };
        let slot = dispatcher.give(alice.number, &event.kind, event.source).slot;
        dispatcher.arrived(alice.number, &Arc::new(event), slot.sequence);
        // Its task is not let run: this test has the only thread.
        assert_eq!(vitals.look(), waiting(&[(Part::Dispatch("crm".into()), 0)]));
        dispatcher.stop();
        assert_eq!(vitals.look(), waiting(&[]), "what was stopped hangs never");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_served_no_more_while_a_part_hangs_and_again_when_it_goes_on() {
        let World { _directory, vitals, alice, .. } = world();
        let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
        let watching = tokio::spawn(watch(vitals, health.clone(), || Duration::ZERO, stop.clone()));
        let until = |wanted: Progress| {
            let health = health.clone();
            async move {
                while health.progress() != wanted {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let began = Instant::now();
        alice.mailbox.post(Command::Reconnect);
        until(Progress::Stalled).await;
        assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
        alice.mailbox.take().await;
        until(Progress::Moving).await;
        stop.cancel();
        watching.await.unwrap();
    }

    const GAP: Gap = Gap {
        from: Timestamp::from_millis(0),
        to: Timestamp::from_millis(0),
        recovered: 0,
        complete: true,
        reason: None,
    };

    /// A webhook that takes nothing until it is let go.
    #[derive(Debug)]
    struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Subscriber for Stuck {
        fn webhook(&self) -> WebhookNumber {
            WebhookNumber(9)
        }

        fn give(&self, user: UserNumber, _: &str, _: Source) -> LanePlace {
            LanePlace { slot: self.pass_by(user), ahead: Ahead::Little }
        }

        fn pass_by(&self, _: UserNumber) -> LaneSlot {
            LaneSlot { webhook: WebhookNumber(9), sequence: 1, wanted: true }
        }

        fn assembles(&self, _: &str) -> bool {
            false
        }

        fn arrived(&self, _: UserNumber, _: &Arc<Event>, _: u64) {
            // Ends when the other half is dropped.
            let _ = self.0.lock().unwrap().recv();
        }

        fn is_past(&self, _: UserNumber, _: u64) -> bool {
            false
        }

        fn undelivered(&self, _: UserNumber) -> u64 {
            0
        }

        fn status(&self) -> WebhookStatus {
            WebhookStatus {
                name: WebhookName::new("stuck").unwrap(),
                state: WebhookState::Failing,
                backlog: 0,
                last_outcome: None,
                counts: DeliveryCounts::default(),
            }
        }

        fn enable(&self) {}
    }

    #[test]
    fn each_part_is_watched_for_itself() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        let look = |commits| waiting(&[(Part::Commits, commits), (Part::Dispatch("crm".into()), 7)]);
        pulse.judge(look(1), start, LIMIT);
        let hanging = pulse.judge(look(2), start + LIMIT, LIMIT);
        assert_eq!(hanging, [Part::Dispatch("crm".into())]);
    }
}
