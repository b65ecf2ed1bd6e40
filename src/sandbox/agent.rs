//! The human agent who takes over from the bot: by a script, or played over the control API.
//!
//! The shapes are those of the platform: `agent_session_start` and `agent_session_end` around it, live signals as
//! `events`, words as `bot_response` with their author, and banners as `SYSTEM` templates.

use serde::Deserialize;
use serde_json::{Value, json};

use super::bot::{Act, Partner, Speech, say};

/// What an agent who follows the script does for some words; everything else is answered.
pub const AGENT_COMMANDS: &[(&str, &str)] = &[
    ("type", "types before the answer"),
    ("read", "has got and read what the user wrote, then answers"),
    ("template", "answers with a live_agent template"),
    ("banner", "a SYSTEM banner, then an answer"),
    ("file", "sends a file"),
    ("transfer", "hands over to a colleague"),
    ("bye", "ends the session"),
];

/// A human agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Persona {
    /// The platform's id of the agent.
    pub id: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    #[serde(default)]
    pub last_name: String,
}

impl Default for Persona {
    /// Ann Lee, who is there if nobody else is named.
    fn default() -> Self {
        Self::new("a-1", "Ann", "Lee")
    }
}

impl Persona {
    /// An agent of this id and name.
    pub fn new(id: &str, first_name: &str, last_name: &str) -> Self {
        let [id, first_name, last_name] = [id, first_name, last_name].map(str::to_owned);
        Self { id, first_name, last_name }
    }

    fn colleague() -> Self {
        Self::new("a-2", "Bob", "Ray")
    }

    fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name).trim().to_owned()
    }

    /// As the author of what the agent says.
    pub(super) fn author(&self) -> Value {
        json!({"id": self.id, "firstName": self.first_name, "lastName": self.last_name, "type": "AGENT"})
    }

    /// As the agent of a live signal.
    fn info(&self) -> Value {
        json!({"name": self.first_name, "firstName": self.first_name, "lastName": self.last_name, "id": self.id})
    }
}

/// What somebody who plays an agent does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AgentPlay {
    /// Joins the conversation; begins the session, if there is none.
    Join {
        /// Who; Ann Lee, if it isn't said.
        #[serde(default)]
        agent: Persona,
    },
    /// Says something.
    Say {
        /// What.
        text: String,
        /// As a `live_agent` template, rather than as plain text.
        #[serde(default)]
        template: bool,
    },
    /// A `SYSTEM` banner.
    Banner {
        /// What it says.
        text: String,
    },
    /// Types.
    Type,
    /// Stops typing.
    Stop,
    /// Has got a message of the user's.
    Deliver {
        /// Which; all of them, if it isn't said.
        #[serde(default)]
        client_message_id: Option<u64>,
    },
    /// Has read a message of the user's.
    Read {
        /// Which; all of them, if it isn't said.
        #[serde(default)]
        client_message_id: Option<u64>,
    },
    /// Sends a file.
    File {
        /// What it is called.
        name: String,
        /// Where it is.
        url: String,
        /// `image`, `audio`, `video` or `attachment`.
        #[serde(default = "attachment", rename = "type")]
        kind: String,
        /// In megabytes.
        #[serde(default)]
        size: f64,
    },
    /// Hands over to another agent.
    Transfer {
        /// To whom; Bob Ray, if it isn't said.
        #[serde(default = "Persona::colleague")]
        agent: Persona,
    },
    /// Leaves, which ends the session.
    Leave,
}

fn attachment() -> String {
    "attachment".to_owned()
}

/// The session of an agent who follows the script.
pub(super) fn begin_scripted() -> (Partner, Vec<Act>) {
    let ann = Persona::default();
    let acts = vec![
        Act::Status("agent_session_start"),
        signal("agent_connected", &ann),
        say(Speech::agent(&ann, "Hello, this is Ann. How can I help?")),
    ];
    (Partner::Agent(ann), acts)
}

/// A session that waits for somebody to play the agent.
pub(super) fn begin_played() -> (Partner, Vec<Act>) {
    let patience = say(Speech::bot("One moment, please: a colleague takes over."));
    (Partner::Queue, vec![patience, Act::Status("agent_session_start")])
}

/// What ends a session, if there is one.
pub(super) fn end(partner: Partner) -> Vec<Act> {
    match partner {
        Partner::Bot => vec![],
        Partner::Queue => vec![Act::Status("agent_session_end")],
        Partner::Agent(persona) => {
            vec![signal("agent_disconnected", &persona), Act::Status("agent_session_end")]
        }
    }
}

/// What an agent who follows the script does for a text.
pub(super) fn answer(persona: Persona, text: &str) -> (Partner, Vec<Act>) {
    let words = || say(Speech::agent(&persona, format!("{} says: {text}", persona.first_name)));
    let acts = match text.trim() {
        "bye" => return (Partner::Bot, end(Partner::Agent(persona))),
        "transfer" => {
            return play(Partner::Agent(persona), AgentPlay::Transfer { agent: Persona::colleague() });
        }
        "type" => vec![live("typing", &persona), live("stoptyping", &persona), words()],
        "read" => {
            vec![
                receipt("message_delivered", None, &persona),
                receipt("message_read", None, &persona),
                words(),
            ]
        }
        "template" => vec![template(&persona, "This is a template.")],
        "banner" => vec![banner(&format!("{} is looking into it", persona.name())), words()],
        "file" => {
            vec![file(&persona, "terms.txt", "https://files.example.com/terms.txt", "attachment", 0.01)]
        }
        _ => vec![words()],
    };
    (Partner::Agent(persona), acts)
}

/// What happens when somebody plays the agent, and whom the user talks to then.
pub(super) fn play(partner: Partner, play: AgentPlay) -> (Partner, Vec<Act>) {
    let persona = match &partner {
        Partner::Agent(persona) => persona.clone(),
        Partner::Bot | Partner::Queue => Persona::default(),
    };
    let acts = match play {
        AgentPlay::Join { agent } => return join(&partner, agent),
        AgentPlay::Transfer { agent } => {
            let mut acts =
                vec![banner(&format!("{} has left", persona.name())), signal("agent_disconnected", &persona)];
            acts.extend(arrival(&agent));
            return (Partner::Agent(agent), acts);
        }
        AgentPlay::Leave => {
            let mut acts = vec![banner(&format!("{} has left", persona.name()))];
            acts.extend(end(partner));
            return (Partner::Bot, acts);
        }
        AgentPlay::Say { text, template: false } => vec![say(Speech::agent(&persona, text))],
        AgentPlay::Say { text, template: true } => vec![template(&persona, &text)],
        AgentPlay::Banner { text } => vec![banner(&text)],
        AgentPlay::Type => vec![live("typing", &persona)],
        AgentPlay::Stop => vec![live("stoptyping", &persona)],
        AgentPlay::Deliver { client_message_id } => {
            vec![receipt("message_delivered", client_message_id, &persona)]
        }
        AgentPlay::Read { client_message_id } => vec![receipt("message_read", client_message_id, &persona)],
        AgentPlay::File { name, url, kind, size } => vec![file(&persona, &name, &url, &kind, size)],
    };
    (partner, acts)
}

fn join(partner: &Partner, agent: Persona) -> (Partner, Vec<Act>) {
    let begins = (*partner == Partner::Bot).then_some(Act::Status("agent_session_start"));
    let acts = begins.into_iter().chain(arrival(&agent)).collect();
    (Partner::Agent(agent), acts)
}

fn arrival(agent: &Persona) -> [Act; 2] {
    [signal("agent_connected", agent), banner(&format!("{} has joined", agent.name()))]
}

fn signal(kind: &str, agent: &Persona) -> Act {
    Act::Event(json!({"type": kind, "agentInfo": agent.info()}))
}

fn live(kind: &str, agent: &Persona) -> Act {
    Act::Event(json!({"type": kind, "author": agent.author()}))
}

fn receipt(kind: &str, of: Option<u64>, agent: &Persona) -> Act {
    let of = of.map_or(json!("all"), |id| json!(id));
    Act::Event(json!({"type": kind, "clientMessageId": of, "author": agent.author()}))
}

fn template(agent: &Persona, text: &str) -> Act {
    let component = templated(&json!({"template_type": "live_agent", "text": text}));
    say(Speech { component: Some(component), ..Speech::agent(agent, text) })
}

fn banner(text: &str) -> Act {
    let component = templated(&json!({"template_type": "SYSTEM", "text": text}));
    say(Speech { component: Some(component), ..Speech::bot(text) })
}

fn templated(payload: &Value) -> Value {
    json!({"type": "template", "payload": {"type": "template", "payload": payload}})
}

fn file(agent: &Persona, name: &str, url: &str, kind: &str, size: f64) -> Act {
    let payload = json!({"fileName": name, "fileType": kind, "fileUrl": url, "size": size});
    let component = json!({"type": "link", "payload": payload});
    say(Speech { component: Some(component), ..Speech::agent(agent, name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(acts: &[Act]) -> Vec<String> {
        let kind = |act: &Act| match act {
            Act::Event(message) => message["type"].as_str().unwrap().to_owned(),
            Act::Status(kind) => (*kind).to_owned(),
            Act::Say(speech) => format!("says {}", speech.text),
            other => panic!("{other:?}"),
        };
        acts.iter().map(kind).collect()
    }

    #[test]
    fn whoever_joins_begins_a_session_and_whoever_leaves_ends_it() {
        let (partner, acts) = play(Partner::Bot, AgentPlay::Join { agent: Persona::default() });
        assert_eq!(kinds(&acts), ["agent_session_start", "agent_connected", "says Ann Lee has joined"]);
        let (partner, acts) = play(partner, AgentPlay::Transfer { agent: Persona::colleague() });
        let expected =
            ["says Ann Lee has left", "agent_disconnected", "agent_connected", "says Bob Ray has joined"];
        assert_eq!(kinds(&acts), expected);
        let (partner, acts) = play(partner, AgentPlay::Say { text: "Hi".into(), template: false });
        assert!(
            matches!(&acts[..], [Act::Say(speech)] if *speech == Speech::agent(&Persona::colleague(), "Hi"))
        );
        let (partner, acts) = play(partner, AgentPlay::Leave);
        assert_eq!(kinds(&acts), ["says Bob Ray has left", "agent_disconnected", "agent_session_end"]);
        assert_eq!(partner, Partner::Bot);
    }

    #[test]
    fn whoever_joins_a_queue_finds_the_session_begun() {
        let (partner, _) = begin_played();
        let (_, acts) = play(partner, AgentPlay::Join { agent: Persona::default() });
        assert_eq!(kinds(&acts)[0], "agent_connected");
    }

    #[test]
    fn every_word_of_the_script_does_something_of_its_own() {
        for (word, _) in AGENT_COMMANDS {
            let (_, acts) = answer(Persona::default(), word);
            let echo = Act::Say(Speech::agent(&Persona::default(), format!("Ann says: {word}")));
            assert!(acts != [echo] && !acts.is_empty(), "{word}");
        }
    }

    #[test]
    fn plays_are_read_as_the_control_api_has_them() {
        let read = |json| serde_json::from_value::<AgentPlay>(json);
        assert_eq!(read(json!({"act": "join"})).unwrap(), AgentPlay::Join { agent: Persona::default() });
        assert_eq!(
            read(json!({"act": "read", "clientMessageId": 7})).unwrap(),
            AgentPlay::Read { client_message_id: Some(7) }
        );
        assert!(read(json!({"act": "dance"})).is_err());
        assert!(read(json!({"act": "say", "txet": "a"})).is_err());
    }
}
