//! The words in which a route is described.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::api::{auth::Scope, problem::Code};

/// What every route may answer, before or beside all else.
const ANYWHERE: [Code; 5] =
    [Code::MalformedQuery, Code::NotLoopback, Code::ForeignOrigin, Code::HeadTooLarge, Code::InternalError];
/// The same, of routes that need a token.
const WITH_TOKEN: [Code; 3] = [Code::Unauthorized, Code::ScopeMissing, Code::RateLimited];

/// The schema of a type, as soon as there is where it goes to.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route does, takes and answers.
pub(in crate::api) struct Operation {
    pub id: &'static str,
    /// None for a route that needs no token.
    pub scope: Option<Scope>,
    pub tag: &'static str,
    pub summary: &'static str,
    pub about: &'static str,
    pub parameters: Vec<Parameter>,
    pub bodies: Vec<Content>,
    pub answers: Vec<Answer>,
    /// Schemas that are spoken of, but are no body's.
    pub schemas: Vec<SchemaOf>,
    pub codes: Vec<Code>,
}

/// Something that a request says beside its body.
pub(in crate::api) struct Parameter {
    pub place: Place,
    pub name: &'static str,
    pub about: &'static str,
    pub schema: Value,
    pub example: Value,
}

/// Where it says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Place {
    Path,
    Query,
    Header,
}

/// A body of one content type.
pub(in crate::api) struct Content {
    pub content_type: &'static str,
    pub schema: SchemaOf,
    pub example: Value,
}

/// An answer that is no problem.
pub(in crate::api) struct Answer {
    pub status: u16,
    pub about: &'static str,
    /// None for an answer without a body.
    pub content: Option<Content>,
    /// Headers beside those of every answer: each with what it says.
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    /// A route that needs a token with this scope.
    pub fn new(id: &'static str, scope: Scope, summary: &'static str) -> Self {
        let codes = [&ANYWHERE[..], &WITH_TOKEN].concat();
        Self { scope: Some(scope), codes, ..Self::open(id, summary) }
    }

    /// A route that needs none.
    pub fn open(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            scope: None,
            tag: "",
            summary,
            about: "",
            parameters: Vec::new(),
            bodies: Vec::new(),
            answers: Vec::new(),
            schemas: Vec::new(),
            codes: ANYWHERE.to_vec(),
        }
    }

    /// Under which heading it is shown.
    pub fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    /// What there is to know beyond the summary.
    pub fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Its path has `{user}`.
    pub fn user(self) -> Self {
        let about = "The user's name in the configuration.";
        let schema = json!({ "type": "string" });
        self.path("user", about, schema, "alice").fails(&[Code::UserNotAllowed, Code::UnknownUser])
    }

    /// Its path has this, as text.
    pub fn path(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(Place::Path, name, about, schema, example).fails(&[Code::MalformedPath])
    }

    /// It takes this in its query.
    pub fn query(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(Place::Query, name, about, schema, example)
    }

    /// It takes this header.
    pub fn header(
        self,
        name: &'static str,
        about: &'static str,
        schema: Value,
        example: impl Into<Value>,
    ) -> Self {
        self.parameter(Place::Header, name, about, schema, example)
    }

    fn parameter(
        mut self,
        place: Place,
        name: &'static str,
        about: &'static str,
        schema: Value,
        example: impl Into<Value>,
    ) -> Self {
        self.parameters.push(Parameter { place, name, about, schema, example: example.into() });
        self
    }

    /// It takes a body of this content type; of several, one.
    pub fn takes<T: JsonSchema>(mut self, content_type: &'static str, example: Value) -> Self {
        self.bodies.push(Content { content_type, schema: SchemaGenerator::subschema_for::<T>, example });
        self
    }

    /// It answers this, as JSON.
    pub fn answers<T: JsonSchema>(self, status: u16, about: &'static str, example: Value) -> Self {
        self.answers_as::<T>("application/json", status, about, example)
    }

    /// It answers this, as another content type.
    pub fn answers_as<T: JsonSchema>(
        mut self,
        content_type: &'static str,
        status: u16,
        about: &'static str,
        example: Value,
    ) -> Self {
        let content = Content { content_type, schema: SchemaGenerator::subschema_for::<T>, example };
        self.answers.push(Answer { status, about, content: Some(content), headers: Vec::new() });
        self
    }

    /// It answers this, without a body.
    pub fn answers_nothing(mut self, status: u16, about: &'static str) -> Self {
        self.answers.push(Answer { status, about, content: None, headers: Vec::new() });
        self
    }

    /// The answer named last has this header.
    pub fn with_header(mut self, name: &'static str, about: &'static str) -> Self {
        self.answers.last_mut().expect("an answer before its header").headers.push((name, about));
        self
    }

    /// This is spoken of, though it is no body by itself.
    pub fn also_shows<T: JsonSchema>(mut self) -> Self {
        self.schemas.push(SchemaGenerator::subschema_for::<T>);
        self
    }

    /// It may be refused with these, beside what every route may be.
    pub fn fails(mut self, codes: &[Code]) -> Self {
        for code in codes {
            if !self.codes.contains(code) {
                self.codes.push(*code);
            }
        }
        self
    }
}

/// The schema of a `limit`.
pub(in crate::api) fn limit_parameter(default: usize, most: usize) -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": most, "default": default })
}

/// The schema of a duration in a query.
pub(in crate::api) fn duration_parameter() -> Value {
    // To 120 s, in each of the units; leading zeros don't matter.
    let [millis, seconds, minutes] =
        ["(120000|1[01][0-9]{4}|[0-9]{1,5})ms", "(120|1[01][0-9]|[0-9]{1,2})s", "[0-2]m"];
    json!({ "type": "string", "pattern": format!("^0*({millis}|{seconds}|{minutes})$") })
}
