//! What a frame says of a human agent.
//!
//! The platform has several marks for what comes from an agent, and uses them as it likes: `fromAgent`,
//! an author of type `AGENT`, an `agent_MessageId`, the templates `live_agent` (words) and `SYSTEM` (a
//! banner), live signals (`events`), and frames that say when a session begins and ends. Their values come in
//! any letter case.

use std::{borrow::Cow, sync::LazyLock};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::text::{Json, fields, plain_text, string};
use crate::rtm::frame::FrameHead;

/// A human agent, as far as the platform tells.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The platform's id of the agent.
    pub id: Option<String>,
    /// What the agent is called.
    pub name: Option<String>,
}

/// What an agent lets the user know beside words: the envelope's `signal`.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Is typing.
    Typing,
    /// Isn't any more.
    StopTyping,
    /// Got what the user wrote.
    Delivered,
    /// Read what the user wrote.
    Read,
    /// Joined the conversation.
    Joined,
    /// Left it.
    Left,
}

impl Signal {
    /// Its name in the envelope.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::StopTyping => "stop_typing",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Joined => "joined",
            Self::Left => "left",
        }
    }

    /// The platform's own names, in any letter case, with or without their underscores.
    fn of(kind: &str) -> Option<Self> {
        let is = |name: &str| {
            kind.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).eq(name.bytes())
        };
        let known = [
            ("typing", Self::Typing),
            ("stoptyping", Self::StopTyping),
            ("messagedelivered", Self::Delivered),
            ("messageread", Self::Read),
            ("agentconnected", Self::Joined),
            ("agentdisconnected", Self::Left),
        ];
        known.into_iter().find_map(|(name, signal)| is(name).then_some(signal))
    }
}

/// What an agent's frame says beside its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whose it is, where it tells.
    pub agent: Option<Agent>,
    /// What it lets the user know.
    pub signal: Option<Signal>,
}

impl Agent {
    /// What is known of the agent when one is named again: the platform names the same one now in full, now in
    /// short.
    pub(super) fn named_again(&self, named: &Self) -> Self {
        let is_other = match (&self.id, &named.id) {
            (Some(known), Some(id)) => known != id,
            _ => match (&self.name, &named.name) {
                (Some(known), Some(name)) => !known.starts_with(&**name) && !name.starts_with(&**known),
                _ => false,
            },
        };
        if is_other {
            return named.clone();
        }
        let name = match (&self.name, &named.name) {
            (Some(known), Some(name)) if known.starts_with(&**name) => Some(known),
            (known, name) => name.as_ref().or(known.as_ref()),
        };
        Self { id: named.id.as_ref().or(self.id.as_ref()).cloned(), name: name.cloned() }
    }

    /// As the envelope has it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with text keys is always JSON")
    }
}

impl Reading {
    /// Adds the envelope's fields, each behind a comma; what isn't known is left out.
    pub(in crate::events) fn push_json(&self, out: &mut Vec<u8>) {
        if let Some(agent) = &self.agent {
            out.extend_from_slice(b",\"agent\":");
            serde_json::to_writer(&mut *out, agent).expect("writing to memory can't fail");
        }
        if let Some(signal) = self.signal {
            out.extend_from_slice(b",\"signal\":\"");
            out.extend_from_slice(signal.word().as_bytes());
            out.push(b'"');
        }
    }

    /// An upper bound of what [`Reading::push_json`] adds.
    pub(in crate::events) fn json_size(&self) -> usize {
        let size = |text: &Option<String>| text.as_ref().map_or(4, |text| 2 + 6 * text.len());
        let agent = self.agent.as_ref().map_or(0, |agent| 27 + size(&agent.id) + size(&agent.name));
        agent + self.signal.map_or(0, |signal| 12 + signal.word().len())
    }
}

/// What a frame means for the question whom the user talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::events) struct Mark {
    pub(super) sign: Sign,
    /// The agent that it names.
    pub(super) agent: Option<Agent>,
    /// Whether the agent's side says it, rather than the platform or the bot.
    pub(in crate::events) is_agents: bool,
}

/// What kind of mark it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A session begins, or goes on.
    Opened,
    /// An agent joined, or said something: there is a session.
    Spoke,
    /// An agent is there, if there is a session: such signs come late, too.
    Signalled,
    /// An agent left; another one may come.
    Left,
    /// The session is over.
    Closed,
    /// The bot itself said something.
    BotSpoke,
    /// A socket was opened, and what happened before it may have been missed.
    NewSocket,
}

/// What a frame that is an agent's says beside its words.
pub fn read(frame: &[u8]) -> Reading {
    let Ok(frame) = std::str::from_utf8(frame) else { return Reading::default() };
    let Some(parts) = Parts::of(frame) else { return Reading::default() };
    let signal = match parts.kind.as_deref() {
        Some(kind) if kind.eq_ignore_ascii_case("bot_response") => {
            (parts.template() == Some(Template::Banner)).then(|| banner(frame)).flatten()
        }
        Some(kind) if kind.eq_ignore_ascii_case("events") => {
            parts.message_kind().as_deref().and_then(Signal::of)
        }
        Some(kind) => Signal::of(kind),
        None => None,
    };
    Reading { agent: parts.agent(), signal }
}

/// What a frame means for the question whom the user talks to; nothing for most that are neither the
/// bot's nor an agent's. What the bot itself says costs one search through the frame.
pub(in crate::events) fn mark(head: &FrameHead<'_>, frame: &[u8]) -> Option<Mark> {
    static TEMPLATE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("template_type"));
    if head.is("bot_response") {
        let may_have_template = TEMPLATE.find(frame).is_some();
        if !head.from_agent && !may_have_template {
            return Some(Mark { sign: Sign::BotSpoke, agent: None, is_agents: false });
        }
        return Some(mark_of_words(head, std::str::from_utf8(frame).ok()?));
    }
    if head.is("user_message") {
        return None;
    }
    let parts = || Parts::of(std::str::from_utf8(frame).ok()?);
    let of_platform = |sign, agent| Some(Mark { sign, agent, is_agents: false });
    if head.is("events") {
        return parts()?.mark_of_event(head);
    }
    if head.is("agent_session_start") {
        return of_platform(Sign::Opened, parts().and_then(|parts| parts.agent()));
    }
    if head.is("agent_session_end") || head.is("session_end") {
        return of_platform(Sign::Closed, None);
    }
    if head.is("bot_active") {
        let is_over = parts().is_some_and(|parts| parts.has_no_session());
        return of_platform(if is_over { Sign::Closed } else { Sign::NewSocket }, None);
    }
    let agent = || parts().and_then(|parts| parts.agent());
    head.from_agent.then(|| Mark { sign: Sign::Signalled, agent: agent(), is_agents: true })
}

/// Whether a text of the platform's history is an agent's: a template that only agents use.
pub fn is_agents_template(text: &str) -> bool {
    template_in(text, MAX_LEVELS) == Some(Template::Words)
}

/// How deep a template's type is looked for.
const MAX_LEVELS: usize = 5;

/// The templates that an agent's side uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Template {
    /// `live_agent`: what an agent wrote.
    Words,
    /// `SYSTEM`: that somebody joined or left, and the like.
    Banner,
    Other,
}

fn mark_of_words(head: &FrameHead<'_>, frame: &str) -> Mark {
    let parts = Parts::of(frame);
    let (template, agent) = parts.map(|parts| (parts.template(), parts.agent())).unwrap_or_default();
    let sign = match template {
        Some(Template::Banner) => match banner(frame) {
            Some(Signal::Joined) => Sign::Spoke,
            Some(Signal::Left) => Sign::Left,
            _ => Sign::Signalled,
        },
        Some(Template::Words) => Sign::Spoke,
        _ if head.from_agent => Sign::Spoke,
        _ => return Mark { sign: Sign::BotSpoke, agent: None, is_agents: false },
    };
    Mark { sign, agent, is_agents: true }
}

/// What a banner's words say, as far as they are the usual ones.
fn banner(frame: &str) -> Option<Signal> {
    let words = plain_text(frame.as_bytes())?.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    // In this order: who is disconnected is not connected.
    if says(&["disconnected", "left", "exited", "ended", "closed", "terminated"]) {
        Some(Signal::Left)
    } else {
        says(&["joined", "connected", "accepted"]).then_some(Signal::Joined)
    }
}

/// The parts of a frame that may tell of an agent.
struct Parts<'a> {
    kind: Option<Cow<'a, str>>,
    author: Option<&'a RawValue>,
    agent_info: Option<&'a RawValue>,
    session_info: Option<&'a RawValue>,
    /// The message, or the entries of a list of them.
    messages: Vec<&'a RawValue>,
}

impl<'a> Parts<'a> {
    fn of(frame: &'a str) -> Option<Self> {
        let names = ["type", "author", "agentInfo", "recentSessionInfo", "message"];
        let [kind, author, agent_info, session_info, message] = fields(frame, names)?;
        let messages = match message {
            Some(list) if Json::of(list.get()) == Json::Array => {
                serde_json::from_str(list.get()).unwrap_or_default()
            }
            message => message.into_iter().collect(),
        };
        Some(Self { kind: kind.and_then(string), author, agent_info, session_info, messages })
    }

    /// `message.type`
    fn message_kind(&self) -> Option<Cow<'a, str>> {
        let [kind] = fields(self.messages.first()?.get(), ["type"])?;
        string(kind?)
    }

    /// The agent that is named, in any of the places for it.
    fn agent(&self) -> Option<Agent> {
        let [author, info] = self
            .messages
            .first()
            .and_then(|message| fields(message.get(), ["author", "agentInfo"]))
            .unwrap_or_default();
        [self.author, author, self.agent_info, info].into_iter().flatten().find_map(person)
    }

    /// Whether somebody else than an agent is named as the author.
    fn is_anothers(&self) -> bool {
        let inner = self.messages.first().and_then(|message| fields(message.get(), ["author"]));
        let authors = [self.author, inner.and_then(|[author]| author)];
        authors.into_iter().flatten().any(|author| {
            let kind = fields(author.get(), ["type"]).and_then(|[kind]| string(kind?));
            kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("agent"))
        })
    }

    fn mark_of_event(&self, head: &FrameHead<'_>) -> Option<Mark> {
        let kind = self.message_kind().unwrap_or_default();
        let of = |sign, is_agents| Some(Mark { sign, agent: self.agent(), is_agents });
        if kind.eq_ignore_ascii_case("agent_session_active") {
            return of(Sign::Opened, false);
        }
        if kind.eq_ignore_ascii_case("agent_session_inactive") {
            return of(Sign::Closed, false);
        }
        match Signal::of(&kind) {
            Some(Signal::Joined) => of(Sign::Spoke, true),
            Some(Signal::Left) => of(Sign::Left, true),
            Some(_) if !self.is_anothers() => of(Sign::Signalled, true),
            _ if head.from_agent => of(Sign::Signalled, true),
            _ => None,
        }
    }

    fn template(&self) -> Option<Template> {
        self.messages.iter().find_map(|message| {
            let [component, info] = fields(message.get(), ["component", "cInfo"])?;
            let inner = |object: Option<&'a RawValue>, name| {
                let [value] = fields(object?.get(), [name])?;
                template_of(value?, MAX_LEVELS)
            };
            inner(component, "payload").or_else(|| inner(info, "body"))
        })
    }

    /// Whether the platform says that the conversation is over (`recentSessionInfo`).
    fn has_no_session(&self) -> bool {
        let info = self.session_info.and_then(|info| fields(info.get(), ["isActive"]));
        info.and_then(|[active]| active).is_some_and(|active| active.get() == "false")
    }
}

/// The type of the template that a payload is, or has in it.
fn template_of(payload: &RawValue, levels: usize) -> Option<Template> {
    match Json::of(payload.get()) {
        Json::Object => {
            let levels = levels.checked_sub(1)?;
            let [kind, inner] = fields(payload.get(), ["template_type", "payload"])?;
            let kind = kind.and_then(string).map(|kind| match &*kind {
                kind if kind.eq_ignore_ascii_case("live_agent") => Template::Words,
                kind if kind.eq_ignore_ascii_case("SYSTEM") => Template::Banner,
                _ => Template::Other,
            });
            kind.or_else(|| template_of(inner?, levels))
        }
        Json::String => template_in(&string(payload)?, levels),
        Json::Array | Json::Other => None,
    }
}

/// The same of a text that is JSON, perhaps with its quotes as `&quot;`.
fn template_in(text: &str, levels: usize) -> Option<Template> {
    if Json::of(text) != Json::Object {
        return None;
    }
    let text = if text.contains("&quot;") { Cow::Owned(text.replace("&quot;", "\"")) } else { text.into() };
    template_of(serde_json::from_str(&text).ok()?, levels)
}

/// Who somebody is, unless it is no agent.
fn person(author: &RawValue) -> Option<Agent> {
    let names = ["type", "id", "agentId", "userId", "_id", "name", "firstName", "lastName"];
    let [kind, id, agent_id, user_id, own_id, name, first, last] = fields(author.get(), names)?;
    if kind.and_then(string).is_some_and(|kind| !kind.eq_ignore_ascii_case("agent")) {
        return None;
    }
    let id = [id, agent_id, user_id, own_id].into_iter().flatten().find_map(scalar);
    let word = |part: Option<&RawValue>| {
        let word = string(part?)?.trim().to_owned();
        (!word.is_empty()).then_some(word)
    };
    let name = word(name).or_else(|| {
        let parts: Vec<_> = [word(first), word(last)].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    });
    (id.is_some() || name.is_some()).then_some(Agent { id, name })
}

/// A string's text, or a number's digits.
fn scalar(value: &RawValue) -> Option<String> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => string(value).map(Cow::into_owned).filter(|text| !text.is_empty()),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn marked(frame: &Value) -> Option<Mark> {
        let frame = frame.to_string();
        mark(&FrameHead::parse(frame.as_bytes()).unwrap(), frame.as_bytes())
    }

    fn reading(frame: &Value) -> Reading {
        read(frame.to_string().as_bytes())
    }

    fn response(payload: &Value) -> Value {
        json!({"type": "bot_response", "message": [{"type": "text", "component": {"type": "template", "payload": payload}}]})
    }

    fn ann() -> Agent {
        Agent { id: Some("a-1".into()), name: Some("Ann Lee".into()) }
    }

    #[test]
    fn every_mark_of_an_agents_words_is_known() {
        let template = json!({"type": "template", "payload": {"template_type": "Live_Agent", "text": "Hi"}});
        let frames = [
            json!({"type": "BOT_response", "fromAgent": true}),
            json!({"type": "bot_response", "author": {"type": "agent"}}),
            json!({"type": "bot_response", "agent_MessageId": "am-1"}),
            response(&template),
            response(&json!({"template_type": "live_agent"})),
            response(&json!(template.to_string())),
            response(&json!(template.to_string().replace('"', "&quot;"))),
            json!({"type": "bot_response", "message": [{"cInfo": {"body": template.to_string()}}]}),
        ];
        for frame in &frames {
            let mark = marked(frame).unwrap();
            assert_eq!((mark.sign, mark.is_agents), (Sign::Spoke, true), "{frame}");
        }
        assert!(is_agents_template(&template.to_string()) && !is_agents_template("live_agent"));
    }

    #[test]
    fn what_the_bot_says_is_the_bots() {
        for frame in [
            json!({"type": "bot_response", "message": [{"cInfo": {"body": "a live_agent template_type"}}]}),
            response(&json!({"template_type": "button", "text": "SYSTEM"})),
            json!({"type": "bot_response", "author": {"type": "BOT"}, "agent_MessageId": ""}),
        ] {
            let mark = marked(&frame).unwrap();
            assert_eq!((mark.sign, mark.is_agents), (Sign::BotSpoke, false), "{frame}");
        }
    }

    #[test]
    fn a_banner_says_who_came_and_went() {
        for (words, sign, signal) in [
            ("Ann has joined the chat", Sign::Spoke, Some(Signal::Joined)),
            ("You are now CONNECTED to Ann", Sign::Spoke, Some(Signal::Joined)),
            ("Ann has left", Sign::Left, Some(Signal::Left)),
            ("You were disconnected", Sign::Left, Some(Signal::Left)),
            ("Connecting you to somebody", Sign::Signalled, None),
        ] {
            let frame = response(&json!({"payload": {"template_type": "system", "text": words}}));
            let mark = marked(&frame).unwrap();
            assert_eq!((mark.sign, mark.is_agents), (sign, true), "{words}");
            assert_eq!(reading(&frame).signal, signal, "{words}");
        }
    }

    #[test]
    fn sessions_and_signals_are_told_in_any_letter_case() {
        let event =
            |kind: &str| json!({"type": "Events", "message": {"type": kind, "author": {"type": "AGENT"}}});
        for (frame, sign, is_agents, signal) in [
            (json!({"type": "Agent_Session_Start"}), Sign::Opened, false, None),
            (json!({"type": "AGENT_SESSION_END"}), Sign::Closed, false, None),
            (json!({"type": "session_end"}), Sign::Closed, false, None),
            (json!({"type": "Bot_Active"}), Sign::NewSocket, false, None),
            (
                json!({"type": "bot_active", "recentSessionInfo": {"isActive": true}}),
                Sign::NewSocket,
                false,
                None,
            ),
            (
                json!({"type": "bot_active", "recentSessionInfo": {"isActive": false}}),
                Sign::Closed,
                false,
                None,
            ),
            (event("agent_session_ACTIVE"), Sign::Opened, false, None),
            (event("agent_session_inactive"), Sign::Closed, false, None),
            (event("Agent_Connected"), Sign::Spoke, true, Some(Signal::Joined)),
            (event("agent_disconnected"), Sign::Left, true, Some(Signal::Left)),
            (event("TYPING"), Sign::Signalled, true, Some(Signal::Typing)),
            (event("stoptyping"), Sign::Signalled, true, Some(Signal::StopTyping)),
            (event("stop_typing"), Sign::Signalled, true, Some(Signal::StopTyping)),
            (event("message_delivered"), Sign::Signalled, true, Some(Signal::Delivered)),
            (event("message_read"), Sign::Signalled, true, Some(Signal::Read)),
            (
                json!({"type": "typing", "author": {"type": "AGENT"}}),
                Sign::Signalled,
                true,
                Some(Signal::Typing),
            ),
        ] {
            let mark = marked(&frame).unwrap_or_else(|| panic!("{frame}"));
            assert_eq!((mark.sign, mark.is_agents), (sign, is_agents), "{frame}");
            assert_eq!(reading(&frame).signal, signal, "{frame}");
        }
        for frame in [
            event("cobrowse_unheard_of")
                .as_object()
                .map(|_| json!({"type": "events", "message": {"type": "cobrowse"}}))
                .unwrap(),
            json!({"type": "events", "message": {"type": "typing", "author": {"type": "USER"}}}),
            json!({"type": "events"}),
            json!({"type": "typing"}),
            json!({"type": "user_message", "fromAgent": true}),
            json!({}),
        ] {
            assert_eq!(marked(&frame), None, "{frame}");
        }
    }

    #[test]
    fn an_agent_is_found_wherever_the_platform_names_one() {
        let info = json!({"id": "a-1", "name": "Ann Lee"});
        let author = json!({"id": "a-1", "firstName": "Ann", "lastName": " Lee ", "type": "AGENT"});
        for frame in [
            json!({"type": "bot_response", "author": author}),
            json!({"type": "events", "message": {"type": "typing", "author": author}}),
            json!({"type": "events", "message": {"type": "agent_connected", "agentInfo": info}}),
            json!({"type": "agent_session_start", "agentInfo": info}),
        ] {
            assert_eq!(reading(&frame).agent, Some(ann()), "{frame}");
        }
        let named = |author: Value| reading(&json!({"type": "bot_response", "author": author})).agent;
        assert_eq!(named(json!({"agentId": 7})), Some(Agent { id: Some("7".into()), name: None }));
        assert_eq!(named(json!({"firstName": "Ann"})), Some(Agent { id: None, name: Some("Ann".into()) }));
        for nobody in
            [json!({"type": "BOT", "firstName": "X"}), json!({"type": "AGENT"}), json!("Ann"), json!(7)]
        {
            assert_eq!(named(nobody), None);
        }
    }

    #[test]
    fn any_depth_is_survived() {
        let deep = format!("{}1{}", r#"{"payload":"#.repeat(50_000), "}".repeat(50_000));
        let frame = format!(
            r#"{{"type":"bot_response","x":"template_type","message":[{{"component":{{"payload":{deep}}}}}]}}"#
        );
        assert_eq!(
            mark(&FrameHead::parse(frame.as_bytes()).unwrap(), frame.as_bytes()).unwrap().sign,
            Sign::BotSpoke
        );
        assert_eq!(read(frame.as_bytes()), Reading::default());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(frame: Vec<u8>, text in "\\PC*") {
            let _ = read(&frame);
            let _ = is_agents_template(&text);
            let json = json!({"type": "bot_response", "template_type": 1, "author": text, "message": text});
            let _ = marked(&json);
        }
    }
}
