//! What a webhook's template makes of events as they come.

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    config::EventFilter,
    events::{Body, Event, EventId, Source, Speaker},
    messages::ClientMessageId,
    names::{BotName, UserName, WebhookName},
    template::Template,
    webhook::visible,
};

/// An event as it comes.
struct Sample {
    what: &'static str,
    kind: &'static str,
    source: Source,
    speaker: Speaker,
    frame: &'static str,
}

const SAMPLES: [Sample; 4] = [
    Sample {
        what: "a bot_response with text",
        kind: "bot_response",
        source: Source::Live,
        speaker: Speaker::Bot,
        frame: r#"{"type":"bot_response","from":"bot","message":[{"type":"text","component":{"type":"text","payload":{"text":"5 < 7 & \"so\""}},"cInfo":{"body":"5 < 7 & \"so\""}}],"messageId":"ms-1"}"#,
    },
    Sample {
        what: "a bot_response with choices and an attachment",
        kind: "bot_response",
        source: Source::Live,
        speaker: Speaker::Bot,
        frame: r#"{"type":"bot_response","from":"bot","message":[{"type":"template","component":{"type":"template","payload":{"type":"template","payload":{"template_type":"button","text":"Does it work?","buttons":[{"type":"postback","title":"Yes & no","payload":"BOTH"},{"type":"postback","title":"No","payload":"NO"}]}}}},{"type":"template","component":{"type":"image","payload":{"url":"https://files.example.com/a.png?b=1&c=2"}}}],"messageId":"ms-2"}"#,
    },
    Sample {
        what: "a user_message",
        kind: "user_message",
        source: Source::Live,
        speaker: Speaker::User,
        frame: r#"{"type":"user_message","from":"user","message":{"body":"Hello from the web chat"}}"#,
    },
    Sample {
        what: "a bridge.message",
        kind: "bridge.message",
        source: Source::Bridge,
        speaker: Speaker::Platform,
        frame: r#"{"user":"alice","clientMessageId":1466692440896,"status":"acked","acceptedAt":"2026-01-01T00:00:00.000Z","attempts":1}"#,
    },
];

impl Sample {
    fn is_wanted(&self, filter: &EventFilter) -> bool {
        match self.source {
            Source::Bridge => filter.wants_report(self.kind),
            _ => filter.wants_frame(self.kind),
        }
    }

    fn event(&self) -> Event {
        Event {
            id: EventId { store: 1, number: 42 },
            user: UserName::new("alice").expect("a constant name"),
            bot: BotName::new("support").expect("a constant name"),
            kind: self.kind.into(),
            received_at: Timestamp::from_millis(1_767_225_600_000),
            in_reply_to: ClientMessageId::new(1_466_692_440_896).ok(),
            source: self.source,
            speaker: self.speaker,
            frame: Bytes::from_static(self.frame.as_bytes()),
        }
    }
}

/// Adds what the template makes of those samples that the webhook wants.
pub(super) fn show(text: &mut String, webhook: &WebhookName, template: &Template, wanted: &EventFilter) {
    for sample in SAMPLES.iter().filter(|sample| sample.is_wanted(wanted)) {
        let what = sample.what;
        match Body::render_with(template, None, &sample.event(), Some(42)) {
            Ok(body) => {
                text.push_str(&format!("\n{webhook} gets {what} as:\n"));
                for line in String::from_utf8_lossy(&body.bytes).lines() {
                    text.push_str(&format!("    {}\n", visible(line)));
                }
            }
            Err(error) => {
                let error = visible(&error.to_string());
                text.push_str(&format!(
                    "\n{webhook} NEVER gets {what}, which becomes a dead letter:\n    {error}\n"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateSource;

    const SOAP: &str = include_str!("../../../docs/templates/soap-desk.xml");
    const FORM: &str = include_str!("../../../docs/templates/form-crm.txt");

    fn shown(content_type: &str, source: &str, wanted: &EventFilter) -> String {
        let source = TemplateSource {
            file: "desk".to_owned(),
            content_type: content_type.to_owned(),
            text: source.to_owned(),
        };
        let mut text = String::new();
        show(&mut text, &WebhookName::new("desk").unwrap(), &Template::compile(source).unwrap(), wanted);
        text
    }

    fn everything() -> EventFilter {
        EventFilter::AllAnd(vec!["bridge.message".to_owned()])
    }

    #[test]
    fn the_soap_desk_gets_xml() {
        insta::assert_snapshot!(shown("text/xml", SOAP, &everything()), @r##"
        desk gets a bot_response with text as:
            <?xml version="1.0" encoding="UTF-8"?>
            <soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/" xmlns:desk="https://desk.example.com/conversation">
              <soap:Body>
                <desk:AddEntry>
                  <desk:Customer>alice</desk:Customer>
                  <desk:Number>42</desk:Number>
                  <desk:Time>2026-01-01T00:00:00.000Z</desk:Time>
                  <desk:Kind>bot_response</desk:Kind>
                  <desk:Speaker>bot</desk:Speaker>
                  <desk:Text>5 &lt; 7 &amp; &quot;so&quot;</desk:Text>
                </desk:AddEntry>
              </soap:Body>
            </soap:Envelope>

        desk gets a bot_response with choices and an attachment as:
            <?xml version="1.0" encoding="UTF-8"?>
            <soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/" xmlns:desk="https://desk.example.com/conversation">
              <soap:Body>
                <desk:AddEntry>
                  <desk:Customer>alice</desk:Customer>
                  <desk:Number>42</desk:Number>
                  <desk:Time>2026-01-01T00:00:00.000Z</desk:Time>
                  <desk:Kind>bot_response</desk:Kind>
                  <desk:Speaker>bot</desk:Speaker>
                  <desk:Text>Does it work?
            1. Yes &amp; no [BOTH]
            2. No [NO]</desk:Text>
                  <desk:Choice value="BOTH">Yes &amp; no</desk:Choice>
                  <desk:Choice value="NO">No</desk:Choice>
                  <desk:File url="https://files.example.com/a.png?b=1&amp;c=2"/>
                </desk:AddEntry>
              </soap:Body>
            </soap:Envelope>

        desk gets a user_message as:
            <?xml version="1.0" encoding="UTF-8"?>
            <soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/" xmlns:desk="https://desk.example.com/conversation">
              <soap:Body>
                <desk:AddEntry>
                  <desk:Customer>alice</desk:Customer>
                  <desk:Number>42</desk:Number>
                  <desk:Time>2026-01-01T00:00:00.000Z</desk:Time>
                  <desk:Kind>user_message</desk:Kind>
                  <desk:Speaker>user</desk:Speaker>
                  <desk:Text>Hello from the web chat</desk:Text>
                </desk:AddEntry>
              </soap:Body>
            </soap:Envelope>

        desk gets a bridge.message as:
            <?xml version="1.0" encoding="UTF-8"?>
            <soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/" xmlns:desk="https://desk.example.com/conversation">
              <soap:Body>
                <desk:AddEntry>
                  <desk:Customer>alice</desk:Customer>
                  <desk:Number>42</desk:Number>
                  <desk:Time>2026-01-01T00:00:00.000Z</desk:Time>
                  <desk:Kind>bridge.message</desk:Kind>
                  <desk:Speaker>platform</desk:Speaker>
                  <desk:Sent id="1466692440896">acked</desk:Sent>
                </desk:AddEntry>
              </soap:Body>
            </soap:Envelope>
        "##);
    }

    #[test]
    fn the_crm_gets_short_forms() {
        insta::assert_snapshot!(shown("application/x-www-form-urlencoded", FORM, &everything()), @r##"
        desk gets a bot_response with text as:
            contact=alice&channel=support&number=42&when=2026-01-01T00%3A00%3A00.000Z&direction=out&subject=bot_response&note=5+%3C+7+%26+%22so%22

        desk gets a bot_response with choices and an attachment as:
            contact=alice&channel=support&number=42&when=2026-01-01T00%3A00%3A00.000Z&direction=out&subject=bot_response&note=Does+it+work%3F%0A1.+Yes+%26+no+%5BBOTH%5D%0A2.+No+%5BNO%5D&option=Yes+%26+no&option=No&file=https%3A%2F%2Ffiles.example.com%2Fa.png%3Fb%3D1%26c%3D2

        desk gets a user_message as:
            contact=alice&channel=support&number=42&when=2026-01-01T00%3A00%3A00.000Z&direction=in&subject=user_message&note=Hello+from+the+web+chat

        desk gets a bridge.message as:
            contact=alice&channel=support&number=42&when=2026-01-01T00%3A00%3A00.000Z&direction=out&subject=bridge.message&note=
        "##);
    }

    #[test]
    fn what_fails_is_said_and_what_is_not_wanted_is_left_out() {
        let shown = shown("text/plain", "{{ data.clientMessageId }}", &everything());
        assert!(shown.contains("desk gets a bridge.message as:\n    1466692440896\n"), "{shown}");
        assert!(shown.contains("desk NEVER gets a user_message, which becomes a dead letter:\n    desk, line 1: there is no such value: `data.clientMessageId`\n"), "{shown}");
        assert!(!super::tests::shown("text/plain", "x", &EventFilter::default()).contains("bridge.message"));
    }
}
