//! From a message's content to the frame that is sent.

use bytes::{BufMut, Bytes, BytesMut};

use super::{ClientMessageId, MessageContent, json::quote};

/// Which bot a frame is for: `botInfo` on every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BotInfo<'a> {
    /// `chatBot`: the bot's name on the platform, case-sensitive.
    pub name: &'a str,
    /// `taskBotId`: `st-...`.
    pub id: &'a str,
}

impl MessageContent {
    /// The frame, as the official clients write it: what is always the bridge's, then the content,
    /// spliced in as it stands. It carries the id twice, as `clientMessageId` for the history and
    /// as `id` for the ack, which names it in `replyto`.
    pub fn to_frame(&self, id: ClientMessageId, bot: BotInfo<'_>) -> Bytes {
        let mut digits = itoa::Buffer::new();
        let id = digits.format(id.get());
        let custom_length = self.bot_custom_data.as_ref().map_or(0, Bytes::len);
        let mut frame =
            BytesMut::with_capacity(256 + bot.name.len() + bot.id.len() + custom_length + self.fields.len());
        let (name, bot_id) = (quote(bot.name), quote(bot.id));
        let [ids, again, info, bot] =
            [r#"{"clientMessageId":"#, r#","id":"#, r#","botInfo":{"chatBot":"#, r#","taskBotId":"#];
        for part in [ids, id, again, id, info, &name, bot, &bot_id] {
            frame.put_slice(part.as_bytes());
        }
        if let Some(custom_data) = &self.bot_custom_data {
            frame.put_slice(br#","customData":"#);
            frame.put_slice(custom_data);
        }
        frame.put_slice(br#"},"client":"sdk","meta":{"timezone":"UTC","locale":"en-US"},"#);
        frame.put_slice(self.fields.strip_prefix(b"{").unwrap_or(&self.fields));
        frame.freeze()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::messages::Draft;

    const CNN: BotInfo<'_> = BotInfo { name: "CNN", id: "st-8aaf0939-c34a-5976-8e2e-5c91e685b2ce" };

    fn frame(body: &str, bot: BotInfo<'_>) -> Value {
        let (draft, id) = Draft::from_json(body.as_bytes()).unwrap();
        let id = id.unwrap_or(ClientMessageId::new(1).unwrap());
        serde_json::from_slice(&draft.content.to_frame(id, bot)).unwrap()
    }

    /// The frame of the platform's documentation.
    #[test]
    fn writes_the_documented_frame() {
        let mut written =
            frame(r#"{"clientMessageId":1466692440896,"text":"Here is the message.","attachments":[]}"#, CNN);
        assert_eq!(written["client"], "sdk");
        assert_eq!(written["meta"], json!({"timezone": "UTC", "locale": "en-US"}));
        // Newer than the documentation, on every frame of the official web client.
        written.as_object_mut().unwrap().retain(|key, _| key != "client" && key != "meta");
        let documented = json!({
            "clientMessageId": 1_466_692_440_896_u64,
            "message": {"body": "Here is the message.", "attachments": []},
            "resourceid": "/bot.message",
            "botInfo": {"chatBot": "CNN", "taskBotId": "st-8aaf0939-c34a-5976-8e2e-5c91e685b2ce"},
            "id": 1_466_692_440_896_u64
        });
        assert_eq!(written, documented);
    }

    #[test]
    fn merges_only_custom_data_into_the_bots_info() {
        let bot = BotInfo { name: "A \"quoted\" bot", id: "st-1" };
        let written = frame(
            r#"{"resourceid":"/bot.closeConversationSession","botInfo":{"chatBot":"x","customData":{"tier":"gold"}}}"#,
            bot,
        );
        let info =
            json!({"chatBot": "A \"quoted\" bot", "taskBotId": "st-1", "customData": {"tier": "gold"}});
        assert_eq!(written["botInfo"], info);
        assert_eq!((&written["id"], &written["clientMessageId"]), (&json!(1), &json!(1)));
    }
}
