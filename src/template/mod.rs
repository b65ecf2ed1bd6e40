//! Templates of webhooks' bodies: what a receiver wants that takes neither an envelope nor a form.
//!
//! A template is a text in the language of [minijinja](https://docs.rs/minijinja), without includes, imports and
//! macros, that sees an envelope's fields by their names. What it makes of an envelope is a function of the two alone,
//! and bounded: in steps, and in size. What it prints is escaped as its content type asks.

mod content_type;

use std::{
    fmt,
    io::{self, Write},
    sync::Arc,
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, escape_formatter,
};
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};

pub use self::content_type::{Escaping, escaping};
use crate::messages::Fingerprint;

/// No template is longer, in bytes.
pub const LARGEST_SOURCE: u64 = 64 << 10;
/// No body that a template makes is longer, in bytes.
pub const LARGEST_BODY: usize = 4 << 20;
/// Steps that a template may take for a body: a hundred times what a long list of choices takes.
const MOST_STEPS: u64 = 250_000;
/// What the template is called in its environment.
const NAME: &str = "body";
/// Escaping of values in a form.
const FORM: &str = "form";

/// A template's name for ever: one with another text, file name or content type is another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TemplateId(pub [u8; 16]);

impl fmt::Debug for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a template is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSource {
    /// The name of the file that it came from, without directories: only people read it.
    pub file: String,
    /// The `content-type` of what it makes.
    pub content_type: String,
    /// The text.
    pub text: String,
}

/// A template, ready to be rendered as often as it takes. Cloning it is cheap.
#[derive(Clone)]
pub struct Template {
    shared: Arc<Shared>,
}

struct Shared {
    id: TemplateId,
    source: TemplateSource,
    content_type: HeaderValue,
    escaping: Escaping,
    environment: Environment<'static>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("id", &self.shared.id).field("file", &self.file()).finish()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

/// Why a template can't be used, or can't make a body of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The name of its file.
    pub file: String,
    /// The line at fault, if it is one.
    pub line: Option<usize>,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        match line {
            Some(line) => write!(f, "{file}, line {line}: {what}"),
            None => write!(f, "{file}: {what}"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Makes a template ready, if its text is one.
    pub fn compile(source: TemplateSource) -> Result<Self, TemplateError> {
        let wrong =
            |what: &str| TemplateError { file: source.file.clone(), line: None, what: what.to_owned() };
        let escaping = escaping(&source.content_type).ok_or_else(|| wrong("its content type is none"))?;
        let content_type =
            HeaderValue::from_str(&source.content_type).map_err(|_| wrong("its content type is none"))?;
        let mut environment = environment(escaping);
        environment
            .add_template_owned(NAME, source.text.clone())
            .map_err(|error| in_words(&source, &error))?;
        let packed = serde_json::to_vec(&source).expect("plain data is always JSON");
        let id = TemplateId(Fingerprint::of(&packed).0);
        Ok(Self { shared: Arc::new(Shared { id, source, content_type, escaping, environment }) })
    }

    /// Its name for ever.
    pub fn id(&self) -> TemplateId {
        self.shared.id
    }

    /// What it is made of.
    pub fn source(&self) -> &TemplateSource {
        &self.shared.source
    }

    /// The name of its file.
    pub fn file(&self) -> &str {
        &self.shared.source.file
    }

    /// The `content-type` of what it makes.
    pub fn content_type(&self) -> &HeaderValue {
        &self.shared.content_type
    }

    /// What it makes of an envelope.
    pub fn render(&self, envelope: &[u8]) -> Result<Vec<u8>, TemplateError> {
        let wrong = |what: String| TemplateError { file: self.file().to_owned(), line: None, what };
        let fields = fields(envelope).map_err(|error| wrong(format!("the event can't be read: {error}")))?;
        let template =
            self.shared.environment.get_template(NAME).map_err(|error| in_words(self.source(), &error))?;
        let mut body = Bounded { bytes: Vec::new(), is_over: false };
        let rendered = template.render_captured_to(fields, &mut body).map(drop);
        if body.is_over {
            return Err(wrong(format!("the body would be larger than {} MiB", LARGEST_BODY >> 20)));
        }
        rendered.map_err(|error| in_words(self.source(), &error))?;
        if self.shared.escaping == Escaping::Json {
            // A receiver would refuse it for ever; here it is told why.
            serde_json::from_slice::<serde::de::IgnoredAny>(&body.bytes)
                .map_err(|error| wrong(format!("what it makes is not JSON: {error}")))?;
        }
        Ok(body.bytes)
    }
}

/// An envelope's fields, and those that it leaves out when there is nothing to say: a template need not ask.
fn fields(envelope: &[u8]) -> Result<Value, serde_json::Error> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(envelope)?;
    for (name, nothing) in [
        ("choices", serde_json::json!([])),
        ("attachments", serde_json::json!([])),
        ("chunks", serde_json::Value::Null),
        ("complete", serde_json::Value::Null),
    ] {
        fields.entry(name).or_insert(nothing);
    }
    Ok(Value::from_serialize(fields))
}

fn environment(escaping: Escaping) -> Environment<'static> {
    let mut environment = Environment::new();
    // Its words about a mistake must not depend on how the program was built.
    environment.set_debug(false);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(move |_| match escaping {
        Escaping::Markup => AutoEscape::Html,
        Escaping::Json => AutoEscape::Json,
        Escaping::Form => AutoEscape::Custom(FORM),
        Escaping::None => AutoEscape::None,
    });
    environment.set_formatter(print);
    environment.add_filter("urlencode", |value: &Value| Value::from_safe_string(percent_encoded(value)));
    // It prints what there is, whoever it is about.
    environment.remove_global("debug");
    environment
}

/// Prints a value as the content type asks. Nothing is printed of `null` but in JSON.
fn print(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match state.auto_escape() {
        AutoEscape::Json => escape_formatter(out, state, value),
        _ if value.is_none() => Ok(()),
        AutoEscape::Custom(FORM) if !value.is_safe() => {
            out.write_str(&percent_encoded(value)).map_err(Error::from)
        }
        AutoEscape::Custom(_) => write!(out, "{value}").map_err(Error::from),
        AutoEscape::Html if !value.is_safe() => match value.as_str() {
            Some(text) => print_markup(out, text).map_err(Error::from),
            None => print_markup(out, &value.to_string()).map_err(Error::from),
        },
        _ => escape_formatter(out, state, value),
    }
}

/// As text or an attribute's value, in either kind of quotes.
fn print_markup(out: &mut Output<'_>, text: &str) -> fmt::Result {
    for part in text.split_inclusive(needs_escape) {
        let Some(last) = part.chars().next_back().filter(|c| needs_escape(*c)) else {
            out.write_str(part)?;
            continue;
        };
        out.write_str(&part[..part.len() - last.len_utf8()])?;
        out.write_str(match last {
            '<' => "&lt;",
            '>' => "&gt;",
            '&' => "&amp;",
            '"' => "&quot;",
            '\'' => "&#39;",
            _ => "\u{fffd}",
        })?;
    }
    Ok(())
}

fn needs_escape(character: char) -> bool {
    matches!(character, '<' | '>' | '&' | '"' | '\'') || is_foreign_to_xml(character)
}

fn percent_encoded(value: &Value) -> String {
    if value.is_none() {
        return String::new();
    }
    let text = value.to_string();
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Characters that no XML document may have, not even escaped.
fn is_foreign_to_xml(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn in_words(source: &TemplateSource, error: &Error) -> TemplateError {
    let at = at_fault(&source.text, error).map(|text| format!(": `{text}`")).unwrap_or_default();
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {MOST_STEPS} steps"),
        (ErrorKind::UndefinedError, None) => format!("there is no such value{at}"),
        (kind, Some(detail)) => format!("{kind}: {detail}{at}"),
        (kind, None) => format!("{kind}{at}"),
    };
    TemplateError { file: source.file.clone(), line: error.line(), what }
}

/// What an error is about, if it is short enough to be shown.
fn at_fault<'s>(text: &'s str, error: &Error) -> Option<&'s str> {
    let range = error.range()?;
    // It is told of `.b.c` where `a.b.c` stands.
    let is_of_path = |c: char| c.is_alphanumeric() || "_.[]".contains(c);
    let start = text.get(..range.start)?.trim_end_matches(is_of_path).len();
    let shown = text.get(start..range.end)?.trim();
    ((1..=80).contains(&shown.len()) && !shown.contains(char::is_control)).then_some(shown)
}

/// Memory that takes so much and no more.
struct Bounded {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > LARGEST_BODY {
            self.is_over = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
