//! What official clients send, and what the documentation shows, as `tests/vectors` has it.

use std::{collections::HashMap, fs, path::PathBuf};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::client::{Client, Socket, http, send, soon, start};
use crate::sandbox::{App, Encoding, Sandbox, SandboxOptions};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    client: String,
    bot: Bot,
    secure_handshake: bool,
    jwtgrant: Request,
    rtm_start: Request,
    history: Option<Request>,
    frames: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
struct Bot {
    name: String,
    id: String,
}

#[derive(Debug, Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

#[derive(Debug, Deserialize)]
struct Frame {
    sent: String,
    #[serde(default = "text")]
    encoding: String,
    answer: String,
}

fn text() -> String {
    "text".into()
}

fn vectors(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder)
}

fn documented(name: &str) -> Value {
    let bytes = fs::read(vectors("documented").join(name)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

impl Vector {
    fn app(&self) -> App {
        App { bot_name: self.bot.name.clone(), bot_id: self.bot.id.clone(), ..App::default() }
    }
}

impl Request {
    async fn send(&self, base: &Client, assertion: &str) -> Value {
        let body = self.body.replace("{{assertion}}", assertion).replace("{{accessToken}}", &base.token);
        let mut request = base
            .http
            .request(Method::from_bytes(self.method.as_bytes()).unwrap(), base.url(&self.path))
            .body(body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !base.token.is_empty() {
            request = request.bearer_auth(&base.token);
        }
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{}: {:?}", self.path, answer.body);
        answer.body
    }
}

/// The id of a frame as its JSON has it.
fn id_of(frame: &str) -> Option<String> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(frame).unwrap();
    fields.get("id").map(|id| id.get().to_owned())
}

fn expected_answer(frame: &Frame) -> Option<String> {
    let reply_to = id_of(&frame.sent).map(|id| format!(r#""replyto":{id},"#)).unwrap_or_default();
    match &*frame.answer {
        "ack" => Some(format!(r#"{{"ok":true,{reply_to}"type":"ack"}}"#)),
        "ack-without-replyto" => Some(r#"{"ok":true,"type":"ack"}"#.into()),
        "pong" => Some(format!(r#"{{{reply_to}"type":"pong"}}"#)),
        "none" => None,
        other => panic!("{other}"),
    }
}

async fn sign_in_and_talk(vector: &Vector) {
    let options = SandboxOptions { apps: vec![vector.app()], ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let control = sandbox.control();
    let mut client = Client::new(&sandbox, "user1@example.com");
    let assertion = client.jwt().await;
    let grant = vector.jwtgrant.send(&client, &assertion).await;
    client.token = grant["authorization"]["accessToken"].as_str().unwrap().into();
    let started = vector.rtm_start.send(&client, &assertion).await;
    let mut request = started["url"].as_str().unwrap().into_client_request().unwrap();
    assert_eq!(started.get("nonce").is_some(), vector.secure_handshake);
    if let Some(nonce) = started["nonce"].as_str() {
        let offer = format!("x-rtm-v|1,jwt|{assertion},nonce|{nonce}");
        request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
    }
    let mut socket = Socket::open_with(request).await.unwrap();
    let mut echoes = 1;
    for frame in &vector.frames {
        let sent = frame.sent.replace("{{accessToken}}", &client.token);
        socket
            .send_frame(match &*frame.encoding {
                "binary" => Message::binary(sent.clone()),
                _ => Message::text(sent.clone()),
            })
            .await;
        let fields: Value = serde_json::from_str(&sent).unwrap();
        let is_message = fields["resourceid"] == "/bot.message"
            && fields.get("event").is_none()
            && fields.get("type").is_none();
        echoes += usize::from(is_message);
    }
    let expected: Vec<_> = vector.frames.iter().filter_map(expected_answer).collect();
    let (mut answers, mut responses) = (Vec::new(), 0);
    while answers.len() < expected.len() || responses < echoes {
        let frame = socket.bytes().await;
        let value: Value = serde_json::from_slice(&frame).unwrap();
        match value["type"].as_str().unwrap() {
            "ack" | "pong" => answers.push(String::from_utf8(frame.to_vec()).unwrap()),
            "bot_response" => responses += 1,
            _ => {}
        }
    }
    assert_eq!(answers, expected, "{}", vector.client);
    let received = control.frames(&client.identity);
    let binary = vector.frames.iter().filter(|frame| frame.encoding == "binary").count();
    assert_eq!(received.iter().filter(|frame| frame.encoding == Encoding::Binary).count(), binary);
    if let Some(history) = &vector.history {
        let page = history.send(&client, &assertion).await;
        assert_eq!(page["total"], responses + control.messages(&client.identity).len());
    }
}

#[tokio::test]
async fn official_clients_sign_in_and_talk() {
    let mut clients = Vec::new();
    for entry in fs::read_dir(vectors("clients")).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        let vector: Vector = serde_json::from_slice(&text).unwrap();
        soon(sign_in_and_talk(&vector)).await;
        clients.push(vector.client);
    }
    assert!(clients.len() >= 6, "{clients:?}");
}

/// The keys of `ours` are at least those of `theirs`.
fn assert_has_keys(ours: &Value, theirs: &Value) {
    for key in theirs.as_object().unwrap().keys() {
        assert!(ours.get(key).is_some(), "{key} is missing in {ours}");
    }
}

#[tokio::test]
async fn the_documented_requests_are_served_in_the_documented_shapes() {
    let frame = documented("bot-message.frame.json");
    let app = App {
        bot_name: frame["botInfo"]["chatBot"].as_str().unwrap().into(),
        bot_id: frame["botInfo"]["taskBotId"].as_str().unwrap().into(),
        ..App::default()
    };
    let options = SandboxOptions { apps: vec![app.clone()], ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut client = Client::new(&sandbox, "admin1212@qakore.xyz");
    let mut grant = documented("jwtgrant.request.json");
    grant["assertion"] = json!(client.jwt().await);
    grant["botInfo"] = frame["botInfo"].clone();
    let answer = send(client.http.post(client.url("/api/1.1/oAuth/token/jwtgrant")).json(&grant)).await;
    client.token = answer.body["authorization"]["accessToken"].as_str().unwrap().into();
    let mut start = documented("rtm-start.request.json");
    start["botInfo"] = frame["botInfo"].clone();
    let request = client.http.post(client.url("/api/1.1/rtm/start")).bearer_auth(&client.token).json(&start);
    let started = send(request).await.body;
    assert_has_keys(&started, &documented("rtm-start.response.json"));
    let mut one = Socket::open(started["url"].as_str().unwrap()).await.unwrap();
    one.drain().await;
    let again = client.http.post(client.url("/api/1.1/rtm/start")).bearer_auth(&client.token);
    let url = send(again).await.body["url"].as_str().unwrap().to_owned() + "&isReconnect=true";
    let mut two = Socket::open(&url).await.unwrap();
    two.drain().await;

    one.send(&frame).await;
    let frames = one.drain().await;
    let ack = documented("ack.frame.json");
    for key in ["ok", "replyto", "type"] {
        assert_eq!(frames[0][key], ack[key], "{key}");
    }
    assert_has_keys(&frames[1], &documented("bot_response.frame.json"));
    let seen = two.drain().await;
    assert_has_keys(&seen[0], &documented("user_message.frame.json"));
    assert_eq!(seen[0]["message"], frame["message"]);
}

#[tokio::test]
async fn the_documented_botkit_answer_has_no_field_that_ours_lacks() {
    let (sandbox, _control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let mut socket = client.connect_and_greet().await;
    socket.drain().await;
    let user_id = client.grant().await.body["userInfo"]["userId"].as_str().unwrap().to_owned();
    let app = App::default();
    let key = jsonwebtoken::EncodingKey::from_secret(app.client_secret.as_bytes());
    let jwt = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &json!({"appId": app.client_id}), &key);
    let url = client.url(&format!("/api/1.1/botsdk/stream/{}/getMessages?userId={user_id}", app.bot_id));
    let answer = send(http().get(url).header("auth", jwt.unwrap())).await.body;
    let documented = documented("botkit-getMessages.response.json");
    assert_has_keys(&answer, &documented);
    assert_has_keys(&answer["messages"][0], &documented["messages"][0]);
}
