//! `multipart/form-data`: fields, and files that are read as they come.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use futures_util::Stream;

use super::{
    incoming::{CallersBody, Rationed, Trouble},
    names,
};
use crate::{
    api::{
        body::check_parameter,
        problem::{Code, Problem},
    },
    attachments::FileName,
    messages::DraftError,
    suggest::quoted,
};

/// The largest head of a part, in bytes.
pub(super) const MOST_HEAD: usize = 16 * 1024;
/// The longest boundary that RFC 2046 allows.
const LONGEST_BOUNDARY: usize = 70;

/// How much came while the head of a part was looked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Head(Arc<AtomicUsize>);

impl Head {
    const NOT_LOOKED_FOR: usize = usize::MAX;

    fn look(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn found(&self) {
        self.0.store(Self::NOT_LOOKED_FOR, Ordering::Relaxed);
    }

    pub(super) fn came(&self, bytes: usize) {
        let came = self.0.load(Ordering::Relaxed);
        if came != Self::NOT_LOOKED_FOR {
            self.0.store(came.saturating_add(bytes).min(Self::NOT_LOOKED_FOR - 1), Ordering::Relaxed);
        }
    }

    /// Whether it is not among what came already, which is more than it may have.
    pub(super) fn is_too_large(&self) -> bool {
        let came = self.0.load(Ordering::Relaxed);
        came != Self::NOT_LOOKED_FOR && came > MOST_HEAD
    }
}

/// The boundary that separates the parts of a `multipart/form-data` body; none if it is none.
pub(in crate::api) fn boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(content_type)), None) = (values.next().map(|value| value.to_str()), values.next()) else {
        return Ok(None);
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let bad = |what: &str| malformed(format!("the content-type {what}: {}", quoted(content_type)));
    let boundary = multer::parse_boundary(content_type).map_err(|error| match error {
        multer::Error::NoBoundary => bad("names no boundary"),
        _ => bad("is malformed"),
    })?;
    if !(1..=LONGEST_BOUNDARY).contains(&boundary.len()) {
        return Err(bad("names a boundary that is not 1 to 70 characters long"));
    }
    Ok(Some(boundary))
}

fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedBody, detail)
}

/// The parts of a body, one after the other.
pub(super) struct Parts {
    multipart: multer::Multipart<'static>,
    head: Head,
    /// What the fields may still take, in bytes.
    room: usize,
    most: usize,
}

/// A part.
pub(super) enum Part {
    /// A field of the form.
    Field {
        /// Its name.
        name: String,
        /// What it says.
        text: String,
    },
    /// A file, still to be read: to its end, before the next part.
    File {
        /// Its name.
        name: FileName,
        /// Its bytes.
        bytes: Box<FileStream>,
    },
}

impl Parts {
    /// Of a body whose fields may have `most` bytes together, with `limit` for each 64 KiB of it.
    pub(super) fn of(body: Body, boundary: String, most: usize, limit: Duration) -> Self {
        let head = Head::default();
        let body = Rationed::new(CallersBody::new(body, limit), head.clone());
        Self { multipart: multer::Multipart::new(body, boundary), head, room: most, most }
    }

    /// The next part.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, Problem> {
        loop {
            self.head.look();
            let Some(field) = self.multipart.next_field().await.map_err(problem)? else { return Ok(None) };
            self.head.found();
            check_head(field.headers())?;
            let disposition = field.headers().get(header::CONTENT_DISPOSITION).map(HeaderValue::as_bytes);
            let filename = field.file_name().map(str::to_owned);
            let Some(filename) = filename.or_else(|| names::of_disposition(disposition?)) else {
                return self.field(field).await.map(Some);
            };
            let mut bytes = Box::new(FileStream(field));
            if let Some(name) = FileName::cleaned(&filename) {
                return Ok(Some(Part::File { name, bytes }));
            }
            // How browsers say that no file was chosen.
            if !filename.is_empty() || !bytes.is_empty().await? {
                return Err(unnamed(&filename));
            }
        }
    }

    async fn field(&mut self, mut field: multer::Field<'static>) -> Result<Part, Problem> {
        check_charset(field.headers())?;
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(malformed("a part has no name in its content-disposition".to_owned()));
        };
        let mut text = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(problem)? {
            self.room = self.room.checked_sub(piece.len()).ok_or_else(|| {
                let detail = format!(
                    "the fields beside the files are larger than {} bytes (messages.max_body)",
                    self.most
                );
                Problem::new(Code::BodyTooLarge, detail)
            })?;
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8(text).map_err(|_| DraftError::NotUtf8)?;
        Ok(Part::Field { name, text })
    }
}

/// The problem of a file without a name.
pub(super) fn unnamed(given: &str) -> Problem {
    let detail = match given {
        "" => {
            "the file has no name: give one with ?name=, or as filename in its content-disposition".to_owned()
        }
        _ => format!("nothing of the file's name {} can be used", quoted(given)),
    };
    Problem::new(Code::UnnamedFile, detail)
}

fn check_head(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>() > MOST_HEAD {
        return Err(Trouble::HeadTooLarge.into());
    }
    if let Some(encoding) = headers.get("content-transfer-encoding") {
        let known = ["binary", "8bit", "7bit"];
        if !known.iter().any(|known| encoding.as_bytes().eq_ignore_ascii_case(known.as_bytes())) {
            let encoding = quoted(&String::from_utf8_lossy(encoding.as_bytes()));
            let detail = format!(
                "a part's content-transfer-encoding {encoding} can't be read; send its bytes as they are"
            );
            return Err(Problem::new(Code::UnsupportedContentEncoding, detail));
        }
    }
    Ok(())
}

/// A field's text is UTF-8. (What a file is made of is between its sender and its reader.)
fn check_charset(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default().split(';').skip(1).try_for_each(check_parameter)
}

/// What is wrong with a multipart body.
fn problem(error: multer::Error) -> Problem {
    use multer::Error;
    match error {
        Error::StreamReadFailed(error) => {
            error.downcast_ref::<Trouble>().copied().unwrap_or(Trouble::Broken).into()
        }
        Error::IncompleteStream | Error::IncompleteFieldData { .. } => malformed(
            "the multipart body ends before its last boundary, or its boundary is not the one of its content-type"
                .to_owned(),
        ),
        Error::IncompleteHeaders
        | Error::ReadHeaderFailed(_)
        | Error::DecodeHeaderName { .. }
        | Error::DecodeHeaderValue { .. } => malformed("a part has malformed headers".to_owned()),
        _ => malformed("the multipart body is malformed".to_owned()),
    }
}

/// A part's bytes, as they come.
pub(super) struct FileStream(multer::Field<'static>);

impl FileStream {
    async fn is_empty(&mut self) -> Result<bool, Problem> {
        while let Some(piece) = self.0.chunk().await.map_err(problem)? {
            if !piece.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Stream for FileStream {
    type Item = Result<Bytes, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|piece| piece.map(|piece| piece.map_err(problem)))
    }
}
