//! The platform's endpoints for files.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    auth::UserKey,
    faults::Endpoint,
    http::{Failure, authorize},
    room::Room,
    uploads::{About, Refusal},
};

/// The routes, under one of the API's prefixes.
pub(super) fn routes(prefix: &str) -> Router<Arc<Room>> {
    let at = |path: &str| format!("{prefix}/attachment{path}");
    Router::new()
        .route(&at("/file/token"), post(grant))
        .route(&at("/file"), post(whole))
        .route(&at("/file/{token}/chunk"), post(chunk))
        .route(&at("/file/{token}"), put(done))
        .route(&at("/v2/stream/{bot}/file/{file}/url"), get(url))
}

/// Where files are served.
pub(super) fn files() -> Router<Arc<Room>> {
    Router::new().route("/files/{file}/{name}", get(serve))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NoFile => StatusCode::NOT_FOUND,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refusal.to_string())
    }
}

async fn grant(Shared(room): Shared<Arc<Room>>, headers: HeaderMap) -> Result<Json<Value>, Failure> {
    let access = authorize(&room, Endpoint::FileToken, &headers).await?;
    Ok(Json(room.change(|state, now| {
        let expires = now.plus(state.settings.file_token_lifetime);
        let token = state.uploads.grant(access.user, expires);
        json!({"fileToken": token, "expiresOn": expires})
    })))
}

async fn whole(Shared(room): Shared<Arc<Room>>, request: Request) -> Result<Json<Value>, Failure> {
    let (user, form) = read(&room, Endpoint::FileUpload, request).await?;
    let data = form.decoded("file")?;
    let file_id = room.change(|state, now| {
        state.uploads.whole(&user, form.get("fileToken").as_deref(), &form.about(), data, now)
    })?;
    Ok(Json(json!({"fileId": file_id})))
}

async fn chunk(
    Shared(room): Shared<Arc<Room>>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (user, form) = read(&room, Endpoint::FileChunk, request).await?;
    let (number, data) = (form.number("chunkNo")?, form.decoded("chunk")?);
    let message = form.get("messageToken").unwrap_or_default();
    room.change(|state, now| state.uploads.chunk(&user, (&token, &message), number, data, now))?;
    Ok(Json(json!({"status": "ok"})))
}

async fn done(
    Shared(room): Shared<Arc<Room>>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (user, form) = read(&room, Endpoint::FileCommit, request).await?;
    let total = form.number("totalChunks")?;
    let message = form.get("messageToken").unwrap_or_default();
    let file_id =
        room.change(|state, now| state.uploads.done(&user, (&token, &message), total, &form.about(), now))?;
    Ok(Json(json!({"fileId": file_id})))
}

async fn url(
    Shared(room): Shared<Arc<Room>>,
    Path((bot, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    let access = authorize(&room, Endpoint::FileUrl, &headers).await?;
    let user = UserKey { bot_id: bot.into(), identity: access.user.identity };
    let name = room.read(|state| state.uploads.of_user(&user, &file).map(|file| file.name.clone()))?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let mut url = url::Url::parse(&format!("http://{host}/files"))
        .map_err(|_| Failure::bad_request("the Host header can't be read"))?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend([&file, &name]);
    }
    Ok(Json(json!({"fileUrl": url.as_str()})))
}

async fn serve(
    Shared(room): Shared<Arc<Room>>,
    Path((file, _name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let (_, bytes) = room.read(|state| state.uploads.content(&file)).ok_or(Refusal::NoFile)?;
    let mut response = bytes.into_response();
    // Whatever it is, no browser shows it as a page of this host.
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// A form's parts, by name.
struct Form(Vec<(String, Bytes)>);

/// Finds out whose a request is, and then reads its form.
async fn read(room: &Room, endpoint: Endpoint, request: Request) -> Result<(UserKey, Form), Failure> {
    let (head, body) = request.into_parts();
    let access = authorize(room, endpoint, &head.headers).await?;
    Ok((access.user, Form::read(&head.headers, body).await?))
}

impl Form {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        let bad = |_| Failure::bad_request("the body is no multipart form");
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(content_type.unwrap_or_default()).map_err(bad)?;
        let mut multipart = multer::Multipart::new(body.into_data_stream(), boundary);
        let mut parts = Vec::new();
        while let Some(part) = multipart.next_field().await.map_err(bad)? {
            let name = part.name().unwrap_or_default().to_owned();
            parts.push((name, part.bytes().await.map_err(bad)?));
        }
        Ok(Self(parts))
    }

    fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, bytes)| bytes)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn number(&self, name: &str) -> Result<usize, Failure> {
        let number = self.get(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| Failure::bad_request(format!("{name} is no number")))
    }

    fn decoded(&self, name: &str) -> Result<Bytes, Failure> {
        let data = self.bytes(name).ok_or_else(|| Failure::bad_request(format!("{name} is missing")))?;
        let decoded = STANDARD.decode(data).map(Bytes::from);
        decoded.map_err(|_| Failure::bad_request(format!("{name} is not base64")))
    }

    fn about(&self) -> About {
        let text = |name| self.get(name).unwrap_or_default();
        About { name: text("filename"), extension: text("fileExtension"), context: text("fileContext") }
    }
}
