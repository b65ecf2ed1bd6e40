//! Whether a human agent talks to a user in the bot's place, as the user's frames tell it, one after the
//! other.
//!
//! Not everything is told: another socket may have been away when it was, and the platform's history has
//! what was said, but neither beginnings nor ends. So it counts how sure a session is. One that the platform
//! announced lasts until the platform ends it, whatever the bot says meanwhile. One that is known by nothing but
//! an agent's words, or that nobody has heard of since a socket was opened, ends when its agent leaves or the bot
//! itself speaks again.

use serde::{Deserialize, Serialize};

use super::reading::{Agent, Mark, Sign};
use crate::{clock::Timestamp, events::Source, store::BotNumber};

/// Whom a user talks to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Partner {
    /// The bot, which answers each message.
    #[default]
    Bot,
    /// A human, who owes no answers.
    Agent,
}

/// A session with a human agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSession {
    /// When its first sign came.
    pub since: Timestamp,
    /// The agent that was named last.
    pub agent: Option<Agent>,
    /// Whose user it was: another bot's user talks to nobody yet.
    bot: BotNumber,
    grounds: Grounds,
}

/// Why it is taken for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Grounds {
    /// The platform said so.
    Told,
    /// It did, before something may have been missed.
    ToldBefore,
    /// An agent was heard.
    Heard,
}

/// What is remembered of a user's agent sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    session: Option<AgentSession>,
    /// Beginnings and ends whose reports are not stored yet, oldest first.
    pub(super) unreported: Vec<Turn>,
}

/// The beginning or the end of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) state: TurnState,
    pub(super) at: Timestamp,
    pub(super) agent: Option<Agent>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TurnState {
    Started,
    Ended,
}

/// What came of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::events) enum Effect {
    /// Nothing that a restart must know.
    None,
    /// The record is another one.
    Changed,
    /// And so is whom the user talks to.
    Turned(Partner),
}

impl AgentRecord {
    /// The version of its form in the store.
    pub const VERSION: u8 = 1;

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.session.is_none() && self.unreported.is_empty()
    }

    /// The session of the user with this bot, if there is one.
    pub fn session(&self, bot: BotNumber) -> Option<&AgentSession> {
        self.session.as_ref().filter(|session| session.bot == bot)
    }

    /// As it is after a restart: something may have been missed.
    pub(super) fn restored(mut self) -> Self {
        self.doubt();
        self
    }

    /// Takes a frame's mark.
    pub(super) fn observe(&mut self, mark: &Mark, source: Source, bot: BotNumber, at: Timestamp) -> Effect {
        if self.session.as_ref().is_some_and(|session| session.bot != bot) {
            self.close(at);
        }
        if source == Source::History {
            self.doubt();
        }
        let is_told = self.session.as_ref().is_some_and(|session| session.grounds == Grounds::Told);
        match mark.sign {
            Sign::Opened => self.open(mark, Grounds::Told, bot, at),
            Sign::Spoke => self.open(mark, Grounds::Heard, bot, at),
            Sign::Signalled => self.confirm(mark),
            Sign::NewSocket => {
                self.doubt();
                Effect::None
            }
            Sign::Closed => self.close(at),
            Sign::Left | Sign::BotSpoke if is_told => Effect::None,
            // That an agent leaves shows that there was one.
            Sign::Left if self.was_told() => self.confirm(mark),
            Sign::Left | Sign::BotSpoke => self.close(at),
        }
    }

    fn was_told(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.grounds == Grounds::ToldBefore)
    }

    fn open(&mut self, mark: &Mark, grounds: Grounds, bot: BotNumber, at: Timestamp) -> Effect {
        let Some(session) = &mut self.session else {
            self.session = Some(AgentSession { since: at, agent: mark.agent.clone(), bot, grounds });
            self.turn(TurnState::Started, at, mark.agent.clone());
            return Effect::Turned(Partner::Agent);
        };
        let is_told_first = grounds == Grounds::Told && session.grounds == Grounds::Heard;
        if grounds == Grounds::Told {
            session.grounds = Grounds::Told;
        }
        match self.confirm(mark) {
            Effect::None if is_told_first => Effect::Changed,
            effect => effect,
        }
    }

    /// An agent is there.
    fn confirm(&mut self, mark: &Mark) -> Effect {
        let Some(session) = &mut self.session else { return Effect::None };
        if session.grounds == Grounds::ToldBefore {
            session.grounds = Grounds::Told;
        }
        let agent = match (&session.agent, &mark.agent) {
            (_, None) => return Effect::None,
            (Some(known), Some(named)) => known.named_again(named),
            (None, Some(named)) => named.clone(),
        };
        if session.agent.as_ref() == Some(&agent) {
            return Effect::None;
        }
        session.agent = Some(agent.clone());
        // Whoever is told of the beginning only now is told who it is.
        if let Some(Turn { state: TurnState::Started, agent: told, .. }) = self.unreported.last_mut() {
            *told = Some(agent);
        }
        Effect::Changed
    }

    fn close(&mut self, at: Timestamp) -> Effect {
        let Some(session) = self.session.take() else { return Effect::None };
        self.turn(TurnState::Ended, at, session.agent);
        Effect::Turned(Partner::Bot)
    }

    fn turn(&mut self, state: TurnState, at: Timestamp, agent: Option<Agent>) {
        self.unreported.push(Turn { state, at, agent });
    }

    /// Something may have been missed.
    fn doubt(&mut self) {
        if let Some(session) = &mut self.session
            && session.grounds == Grounds::Told
        {
            session.grounds = Grounds::ToldBefore;
        }
    }
}

#[cfg(test)]
impl AgentRecord {
    /// That of a user whose session has just begun.
    pub(crate) fn begun(bot: BotNumber, at: Timestamp) -> Self {
        let mut record = Self::default();
        let agent = Some(Agent { id: Some("a-1".into()), name: None });
        let mark = Mark { sign: Sign::Opened, agent, is_agents: false };
        record.observe(&mark, Source::Live, bot, at);
        record
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOT: BotNumber = BotNumber(1);

    fn mark(sign: Sign) -> Mark {
        Mark { sign, agent: None, is_agents: false }
    }

    fn named(sign: Sign, name: &str) -> Mark {
        Mark { agent: Some(Agent { id: None, name: Some(name.into()) }), ..mark(sign) }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    impl AgentRecord {
        fn sees(&mut self, sign: Sign) -> Effect {
            self.observe(&mark(sign), Source::Live, BOT, at(1))
        }

        fn misses(&mut self, sign: Sign) -> Effect {
            self.observe(&mark(sign), Source::History, BOT, at(1))
        }

        fn is_on(&self) -> bool {
            self.session(BOT).is_some()
        }
    }

    #[test]
    fn an_announced_session_lasts_until_the_platform_ends_it() {
        let mut record = AgentRecord::default();
        assert_eq!(record.sees(Sign::Opened), Effect::Turned(Partner::Agent));
        for sign in [Sign::BotSpoke, Sign::Left, Sign::Spoke, Sign::Signalled, Sign::Opened, Sign::BotSpoke] {
            assert_eq!(record.sees(sign), Effect::None, "{sign:?}");
        }
        assert_eq!(record.sees(Sign::Closed), Effect::Turned(Partner::Bot));
        assert_eq!(record.sees(Sign::Closed), Effect::None);
    }

    #[test]
    fn one_that_was_only_heard_of_ends_when_its_agent_leaves_or_the_bot_speaks() {
        for end in [Sign::Left, Sign::BotSpoke, Sign::Closed] {
            let mut record = AgentRecord::default();
            assert_eq!(record.sees(Sign::Spoke), Effect::Turned(Partner::Agent));
            assert_eq!(record.sees(end), Effect::Turned(Partner::Bot), "{end:?}");
        }
        let mut record = AgentRecord::default();
        record.sees(Sign::Spoke);
        assert_eq!(record.sees(Sign::Opened), Effect::Changed, "now it is announced");
        assert_eq!(record.sees(Sign::BotSpoke), Effect::None);
    }

    #[test]
    fn late_signals_begin_nothing() {
        for sign in [Sign::Signalled, Sign::Left, Sign::BotSpoke, Sign::NewSocket, Sign::Closed] {
            let mut record = AgentRecord::default();
            assert_eq!((record.sees(sign), record.is_on()), (Effect::None, false), "{sign:?}");
        }
    }

    #[test]
    fn behind_another_socket_the_next_who_speaks_tells() {
        for doubt in [Sign::NewSocket, Sign::BotSpoke] {
            let mut record = AgentRecord::default();
            record.sees(Sign::Opened);
            record = record.restored();
            record.sees(doubt);
            assert_eq!(record.is_on(), doubt == Sign::NewSocket);
        }
        let mut record = AgentRecord::default();
        record.sees(Sign::Opened);
        record.sees(Sign::NewSocket);
        record.sees(Sign::Spoke);
        assert_eq!(record.sees(Sign::BotSpoke), Effect::None, "the agent is still there");
    }

    #[test]
    fn of_what_was_missed_the_last_who_spoke_tells() {
        let mut record = AgentRecord::default();
        record.sees(Sign::Opened);
        assert_eq!(record.misses(Sign::Spoke), Effect::None);
        assert_eq!(record.misses(Sign::BotSpoke), Effect::Turned(Partner::Bot));
        assert_eq!(record.misses(Sign::Spoke), Effect::Turned(Partner::Agent));
    }

    #[test]
    fn the_agent_is_the_one_who_was_named_last() {
        let mut record = AgentRecord::default();
        record.sees(Sign::Opened);
        assert_eq!(record.observe(&named(Sign::Spoke, "Ann"), Source::Live, BOT, at(2)), Effect::Changed);
        let name = |record: &AgentRecord| record.session(BOT).unwrap().agent.clone().unwrap().name;
        assert_eq!(name(&record).as_deref(), Some("Ann"));
        assert_eq!(record.unreported[0].agent, record.session(BOT).unwrap().agent, "not told of yet");
        record.observe(&named(Sign::Signalled, "Bob"), Source::Live, BOT, at(3));
        assert_eq!(name(&record).as_deref(), Some("Bob"));
        record.sees(Sign::Closed);
        let ended = record.unreported.last().unwrap();
        assert_eq!(
            (ended.state, ended.agent.clone().unwrap().name.as_deref()),
            (TurnState::Ended, Some("Bob"))
        );
    }

    #[test]
    fn its_form_is_stable() {
        let record = AgentRecord::begun(BotNumber(2), at(300));
        let bytes = postcard::to_stdvec(&record).unwrap();
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, ac, 02, 01, 01, 03, 61, 2d, 31, 00, 02, 00, 01, 00, ac, 02, 01, 01, 03, 61, 2d, 31, 00]");
        assert_eq!(postcard::from_bytes::<AgentRecord>(&bytes).unwrap(), record);
    }

    #[test]
    fn a_name_in_short_is_the_same_agents() {
        let agent = |id: Option<&str>, name: Option<&str>| Agent {
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
        };
        let known = agent(Some("a-1"), Some("Ann Lee"));
        for (named, expected) in [
            (agent(Some("a-1"), Some("Ann")), known.clone()),
            (agent(None, Some("Ann")), known.clone()),
            (agent(Some("a-1"), None), known.clone()),
            (agent(Some("a-1"), Some("Anna Lee")), agent(Some("a-1"), Some("Anna Lee"))),
            (agent(None, Some("Bob")), agent(None, Some("Bob"))),
            (agent(Some("a-2"), None), agent(Some("a-2"), None)),
        ] {
            assert_eq!(known.named_again(&named), expected, "{named:?}");
        }
        assert_eq!(agent(Some("a-1"), Some("Ann")).named_again(&known), known);
    }

    #[test]
    fn another_bots_user_is_in_no_session() {
        let mut record = AgentRecord::default();
        record.sees(Sign::Opened);
        assert_eq!(record.session(BotNumber(2)), None);
        record.observe(&mark(Sign::BotSpoke), Source::Live, BotNumber(2), at(2));
        assert_eq!(record.session(BOT), None);
    }

    fn any_sign() -> impl Strategy<Value = Sign> {
        prop::sample::select(vec![
            Sign::Opened,
            Sign::Spoke,
            Sign::Signalled,
            Sign::Left,
            Sign::Closed,
            Sign::BotSpoke,
            Sign::NewSocket,
        ])
    }

    proptest! {
        #[test]
        fn beginnings_and_ends_alternate(signs in proptest::collection::vec((any_sign(), any::<bool>()), 0..40)) {
            let mut record = AgentRecord::default();
            for (sign, live) in signs {
                let (before, turns) = (record.is_on(), record.unreported.len());
                let effect = record.observe(&mark(sign), if live { Source::Live } else { Source::History }, BOT, at(1));
                let turned = matches!(effect, Effect::Turned(_));
                prop_assert_eq!(turned, record.is_on() != before);
                prop_assert_eq!(record.unreported.len() - turns, usize::from(turned));
                // Whoever closes and whoever opens for sure does.
                match sign {
                    Sign::Opened | Sign::Spoke => prop_assert!(record.is_on()),
                    Sign::Closed => prop_assert!(!record.is_on()),
                    _ => prop_assert!(before || !record.is_on()),
                }
            }
            let states: Vec<_> = record.unreported.iter().map(|turn| turn.state).collect();
            for (place, state) in states.iter().enumerate() {
                prop_assert_eq!(*state == TurnState::Started, place % 2 == 0);
            }
        }
    }
}
