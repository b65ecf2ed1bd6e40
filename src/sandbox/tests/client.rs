//! A client as plain as can be, for testing the sandbox.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::CloseFrame},
};

use crate::sandbox::{App, Sandbox, SandboxControl, SandboxOptions, Settings};

/// No test waits longer for what should be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Awaits what should come.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have happened by now")
}

pub(super) async fn start() -> (Sandbox, SandboxControl) {
    start_with(Settings::default()).await
}

pub(super) async fn start_with(settings: Settings) -> (Sandbox, SandboxControl) {
    let sandbox = Sandbox::start(SandboxOptions { settings, ..SandboxOptions::default() }).await.unwrap();
    let control = sandbox.control();
    (sandbox, control)
}

pub(super) fn http() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// An HTTP answer: status, body, Retry-After.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) retry_after: Option<String>,
}

pub(super) async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let retry_after = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), retry_after }
}

/// One user of the default app.
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    pub(super) identity: String,
    pub(super) token: String,
}

impl Client {
    pub(super) fn new(sandbox: &Sandbox, identity: &str) -> Self {
        let base = sandbox.url().to_string().trim_end_matches('/').to_owned();
        Self { http: http(), base, identity: identity.into(), token: String::new() }
    }

    /// A client that has done its jwtgrant.
    pub(super) async fn signed_in(sandbox: &Sandbox, identity: &str) -> Self {
        let mut client = Self::new(sandbox, identity);
        let answer = client.grant().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        client.token = answer.body["authorization"]["accessToken"].as_str().unwrap().into();
        client
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(super) async fn jwt(&self) -> String {
        let app = App::default();
        let body =
            json!({"clientId": app.client_id, "clientSecret": app.client_secret, "identity": self.identity});
        let answer = send(self.http.post(self.url("/sandbox/sts")).json(&body)).await;
        answer.body["jwt"].as_str().unwrap().to_owned()
    }

    pub(super) async fn grant(&self) -> Answer {
        let body = json!({"assertion": self.jwt().await, "botInfo": bot_info()});
        send(self.http.post(self.url("/api/1.1/oAuth/token/jwtgrant")).json(&body)).await
    }

    pub(super) async fn rtm_start(&self) -> Answer {
        let request = self.http.post(self.url("/api/1.1/rtm/start")).json(&json!({"botInfo": bot_info()}));
        send(request.header(AUTHORIZATION, format!("bearer {}", self.token))).await
    }

    pub(super) async fn history(&self, query: &str) -> Answer {
        let url = self.url(&format!("/api/1.1/botmessages/rtm?botId={}{query}", App::default().bot_id));
        send(self.http.get(url).header(AUTHORIZATION, format!("bearer {}", self.token))).await
    }

    /// A fresh socket URL.
    pub(super) async fn socket_url(&self) -> String {
        self.rtm_start().await.body["url"].as_str().unwrap().to_owned()
    }

    /// Opens a socket; `query` is appended to its URL.
    pub(super) async fn connect(&self, query: &str) -> Socket {
        Socket::open(&format!("{}{query}", self.socket_url().await)).await.unwrap()
    }

    /// Opens a socket and reads its greeting, welcome included.
    pub(super) async fn connect_and_greet(&self) -> Socket {
        let mut socket = self.connect("").await;
        for _ in 0..3 {
            socket.json().await;
        }
        socket
    }
}

pub(super) fn bot_info() -> Value {
    json!({"chatBot": App::default().bot_name, "taskBotId": App::default().bot_id})
}

/// A message as a client sends it.
pub(super) fn message(id: u64, text: &str) -> Value {
    json!({
        "clientMessageId": id, "id": id, "resourceid": "/bot.message",
        "message": {"body": text}, "botInfo": bot_info(), "client": "sdk",
    })
}

/// An RTM socket.
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// How a socket ended.
#[derive(Debug)]
pub(super) enum End {
    Closed(Option<CloseFrame>),
    Broken(tungstenite::Error),
    /// The end of the TCP stream, without a close frame.
    Eof,
}

impl Socket {
    pub(super) async fn open(url: &str) -> Result<Self, tungstenite::Error> {
        Self::open_with(url).await
    }

    pub(super) async fn open_with(
        request: impl IntoClientRequest + Unpin,
    ) -> Result<Self, tungstenite::Error> {
        soon(tokio_tungstenite::connect_async(request)).await.map(|(socket, _)| Self(socket))
    }

    pub(super) async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(super) async fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub(super) async fn send_frame(&mut self, frame: Message) {
        self.0.send(frame).await.unwrap();
    }

    /// The next frame, whatever it is.
    pub(super) async fn frame(&mut self) -> Message {
        soon(self.0.next()).await.expect("the socket ended").unwrap()
    }

    pub(super) async fn bytes(&mut self) -> Bytes {
        self.frame().await.into_data()
    }

    pub(super) async fn json(&mut self) -> Value {
        serde_json::from_slice(&self.bytes().await).unwrap()
    }

    /// The types, in order, of the frames up to the answer of a ping that goes out now: what is
    /// there, without waiting for what isn't.
    pub(super) async fn drain(&mut self) -> Vec<Value> {
        self.send(&json!({"type": "ping", "id": "drain"})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.json().await;
            if frame["replyto"] == "drain" {
                return frames;
            }
            frames.push(frame);
        }
    }

    pub(super) async fn end(&mut self) -> End {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Close(frame))) => return End::Closed(frame),
                Some(Ok(_)) => {}
                Some(Err(error)) => return End::Broken(error),
                None => return End::Eof,
            }
        }
    }

    pub(super) async fn end_code(&mut self) -> u16 {
        match self.end().await {
            End::Closed(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn close(mut self) {
        self.0.close(None).await.unwrap();
        self.end().await;
    }
}

pub(super) fn text_of(frame: &Value) -> &str {
    frame["message"][0]["component"]["payload"]["text"].as_str().unwrap_or_default()
}
