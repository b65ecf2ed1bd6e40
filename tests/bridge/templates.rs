//! Templates and files: what a webhook is told of them, and how a button is pressed.

use reqwest::Method;
use rtm_bridge::config::BodyFormat;
use serde_json::{Value, json};

use crate::support::{ALICE, World, add_webhook, answer, at_webhook, delivered, envelope};

#[tokio::test]
async fn a_button_is_read_at_a_webhook_and_pressed_with_a_form() {
    let world = World::start_with(|config| {
        add_webhook(config, "form", |webhook| webhook.format = BodyFormat::Form);
    })
    .await;
    let path = format!("/v1/users/{ALICE}/messages");
    let form = |body: &'static str| {
        world
            .request(Method::POST, &path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    };
    assert_eq!(answer(form("text=buttons")).await.0, 202);
    let events = delivered(&world, 2).await;
    let asked = envelope(&at_webhook(&events, "crm")[0]);
    assert_eq!(asked["text"], "Choose one.\n1. Yes [PAYLOAD_YES]\n2. No [PAYLOAD_NO]");
    let choices =
        json!([{"title": "Yes", "payload": "PAYLOAD_YES"}, {"title": "No", "payload": "PAYLOAD_NO"}]);
    assert_eq!(asked["choices"], choices);
    assert!(asked.get("attachments").is_none(), "left out: {asked}");
    let fields: Vec<_> =
        url::form_urlencoded::parse(&at_webhook(&events, "form")[0].body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    assert_eq!(serde_json::from_str::<Value>(&field("choices").unwrap()).unwrap(), choices);
    assert_eq!(field("attachments"), None);

    assert_eq!(answer(form("text=PAYLOAD_NO&renderMsg=No")).await.0, 202);
    let events = delivered(&world, 4).await;
    let heard = envelope(&at_webhook(&events, "crm")[1]);
    assert_eq!(heard["text"], "echo: PAYLOAD_NO");
    assert!(heard.get("choices").is_none(), "left out: {heard}");
}

#[tokio::test]
async fn an_agents_file_is_attached() {
    let world = World::start().await;
    let frame = json!({"type": "bot_response", "fromAgent": true, "message": [{"type": "text",
        "component": {"type": "template", "payload": {"type": "template", "payload": {"template_type": "live_agent",
            "text": "Your bill", "attachments": [
                {"fileName": "bill.pdf", "fileType": "attachment", "fileUrl": "https://example.com/bill", "size": 0.2}]}}},
        "cInfo": {"body": "Your bill"}}]});
    world.control().push_raw(ALICE, frame.to_string());
    let event = envelope(&delivered(&world, 1).await[0]);
    assert_eq!((&event["from"], &event["text"]), (&"agent".into(), &"Your bill".into()));
    let bill =
        json!({"name": "bill.pdf", "type": "attachment", "url": "https://example.com/bill", "size": 0.2});
    assert_eq!(event["attachments"], json!([bill]));
}
