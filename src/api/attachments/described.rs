//! How `openapi.json` shows these routes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::MOST_FILES;
use crate::{
    api::{auth::Scope, messages::described::SAYS_SOMETHING, openapi::Operation, problem::Code},
    attachments::Attachment,
};

/// What may be wrong wherever files are taken.
pub(in crate::api) const FILE_CODES: [Code; 14] = [
    Code::MalformedBody,
    Code::BodyTimeout,
    Code::BodyTooLarge,
    Code::FileTooLarge,
    Code::UnsupportedContentType,
    Code::UnsupportedContentEncoding,
    Code::UnnamedFile,
    Code::EmptyFile,
    Code::TooManyFiles,
    Code::UserUnauthorized,
    Code::UploadsBusy,
    Code::PlatformBusy,
    Code::PlatformFailed,
    Code::PlatformSilent,
];

/// The platform's word for each file, in their order.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "for its schema alone")]
struct Uploaded {
    attachments: Vec<Attachment>,
}

/// A file's bytes.
struct File;

impl JsonSchema for File {
    fn schema_name() -> Cow<'static, str> {
        "File".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A file's bytes.", "type": "string", "contentMediaType": "application/octet-stream" })
    }
}

fn files(generator: &mut SchemaGenerator) -> Value {
    json!({
        "description": "Every part with a `filename` is a file, whatever its name.",
        "type": "array", "items": generator.subschema_for::<File>(), "minItems": 1, "maxItems": MOST_FILES,
    })
}

/// Files alone.
struct FilesForm;

impl JsonSchema for FilesForm {
    fn schema_name() -> Cow<'static, str> {
        "FilesForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A form of files.",
            "type": "object",
            "required": ["file"],
            "properties": { "file": files(generator) },
            "additionalProperties": false,
        })
    }
}

/// A message with files.
pub(in crate::api) struct MessageWithFiles;

impl JsonSchema for MessageWithFiles {
    fn schema_name() -> Cow<'static, str> {
        "MessageWithFiles".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let json_text = json!({ "description": "A JSON text.", "type": "string" });
        json_schema!({
            "description": "A message with its files. `clientMessageId`, if given, comes before the first of them.",
            "type": "object",
            "properties": {
                "text": { "type": "string" },
                "clientMessageId": { "type": "string", "pattern": "^[1-9][0-9]*$" },
                "customData": json_text,
                "metaTags": json_text,
                "attachments": json_text,
                "renderMsg": { "type": "string" },
                "file": files(generator),
            },
            "additionalProperties": false,
            "anyOf": [
                { "required": ["text"], "properties": { "text": { "pattern": SAYS_SOMETHING } } },
                { "required": ["file"], "properties": { "file": { "minItems": 1 } } },
                // An array that is not empty, as a text.
                { "required": ["attachments"], "properties": { "attachments": { "minLength": 3 } } },
            ],
        })
    }
}

pub(in crate::api) fn upload() -> Operation {
    let uploaded = json!({ "attachments": [{ "fileId": "f-1", "fileName": "report.pdf", "fileType": "attachment",
        "fileUrl": "https://bots.kore.ai/files/f-1", "size": 1.5, "uniqueId": "79a0b7" }] });
    Operation::new("uploadFiles", Scope::Send, "Upload files for a message")
        .tag("Messages")
        .about("They go to the platform as they come, as the user. The answer has what belongs into a message's `attachments`. To send a \
            message with its files in one request, and safely twice, POST them as a form to its messages.")
        .user()
        .query("name", "The file's name, where the body is the file itself; or in `Content-Disposition`.", json!({ "type": "string" }), "report.pdf")
        .takes::<FilesForm>("multipart/form-data", json!({ "file": ["..."] }))
        .takes::<File>("application/octet-stream", "...".into())
        .answers::<Uploaded>(200, "They are on the platform.", uploaded)
        .fails(&FILE_CODES)
        .fails(&[Code::UnknownKey, Code::NoFile, Code::UnsupportedCharset, Code::ShuttingDown, Code::StoreUnavailable])
}
