//! The frames that the bridge sends.

use serde_json::{Value, json};

use super::frame::FrameHead;
use crate::{
    clock::Timestamp,
    config::Bot,
    messages::{ClientMessageId, MessageContent},
};

/// A message's frame: what it says, and beside it what is always the bridge's.
pub(super) fn message(content: &MessageContent, id: ClientMessageId, bot: &Bot) -> String {
    let fields = String::from_utf8_lossy(&content.fields);
    let inside = fields.trim().strip_prefix('{').and_then(|fields| fields.strip_suffix('}'));
    let said = inside.unwrap_or_default().trim();
    let separator = if said.is_empty() { "" } else { "," };
    let custom_data = content
        .bot_custom_data
        .as_ref()
        .map_or(String::new(), |data| format!(r#","customData":{}"#, String::from_utf8_lossy(data)));
    let (name, task_bot) = (Value::from(bot.name.as_str()), Value::from(bot.id.as_str()));
    // What is the bridge's comes last: it would win over a field of the same name.
    format!(
        r#"{{{said}{separator}"clientMessageId":{id},"botInfo":{{"chatBot":{name},"taskBotId":{task_bot}{custom_data}}},"client":"sdk","meta":{{"timezone":"UTC","locale":"en-US"}},"id":{id}}}"#
    )
}

/// The platform's own kind of ping, as its web client sends it.
pub(super) fn ping(id: u64, bot: &Bot) -> String {
    json!({
        "type": "ping",
        "resourceid": "/bot.message",
        "botInfo": { "chatBot": bot.name, "taskBotId": bot.id },
        "client": "sdk",
        "meta": { "timezone": "UTC", "locale": "en-US" },
        "id": id,
    })
    .to_string()
}

/// What confirms that a bot's answer is stored: `replyto` is its timestamp, verbatim.
pub(super) fn delivery_ack(answer: &FrameHead<'_>, now: Timestamp) -> String {
    let reply_to = answer.timestamp.map_or(String::new(), |at| format!(r#""replyto":{},"#, at.get()));
    let key = answer.key.as_deref().map_or(String::new(), |key| format!(r#""key":{},"#, Value::from(key)));
    let id = now.as_millis();
    format!(r#"{{"clientMessageId":{id},"type":"ack",{reply_to}"status":"delivered",{key}"id":{id}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtm::testing::bot;

    fn parsed(frame: &str) -> Value {
        serde_json::from_str(frame).unwrap()
    }

    #[test]
    fn a_message_says_what_it_says_and_who_speaks_to_whom() {
        let content = MessageContent {
            fields: r#"{"resourceid":"/bot.message","message":{"body":"Hi {\"you\"}"}}"#.into(),
            bot_custom_data: Some(r#"{"tier":"gold"}"#.into()),
        };
        let id = ClientMessageId::new(1_466_692_440_896).unwrap();
        assert_eq!(
            parsed(&message(&content, id, &Bot { name: "Say \"Hi\"".into(), ..bot() })),
            json!({
                "resourceid": "/bot.message", "message": {"body": "Hi {\"you\"}"},
                "clientMessageId": 1_466_692_440_896_u64, "id": 1_466_692_440_896_u64, "client": "sdk",
                "botInfo": {"chatBot": "Say \"Hi\"", "taskBotId": "st-1", "customData": {"tier": "gold"}},
                "meta": {"timezone": "UTC", "locale": "en-US"},
            })
        );
    }

    #[test]
    fn a_delivery_ack_gives_back_what_the_answer_brought() {
        let now = Timestamp::from_millis(99);
        let ack = |frame: &str| parsed(&delivery_ack(&FrameHead::parse(frame.as_bytes()).unwrap(), now));
        assert_eq!(
            ack(r#"{"type":"bot_response","timestamp":1795212087192.5,"key":"k-\"1"}"#),
            json!({"clientMessageId": 99, "type": "ack", "replyto": 1_795_212_087_192.5, "status": "delivered",
                   "key": "k-\"1", "id": 99})
        );
        assert_eq!(ack("{}"), json!({"clientMessageId": 99, "type": "ack", "status": "delivered", "id": 99}));
    }

    #[test]
    fn a_ping_is_the_web_clients() {
        let ping = parsed(&ping(3, &bot()));
        assert_eq!((&ping["type"], &ping["id"]), (&json!("ping"), &json!(3)));
        assert_eq!(ping["botInfo"]["taskBotId"], "st-1");
    }
}
