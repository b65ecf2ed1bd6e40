//! The agent sessions of all users: as they are now, as a restart finds them, and their reports.
//!
//! What a frame changes is stored with the frame, and what a report settles with the report, so a crash
//! between the two loses neither: the next start reports what was not.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Events, Source,
        receive::{Fresh, Shared},
        report::AGENT_SESSION,
    },
    reading::{Mark, Sign},
    session::{AgentRecord, AgentSession, Effect, Partner, Turn},
    transcript::{Shares, data, is_told_with, transcript},
};
use crate::{
    clock::Timestamp,
    history::Histories,
    ordered,
    store::{BotNumber, StoreError, UserNumber},
    users::User,
};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::events) struct AgentSessions {
    /// Only of users with something to remember.
    known: Mutex<HashMap<UserNumber, Known>>,
    /// How many those are: as long as none is, most frames cost a look at it.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    record: AgentRecord,
    reporting: Reporting,
}

/// Whether somebody is about to report what was not reported yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reporting {
    #[default]
    Nobody,
    Somebody,
}

/// What transcripts are made with.
#[derive(Debug)]
pub(in crate::events) struct Desk {
    histories: Arc<dyn Histories>,
    stop: CancellationToken,
}

impl AgentSessions {
    pub(in crate::events) fn load(records: Vec<(UserNumber, AgentRecord)>) -> Self {
        let known: HashMap<_, _> = records
            .into_iter()
            .map(|(user, record)| (user, Known { record: record.restored(), ..Known::default() }))
            .collect();
        Self { count: AtomicUsize::new(known.len()), known: Mutex::new(known) }
    }

    /// Takes a frame's mark; see [`AgentRecord`].
    pub(in crate::events) fn observe(
        &self,
        user: UserNumber,
        bot: BotNumber,
        mark: &Mark,
        source: Source,
        at: Timestamp,
    ) -> Effect {
        let begins = matches!(mark.sign, Sign::Opened | Sign::Spoke);
        if !begins && self.count.load(Relaxed) == 0 {
            return Effect::None;
        }
        let mut all = self.lock();
        let effect = match all.entry(user) {
            Entry::Vacant(_) if !begins => return Effect::None,
            entry => entry.or_default().record.observe(mark, source, bot, at),
        };
        self.count.store(all.len(), Relaxed);
        effect
    }

    /// What is to be remembered of a user.
    pub(in crate::events) fn record(&self, user: UserNumber) -> AgentRecord {
        self.lock().get(&user).map(|known| known.record.clone()).unwrap_or_default()
    }

    fn session(&self, user: UserNumber, bot: BotNumber) -> Option<AgentSession> {
        self.lock().get(&user)?.record.session(bot).cloned()
    }

    /// The oldest beginning or end that is not reported, unless somebody is about to.
    fn unreported(&self, user: UserNumber) -> Option<Turn> {
        let known = self.lock();
        let known = known.get(&user).filter(|known| known.reporting == Reporting::Nobody)?;
        known.record.unreported.first().cloned()
    }

    /// Somebody reports from now on.
    fn begin(&self, user: UserNumber) {
        if let Some(known) = self.lock().get_mut(&user) {
            known.reporting = Reporting::Somebody;
        }
    }

    /// What whoever began is to report next; if there is nothing more, or `stopped`, it is over.
    fn next(&self, user: UserNumber, stopped: bool) -> Option<Turn> {
        let mut all = self.lock();
        let known = all.get_mut(&user)?;
        let next = known.record.unreported.first().filter(|_| !stopped).cloned();
        if next.is_none() {
            known.reporting = Reporting::Nobody;
            self.tidy(&mut all, user);
        }
        next
    }

    /// The oldest is reported. Answers with what is to be remembered then.
    fn reported(&self, user: UserNumber) -> AgentRecord {
        let mut all = self.lock();
        let Some(known) = all.get_mut(&user) else { return AgentRecord::default() };
        known.record.unreported.drain(..1.min(known.record.unreported.len()));
        let record = known.record.clone();
        self.tidy(&mut all, user);
        record
    }

    /// Forgets a user of whom there is nothing to remember.
    fn tidy(&self, all: &mut HashMap<UserNumber, Known>, user: UserNumber) {
        let is_idle = |known: &Known| known.record.is_empty() && known.reporting == Reporting::Nobody;
        if all.get(&user).is_some_and(is_idle) {
            all.remove(&user);
            self.count.store(all.len(), Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserNumber, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// Lets reports of agent sessions have transcripts, until `stop`; and reports what a crash left to
    /// be reported, of these users.
    pub fn connect_histories(
        &self,
        histories: Arc<dyn Histories>,
        users: &[Arc<User>],
        stop: CancellationToken,
    ) {
        // Connected once; a second time would change nothing.
        let _ = self.shared.desk.set(Desk { histories, stop });
        for user in users {
            if self.shared.agents.unreported(user.number).is_some() {
                self.report_apart(user);
            }
        }
    }

    /// The user's session with a human agent, if there is one.
    pub fn agent_session(&self, user: &User) -> Option<AgentSession> {
        let bot = self.shared.store.bot_number(&user.bot).ok()?;
        self.shared.agents.session(user.number, bot)
    }

    /// Whom the user talks to.
    pub fn partner(&self, user: &User) -> Partner {
        if self.agent_session(user).is_some() { Partner::Agent } else { Partner::Bot }
    }

    /// Reports what is not reported yet: as the user's next event, where that takes nothing but the store;
    /// otherwise when it is ready, and the user's other events go on meanwhile.
    pub(in crate::events) async fn report_agent_session(&self, user: &Arc<User>) -> Result<(), StoreError> {
        while let Some(turn) = self.shared.agents.unreported(user.number) {
            if is_told_with(&turn) && self.shared.desk.get().is_some() && !self.shared.shares(user).is_empty()
            {
                self.report_apart(user);
                return Ok(());
            }
            self.announce_turn(user, data(&turn, None)).await?;
        }
        Ok(())
    }

    /// Reports in a task of its own what there is and what comes meanwhile.
    fn report_apart(&self, user: &Arc<User>) {
        self.shared.agents.begin(user.number);
        let (events, user) = (self.clone(), Arc::clone(user));
        tokio::spawn(async move {
            let mut stopped = false;
            while let Some(turn) = events.shared.agents.next(user.number, stopped) {
                stopped = !events.report_turn(&user, &turn).await;
            }
        });
    }

    /// Reports one. Says whether that worked: at the stop, and without a store, it is left for the next start.
    async fn report_turn(&self, user: &Arc<User>, turn: &Turn) -> bool {
        let shares = self.shared.shares(user);
        let desk = self.shared.desk.get().filter(|_| is_told_with(turn));
        let told = match (desk, shares.values().max()) {
            (Some(desk), Some(most)) => {
                let reading = transcript(&self.shared, &desk.histories, user, *most);
                match desk.stop.run_until_cancelled(reading).await {
                    Some(transcript) => Some(transcript),
                    None => return false,
                }
            }
            _ => None,
        };
        // Who it is may have been told meanwhile.
        let record = self.shared.agents.record(user.number);
        let turn = record.unreported.first().unwrap_or(turn);
        let data = data(turn, told.as_ref().map(|transcript| (transcript, &shares)));
        match self.announce_turn(user, data).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(user = %user.name, %error, "an agent session can't be reported now; the next start does");
                false
            }
        }
    }

    async fn announce_turn(&self, user: &Arc<User>, data: Vec<u8>) -> Result<(), StoreError> {
        let shared = &self.shared;
        let fresh = Fresh::report(user.number, AGENT_SESSION, Timestamp::now(), data.into());
        let reserved = shared.store.reserve(fresh.size()).await?;
        let lanes = shared.lanes_of(user)?;
        shared.hand_over(user, lanes, fresh, |event, on_durable| {
            let record = shared.agents.reported(user.number);
            shared.store.append_event_and_agents(event, &record, reserved, on_durable)
        })?;
        Ok(())
    }
}

impl Shared {
    /// How much of a transcript each of the user's webhooks wants, of those that want any.
    fn shares(&self, user: &User) -> Shares {
        let subscribers = self.subscribers_of(user.number).unwrap_or_default();
        let wanted = subscribers.iter().map(|one| (one.webhook().0, one.transcript()));
        ordered::map(wanted.filter(|(_, messages)| *messages > 0))
    }
}
