//! The control API over HTTP, under `/sandbox/`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use super::{
    agent::{AGENT_COMMANDS, AgentPlay},
    auth::App,
    bot::{self, COMMANDS},
    connection::ReceivedFrame,
    control::{ConnectionInfo, Push, Pushed, SandboxControl},
    faults::{Endpoint, Fault, SocketEnd},
    http::{Failure, Query},
    room::Room,
    settings::Settings,
    state::RequestRecord,
    uploads::UploadedFile,
};
use crate::ordered;

/// What there is, for whoever looks.
const ROUTES: &[(&str, &str)] = &[
    ("GET /sandbox/connections?user=", "open connections"),
    ("GET /sandbox/frames?user=", "received frames"),
    ("GET /sandbox/history?user=", "a user's history"),
    ("GET /sandbox/uploads?user=", "uploaded files"),
    ("GET /sandbox/requests?user=", "counts and times of the platform's requests"),
    ("POST /sandbox/users/{identity}/push?record=&live=", "an event: a whole frame, or {\"text\"}"),
    (
        "POST /sandbox/users/{identity}/agent/{act}",
        "play the agent: join, say, banner, type, stop, deliver, read, file, transfer, leave",
    ),
    ("POST /sandbox/users/{identity}/drop", "close its TCP connections without a close frame"),
    ("POST /sandbox/users/{identity}/reset", "reset its TCP connections"),
    ("POST /sandbox/users/{identity}/close?code=&reason=", "close its connections"),
    ("POST /sandbox/users/{identity}/half-open", "its connections stay, with nobody there"),
    ("POST /sandbox/users/{identity}/revoke", "revoke its access tokens"),
    ("GET, POST, DELETE /sandbox/faults", "faults: a JSON list (or one)"),
    ("GET, PATCH /sandbox/settings", "settings"),
    (
        "PUT /sandbox/apps/{clientId}/public-key",
        "PEM: from now on its JWTs may be signed with RS256 or RS512",
    ),
    ("POST /sandbox/sts", "{clientId, clientSecret, identity} -> {jwt}"),
    ("POST /sandbox/reset", "forget everything"),
];

pub(super) fn router() -> Router<Arc<Room>> {
    Router::new()
        .route("/sandbox", get(overview))
        .route("/sandbox/connections", get(connections))
        .route("/sandbox/frames", get(frames))
        .route("/sandbox/history", get(history))
        .route("/sandbox/uploads", get(uploads))
        .route("/sandbox/requests", get(requests))
        .route("/sandbox/users/{identity}/push", post(push))
        .route("/sandbox/users/{identity}/agent/{act}", post(play_agent))
        .route("/sandbox/users/{identity}/{action}", post(act))
        .route("/sandbox/apps/{client_id}/public-key", put(trust_public_key))
        .route("/sandbox/faults", get(list_faults).post(add_faults).delete(clear_faults))
        .route("/sandbox/settings", get(show_settings).patch(change_settings))
        .route("/sandbox/reset", post(reset))
}

/// Whose: everybody's, one user's, one bot's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Whose {
    user: Option<String>,
    bot: Option<String>,
}

fn control(room: &Arc<Room>, bot: Option<&str>) -> SandboxControl {
    let control = SandboxControl::new(room.clone());
    bot.map_or_else(|| control.clone(), |bot| control.for_bot(bot))
}

impl Whose {
    fn control(&self, room: &Arc<Room>) -> SandboxControl {
        control(room, self.bot.as_deref())
    }

    fn user(&self) -> Result<&str, Failure> {
        self.user.as_deref().ok_or_else(|| Failure::bad_request("say whose: ?user=IDENTITY"))
    }
}

fn body<T: DeserializeOwned>(bytes: &[u8], expected: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("expected {expected} as JSON: {error}")))
}

async fn overview(Shared(room): Shared<Arc<Room>>) -> Json<Value> {
    let app = |app: &App| json!({"clientId": app.client_id, "botName": app.bot_name, "botId": app.bot_id});
    let pairs = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
        ordered::map(list.iter().map(|&(name, what)| (name.to_owned(), what.to_owned())))
    };
    Json(json!({
        "apps": room.apps.iter().map(app).collect::<Vec<_>>(),
        "routes": pairs(ROUTES),
        "botCommands": pairs(COMMANDS),
        "agentCommands": pairs(AGENT_COMMANDS),
    }))
}

async fn trust_public_key(
    Shared(room): Shared<Arc<Room>>,
    Path(client_id): Path<String>,
    pem: Bytes,
) -> Result<StatusCode, Failure> {
    if !room.apps.iter().any(|app| app.client_id == client_id) {
        return Err(Failure::new(StatusCode::NOT_FOUND, "no such app"));
    }
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&pem)
        .map_err(|_| Failure::bad_request("expected a public key as PEM: -----BEGIN PUBLIC KEY-----"))?;
    control(&room, None).trust_public_key(&client_id, key.as_ref());
    Ok(StatusCode::NO_CONTENT)
}

async fn connections(
    Shared(room): Shared<Arc<Room>>,
    Query(whose): Query<Whose>,
) -> Json<Vec<ConnectionInfo>> {
    let control = whose.control(&room);
    Json(match &whose.user {
        Some(user) => control.connections_of(user),
        None => control.connections(),
    })
}

/// A received frame: as JSON where it is JSON, else as text.
fn show_frame(frame: &ReceivedFrame) -> Value {
    let mut shown = json!({
        "connection": frame.connection,
        "at": frame.at,
        "kind": frame.kind,
        "encoding": frame.encoding,
    });
    match serde_json::from_slice::<Value>(&frame.bytes) {
        Ok(json) => shown["frame"] = json,
        Err(_) => shown["text"] = json!(String::from_utf8_lossy(&frame.bytes)),
    }
    shown
}

async fn frames(
    Shared(room): Shared<Arc<Room>>,
    Query(whose): Query<Whose>,
) -> Result<Json<Vec<Value>>, Failure> {
    let frames = whose.control(&room).frames(whose.user()?);
    Ok(Json(frames.iter().map(show_frame).collect()))
}

async fn history(Shared(room): Shared<Arc<Room>>, Query(whose): Query<Whose>) -> Result<Response, Failure> {
    Ok(Json(whose.control(&room).history(whose.user()?)).into_response())
}

async fn uploads(Shared(room): Shared<Arc<Room>>, Query(whose): Query<Whose>) -> Json<Vec<UploadedFile>> {
    let mut uploads = whose.control(&room).uploads();
    uploads.retain(|file| whose.user.as_ref().is_none_or(|user| *user == file.user));
    Json(uploads)
}

#[derive(Serialize)]
struct Requests {
    count: u64,
    latest: Vec<RequestRecord>,
}

async fn requests(
    Shared(room): Shared<Arc<Room>>,
    Query(whose): Query<Whose>,
) -> Json<BTreeMap<Endpoint, Requests>> {
    let control = whose.control(&room);
    let of = |endpoint| {
        let requests = match &whose.user {
            None => Requests { count: control.request_count(endpoint), latest: control.requests(endpoint) },
            Some(user) => {
                let latest = control.requests_of(user, endpoint);
                Requests { count: latest.len() as u64, latest }
            }
        };
        (endpoint, requests)
    };
    Json(ordered::map(Endpoint::ALL.into_iter().map(of)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PushQuery {
    bot: Option<String>,
    record: Option<bool>,
    live: Option<bool>,
}

/// The short form of a push.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JustText {
    text: String,
}

async fn push(
    Shared(room): Shared<Arc<Room>>,
    Path(identity): Path<String>,
    Query(query): Query<PushQuery>,
    bytes: Bytes,
) -> Result<Json<Pushed>, Failure> {
    let push = match serde_json::from_slice::<JustText>(&bytes) {
        Ok(JustText { text }) => Push::text(text),
        Err(_) => {
            let frame: Box<RawValue> = body(&bytes, "a frame, or {\"text\": ...},")?;
            Push::frame(String::from(Box::<str>::from(frame)))
        }
    };
    let push = match (query.record.unwrap_or(true), query.live.unwrap_or(true)) {
        (true, true) => push,
        (false, true) => push.live_only(),
        (true, false) => push.history_only(),
        (false, false) => return Err(Failure::bad_request("neither recorded nor live: nothing to do")),
    };
    Ok(Json(control(&room, query.bot.as_deref()).push(&identity, push)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActQuery {
    bot: Option<String>,
    code: Option<u16>,
    reason: Option<String>,
}

async fn act(
    Shared(room): Shared<Arc<Room>>,
    Path((identity, action)): Path<(String, String)>,
    Query(query): Query<ActQuery>,
) -> Result<Json<Value>, Failure> {
    let control = control(&room, query.bot.as_deref());
    let end = match &*action {
        "revoke" => return Ok(Json(json!({"tokens": control.revoke(&identity)}))),
        "drop" => SocketEnd::Drop,
        "reset" => SocketEnd::Reset,
        "half-open" => SocketEnd::HalfOpen,
        "close" => {
            let code = query.code.unwrap_or(1000);
            if !bot::can_close_with(code) {
                return Err(Failure::bad_request(format!("{code} is no code for a close frame")));
            }
            SocketEnd::Close { code, reason: query.reason.unwrap_or_default() }
        }
        _ => return Err(Failure::new(StatusCode::NOT_FOUND, "not found; see GET /sandbox")),
    };
    Ok(Json(json!({"connections": control.end_sockets(&identity, &end)})))
}

/// Plays the agent: `{act}` with the fields that it takes as JSON, or none.
async fn play_agent(
    Shared(room): Shared<Arc<Room>>,
    Path((identity, act)): Path<(String, String)>,
    Query(query): Query<ActQuery>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let mut play: serde_json::Map<String, Value> =
        if bytes.is_empty() { Default::default() } else { body(&bytes, "an object")? };
    play.insert("act".to_owned(), act.into());
    let play: AgentPlay = serde_json::from_value(play.into())
        .map_err(|error| Failure::bad_request(format!("an agent can't do that: {error}")))?;
    control(&room, query.bot.as_deref()).agent(&identity, play);
    Ok(Json(json!({})))
}

async fn list_faults(Shared(room): Shared<Arc<Room>>) -> Json<Vec<Fault>> {
    Json(control(&room, None).faults())
}

async fn add_faults(Shared(room): Shared<Arc<Room>>, bytes: Bytes) -> Result<Json<Vec<Fault>>, Failure> {
    let value: Value = body(&bytes, "a list of faults")?;
    let list = if value.is_array() { value } else { json!([value]) };
    let faults: Vec<Fault> = serde_json::from_value(list)
        .map_err(|error| Failure::bad_request(format!("not a list of faults: {error}")))?;
    let control = control(&room, None);
    faults.into_iter().for_each(|fault| control.inject(fault));
    Ok(Json(control.faults()))
}

async fn clear_faults(Shared(room): Shared<Arc<Room>>) -> StatusCode {
    control(&room, None).clear_faults();
    StatusCode::OK
}

async fn show_settings(Shared(room): Shared<Arc<Room>>) -> Json<Settings> {
    Json(control(&room, None).settings())
}

/// Changes the settings that the body names.
async fn change_settings(Shared(room): Shared<Arc<Room>>, bytes: Bytes) -> Result<Json<Settings>, Failure> {
    let changes: serde_json::Map<String, Value> = body(&bytes, "an object of settings")?;
    let control = control(&room, None);
    let mut merged = serde_json::to_value(control.settings()).expect("settings are JSON");
    for (key, value) in changes {
        merged[key] = value;
    }
    let settings: Settings = serde_json::from_value(merged)
        .map_err(|error| Failure::bad_request(format!("not settings: {error}")))?;
    control.configure(|old| *old = settings.clone());
    Ok(Json(settings))
}

async fn reset(Shared(room): Shared<Arc<Room>>) -> impl IntoResponse {
    control(&room, None).reset();
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}")
}
