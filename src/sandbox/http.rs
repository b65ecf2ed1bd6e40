//! The platform's HTTP endpoints.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequestParts, Path, RawQuery, State as Shared},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    auth::{self, AccessToken, App, Bearer, JwtError, UserKey},
    connection::{Arrival, ConnectionMode},
    control_http,
    faults::{Endpoint, FaultKind},
    history::{Cursor, Owner, PageQuery},
    ids,
    room::Room,
    settings::{PageOrder, Settings},
    socket::{self, Handshake},
    uploads_http, wire,
};
use crate::clock::Timestamp;

/// Items of a page when the client names no limit.
const DEFAULT_PAGE: usize = 20;

/// The most items that a page of the Conversation History API may have.
const MAX_CONVERSATION_PAGE: usize = 100;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// All that the sandbox serves.
pub(super) fn router(room: Arc<Room>) -> Router {
    let mut router = Router::new();
    for prefix in ["/api", "/api/1.1"] {
        let at = |path: &str| format!("{prefix}{path}");
        router = router
            .route(&at("/oAuth/token/jwtgrant"), post(jwtgrant))
            .route(&at("/rtm/start"), post(rtm_start))
            .route(&at("/botmessages/rtm"), get(rtm_history))
            .route(&at("/botsdk/stream/{stream}/getMessages"), get(botkit_history))
            .route(&at("/botmeta/{stream}"), get(bot_meta))
            .merge(uploads_http::routes(prefix));
    }
    router
        .route("/api/public/bot/{bot}/getMessages", get(conversations_by_query).post(conversations_by_body))
        .route("/sandbox/sts", post(sts))
        .route("/rtm/bot", get(open_socket))
        .merge(control_http::router())
        .merge(uploads_http::files())
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "not found"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(room.clone(), dress))
        .with_state(room)
}

/// An answer in the platform's shape for errors: `{"errors": [{"msg", "code"}]}`.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
    code: Value,
    retry_after: Option<String>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), code: json!(status.as_u16()), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    fn token_expired() -> Self {
        Self { code: json!("TOKEN_EXPIRED"), ..Self::unauthorized("token expired") }
    }
}

/// What a query says. axum's own brings another reader of forms into the program, and a reader that knows paths.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> Query<T> {
    fn read(query: &str) -> Result<Self, Failure> {
        let read = serde_html_form::from_str(query);
        read.map(Self).map_err(|error| Failure::bad_request(format!("the query can't be read: {error}")))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

impl From<JwtError> for Failure {
    fn from(error: JwtError) -> Self {
        Self::unauthorized(error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"msg": self.message, "code": self.code}]});
        let mut response = (self.status, axum::Json(body)).into_response();
        if let Some(value) = self.retry_after.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}

/// Whether web pages from anywhere may use a path: the platform's own, not the control API.
fn is_for_browsers(path: &str) -> bool {
    path.starts_with("/api/") || path == "/sandbox/sts"
}

/// CORS as browsers need it, and a `Date` by the platform's clock.
async fn dress(Shared(room): Shared<Arc<Room>>, request: Request<Body>, next: Next) -> Response {
    let origin =
        request.headers().get(header::ORIGIN).filter(|_| is_for_browsers(request.uri().path())).cloned();
    let mut response = match (request.method(), &origin) {
        (&Method::OPTIONS, Some(_)) => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    if let Ok(date) = HeaderValue::try_from(http_date(room.now())) {
        headers.insert(header::DATE, date);
    }
    let Some(origin) = origin else { return response };
    let allow = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin),
        (header::VARY, HeaderValue::from_static("Origin")),
        (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")),
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE, OPTIONS")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("authorization, content-type, x-rtm-v, x-requested-with"),
        ),
    ];
    headers.extend(allow.map(|(name, value): (HeaderName, HeaderValue)| (Some(name), value)));
    response
}

fn http_date(now: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now.as_millis()))
}

/// Counts a request and lets go wrong with it what was asked for.
async fn admit(room: &Room, endpoint: Endpoint, user: Option<&str>) -> Result<(), Failure> {
    tracing::info!(?endpoint, ?user, "request");
    let fault = room.change(|state, now| {
        state.note_request(endpoint, user, now);
        state.faults.at_endpoint(endpoint, user)
    });
    match fault {
        // The connection's end, or the sandbox's, ends this too.
        Some(FaultKind::Hang { .. }) => std::future::pending().await,
        Some(FaultKind::Delay { ms, .. }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        }
        Some(FaultKind::Refuse { status, retry_after, .. }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let refusal = match (status, endpoint) {
                (StatusCode::UNAUTHORIZED, endpoint) if endpoint.takes_access_tokens() => {
                    Failure::token_expired()
                }
                _ => Failure::new(status, "refused on demand"),
            };
            Err(Failure { retry_after, ..refusal })
        }
        Some(FaultKind::RateLimit { retry_after }) => {
            let message = "Rate limit for this API has been reached. Please try again later";
            Err(Failure { retry_after, ..Failure::new(StatusCode::TOO_MANY_REQUESTS, message) })
        }
        _ => Ok(()),
    }
}

/// A body as JSON, whether it came as JSON or as form fields. None at all is an empty object.
fn read_body(headers: &HeaderMap, body: &[u8]) -> Result<Value, Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if body.is_empty() {
        return Ok(json!({}));
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let fields = serde_html_form::from_bytes(body)
            .map_err(|_| Failure::bad_request("the body is not form-urlencoded"))?;
        return Ok(wire::nest(fields));
    }
    serde_json::from_slice(body).map_err(|_| Failure::bad_request("the body is not JSON"))
}

/// The app of a client whose bot a request names; letter case matters.
fn find_app<'a>(apps: &'a [App], client_id: &str, bot_info: &Value) -> Result<&'a App, Failure> {
    apps.iter()
        .filter(|app| app.client_id == client_id)
        .find(|app| bot_info["chatBot"] == *app.bot_name && bot_info["taskBotId"] == *app.bot_id)
        .ok_or_else(|| {
            Failure::bad_request(
                "botInfo names no bot of this app (chatBot is case-sensitive, taskBotId is its id)",
            )
        })
}

async fn jwtgrant(
    Shared(room): Shared<Arc<Room>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, Failure> {
    let body = read_body(&headers, &body)?;
    let jwt = body["assertion"].as_str().unwrap_or_default();
    admit(&room, Endpoint::Jwtgrant, auth::unverified_subject(jwt).as_deref()).await?;
    if jwt.is_empty() {
        return Err(Failure::bad_request("assertion is missing"));
    }
    let apps = room.apps.clone();
    room.change(|state, now| {
        let assertion = auth::verify_assertion(state.issuers(), jwt, now)?;
        let app = find_app(&apps, &assertion.client_id, &body["botInfo"])?;
        state.grants.use_assertion(&assertion, now)?;
        let key = UserKey { bot_id: (*app.bot_id).into(), identity: (*assertion.identity).into() };
        let user = state.user(&key);
        user.anonymous = assertion.anonymous;
        let user_id = user.user_id.clone();
        let expires = now.plus(state.settings.token_lifetime);
        let token = state.grants.grant_token(key, assertion.client_id, expires);
        Ok(axum::Json(json!({
            "authorization": {
                "accessToken": token,
                "token_type": "bearer",
                "expiresDate": expires,
                "issuedDate": now,
            },
            "userInfo": {
                "userId": user_id,
                "accountId": super::ACCOUNT_ID,
                "orgId": super::ORG_ID,
                "identity": format!("{}/{}", app.client_id, assertion.identity),
                "enrollType": "free",
                "managedBy": super::ACCOUNT_ID,
                "fName": "",
                "lName": "",
            },
        })))
    })
}

/// The bearer token of a request. The scheme may be in any letter case.
fn bearer(headers: &HeaderMap) -> &str {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map_or("", |(_, token)| token.trim())
}

/// Counts a request and finds out whose it is.
pub(super) async fn authorize(
    room: &Room,
    endpoint: Endpoint,
    headers: &HeaderMap,
) -> Result<AccessToken, Failure> {
    let token = bearer(headers);
    let user = match room.check_token(token) {
        Bearer::Good(token) => Some(token.user),
        Bearer::Stale(user) => Some(user),
        Bearer::Unknown => None,
    };
    admit(room, endpoint, user.as_ref().map(|user| &*user.identity)).await?;
    // Looked at again: it may have expired while a fault held the request.
    match room.check_token(token) {
        Bearer::Good(token) => Ok(token),
        Bearer::Stale(_) | Bearer::Unknown => Err(Failure::token_expired()),
    }
}

async fn rtm_start(
    Shared(room): Shared<Arc<Room>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, Failure> {
    let token = authorize(&room, Endpoint::RtmStart, &headers).await?;
    let body = read_body(&headers, &body)?;
    if let Some(bot_info) = body.get("botInfo") {
        find_app(&room.apps, &token.client_id, bot_info)?;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let wants_nonce = headers.get("x-rtm-v").is_some_and(|version| version == "1");
    Ok(axum::Json(room.change(|state, _| {
        let now = Instant::now();
        let nonce = (wants_nonce && state.settings.secure_handshake).then(|| ids::hex(24));
        let until = now + state.settings.sid_lifetime;
        let sid = state.grants.grant_ticket(token.user, nonce.clone(), until, now);
        let base = state.settings.socket_base.clone().unwrap_or_else(|| format!("ws://{host}"));
        let mut answer = json!({"url": format!("{base}/rtm/bot?sid={sid}")});
        if let Some(nonce) = nonce {
            answer["nonce"] = json!(nonce);
        }
        answer
    })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SocketQuery {
    sid: String,
    #[serde(rename = "isReconnect")]
    is_reconnect: Option<String>,
    #[serde(rename = "ConnectionMode")]
    mode: Option<String>,
}

async fn open_socket(
    Shared(room): Shared<Arc<Room>>,
    RawQuery(query): RawQuery,
    request: Request<Body>,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let Query(asked): Query<SocketQuery> = Query::read(&query)?;
    let owner = room.read(|state| {
        state.grants.peek_ticket(&asked.sid, Instant::now()).map(|ticket| ticket.user.identity.clone())
    });
    admit(&room, Endpoint::Upgrade, owner.as_deref()).await?;
    let handshake = Handshake::read(request.headers()).map_err(Failure::bad_request)?;
    let ticket = room
        .change(|state, _| state.grants.use_ticket(&asked.sid, Instant::now()))
        .ok_or_else(|| Failure::unauthorized("the sid is unknown, used or older than 30 seconds"))?;
    let now = room.now();
    room.read(|state| {
        let fresh_at = state.settings.fresh_handshake_jwt.then_some(now);
        let verify =
            |jwt: &str| auth::verify_repeated(state.issuers(), jwt, &ticket.user.identity, fresh_at).is_ok();
        handshake.check(&ticket, verify)
    })
    .map_err(Failure::unauthorized)?;
    let mode = ConnectionMode::of(asked.mode.as_deref(), asked.is_reconnect.as_deref());
    let answer = handshake.answer(room.read(|state| state.settings.subprotocol));
    socket::serve(&room, request, Arrival { user: ticket.user, sid: asked.sid, query, mode });
    Ok(answer)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HistoryQuery {
    bot_id: Option<String>,
    user_id: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    skip: Option<usize>,
    forward: Option<String>,
    direction: Option<String>,
    msg_id: Option<String>,
}

impl HistoryQuery {
    fn page(&self, max_page: usize) -> PageQuery {
        let forward = self.forward.as_deref() == Some("true") || self.direction.as_deref() == Some("1");
        let cursor = self.msg_id.clone().map(|id| match forward {
            true => Cursor::NewerThan(id),
            false => Cursor::OlderThan(id),
        });
        PageQuery {
            limit: self.limit.unwrap_or(DEFAULT_PAGE).min(max_page),
            offset: self.offset.or(self.skip).unwrap_or(0),
            cursor,
            inclusive: false,
        }
    }
}

async fn rtm_history(
    Shared(room): Shared<Arc<Room>>,
    Query(query): Query<HistoryQuery>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Failure> {
    let token = authorize(&room, Endpoint::History, &headers).await?;
    let bot_id = query.bot_id.as_deref().ok_or_else(|| Failure::bad_request("botId is missing"))?;
    let key = UserKey { bot_id: bot_id.into(), identity: token.user.identity };
    Ok(axum::Json(room.read(|state| {
        let Some(user) = state.users.get(&key) else {
            return json!({"total": 0, "moreAvailable": false, "icon": "", "messages": []});
        };
        let settings = &state.settings;
        let owner = Owner { user_id: &user.user_id, bot_id };
        user.history.page(&query.page(settings.max_page)).to_rtm(
            owner,
            settings.page_order,
            settings.user_msg_ids,
        )
    })))
}

async fn botkit_history(
    Shared(room): Shared<Arc<Room>>,
    Path(stream): Path<String>,
    Query(query): Query<HistoryQuery>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Failure> {
    let wanted = query.user_id.as_deref().unwrap_or_default();
    let identity = room.read(|state| {
        let known = state.users.iter().find(|(key, user)| *key.bot_id == *stream && user.user_id == wanted);
        known.map(|(key, _)| key.identity.clone())
    });
    admit(&room, Endpoint::GetMessages, identity.as_deref()).await?;
    let jwt = headers.get("auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = room.now();
    let app_id = room.read(|state| auth::verify_app(state.issuers(), jwt, now))?;
    if !room.apps.iter().any(|app| app.client_id == app_id && app.bot_id == stream) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "the app has no such bot"));
    }
    let Some(identity) = identity else {
        return Ok(axum::Json(json!({"total": 0, "moreAvailable": false, "messages": []})));
    };
    Ok(axum::Json(room.change(|state, _| {
        let settings = state.settings.clone();
        let user = state.user(&UserKey { bot_id: (*stream).into(), identity });
        let owner = Owner { user_id: &user.user_id, bot_id: &stream };
        let (order, ids) = (settings.botkit_page_order, settings.user_msg_ids);
        user.history.page(&query.page(settings.max_page)).to_botkit(owner, order, ids)
    })))
}

/// What the Conversation History API is asked, in a query or a body.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ConversationQuery {
    user_id: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    skip: Option<usize>,
    date_from: Option<String>,
    date_to: Option<String>,
    msg_id: Option<String>,
    direction: Option<i64>,
    forward: Option<bool>,
}

impl ConversationQuery {
    fn page(&self, settings: &Settings) -> Result<PageQuery, Failure> {
        let limit = self.limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_CONVERSATION_PAGE).contains(&limit) {
            return Err(Failure::bad_request("limit must be between 1 and 100"));
        }
        if self.msg_id.is_some() && (self.date_from.is_some() || self.date_to.is_some()) {
            return Err(Failure::bad_request("msgId can't be combined with dateFrom and dateTo"));
        }
        let cursor = self.msg_id.clone().map(|id| match self.direction.unwrap_or(0) {
            ..0 => Cursor::OlderThan(id),
            0 => Cursor::Around(id),
            1.. => Cursor::NewerThan(id),
        });
        Ok(PageQuery {
            limit: limit.min(settings.max_page),
            offset: self.offset.or(self.skip).unwrap_or(0),
            cursor,
            inclusive: settings.cursor_inclusive,
        })
    }

    fn order(&self, settings: &Settings) -> PageOrder {
        match self.forward {
            Some(true) => PageOrder::OldestFirst,
            Some(false) => PageOrder::NewestFirst,
            None => settings.conversation_page_order,
        }
    }
}

async fn conversations_by_query(
    room: Shared<Arc<Room>>,
    bot: Path<String>,
    Query(query): Query<ConversationQuery>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Failure> {
    // Only the body may say from which message on.
    let query = ConversationQuery { msg_id: None, direction: None, forward: None, ..query };
    conversations(room, bot, query, headers).await
}

async fn conversations_by_body(
    room: Shared<Arc<Room>>,
    bot: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, Failure> {
    let query = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body can't be read: {error}")))?;
    conversations(room, bot, query, headers).await
}

async fn conversations(
    Shared(room): Shared<Arc<Room>>,
    Path(bot): Path<String>,
    query: ConversationQuery,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Failure> {
    let wanted = query.user_id.as_deref().unwrap_or_default();
    let identity = room.read(|state| {
        let known = state.users.iter().find(|(key, user)| *key.bot_id == *bot && user.user_id == wanted);
        known.map(|(key, _)| key.identity.clone())
    });
    admit(&room, Endpoint::Conversations, identity.as_deref()).await?;
    let jwt = headers.get("auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = room.now();
    let app_id = room.read(|state| auth::verify_app(state.issuers(), jwt, now))?;
    if !room.apps.iter().any(|app| app.client_id == app_id && app.bot_id == bot) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "the app has no such bot"));
    }
    if !room.read(|state| state.settings.chat_history_scope) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "the app lacks the scope Chat History"));
    }
    if wanted.is_empty() {
        return Err(Failure::bad_request("userId is missing"));
    }
    room.read(|state| {
        let settings = &state.settings;
        let page = query.page(settings)?;
        let Some(identity) = identity else {
            return Ok(axum::Json(json!({"total": 0, "moreAvailable": false, "icon": "", "messages": []})));
        };
        let user = &state.users[&UserKey { bot_id: (*bot).into(), identity }];
        let owner = Owner { user_id: &user.user_id, bot_id: &bot };
        let page = user.history.page(&page);
        Ok(axum::Json(page.to_rtm(owner, query.order(settings), settings.user_msg_ids)))
    })
}

async fn bot_meta(
    Shared(room): Shared<Arc<Room>>,
    Path(stream): Path<String>,
) -> Result<axum::Json<Value>, Failure> {
    let app = room.apps.iter().find(|app| app.bot_id == stream);
    let app = app.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "no such bot"))?;
    Ok(axum::Json(json!({"_id": app.bot_id, "name": app.bot_name, "icon": ""})))
}

/// Signs a user in the way a customer's own server would: `{clientId, clientSecret, identity}` in,
/// `{"jwt"}` out.
async fn sts(
    Shared(room): Shared<Arc<Room>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<axum::Json<Value>, Failure> {
    let body = read_body(&headers, &body)?;
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    admit(&room, Endpoint::Sts, Some(text("identity")).filter(|identity| !identity.is_empty())).await?;
    let app = room
        .apps
        .iter()
        .find(|app| app.client_id == text("clientId") && app.client_secret == text("clientSecret"))
        .ok_or_else(|| Failure::unauthorized("clientId and clientSecret are no app's"))?;
    if text("identity").is_empty() {
        return Err(Failure::bad_request("identity is missing"));
    }
    let anonymous = body["isAnonymous"] == json!(true) || text("isAnonymous") == "true";
    Ok(axum::Json(json!({"jwt": auth::mint(app, text("identity"), anonymous, room.now())})))
}
