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

/// Keeps [`Health`]'s progress in step until `stop`. `patience` is how long a session may rightly be
/// occupied with one thing, should that be longer than [`LIMIT`].
pub(super) async fn watch(vitals: Vitals, health: Arc<Health>, patience: Duration, stop: CancellationToken) {
    let limit = LIMIT.max(patience);
    let mut pulse = Pulse::default();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
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
    use super::*;

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

    #[test]
    fn each_part_is_watched_for_itself() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        let look = |commits| waiting(&[(Part::Commits, commits), (Part::Dispatch("crm".into()), 7)]);
        pulse.judge(look(1), start, LIMIT);
        let hanging = pulse.judge(look(2), start + LIMIT, LIMIT);
        assert_eq!(hanging, [Part::Dispatch("crm".into())]);
    }
}
