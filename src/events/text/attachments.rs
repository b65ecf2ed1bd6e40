//! Files in frames: what an agent or a bot attached, and what a user attached elsewhere.

use serde::Serialize;
use serde_json::{Map, Number, Value};

use super::template::word;

/// A longer URL is hardly one that can be fetched: such are files in themselves (`data:`).
const MAX_URL: usize = 8 * 1024;

/// What a component or a template calls itself that is a file.
const KINDS: [&str; 6] = ["image", "audio", "video", "link", "file", "attachment"];
const NAMES: [&str; 3] = ["fileName", "name", "title"];
const URLS: [&str; 9] =
    ["fileUrl", "url", "imageUrl", "image_url", "audioUrl", "videoUrl", "link", "formLink", "href"];

/// A file that came with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attachment {
    /// Its name, where one is given.
    pub name: Option<String>,
    /// `image`, `audio`, `video`, `link`, `file` or `attachment`, or what else the platform calls it.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where it can be fetched, where that is told.
    pub url: Option<String>,
    /// Its size in the platform's own unit: its clients say megabytes.
    #[cfg_attr(test, schemars(with = "Option<f64>"))]
    pub size: Option<Number>,
}

/// The files in the `attachments` of a message or a template.
pub(super) fn listed(message: &Value, into: &mut Vec<Attachment>) {
    match message.get("attachments").or_else(|| message.get("attachment")) {
        Some(Value::Array(several)) => several.iter().for_each(|one| push(one, into)),
        Some(one) => push(one, into),
        None => {}
    }
}

fn push(file: &Value, into: &mut Vec<Attachment>) {
    let Value::Object(object) = file else { return };
    // A component, perhaps, with the file in its payload.
    let inner = object.get("payload").and_then(Value::as_object).unwrap_or(object);
    let kind =
        ["fileType", "type"].into_iter().find_map(|key| word(inner, key).or_else(|| word(object, key)));
    let found = file_of(kind, inner);
    if found.url.is_some() || found.name.is_some() {
        into.push(found);
    }
}

/// The files of a component's payload; `kind` is what the component calls itself.
pub(super) fn read(kind: &str, payload: &Map<String, Value>, into: &mut Vec<Attachment>) {
    for key in ["attachments", "attachment"] {
        match payload.get(key) {
            Some(Value::Array(several)) => several.iter().for_each(|one| push(one, into)),
            Some(one) => push(one, into),
            None => {}
        }
    }
    let template = word(payload, "template_type").unwrap_or(kind);
    let told = word(payload, "fileType").unwrap_or(template).to_ascii_lowercase();
    let other = [("videoUrl", "video"), ("audioUrl", "audio")];
    let kind = if KINDS.contains(&&*told) {
        Some(&*told)
    } else {
        other.into_iter().find_map(|(key, kind)| word(payload, key).and(Some(kind)))
    };
    if let Some(kind) = kind
        && link(payload).is_some()
    {
        into.push(file_of(Some(kind), payload));
    }
}

fn file_of(kind: Option<&str>, object: &Map<String, Value>) -> Attachment {
    let size = ["size", "fileSize"].into_iter().find_map(|key| match object.get(key)? {
        Value::Number(size) => Some(size.clone()),
        _ => None,
    });
    Attachment {
        name: NAMES.into_iter().find_map(|key| word(object, key)).map(str::to_owned),
        kind: kind.map(str::to_owned),
        url: link(object).map(str::to_owned),
        size,
    }
}

/// Where an object leads to.
pub(super) fn link(object: &Map<String, Value>) -> Option<&str> {
    URLS.into_iter().find_map(|key| word(object, key)).filter(|url| url.len() <= MAX_URL)
}
