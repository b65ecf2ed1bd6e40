//! The document: put together from the routes.

use std::{collections::BTreeMap, fmt::Write as _};

use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::operation::{Answer, Content, Operation, Parameter, Place};
use crate::api::{
    problem::{Code, Problem},
    routes::{self, Described},
};

const TITLE: &str = "rtm-bridge";
const ABOUT: &str = "Sends messages to Kore.ai bots, and tells what came back. \
    Every refusal is `application/problem+json` (RFC 9457) with a stable `code`. Unknown query parameters and unknown keys \
    are refused, never ignored. At a path that is not here the answer is `404` `not_found`, at one for other methods `405` \
    `method_not_allowed` with `Allow`. While the configuration has no `[clients]`, programs of the same machine need no token.";
const TAGS: [(&str, &str); 6] = [
    ("Messages", "To the bot."),
    ("Events", "From the bot, and the bridge's own."),
    ("Users", "Who is configured, and how each one's connection is."),
    ("Webhooks", "Who gets the events."),
    ("Dead letters", "What webhooks did not get."),
    ("About", "The API itself."),
];
/// The code of an answer that comes before anything else of the bridge: not HTTP, but TLS was expected.
const TLS_REQUIRED: &str = "tls_required";
const HTTP_API: &str = include_str!("../../../docs/http-api.md");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json");

/// A refusal, as RFC 9457 has it.
#[derive(JsonSchema)]
#[schemars(rename = "Problem", rename_all = "camelCase", extend("examples" = examples()))]
#[allow(dead_code, reason = "for its schema alone")]
struct ProblemView {
    /// `urn:rtm-bridge:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    /// What happened, and what to do: for people.
    detail: String,
    /// What happened, for programs.
    #[schemars(schema_with = "any_code")]
    code: String,
    /// The key or the parameter at fault, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// With `id_taken`: the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message_id: Option<crate::messages::ClientMessageId>,
    /// With `queue_full`: how many of the user's messages wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<usize>,
    /// With `wait_timeout` and `shutting_down`, where a message was waited for: its status so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<crate::messages::MessageView<'static>>,
}

fn any_code(_: &mut SchemaGenerator) -> Schema {
    let mut codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    codes.push(TLS_REQUIRED);
    schemars::json_schema!({ "type": "string", "enum": codes })
}

/// What a code means, as the reference tells it.
fn meaning(code: Code) -> &'static str {
    let row = format!("| {} | `{}` | ", code.status().as_u16(), code.as_str());
    let behind = HTTP_API.split_once(&row).expect("the reference tells every code").1;
    behind.split_once(" |\n").expect("a row ends").0
}

/// The document, before it is a text: its paths stay in the order of the routes.
struct Document {
    paths: Vec<(&'static str, Vec<(&'static str, Value)>)>,
    schemas: Map<String, Value>,
    responses: BTreeMap<String, Value>,
}

/// Puts it together.
struct Writer {
    schemas: SchemaGenerator,
    responses: BTreeMap<String, Value>,
}

impl Document {
    fn of(routes: Vec<Described>) -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut writer = Writer { schemas: settings.into_generator(), responses: BTreeMap::new() };
        writer.schemas.subschema_for::<ProblemView>();
        for code in [Code::NotFound, Code::MethodNotAllowed] {
            writer.refusal(code.status().as_u16(), &[code]);
        }
        let mut paths: Vec<(&'static str, Vec<(&'static str, Value)>)> = Vec::new();
        for Described { method, path, operation } in routes {
            let operation = writer.operation(operation);
            match paths.iter_mut().find(|(known, _)| *known == path) {
                Some((_, operations)) => operations.push((method, operation)),
                None => paths.push((path, vec![(method, operation)])),
            }
        }
        Self { paths, schemas: writer.schemas.take_definitions(true), responses: writer.responses }
    }

    /// A line for each operation, schema and response: short for the program, and still to be read and merged.
    fn to_text(&self) -> String {
        let info = json!({ "title": TITLE, "version": env!("CARGO_PKG_VERSION"), "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" } });
        let schemes = json!({
            "bearer": { "type": "http", "scheme": "bearer", "description": "A client's token." },
            "basic": { "type": "http", "scheme": "basic", "description": "A client's name and token." },
        });
        let tags: Vec<_> =
            TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect();
        let paths = self.paths.iter().map(|(path, operations)| {
            let operations = operations.iter().map(|(method, operation)| member(method, operation));
            format!("{}:{{\n{}}}", Value::from(*path), lines(operations))
        });
        let schemas = self.schemas.iter().map(|(name, schema)| member(name, schema));
        let responses = self.responses.iter().map(|(name, response)| member(name, response));
        format!(
            "{{\n{},\n{},\n{},\n{},\n\"paths\":{{\n{}}},\n\"components\":{{\n{},\n\"schemas\":{{\n{}}},\n\"responses\":{{\n{}}}\n}}\n}}\n",
            member("openapi", &json!("3.1.0")),
            member("info", &info),
            member("servers", &json!([{ "url": "/" }])),
            member("tags", &Value::from(tags)),
            lines(paths),
            member("securitySchemes", &schemes),
            lines(schemas),
            lines(responses),
        )
    }
}

fn member(name: &str, value: &Value) -> String {
    format!("{}:{value}", Value::from(name))
}

fn lines(members: impl Iterator<Item = String>) -> String {
    members.collect::<Vec<_>>().join(",\n") + "\n"
}

impl Writer {
    fn operation(&mut self, operation: Operation) -> Value {
        let Operation { id, scope, tag, summary, about, parameters, bodies, answers, schemas, codes } =
            operation;
        for schema in schemas {
            schema(&mut self.schemas);
        }
        assert!(TAGS.iter().any(|(known, _)| *known == tag), "{id}: {tag:?} is no tag");
        let mut described = json!({ "operationId": id, "tags": [tag], "summary": summary });
        let mut description = about.to_owned();
        if let Some(scope) = scope {
            let gap = if about.is_empty() { "" } else { " " };
            write!(description, "{gap}Scope `{}`.", scope.as_str()).unwrap();
            described["security"] = json!([{ "bearer": [] }, { "basic": [] }]);
        } else {
            described["security"] = json!([]);
        }
        described["description"] = description.into();
        if !parameters.is_empty() {
            described["parameters"] = parameters.iter().map(parameter).collect();
        }
        if !bodies.is_empty() {
            described["requestBody"] = json!({ "required": true, "content": self.contents(bodies) });
        }
        let mut responses = Map::new();
        for answer in answers {
            responses.insert(answer.status.to_string(), self.answer(answer));
        }
        for (status, codes) in by_status(&codes) {
            let name = self.refusal(status, &codes);
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            assert!(
                responses.insert(status.to_string(), reference).is_none(),
                "{id}: two answers of {status}"
            );
        }
        described["responses"] = responses.into();
        described
    }

    fn answer(&mut self, answer: Answer) -> Value {
        let Answer { status: _, about, content, headers } = answer;
        let mut described = json!({ "description": about });
        if let Some(content) = content {
            described["content"] = self.contents(vec![content]);
        }
        for (name, about) in headers {
            described["headers"][name] = described_header(about, "string", true);
        }
        described
    }

    fn contents(&mut self, contents: Vec<Content>) -> Value {
        let contents = contents.into_iter().map(|Content { content_type, schema, example }| {
            let schema = schema(&mut self.schemas);
            let mut content = json!({ "schema": schema, "example": example });
            if content_type == "application/x-www-form-urlencoded" {
                content["encoding"] = self.json_fields(&content["schema"]);
            }
            (content_type.to_owned(), content)
        });
        Value::Object(contents.collect())
    }

    /// What of a form is JSON in its field: whatever is neither a text nor a number.
    fn json_fields(&self, schema: &Value) -> Value {
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap();
        let properties = self.schemas.definitions()[name]["properties"].as_object().unwrap();
        let structured = properties
            .iter()
            .filter(|(_, schema)| ["array", "object"].iter().any(|kind| schema["type"] == *kind));
        structured
            .map(|(name, _)| (name.clone(), json!({ "contentType": "application/json" })))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Describes the problems of one status, and gives the name of that description.
    fn refusal(&mut self, status: u16, codes: &[Code]) -> String {
        let mut words: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
        let name = words.join(".");
        let mut meanings: Vec<_> =
            codes.iter().map(|code| format!("`{}`: {}", code.as_str(), meaning(*code))).collect();
        if status == 400 {
            words.push(TLS_REQUIRED);
            meanings.push(format!("`{TLS_REQUIRED}`: with `http.tls`, a request in the clear"));
        }
        let mut described = json!({
            "description": meanings.join(". "),
            "content": { "application/problem+json": {
                "schema": {
                    "$ref": "#/components/schemas/Problem",
                    "properties": { "status": { "const": status }, "code": { "enum": words } },
                },
            } },
        });
        for (name, about, schema_type, required) in headers_of(status) {
            described["headers"][name] = described_header(about, schema_type, required);
        }
        self.responses.insert(name.clone(), described);
        name
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { place, name, about, schema, example } = parameter;
    let (place, required) = match place {
        Place::Path => ("path", true),
        Place::Query => ("query", false),
        Place::Header => ("header", false),
    };
    json!({ "in": place, "name": name, "required": required, "description": about, "schema": schema, "example": example })
}

fn described_header(about: &str, schema_type: &str, required: bool) -> Value {
    json!({ "description": about, "required": required, "schema": { "type": schema_type } })
}

/// Headers of problems: each with what it says, its type, and whether it is always there.
fn headers_of(status: u16) -> Vec<(&'static str, &'static str, &'static str, bool)> {
    match status {
        401 => vec![("WWW-Authenticate", "How to say who calls.", "string", true)],
        405 => vec![("Allow", "The methods that can be used.", "string", true)],
        415 => vec![("Accept-Encoding", "For an encoded body: `identity`.", "string", false)],
        429 | 503 => vec![("Retry-After", "When to come again, in seconds.", "integer", true)],
        502 => vec![(
            "Retry-After",
            "When to come again, in seconds, if the platform said so.",
            "integer",
            false,
        )],
        _ => vec![],
    }
}

fn by_status(codes: &[Code]) -> BTreeMap<u16, Vec<Code>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    // In one order everywhere, so that equal sets are one.
    for code in Code::ALL.iter().filter(|code| codes.contains(code)) {
        by_status.entry(code.status().as_u16()).or_default().push(*code);
    }
    by_status
}

/// Problems as they are answered.
fn examples() -> Vec<Value> {
    let misspelt = Problem::new(Code::UnknownKey, "the key \"txet\" is unknown; did you mean \"text\"?")
        .with("key", "txet");
    let unknown = Problem::new(Code::UnknownUser, "no user \"carol\" is configured");
    let told = |problem: Problem| {
        let body = problem.into_response().into_body().collect();
        let bytes = futures_util::FutureExt::now_or_never(body).expect("it is there").unwrap().to_bytes();
        serde_json::from_slice(&bytes).unwrap()
    };
    [misspelt, unknown].map(told).into()
}

/// The document as it must be.
pub(super) fn text() -> String {
    Document::of(routes::described()).to_text()
}

#[test]
fn openapi_json_is_what_the_code_says() {
    let text = text();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(FILE, &text).unwrap();
        return;
    }
    let how = "write the file anew: UPDATE_OPENAPI=1 cargo test --lib openapi_json";
    for (written, meant) in super::DOCUMENT.lines().zip(text.lines()) {
        assert_eq!(written, meant, "{how}");
    }
    assert_eq!(super::DOCUMENT, text, "{how}");
}
