//! Bodies that a template makes.

use reqwest::Method;
use rtm_bridge::{
    config::{BodyFormat, Config},
    receiver::Reply,
    sandbox::Push,
    template::{Template, TemplateSource},
};
use serde_json::Value;

use crate::support::{ALICE, World, answer, crm, delivered, eventually, within};

const SOAP: &str = include_str!("../../docs/templates/soap-desk.xml");
const XML: &str = "text/xml; charset=utf-8";

/// Has the webhook `crm` get what a template makes.
fn shape(config: &mut Config, content_type: &str, text: &str) {
    let source = TemplateSource {
        file: "desk.xml".to_owned(),
        content_type: content_type.to_owned(),
        text: text.to_owned(),
    };
    let template = Template::compile(source).unwrap();
    crm(config).format = BodyFormat::Template(template.id());
    crm(config).template = Some(template);
}

async fn until_letter(world: &World) -> Value {
    let id = eventually("a dead letter at rest", || async {
        let (_, page) = world.get("/v1/dead-letters").await;
        let letter = &page["deadLetters"][0];
        (letter["id"].is_string() && letter["replayingSince"].is_null()).then(|| letter["id"].clone())
    });
    let id = id.await;
    world.get(&format!("/v1/dead-letters/{}", id.as_str().unwrap())).await.1
}

async fn replay(world: &World, letter: &Value) {
    let path = format!("/v1/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    assert_eq!(answer(world.request(Method::POST, &path)).await.0, 202);
}

#[tokio::test]
async fn a_soap_desk_gets_its_xml_by_put_signed_as_it_came() {
    let world = World::start_silent(|config| {
        shape(config, XML, SOAP);
        crm(config).method = rtm_bridge::config::Method::Put;
    })
    .await;
    world.control().push(ALICE, Push::text("5 < 7 & \u{1}"));
    let event = &delivered(&world, 1).await[0];
    assert_eq!((&event.method, &event.headers["content-type"]), (&Method::PUT, &XML.parse().unwrap()));
    let body = std::str::from_utf8(&event.body).unwrap();
    assert!(body.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soap:Envelope "), "{body}");
    assert!(body.contains("<desk:Text>5 &lt; 7 &amp; \u{fffd}</desk:Text>"), "{body}");
    assert!(
        body.contains("<desk:Customer>alice</desk:Customer>\n      <desk:Number>1</desk:Number>"),
        "{body}"
    );
    assert_eq!(event.signature.to_string(), "signature verified");
}

#[tokio::test]
async fn what_a_template_makes_nothing_of_is_a_dead_letter_until_the_template_is_put_right() {
    let mut world = World::start_silent(|config| {
        shape(config, XML, "<t>\n{% if text == \"bad\" %}\n{{ data.nothing }}{% endif %}{{ text }}</t>");
    })
    .await;
    for text in ["bad", "good"] {
        world.control().push(ALICE, Push::text(text));
    }
    // The next one goes on, and nothing else was sent.
    assert_eq!(delivered(&world, 1).await[0].body, "<t>\ngood</t>");
    assert_eq!(world.receiver.attempts().len(), 1);
    let letter = until_letter(&world).await;
    let reason =
        "the template makes no body of this event: desk.xml, line 3: there is no such value: `data.nothing`";
    assert_eq!(letter["reason"], reason);
    assert_eq!(
        (&letter["lastStatus"], &letter["body"], &letter["contentType"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(letter["attemptHistory"][0]["error"], "template", "{letter}");

    replay(&world, &letter).await;
    let again = eventually("it to be dead again", || async {
        let again = until_letter(&world).await;
        (again["attempts"] == 2).then_some(again)
    });
    assert_eq!(again.await["reason"], reason);

    // Its body is still to be fixed: the first template that makes one does it.
    world.stop_daemon().await;
    shape(&mut world.config, XML, "<u>{{ text }}</u>");
    world.start_daemon().await;
    world.receiver.script([Reply::status(422)]);
    replay(&world, &letter).await;
    within("the replay", world.receiver.wait_attempts(2)).await;
    let refused = eventually("it to be refused", || async {
        let again = until_letter(&world).await;
        (again["lastStatus"] == 422).then_some(again)
    });
    let refused = refused.await;
    assert_eq!((&refused["body"], &refused["contentType"]), (&"<u>bad</u>".into(), &XML.into()));
    world.stop_daemon().await;
    shape(&mut world.config, "text/plain", "other");
    world.start_daemon().await;
    replay(&world, &letter).await;
    let events = delivered(&world, 2).await;
    assert_eq!(
        (&*events[1].body, events[1].headers["content-type"].to_str().unwrap()),
        (&b"<u>bad</u>"[..], XML)
    );
}

#[tokio::test]
async fn a_body_stays_what_it_was_though_its_template_changed() {
    let mut world = World::start_silent(|config| shape(config, XML, "<one>{{ text }}</one>")).await;
    world.receiver.answer(503);
    world.control().push(ALICE, Push::text("Hi"));
    within("the first attempt", world.receiver.wait_attempts(1)).await;
    // While it runs.
    let mut config = world.config.clone();
    shape(&mut config, "text/plain", "two {{ text }}");
    within("the reload", world.daemon().reload(&config)).await.unwrap();
    let seen = world.receiver.attempts().len();
    within("another attempt", world.receiver.wait_attempts(seen + 1)).await;
    // And while it doesn't.
    world.stop_daemon().await;
    world.config = config;
    crm(&mut world.config).format = BodyFormat::Form;
    crm(&mut world.config).template = None;
    world.start_daemon().await;
    world.receiver.answer(204);
    world.control().push(ALICE, Push::text("Ho"));
    let events = delivered(&world, 2).await;
    for attempt in world.receiver.attempts().iter().filter(|attempt| attempt.id == events[0].id) {
        assert_eq!(
            (&*attempt.body, &attempt.headers["content-type"]),
            (&b"<one>Hi</one>"[..], &XML.parse().unwrap())
        );
    }
    assert_eq!(events[1].headers["content-type"], "application/x-www-form-urlencoded");
}
