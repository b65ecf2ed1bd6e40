//! `[webhooks.NAME]`

use std::{path::Path, time::Duration};

use reqwest::header::{HeaderName, HeaderValue};

use super::urls::{self, Purpose};
use crate::{
    config::{
        BodyFormat, Environment, EventFilter, Method, Secret, SigningKey, Streaming, Webhook, WebhookAuth,
        is_report_type,
        load::read_limited,
        plain::{Plain, plain},
        reader::{self, Item, TableReader, flag, shown},
        secrets::{Literal, is_token, secret, secrets, signing_key},
        suggest::closest,
        tls_files,
        tree::Value,
        values::{Invalid, show_duration},
    },
    template::{LARGEST_SOURCE, Template, TemplateSource, escaping},
};

/// The bridge's own event types; platform types are the platform's to invent.
const BRIDGE_TYPES: [&str; 4] = ["bridge.message", "bridge.connection", "bridge.gap", AGENT_SESSION];
/// The one that may come with a transcript.
const AGENT_SESSION: &str = "bridge.agent_session";
/// More messages are not told.
const MOST_TRANSCRIPT: u32 = 100;
/// The platform's documented event types.
const PLATFORM_TYPES: [&str; 7] = [
    "bot_response",
    "user_message",
    "typing",
    "events",
    "bot_active",
    "session_start",
    "agent_session_start",
];

pub(super) fn read(mut table: TableReader<'_>, env: &dyn Environment) -> Option<Webhook> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const TEN_MINUTES: Duration = Duration::from_secs(600);
    const SHORTEST: Duration = Duration::from_millis(10);

    let url = table
        .required("url", "\"https://crm.example.com/kore-events\"", |item| urls::url(item, Purpose::Webhook));
    let events = table.knob("events", EventFilter::default(), events);
    let keys = table.optional("secret", |item| signing_keys(item, env));
    // Whose values those are doesn't matter: what isn't set is the default of any webhook.
    let defaults = Webhook::new(url.clone().unwrap_or_else(placeholder_url));
    let timeout = table.knob("timeout", defaults.timeout, |item| item.duration(SHORTEST..=TEN_MINUTES));
    let backoff_min = table.knob("backoff_min", defaults.backoff_min, |item| item.duration(SHORTEST..=DAY));
    let backoff_max = table.knob("backoff_max", defaults.backoff_max, |item| item.duration(SHORTEST..=DAY));
    check_backoff(&table, backoff_min, backoff_max);
    let max_age = table.knob("max_age", defaults.max_age, |item| item.duration(SHORTEST..=LONGEST));
    let max_in_flight = table.knob("max_in_flight", defaults.max_in_flight, |item| item.many(1..=10_000));
    let rate = table.optional("rate", reader::rate);
    let ordered = table.knob("ordered", defaults.ordered, flag);
    let format = table.knob("format", defaults.format, |item| {
        item.choice(&[
            ("envelope", BodyFormat::Envelope),
            ("frame", BodyFormat::Frame),
            ("form", BodyFormat::Form),
        ])
    });
    let template = template(&mut table);
    let method = table
        .knob("method", defaults.method, |item| item.choice(&[("POST", Method::Post), ("PUT", Method::Put)]));
    let streaming = table.knob("streaming", defaults.streaming, |item| {
        item.choice(&[("chunks", Streaming::Chunks), ("assembled", Streaming::Assembled)])
    });
    let transcript = table.knob("transcript", defaults.transcript, |item| item.many(0..=MOST_TRANSCRIPT));
    let auth = authentication(&mut table, env);
    let sets_authorization = table.first_of(&["bearer", "basic_auth"]).is_some();
    let headers =
        table.optional("headers", |item| headers(item, env, sets_authorization)).unwrap_or_default();
    let client_certificate = table
        .optional("client_certificate", |item| tls_files::key_pair(item, "webhooks.*.client_certificate"));
    let ca = table.optional("ca", tls_files::authorities);

    if let (Some(url), Some(item)) = (&url, table.item("url")) {
        if urls::is_exposed(url) {
            item.warn("events travel unencrypted over http://; use https:// outside this machine");
        }
        for key in ["client_certificate", "ca"] {
            if let (Some(item), "http") = (table.item(key), url.scheme()) {
                item.warn("has no effect on an http:// URL");
            }
        }
    }
    if let Some(item) = table.item("transcript")
        && transcript > 0
        && !events.wants_report(AGENT_SESSION)
    {
        item.warn("has no effect: `events` does not name `bridge.agent_session`, the event that carries it");
    }
    if keys.is_none() && table.is_present() && table.item("secret").is_none() {
        table.warn("has no `secret`: the receiver can't tell the bridge's events from forged ones");
    }
    table.finish();
    Some(Webhook {
        url: url?,
        events,
        secrets: keys.unwrap_or_default(),
        timeout,
        backoff_min,
        backoff_max,
        max_age,
        max_in_flight,
        rate,
        ordered,
        format: template.as_ref().map_or(format, |template| BodyFormat::Template(template.id())),
        template,
        method,
        streaming,
        transcript,
        headers,
        auth,
        client_certificate,
        ca,
    })
}

/// `template` and `content_type`, which go together.
fn template(table: &mut TableReader<'_>) -> Option<Template> {
    const EXAMPLE: &str = "\"text/xml; charset=utf-8\"";
    let content_type = table.optional("content_type", |item| {
        let content_type = item.nonempty(EXAMPLE)?;
        if escaping(content_type).is_none() {
            item.problem(
                Invalid::new("is not a content type")
                    .help(format!("give it as receivers know it, such as {EXAMPLE}")),
            );
            return None;
        }
        Some(content_type.to_owned())
    });
    let file = table.optional("template", |item| {
        let path = item.path("\"soap-desk.xml\"")?;
        let text = item.checked(read_template(&path))?;
        Some((path, text))
    });
    match (table.item("template"), table.item("content_type"), table.item("format")) {
        (Some(template), None, _) => template.problem(
            Invalid::new("needs a `content_type`: values are escaped as that asks")
                .help(format!("add `content_type = {EXAMPLE}`")),
        ),
        (None, Some(content_type), _) => content_type.problem(
            Invalid::new("has no effect without `template`: each format has its own")
                .help("remove it, or add a `template`"),
        ),
        (Some(_), Some(_), Some(format)) => format.problem(
            Invalid::new("`template` and `format` both say what the body is").help("remove one of them"),
        ),
        _ => {}
    }
    let ((path, text), content_type) = (file?, content_type?);
    let name = path.file_name().unwrap_or(path.as_os_str());
    let source = TemplateSource { file: name.to_string_lossy().into_owned(), content_type, text };
    let compiled = Template::compile(source);
    table.item("template")?.checked(compiled.map_err(|error| {
        Invalid::new(Plain(&error.to_string()).to_string())
            .help("the language of templates: docs/webhooks.md")
    }))
}

fn read_template(path: &Path) -> Result<String, Invalid> {
    let bytes = read_limited(path, LARGEST_SOURCE).map_err(|error| {
        Invalid::new(format!("can't read {}: {error}", shown(path)))
            .help("correct the path, or let the user that runs rtm-bridge read it")
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Invalid::new(format!("{} is not UTF-8", shown(path))).help("save it as UTF-8"))
}

fn placeholder_url() -> url::Url {
    url::Url::parse("https://webhook.invalid").expect("a constant URL")
}

/// That a backoff grows.
pub(super) fn check_backoff(table: &TableReader<'_>, min: Duration, max: Duration) {
    if min > max
        && let Some(item) = table.first_of(&["backoff_min", "backoff_max"])
    {
        let (min, max) = (show_duration(min), show_duration(max));
        item.problem(
            Invalid::new(format!("backoff_min ({min}) is larger than backoff_max ({max})"))
                .help("the first delay can't be longer than the last"),
        );
    }
}

fn events(item: Item<'_>) -> Option<EventFilter> {
    if matches!(&item.node.value, Value::Text(text) if text == "*") {
        return Some(EventFilter::All);
    }
    let list = item.list("[\"bot_response\"]")?;
    if list.is_empty() {
        item.problem(Invalid::new("must not be empty").help("name event types; `[\"*\"]` for every type"));
        return None;
    }
    let mut types = Vec::new();
    for node in list {
        let element = item.element(node);
        let Some(event_type) = element.nonempty("\"bot_response\"") else { continue };
        let event_type = event_type.to_ascii_lowercase();
        check_event_type(element, &event_type);
        if !types.contains(&event_type) {
            types.push(event_type);
        }
    }
    if !types.iter().any(|event_type| event_type == "*") {
        return Some(EventFilter::Only(types));
    }
    types.retain(|event_type| is_report_type(event_type));
    Some(if types.is_empty() { EventFilter::All } else { EventFilter::AllAnd(types) })
}

fn check_event_type(item: Item<'_>, event_type: &str) {
    let known = || BRIDGE_TYPES.into_iter().chain(PLATFORM_TYPES);
    if known().any(|known| known == event_type) || event_type == "*" {
        return;
    }
    let shown = plain(event_type);
    match closest(event_type, known()) {
        // Those with `bridge.` are ours: others can't ever come.
        meant if event_type.starts_with("bridge.") => item.problem(
            Invalid::new(format!("the bridge has no events of type `{shown}`"))
                .help(format!("did you mean `{}`?", meant.unwrap_or(BRIDGE_TYPES[0]))),
        ),
        Some(meant) if !meant.contains(event_type) => {
            item.warn(format!("`{shown}` is not a documented event type; did you mean `{meant}`?"));
        }
        _ if event_type.contains('*') => item.problem(
            Invalid::new(format!("`{shown}`: event types are whole names, or `*` for all of them"))
                .help("list each type"),
        ),
        _ => {}
    }
}

fn signing_keys(item: Item<'_>, env: &dyn Environment) -> Option<Vec<SigningKey>> {
    let keys: Vec<_> =
        secrets(item, env)?.iter().map(|(element, secret)| signing_key(*element, secret)).collect();
    keys.into_iter().collect()
}

fn authentication(table: &mut TableReader<'_>, env: &dyn Environment) -> WebhookAuth {
    let bearer = table.optional("bearer", |item| bearer(item, env).map(WebhookAuth::Bearer));
    let basic = table.optional("basic_auth", |item| basic_auth(item, env));
    if let (Some(_), Some(item)) = (table.item("bearer"), table.item("basic_auth")) {
        item.hidden_problem(
            Invalid::new("`bearer` and `basic_auth` both set the Authorization header")
                .help("remove one of them"),
        );
    }
    bearer.or(basic).unwrap_or(WebhookAuth::None)
}

pub(super) fn bearer(item: Item<'_>, env: &dyn Environment) -> Option<Secret> {
    let token = secret(item, env, Literal::Warned)?;
    if !is_token(&token) {
        item.hidden_problem(
            Invalid::new("a token consists of visible ASCII characters, without spaces")
                .help("give the token alone, without `Bearer`"),
        );
        return None;
    }
    Some(token)
}

fn basic_auth(item: Item<'_>, env: &dyn Environment) -> Option<WebhookAuth> {
    const EXAMPLE: &str = "`{ user = \"bridge\", password = { env = \"CRM_PASSWORD\" } }`";
    let mut table = TableReader::inline(item, "webhooks.*.basic_auth", EXAMPLE)?;
    let user = table.required("user", "\"bridge\"", |item| {
        let user = item.nonempty("\"bridge\"")?;
        if user.contains(':') || user.contains(char::is_control) {
            item.hidden_problem(
                Invalid::new("a user's name has no colon and no control characters")
                    .help("the password goes into `password`"),
            );
            return None;
        }
        Some(user.to_owned())
    });
    let password =
        table.required("password", "{ env = \"CRM_PASSWORD\" }", |item| secret(item, env, Literal::Warned));
    table.finish();
    Some(WebhookAuth::Basic { user: user?, password: password? })
}

pub(super) fn headers(
    item: Item<'_>,
    env: &dyn Environment,
    sets_authorization: bool,
) -> Option<Vec<(String, Secret)>> {
    let Value::Table(table) = &item.node.value else {
        item.hidden_problem(item.type_mismatch("a table", "`{ x-team = \"sales\" }`"));
        return None;
    };
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (key, node) in &table.entries {
        let path = item.path.join(&key.name);
        let item = Item { node, path: &path, ..item };
        let Some(name) = header_name(item, &key.name, sets_authorization) else { continue };
        if headers.iter().any(|(known, _)| *known == name) {
            item.hidden_problem(
                Invalid::new("this header is set twice").help("the letter case of a header doesn't matter"),
            );
        }
        let Some(value) = secret(item, env, Literal::Usual) else { continue };
        if HeaderValue::from_str(value.expose()).is_err() {
            item.hidden_problem(
                Invalid::new("a header's value has no line breaks or control characters").help("remove them"),
            );
            continue;
        }
        headers.push((name, value));
    }
    Some(headers)
}

/// A header's name in lower case, if it may be set.
fn header_name(item: Item<'_>, name: &str, sets_authorization: bool) -> Option<String> {
    // What frames the request is the HTTP client's business.
    const RESERVED: [&str; 13] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "user-agent",
    ];
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        item.hidden_problem(
            Invalid::new("is not a header's name").help("letters, digits and hyphens, such as \"x-team\""),
        );
        return None;
    };
    let lower = parsed.as_str();
    let invalid =
        if RESERVED.contains(&lower) || lower.starts_with("webhook-") || lower.starts_with("bridge-") {
            Invalid::new("this header is set by the bridge itself").help("choose another name")
        } else if lower == "authorization" && sets_authorization {
            Invalid::new("`bearer` and `basic_auth` set this header").help("remove one of them")
        } else {
            return Some(lower.to_owned());
        };
    item.hidden_problem(invalid);
    None
}
