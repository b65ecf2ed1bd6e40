//! By what a live frame is recognised in the history.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{clock::Timestamp, events::plain_text, rtm::frame::FrameHead, store::Said};

/// What a live frame has in common with its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Likeness {
    /// `messageId`, which is the record's `_id`.
    pub message_id: Option<String>,
    /// A `user_message`'s `id`, which is the record's `userMsgId`, where that is told.
    pub user_msg_id: Option<String>,
    /// Without a `messageId`: what it says, and when.
    pub said: Option<Said>,
}

impl Likeness {
    /// Of a frame that came at `at`, by the platform's clock.
    pub fn of(head: &FrameHead<'_>, frame: &[u8], at: Timestamp) -> Self {
        let is_users = head.is("user_message");
        Self {
            message_id: head.message_id.as_deref().map(str::to_owned),
            user_msg_id: head.id.as_deref().filter(|_| is_users).map(str::to_owned),
            said: said(head, frame, at),
        }
    }
}

/// What a frame says and when, if the history has it and knows it by no `messageId`. `at` is when it
/// came, by the platform's clock, should it not say itself.
pub fn said(head: &FrameHead<'_>, frame: &[u8], at: Timestamp) -> Option<Said> {
    #[derive(Deserialize)]
    struct When<'a> {
        #[serde(borrow, rename = "createdOn")]
        created_on: Option<Cow<'a, str>>,
    }
    if head.message_id.is_some() || !(head.is("bot_response") || head.is("user_message")) {
        return None;
    }
    let text = plain_text(frame).filter(|text| !text.trim().is_empty())?;
    let when = serde_json::from_slice::<When<'_>>(frame).ok().and_then(|when| when.created_on);
    let told = when.and_then(|when| Timestamp::parse(&when));
    let told = told.or_else(|| head.timestamp?.get().parse().ok().map(Timestamp::from_millis));
    let at = told.unwrap_or(at);
    Some(if head.is("user_message") { Said::by_user(&text, at) } else { Said::by_bot(&text, at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(9000);

    fn of(frame: &str) -> Likeness {
        Likeness::of(&FrameHead::parse(frame.as_bytes()).unwrap(), frame.as_bytes(), NOW)
    }

    #[test]
    fn a_message_id_is_all_that_is_needed() {
        let known = of(r#"{"type":"bot_response","messageId":"ms-1","message":[{"cInfo":{"body":"Hi"}}]}"#);
        assert_eq!(known, Likeness { message_id: Some("ms-1".into()), ..Likeness::default() });
    }

    #[test]
    fn without_one_it_is_what_is_said_and_when() {
        for (when, expected) in [
            (r#""createdOn":"1970-01-01T00:00:05Z","timestamp":6000,"#, 5000),
            (r#""createdOn":"soon","timestamp":6000,"#, 6000),
            (r#""timestamp":"x","#, 9000),
            ("", 9000),
        ] {
            let frame =
                format!(r#"{{"type":"bot_response",{when}"message":[{{"cInfo":{{"body":" Hi\n"}}}}]}}"#);
            let said = Said::by_bot("Hi", Timestamp::from_millis(expected));
            assert_eq!(of(&frame), Likeness { said: Some(said), ..Likeness::default() }, "{when}");
        }
        let elsewhere = of(r#"{"type":"user_message","id":5,"message":{"body":"Hi"}}"#);
        assert_eq!(elsewhere.user_msg_id.as_deref(), Some("5"));
        assert_eq!(elsewhere.said, Some(Said::by_user("Hi", NOW)));
    }

    #[test]
    fn what_the_history_does_not_have_is_like_nothing() {
        for frame in
            [r#"{"type":"events","message":{"type":"typing"}}"#, r#"{"type":"bot_response"}"#, r#"{"id":5}"#]
        {
            assert_eq!(of(frame), Likeness::default(), "{frame}");
        }
    }
}
