//! Files: leave to upload one, its bytes, and where it is served then.
//!
//! A file of up to 1 MiB goes in one request. A larger one goes in chunks of that size, under a token
//! of the file's and one of the message's, and a last request that says how many there were. Bytes
//! travel as base64 in a multipart form, as the platform's own clients send them.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use reqwest::{
    Body, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::Deserialize;

use super::{
    Platform,
    answer::{self, Answer, MOST_BODY},
    bearer,
};
use crate::{
    attachments::FileName,
    config::{Bot, Secret},
    rtm::failure::{Failure, FailureKind, Step},
};

/// A megabyte and more goes with such a request: it may take so many times as long as others.
const PATIENCE: u32 = 4;
/// What the platform's own clients say a file is for.
const CONTEXT: &str = "workflows";

/// Leave to upload one file.
pub(in crate::rtm) struct FileToken(Secret);

/// A file that goes in one request.
pub(in crate::rtm) struct Whole<'a> {
    pub(in crate::rtm) name: &'a FileName,
    pub(in crate::rtm) token: &'a FileToken,
    /// Its bytes, as base64.
    pub(in crate::rtm) data: Bytes,
}

/// A part of a larger file.
pub(in crate::rtm) struct Chunk<'a> {
    pub(in crate::rtm) name: &'a FileName,
    pub(in crate::rtm) file: &'a FileToken,
    pub(in crate::rtm) message: &'a FileToken,
    /// Its place, from 0.
    pub(in crate::rtm) number: usize,
    /// Its bytes, as base64.
    pub(in crate::rtm) data: Bytes,
}

impl Platform {
    /// `POST /api/1.1/attachment/file/token`: leave to upload one file. Wait for the bot's pace before
    /// this and each of the following.
    pub(in crate::rtm) async fn file_token(&self, access: &Secret) -> Result<FileToken, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Leave {
            file_token: String,
        }
        let url = self.terms().endpoint("attachment/file/token");
        let request = Request { step: Step::FileToken, access, secrets: &[], method: Method::POST, url };
        let Leave { file_token } = self.ask_about_file(request, None).await?.body()?;
        Ok(FileToken(Secret::new(file_token)))
    }

    /// `POST /api/1.1/attachment/file`: a whole file; gives its id.
    pub(in crate::rtm) async fn upload_whole(
        &self,
        access: &Secret,
        whole: Whole<'_>,
    ) -> Result<String, Failure> {
        let Whole { name, token, data } = whole;
        let form = Form::new().field("fileToken", token.0.expose()).about(name).file(
            &format!(
                "name=\"file\"; filename=\"{}\"\r\nContent-Type: UTF-8; charset=ISO-8859-1",
                in_quotes(name)
            ),
            data,
        );
        let url = self.terms().endpoint("attachment/file");
        let request = Request { step: Step::Upload, access, secrets: &[&token.0], method: Method::POST, url };
        let FileId { file_id } = self.ask_about_file(request, Some(form)).await?.body()?;
        Ok(file_id)
    }

    /// `POST /api/1.1/attachment/file/{fileToken}/chunk`: a part of a larger file.
    pub(in crate::rtm) async fn upload_chunk(
        &self,
        access: &Secret,
        chunk: Chunk<'_>,
    ) -> Result<(), Failure> {
        let Chunk { name, file, message, number, data } = chunk;
        let form = Form::new()
            .field("chunkNo", &number.to_string())
            .field("messageToken", message.0.expose())
            .file(&format!("name=\"chunk\"; filename=\"{}\"", in_quotes(name)), data);
        let url = self.file_endpoint(&[file.0.expose(), "chunk"]);
        let secrets = [&file.0, &message.0];
        let request = Request { step: Step::Upload, access, secrets: &secrets, method: Method::POST, url };
        // What it says besides is not documented.
        self.ask_about_file(request, Some(form)).await.map(drop)
    }

    /// `PUT /api/1.1/attachment/file/{fileToken}`: all parts are there; gives the file's id.
    pub(in crate::rtm) async fn upload_done(
        &self,
        access: &Secret,
        name: &FileName,
        tokens: (&FileToken, &FileToken),
        chunks: usize,
    ) -> Result<String, Failure> {
        let (file, message) = tokens;
        let form = Form::new()
            .field("totalChunks", &chunks.to_string())
            .field("messageToken", message.0.expose())
            .about(name);
        let url = self.file_endpoint(&[file.0.expose()]);
        let secrets = [&file.0, &message.0];
        let request = Request { step: Step::Upload, access, secrets: &secrets, method: Method::PUT, url };
        let FileId { file_id } = self.ask_about_file(request, Some(form)).await?.body()?;
        Ok(file_id)
    }

    /// `GET /api/1.1/attachment/v2/stream/{bot}/file/{file}/url`: where a file is served.
    pub(in crate::rtm) async fn file_url(
        &self,
        access: &Secret,
        bot: &Bot,
        file_id: &str,
    ) -> Result<String, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Place {
            file_url: String,
        }
        let mut url = self.terms().endpoint("attachment/v2/stream");
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend([&bot.id, "file", file_id, "url"]);
        }
        let request = Request { step: Step::FileUrl, access, secrets: &[], method: Method::GET, url };
        let Place { file_url } = self.ask_about_file(request, None).await?.body()?;
        Ok(file_url)
    }

    fn file_endpoint(&self, segments: &[&str]) -> url::Url {
        let mut url = self.terms().endpoint("attachment/file");
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    async fn ask_about_file(&self, request: Request<'_>, form: Option<Form>) -> Result<Answer, Failure> {
        let Request { step, access, secrets, method, url } = request;
        let Some(bearer) = bearer(access) else {
            return Err(Failure::new(step, FailureKind::TokenRefused, "it can't stand in a header"));
        };
        let terms = self.terms();
        let mut request = terms.http.request(method, url).header(AUTHORIZATION, bearer);
        if let Some(form) = form {
            request = request
                .header(CONTENT_TYPE, form.content_type())
                .timeout(terms.request_timeout.saturating_mul(PATIENCE))
                .body(form.into_body());
        }
        let mut all: Vec<&Secret> = secrets.to_vec();
        all.push(access);
        let answer = self.ask(step, request, &all, MOST_BODY).await?;
        match answer.failure(answer::token_refusal) {
            Some(failure) => Err(failure),
            None => Ok(answer),
        }
    }
}

/// A request about a file, but for its body.
struct Request<'a> {
    step: Step,
    access: &'a Secret,
    /// What else must not be shown.
    secrets: &'a [&'a Secret],
    method: Method,
    url: url::Url,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileId {
    file_id: String,
}

/// A name as it may stand in quotes, in the way of browsers.
fn in_quotes(name: &FileName) -> String {
    name.as_str().replace('"', "%22")
}

/// A multipart form with one file at most, which is neither copied nor joined with the rest.
struct Form {
    boundary: String,
    head: String,
    data: Bytes,
}

impl Form {
    fn new() -> Self {
        let boundary = format!("rtm-bridge-{:032x}", fastrand::u128(..));
        Self { boundary, head: String::new(), data: Bytes::new() }
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.part(&format!("name=\"{name}\""));
        self.head += value;
        self.head += "\r\n";
        self
    }

    /// What the platform wants to know of every file.
    fn about(self, name: &FileName) -> Self {
        self.field("fileExtension", &name.extension())
            .field("fileContext", CONTEXT)
            .field("thumbnailUpload", "false")
            .field("filename", name.as_str())
    }

    /// The file, which comes last.
    fn file(mut self, header: &str, data: Bytes) -> Self {
        self.part(&format!("{header}\r\nContent-Transfer-Encoding: base64"));
        self.data = data;
        self
    }

    fn part(&mut self, header: &str) {
        self.head += &format!("--{}\r\nContent-Disposition: form-data; {header}\r\n\r\n", self.boundary);
    }

    fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    fn into_body(self) -> Body {
        let line = if self.data.is_empty() { "" } else { "\r\n" };
        let tail = format!("{line}--{}--\r\n", self.boundary);
        Body::wrap(Pieces([tail.into(), self.data, self.head.into()]))
    }
}

/// A body of some pieces, the last first.
struct Pieces([Bytes; 3]);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.iter_mut().rev().find(|piece| !piece.is_empty());
        Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_form_says_how_long_it_is_and_keeps_a_name_within_its_quotes() {
        let name = FileName::cleaned("a \"b\".PDF").unwrap();
        let form = Form::new()
            .about(&name)
            .file(&format!("name=\"file\"; filename=\"{}\"", in_quotes(&name)), Bytes::from_static(b"AAAA"));
        let boundary = form.boundary.clone();
        assert_eq!(form.content_type(), format!("multipart/form-data; boundary={boundary}"));
        let body = form.into_body();
        let told = HttpBody::size_hint(&body).exact();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(told, Some(bytes.len() as u64));
        let text = String::from_utf8(bytes.to_vec()).unwrap().replace(&boundary, "B");
        let field = |name: &str, value: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let expected = [
            field("fileExtension", "pdf"),
            field("fileContext", "workflows"),
            field("thumbnailUpload", "false"),
            field("filename", "a \"b\".PDF"),
            "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a %22b%22.PDF\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--B--\r\n".to_owned(),
        ]
        .concat();
        assert_eq!(text, expected);
    }
}
