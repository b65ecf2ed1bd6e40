//! Holds what the API answers, in all tests, against what `openapi.json` says of it.

use std::{collections::HashMap, sync::LazyLock};

use boon::{Compiler, SchemaIndex, Schemas};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// The document.
pub const FILE: &str = include_str!("../../src/api/openapi.json");
/// What the document is called, while its parts refer to each other.
const NAME: &str = "http://localhost/openapi.json";

static DESCRIBED: LazyLock<Described> = LazyLock::new(Described::read);

/// The document, with its schemas ready to be used.
struct Described {
    document: Value,
    schemas: Schemas,
    /// By their place in the document.
    compiled: HashMap<String, SchemaIndex>,
}

/// Panics unless this answer of the API is described: its status, its content type, its headers, its body. What is no
/// answer of the API passes.
pub fn check(method: &str, path: &str, status: u16, headers: &HeaderMap, body: &[u8]) {
    if !path.starts_with("/v1/") && path != "/openapi.json" {
        return;
    }
    let what = || format!("{method} {path}: {status} {}", String::from_utf8_lossy(body));
    let place =
        DESCRIBED.response(method, path, status).unwrap_or_else(|| panic!("{} is not described", what()));
    let response = DESCRIBED.document.pointer(&place).unwrap();
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        assert!(header["required"] == false || headers.contains_key(name), "{}: {name} is missing", what());
    }
    let content_type = headers.get("content-type").map(|value| value.to_str().unwrap());
    match content_type {
        // That of an answer to HEAD, or of a stream, is seen elsewhere.
        Some(_) if body.is_empty() => {}
        Some(kind) => {
            let schema = format!("{place}/content/{}/schema", escaped(kind));
            assert!(DESCRIBED.compiled.contains_key(&schema), "{}: {kind} is not described", what());
            let body = serde_json::from_slice(body).unwrap_or_else(|error| panic!("{}: {error}", what()));
            DESCRIBED.validate(&schema, &body, &what);
        }
        None => assert!(response.get("content").is_none() && body.is_empty(), "{}", what()),
    }
}

/// Panics unless this is an event's envelope.
pub fn check_envelope(envelope: &Value) {
    DESCRIBED.validate("/components/schemas/Envelope", envelope, &|| "an event".to_owned());
}

impl Described {
    fn read() -> Self {
        let mut document: Value = serde_json::from_str(FILE).unwrap();
        forbid_what_is_not_described(&mut document["components"]["schemas"]);
        let mut places = vec!["/components/schemas/Envelope".to_owned()];
        schemas_in(&document, "/paths", &mut places);
        schemas_in(&document, "/components/responses", &mut places);
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource(NAME, document.clone()).unwrap();
        let mut compile = |place: String| {
            let fragment = place.replace('{', "%7B").replace('}', "%7D");
            let compiled = compiler.compile(&format!("{NAME}#{fragment}"), &mut schemas).unwrap();
            (place, compiled)
        };
        let compiled = places.into_iter().map(&mut compile).collect();
        Self { document, schemas, compiled }
    }

    fn validate(&self, place: &str, value: &Value, what: &dyn Fn() -> String) {
        if let Err(error) = self.schemas.validate(value, self.compiled[place]) {
            panic!("{}: {error:#}", what());
        }
    }

    /// Where this answer is described.
    fn response(&self, method: &str, path: &str, status: u16) -> Option<String> {
        // Methods are spelt in capitals, and HEAD is answered as GET is.
        let method = match method {
            "HEAD" => "get".to_owned(),
            _ if method.chars().all(|c| c.is_ascii_uppercase()) => method.to_ascii_lowercase(),
            _ => method.to_ascii_uppercase(),
        };
        let known = |operation: &String| self.document.pointer(operation).is_some();
        let operation = self.path(path).map(|path| format!("/paths/{}/{method}", escaped(path)));
        let response = match operation.filter(known) {
            Some(operation) => format!("{operation}/responses/{status}"),
            // Where no route is, whoever is let in is told so.
            None => match status {
                404 => "/components/responses/not_found".to_owned(),
                405 => "/components/responses/method_not_allowed".to_owned(),
                _ => format!("/paths/~1v1~1users/get/responses/{status}"),
            },
        };
        let reference = self.document.pointer(&response)?.get("$ref");
        Some(reference.map_or(response, |reference| reference.as_str().unwrap()[1..].to_owned()))
    }

    /// The described path that this one is; the one with the fewest parameters.
    fn path(&self, path: &str) -> Option<&str> {
        let parts: Vec<&str> = path.split('/').collect();
        let is_like = |described: &&String| {
            let described: Vec<&str> = described.split('/').collect();
            let alike = |(part, meant): (&&str, &&str)| meant.starts_with('{') || part == meant;
            // The router takes no path that ends with an empty name.
            parts.len() == described.len()
                && (!path.ends_with('/') || described.last() == Some(&""))
                && parts.iter().zip(&described).all(alike)
        };
        let paths = self.document["paths"].as_object().unwrap().keys();
        paths.filter(is_like).min_by_key(|path| path.matches('{').count()).map(String::as_str)
    }
}

/// A name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The places of all bodies' schemas beneath this one.
fn schemas_in(document: &Value, at: &str, found: &mut Vec<String>) {
    for (name, value) in document.pointer(at).and_then(Value::as_object).into_iter().flatten() {
        let place = format!("{at}/{}", escaped(name));
        match name.as_str() {
            "content" => {
                let kinds = value.as_object().unwrap().keys();
                found.extend(kinds.map(|kind| format!("{place}/{}/schema", escaped(kind))));
            }
            _ => schemas_in(document, &place, found),
        }
    }
}

/// The document leaves room for what later versions add. Here, whatever it doesn't name is a mistake.
fn forbid_what_is_not_described(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && members.get("type") == Some(&"object".into()) {
                members.entry("additionalProperties").or_insert(false.into());
            }
            members.values_mut().for_each(forbid_what_is_not_described);
        }
        Value::Array(items) => items.iter_mut().for_each(forbid_what_is_not_described),
        _ => {}
    }
}
