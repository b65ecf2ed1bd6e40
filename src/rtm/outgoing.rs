//! The frames that the bridge sends beside messages.

use serde_json::Value;

use super::frame::FrameHead;
use crate::{clock::Timestamp, config::Bot};

/// The platform's own kind of ping, as its web client sends it.
pub(super) fn ping(id: u64, bot: &Bot) -> String {
    let (name, bot_id) = (Value::from(&*bot.name), Value::from(&*bot.id));
    format!(
        r#"{{"type":"ping","resourceid":"/bot.message","botInfo":{{"chatBot":{name},"taskBotId":{bot_id}}},"client":"sdk","meta":{{"timezone":"UTC","locale":"en-US"}},"id":{id}}}"#
    )
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
    use serde_json::json;

    use super::*;
    use crate::rtm::testing::bot;

    fn parsed(frame: &str) -> Value {
        serde_json::from_str(frame).unwrap()
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
        let bot = Bot { name: "A \"quoted\" bot".into(), ..bot() };
        assert_eq!(
            parsed(&ping(3, &bot)),
            json!({"type": "ping", "resourceid": "/bot.message", "client": "sdk", "id": 3,
                   "botInfo": {"chatBot": "A \"quoted\" bot", "taskBotId": "st-1"},
                   "meta": {"timezone": "UTC", "locale": "en-US"}})
        );
    }
}
