//! The scripted bot: what it says and does for a message. It has no I/O; [`super::room`] carries
//! its acts out.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    agent::{self, Persona},
    ids,
    settings::AgentScript,
};

/// The commands that the echo bot knows, each with what it does. Everything else is echoed.
pub const COMMANDS: &[(&str, &str)] = &[
    ("agent", "starts a session with a human agent, until `bye`; more: GET /sandbox"),
    ("buttons", "answers with a button template"),
    ("silent", "doesn't answer"),
    ("twice", "answers twice"),
    ("stream", "answers in three parts, as a language model does"),
    ("slow N", "answers after N milliseconds"),
    ("big N", "answers with a text of N bytes"),
    ("close N", "closes the user's connections with the code N"),
];

/// The largest answer to `big N`, in bytes.
const MAX_BIG: usize = 16 * 1024 * 1024;

/// One thing that the bot does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Say(Speech),
    /// A frame that is just a type, such as `session_end`.
    Status(&'static str),
    /// An `events` frame with this message.
    Event(Value),
    Pause(Duration),
    /// Closes the user's connections.
    Close(u16),
}

/// A `bot_response`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Speech {
    pub(super) speaker: Speaker,
    pub(super) text: String,
    /// A component other than the plain text.
    pub(super) component: Option<Value>,
    /// That it is one part of a streamed answer.
    pub(super) chunk: Option<Chunk>,
}

/// A part of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chunk {
    /// The `messageId` that all parts share.
    pub(super) message_id: String,
    /// The whole answer, with the last part.
    pub(super) complete: Option<String>,
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Speaker {
    #[default]
    Bot,
    Agent(Persona),
}

impl Speech {
    pub(super) fn bot(text: impl Into<String>) -> Self {
        Self { speaker: Speaker::Bot, text: text.into(), component: None, chunk: None }
    }

    pub(super) fn agent(persona: &Persona, text: impl Into<String>) -> Self {
        Self { speaker: Speaker::Agent(persona.clone()), ..Self::bot(text) }
    }
}

/// Whom the user talks to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Partner {
    #[default]
    Bot,
    /// A session with an agent, whom nobody is yet.
    Queue,
    Agent(Persona),
}

/// What the bot, or an agent who follows a script, does for a text, and whom the user talks to from then on.
pub(super) fn answer(partner: Partner, script: AgentScript, text: &str) -> (Partner, Vec<Act>) {
    match (partner, script) {
        (Partner::Bot, AgentScript::Scripted) if text.trim() == "agent" => agent::begin_scripted(),
        (Partner::Bot, AgentScript::Played) if text.trim() == "agent" => agent::begin_played(),
        (Partner::Bot, _) => (Partner::Bot, command(text)),
        (Partner::Agent(persona), AgentScript::Scripted) => agent::answer(persona, text),
        (partner @ (Partner::Agent(_) | Partner::Queue), _) => (partner, vec![]),
    }
}

fn command(text: &str) -> Vec<Act> {
    let echo = || say(Speech::bot(format!("echo: {text}")));
    let words: Vec<_> = text.split_whitespace().collect();
    let number = words.get(1).and_then(|word| word.parse::<u64>().ok());
    match (&words[..], number) {
        (["silent"], _) => vec![],
        (["buttons"], _) => vec![say(buttons())],
        (["twice"], _) => vec![say(Speech::bot("echo: twice (1)")), say(Speech::bot("echo: twice (2)"))],
        (["stream"], _) => stream(),
        (["slow", _], Some(ms)) => vec![Act::Pause(Duration::from_millis(ms)), echo()],
        (["big", _], Some(bytes)) => {
            let bytes = usize::try_from(bytes).unwrap_or(MAX_BIG).min(MAX_BIG);
            vec![say(Speech::bot("x".repeat(bytes)))]
        }
        (["close", _], Some(code)) if u16::try_from(code).is_ok_and(can_close_with) => {
            vec![Act::Close(code as u16)]
        }
        _ => vec![echo()],
    }
}

/// Whether a close frame may carry this code.
pub(super) fn can_close_with(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

fn stream() -> Vec<Act> {
    const PARTS: [&str; 3] = ["Once ", "upon ", "a time"];
    let message_id = ids::message_id();
    let part = |(index, text): (usize, &&str)| {
        let complete = (index + 1 == PARTS.len()).then(|| PARTS.concat());
        let chunk = Chunk { message_id: message_id.clone(), complete };
        say(Speech { chunk: Some(chunk), ..Speech::bot(*text) })
    };
    PARTS.iter().enumerate().map(part).collect()
}

fn buttons() -> Speech {
    let template = json!({"type": "template", "payload": {"type": "template", "payload": {
        "template_type": "button",
        "text": "Choose one.",
        "buttons": [
            {"type": "postback", "title": "Yes", "payload": "PAYLOAD_YES"},
            {"type": "postback", "title": "No", "payload": "PAYLOAD_NO"},
        ],
    }}});
    Speech { component: Some(template), ..Speech::bot("Choose one.") }
}

pub(super) fn say(speech: Speech) -> Act {
    Act::Say(speech)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(acts: &[Act]) -> Vec<&str> {
        acts.iter()
            .filter_map(|act| match act {
                Act::Say(speech) => Some(&*speech.text),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn it_echoes_what_is_no_command() {
        for text in [
            "Hi there",
            "slow",
            "slow down",
            "big",
            "close 99999",
            "close 1006",
            "silent please",
            "",
            " Hi\n",
        ] {
            let (partner, acts) = answer(Partner::Bot, AgentScript::Scripted, text);
            assert_eq!((partner, texts(&acts)), (Partner::Bot, vec![&*format!("echo: {text}")]));
        }
    }

    #[test]
    fn commands_do_what_they_say() {
        let acts = |text| answer(Partner::Bot, AgentScript::Scripted, text).1;
        assert_eq!(acts("silent"), []);
        assert_eq!(texts(&acts("twice")).len(), 2);
        assert_eq!(acts("slow 250")[0], Act::Pause(Duration::from_millis(250)));
        assert_eq!(texts(&acts("big 5000"))[0].len(), 5000);
        assert_eq!(acts("close 1011"), [Act::Close(1011)]);
        assert!(
            matches!(&acts("buttons")[0], Act::Say(Speech { component: Some(component), .. }) if component["type"] == "template")
        );
    }

    #[test]
    fn an_agent_who_is_played_says_nothing_by_itself() {
        let answer = |partner, text| answer(partner, AgentScript::Played, text);
        let (partner, acts) = answer(Partner::Bot, "agent");
        assert_eq!((&partner, acts.last()), (&Partner::Queue, Some(&Act::Status("agent_session_start"))));
        assert_eq!(answer(partner, "anybody there?"), (Partner::Queue, vec![]));
        let ann = Partner::Agent(Persona::default());
        assert_eq!(answer(ann.clone(), "bye"), (ann, vec![]));
    }

    #[test]
    fn an_agent_session_lasts_until_bye() {
        let answer = |partner, text| answer(partner, AgentScript::Scripted, text);
        let (partner, acts) = answer(Partner::Bot, "agent");
        let ann = Persona::default();
        assert_eq!((&partner, &acts[0]), (&Partner::Agent(ann.clone()), &Act::Status("agent_session_start")));
        let (partner, acts) = answer(partner, "silent");
        assert!(matches!(&acts[..], [Act::Say(speech)] if speech.speaker == Speaker::Agent(ann)));
        let (partner, acts) = answer(partner, " bye ");
        assert_eq!((partner, acts.last()), (Partner::Bot, Some(&Act::Status("agent_session_end"))));
    }
}
