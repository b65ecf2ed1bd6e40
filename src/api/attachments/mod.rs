//! `POST /v1/users/{user}/attachments`: files for messages; and messages that bring their files along.
//!
//! Nothing is held but a chunk: the platform's pace goes through to the caller's socket.

#[cfg(test)]
pub(super) mod described;
mod incoming;
mod names;
mod parts;
mod places;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;

use self::{
    incoming::CallersBody,
    parts::{Part, Parts, unnamed},
    places::Place,
};
pub(super) use self::{parts::boundary, places::Places};
use super::{
    Admitted, ApiState,
    auth::Scope,
    body::check_encoding,
    messages::{Wait, accepted_and_waited, accepted_answer},
    problem::{Code, Problem},
    query::{Query, malformed},
};
use crate::{
    asking::AskError,
    attachments::{Attachment, BrokenOff, FileBytes, FileName, MOST_BYTES, MOST_FILES, Piece, UploadError},
    messages::{ClientMessageId, Draft, FilePart, IdempotencyKey, Interest, Until},
    suggest::quoted,
    users::{ConnectionState, User},
};

/// What the separators and heads of a multipart body may take beside its files and fields.
const SEPARATORS: u64 = 1024 * 1024;
/// When it may be worth to try again what the platform refuses the user.
const UNAUTHORIZED_RETRY: Duration = Duration::from_secs(60);

/// What a request brings.
enum Brought {
    /// Files in a form, with this boundary.
    Form(String),
    /// One file, as it is.
    File(FileName),
}

impl Brought {
    fn of(headers: &HeaderMap, name: Option<&str>) -> Result<Self, Problem> {
        check_encoding(headers)?;
        if let Some(boundary) = boundary(headers)? {
            return match name {
                None => Ok(Self::Form(boundary)),
                Some(_) => Err(malformed(
                    "name goes with a body that is the file itself; in a form each file has its own"
                        .to_owned(),
                )
                .with("key", "name")),
            };
        }
        check_is_a_file(headers)?;
        let disposition = headers.get(header::CONTENT_DISPOSITION);
        let given = match name {
            Some(name) => Some(name.to_owned()),
            None => disposition.and_then(|value| names::of_disposition(value.as_bytes())),
        };
        let given = given.unwrap_or_default();
        FileName::cleaned(&given).map(Self::File).ok_or_else(|| unnamed(&given))
    }
}

/// A body of any type may be a file, but for what is surely meant to be something else.
fn check_is_a_file(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |what: &str| {
        let detail = format!(
            "{what}; send files as multipart/form-data, or one as it is with its own content-type, such as application/octet-stream"
        );
        Err(Problem::new(Code::UnsupportedContentType, detail))
    };
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().unwrap_or("?"),
        (None, _) => return unsupported("the body has no content-type"),
        _ => return unsupported("the body has several content-types"),
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut halves = essence.split('/');
    let is_a_type = match (halves.next(), halves.next(), halves.next()) {
        (Some(kind), Some(subtype), None) => [kind, subtype].iter().all(|half| {
            !half.is_empty() && half.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        }),
        _ => false,
    };
    // The second is what curl says of any `--data`, whatever it is.
    if !is_a_type || essence == "application/x-www-form-urlencoded" || essence.starts_with("multipart/") {
        return unsupported(&format!("the content-type {} is no file's", quoted(content_type)));
    }
    Ok(())
}

/// `POST /v1/users/{user}/attachments`
pub(super) async fn upload(
    State(state): State<ApiState>,
    Extension(caller): Admitted,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Scope::Send)?;
    let user = state.user(&caller, &name?.0)?;
    let query = Query::read(request.uri().query(), &["name"])?;
    let brought = Brought::of(request.headers(), query.get("name"))?;
    let desk = Desk { state: &state, user: &user };
    let most = if matches!(brought, Brought::File(_)) { MOST_BYTES } else { desk.most_of_form() };
    let body = sized(request.into_body(), most)?;
    let uploading = async {
        desk.check_user()?;
        let _place = state.places.take(user.number).await?;
        match brought {
            Brought::Form(boundary) => desk.files(desk.parts(body, boundary)).await,
            Brought::File(name) => {
                let body = CallersBody::new(body, state.settings().body_timeout);
                let mut file = Incoming::new(body.map(|piece| piece.map_err(Problem::from)));
                Ok(vec![desk.upload(&name, &mut file).await?])
            }
        }
    };
    let attachments = desk.unless_draining(uploading).await?;
    Ok(Json(json!({ "attachments": attachments })).into_response())
}

/// `POST /v1/users/{user}/messages` with files.
pub(super) async fn send(
    state: &ApiState,
    user: &Arc<User>,
    wait: Option<Wait>,
    key: Option<IdempotencyKey>,
    boundary: String,
    request: Request,
) -> Result<Response, Problem> {
    check_encoding(request.headers())?;
    let desk = Desk { state, user };
    let body = sized(request.into_body(), desk.most_of_form())?;
    let gathering = desk.gather(desk.parts(body, boundary), key.as_ref());
    let Gathered { draft, id, expected, place } = desk.unless_draining(gathering).await?;
    let messages = &state.messages;
    let interest = match wait {
        Some(Wait { until: Until::Reply, .. }) => Interest::Answer,
        _ => Interest::Acceptance,
    };
    // The turn is held for as long as this request is being answered.
    let (accepted, _turn) = match (expected, interest) {
        (Expected::New, Interest::Acceptance) => (messages.accept(user, draft, id, key).await?, None),
        (Expected::New, Interest::Answer) => messages.accept_awaited(user, draft, id, key).await?,
        (Expected::Repeat, _) => {
            messages.repeat(user, &draft, id, key, interest).await?.ok_or_else(forgotten)?
        }
    };
    drop(place);
    match wait {
        None => Ok(accepted_answer(user, &accepted)),
        Some(wait) => accepted_and_waited(state, user, &accepted, wait).await,
    }
}

/// A message that was known when its repeat began to come, and is not when it has come.
fn forgotten() -> Problem {
    let detail = "the message that this repeats was forgotten just now (store.retention, store.max_messages); send it again";
    Problem::new(Code::StoreUnavailable, detail).retry_after(Duration::from_secs(1))
}

/// Whether a message is known before all of it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    New,
    /// Under its id or its key there is one: it is read, but not uploaded again.
    Repeat,
}

/// A message whose files are on the platform.
struct Gathered {
    draft: Draft,
    id: Option<ClientMessageId>,
    expected: Expected,
    /// Held until the message is accepted: a repeat must not be looked for in between.
    place: Option<Place>,
}

/// One request, at work.
#[derive(Clone, Copy)]
struct Desk<'a> {
    state: &'a ApiState,
    user: &'a Arc<User>,
}

impl Desk<'_> {
    /// The most bytes that a form may have.
    fn most_of_form(self) -> u64 {
        MOST_FILES as u64 * MOST_BYTES + self.state.settings().max_body as u64 + SEPARATORS
    }

    fn parts(self, body: Body, boundary: String) -> Parts {
        let settings = self.state.settings();
        Parts::of(body, boundary, settings.max_body, settings.body_timeout)
    }

    /// Uploads the files of a form that has nothing else.
    async fn files(self, mut parts: Parts) -> Result<Vec<Attachment>, Problem> {
        let mut attachments = Vec::new();
        while let Some(part) = parts.next().await? {
            match part {
                Part::File { name, bytes } => {
                    check_count(attachments.len())?;
                    attachments.push(self.upload(&name, &mut Incoming::new(bytes)).await?);
                }
                Part::Field { name, .. } => {
                    let detail = format!("the part {} is no file: it has no filename", quoted(&name));
                    return Err(Problem::new(Code::UnknownKey, detail).with("key", key_of(&name)));
                }
            }
        }
        if attachments.is_empty() {
            let detail = "there is no file in the form: a part with a filename in its content-disposition";
            return Err(Problem::new(Code::NoFile, detail));
        }
        Ok(attachments)
    }

    /// Reads a message, and uploads its files as they come; those of a repeat are only compared.
    async fn gather(self, mut parts: Parts, key: Option<&IdempotencyKey>) -> Result<Gathered, Problem> {
        let mut fields = Vec::new();
        let mut files = Vec::new();
        let mut decided: Option<(Expected, Place)> = None;
        while let Some(part) = parts.next().await? {
            match part {
                Part::Field { name, text } => {
                    Draft::check_field(&name)?;
                    if decided.is_some() && name == "clientMessageId" {
                        let detail = "clientMessageId comes after a file; it must come before: it tells whether the file is new";
                        return Err(Problem::new(Code::IdAfterFile, detail).with("key", name));
                    }
                    fields.push((name, text));
                }
                Part::File { name, bytes } => {
                    check_count(files.len())?;
                    let expected = match &decided {
                        Some((expected, _)) => *expected,
                        None => decided.insert(self.decide(&fields, key).await?).0,
                    };
                    let mut file = Incoming::new(bytes);
                    let attachment = match expected {
                        Expected::New => json!(self.upload(&name, &mut file).await?).to_string(),
                        // It goes nowhere: the message is what it was.
                        Expected::Repeat => {
                            file.read_to_end().await?;
                            "null".to_owned()
                        }
                    };
                    files.push(FilePart {
                        name: name.as_str().to_owned(),
                        digest: file.digest(),
                        attachment,
                    });
                }
            }
        }
        let (draft, id) = Draft::from_fields(fields, &files)?;
        let (expected, place) = decided.unzip();
        Ok(Gathered { draft, id, expected: expected.unwrap_or(Expected::New), place })
    }

    /// Before the first file: whether it is worth to upload it.
    async fn decide(
        self,
        fields: &[(String, String)],
        key: Option<&IdempotencyKey>,
    ) -> Result<(Expected, Place), Problem> {
        // With a file, whatever it is, so that a message without a text counts as one.
        let some_file = FilePart { name: String::new(), digest: [0; 32], attachment: "null".to_owned() };
        let (_, id) = Draft::from_fields(fields.to_vec(), &[some_file])?;
        let place = self.state.places.take(self.user.number).await?;
        if self.state.messages.is_known(self.user.number, id, key)? {
            return Ok((Expected::Repeat, place));
        }
        self.state.messages.would_take(self.user)?;
        self.check_user()?;
        Ok((Expected::New, place))
    }

    /// Nothing is begun for a user whom the platform refuses.
    fn check_user(self) -> Result<(), Problem> {
        let status = self.user.status();
        if status.state != ConnectionState::Unauthorized {
            return Ok(());
        }
        let why = status.last_error.unwrap_or_else(|| "the platform refuses its credentials".to_owned());
        Err(unauthorized(&why))
    }

    async fn upload<S>(self, name: &FileName, file: &mut Incoming<S>) -> Result<Attachment, Problem>
    where
        S: Stream<Item = Result<Bytes, Problem>> + Unpin + Send,
    {
        let uploaded = self.state.uploads.upload(self.user, name, file).await;
        uploaded.map_err(|error| match error {
            UploadError::BrokenOff => file.problem.take().unwrap_or_else(too_large),
            UploadError::Empty => empty(name),
            UploadError::Platform(AskError::Unauthorized(why)) => unauthorized(&why),
            UploadError::Platform(error) => error.into(),
        })
    }

    async fn unless_draining<T>(self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.state.draining.cancelled() => {
                let detail = "the bridge is shutting down, and the files are not all on the platform yet; send them again";
                Err(Problem::new(Code::ShuttingDown, detail).retry_after(Duration::from_secs(5)))
            }
        }
    }
}

/// A file on its way in: counted, and its bytes known again by their digest.
struct Incoming<S> {
    stream: S,
    size: u64,
    digest: digest::Context,
    /// Why it broke off.
    problem: Option<Problem>,
}

impl<S: Stream<Item = Result<Bytes, Problem>> + Unpin + Send> Incoming<S> {
    fn new(stream: S) -> Self {
        Self { stream, size: 0, digest: digest::Context::new(&digest::SHA256), problem: None }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(piece) = self.stream.next().await.transpose()? else { return Ok(None) };
        self.size += piece.len() as u64;
        if self.size > MOST_BYTES {
            return Err(too_large());
        }
        self.digest.update(&piece);
        Ok(Some(piece))
    }

    /// Reads all that is left, for its digest alone.
    async fn read_to_end(&mut self) -> Result<(), Problem> {
        while self.piece().await?.is_some() {}
        Ok(())
    }

    fn digest(self) -> [u8; 32] {
        self.digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl<S: Stream<Item = Result<Bytes, Problem>> + Unpin + Send> FileBytes for Incoming<S> {
    fn next(&mut self) -> Piece<'_> {
        Box::pin(async move {
            self.piece().await.map_err(|problem| {
                self.problem = Some(problem);
                BrokenOff
            })
        })
    }
}

/// A body that is not longer than it may be, as far as it says.
fn sized(body: Body, most: u64) -> Result<Body, Problem> {
    if hyper::body::Body::size_hint(&body).lower() <= most {
        return Ok(body);
    }
    let detail = format!(
        "the body is larger than {most} bytes: a file may have {} MiB, and a form {MOST_FILES} of them",
        MOST_BYTES >> 20
    );
    Err(Problem::new(Code::FileTooLarge, detail).with("limit", most))
}

fn check_count(files: usize) -> Result<(), Problem> {
    if files < MOST_FILES {
        return Ok(());
    }
    Err(Problem::new(Code::TooManyFiles, format!("there are more than {MOST_FILES} files")))
}

fn too_large() -> Problem {
    let detail = format!("a file is larger than {} MiB ({MOST_BYTES} bytes)", MOST_BYTES >> 20);
    Problem::new(Code::FileTooLarge, detail).with("limit", MOST_BYTES)
}

fn empty(name: &FileName) -> Problem {
    Problem::new(Code::EmptyFile, format!("the file {} has no bytes", quoted(name.as_str())))
}

fn unauthorized(why: &str) -> Problem {
    let detail = format!("the platform refuses this user: {why}");
    Problem::new(Code::UserUnauthorized, detail).retry_after(UNAUTHORIZED_RETRY)
}

fn key_of(name: &str) -> String {
    name.chars().take(128).collect()
}
