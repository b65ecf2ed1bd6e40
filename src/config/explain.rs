//! A configuration in words, for `check`.

use std::fmt;

use url::Url;

use super::{
    BodyFormat, Bot, Client, Config, Credentials, Durability, EventFilter, HistorySource, HmacAlgorithm,
    Http, Identity, Messages, Method, Platform, RsaAlgorithm, Store, Streaming, TokenServiceBody, Warning,
    Webhook, WebhookAuth,
    plain::{Plain, plain_path},
    values::{duration_in_words, show_rate},
};

/// No list is longer; the rest is counted.
const LONGEST_LIST: usize = 20;

/// Says what a configuration means, without any of its secrets.
pub fn explain<'a>(config: &'a Config, warnings: &'a [Warning]) -> Explanation<'a> {
    Explanation { config, warnings }
}

/// A configuration in words: show it with `Display`.
#[derive(Debug, Clone, Copy)]
pub struct Explanation<'a> {
    config: &'a Config,
    warnings: &'a [Warning],
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { platform, http, store, messages, bots, users, webhooks, clients, .. } = self.config;
        listeners(f, http)?;
        talks_to(f, platform)?;
        keeps(f, store)?;
        sends(f, messages)?;
        list(f, "bot", bots.iter(), |f, (name, bot)| {
            line(f, format_args!("{name}: {:?}, id {}, client {}", bot.name, bot.id, bot.client_id))?;
            explain_sign_in(f, bot)
        })?;
        list(f, "user", users.iter(), |f, (name, user)| {
            let webhooks = match user.webhooks.as_slice() {
                [] => "no webhook (inbox and live tail only)".to_owned(),
                names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            };
            let who = identity(&user.identity);
            line(f, format_args!("{name}: {who} on {}, events to {webhooks}", user.bot))
        })?;
        list(f, "webhook", webhooks.iter(), |f, (name, webhook)| explain_webhook(f, name.as_str(), webhook))?;
        if clients.is_empty() {
            writeln!(f, "Clients: none, so every program on this machine may do everything")?;
        } else {
            list(f, "client", clients.iter(), |f, (name, client)| explain_client(f, name.as_str(), client))?;
        }
        self.advice(f)
    }
}

impl Explanation<'_> {
    fn advice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in self.warnings {
            writeln!(f, "{warning}")?;
        }
        Ok(())
    }
}

/// What is out of the ordinary about how a bot's users sign in, and what is asked for what they missed.
fn explain_sign_in(f: &mut fmt::Formatter<'_>, bot: &Bot) -> fmt::Result {
    match &bot.credentials {
        Credentials::ClientSecret { algorithm: HmacAlgorithm::Hs256, .. } => {}
        Credentials::ClientSecret { algorithm: HmacAlgorithm::Hs512, .. } => {
            detail(f, format_args!("JWTs signed with its client secret (HS512)"))?;
        }
        Credentials::PrivateKey { key, algorithm } => {
            let algorithm = match algorithm {
                RsaAlgorithm::Rs256 => "RS256",
                RsaAlgorithm::Rs512 => "RS512",
            };
            let bits = key.bits();
            detail(f, format_args!("JWTs signed with its private key ({algorithm}, {bits} bits)"))?;
        }
        Credentials::TokenService(service) => {
            let body = match service.body {
                TokenServiceBody::Json => "JSON",
                TokenServiceBody::Form => "a form",
            };
            detail(f, format_args!("JWTs from {} (asked with {body})", SafeUrl(&service.url)))?;
        }
    }
    match bot.history {
        HistorySource::Rtm => Ok(()),
        HistorySource::Botkit => detail(f, format_args!("what was missed is read with BotKit's getMessages")),
        HistorySource::Conversations => {
            detail(f, format_args!("what was missed is read with the Conversation History API"))
        }
    }
}

fn identity(identity: &Identity) -> String {
    match identity {
        Identity::Known(name) => format!("{name:?}"),
        Identity::Anonymous(Some(name)) => format!("{name:?} (anonymous)"),
        Identity::Anonymous(None) => "anonymous (the bridge makes its identity)".to_owned(),
    }
}

fn listeners(f: &mut fmt::Formatter<'_>, http: &Http) -> fmt::Result {
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    writeln!(f, "API:       {scheme}://{} (send messages, ask what became of them)", http.api)?;
    writeln!(f, "Ops:       http://{} (status page, health, metrics)", http.ops)
}

fn talks_to(f: &mut fmt::Formatter<'_>, platform: &Platform) -> fmt::Result {
    write!(f, "Platform:  {}", SafeUrl(&platform.url))?;
    if let Some(url) = &platform.websocket_url {
        write!(f, ", sockets to {}", SafeUrl(url))?;
    }
    if platform.secure_handshake {
        f.write_str(", with the secure handshake")?;
    }
    let (rate, burst) = (platform.request_rate, platform.request_burst);
    writeln!(f, ", at most {rate} requests a second and bot (bursts of {burst})")
}

fn keeps(f: &mut fmt::Formatter<'_>, store: &Store) -> fmt::Result {
    let survives = match store.durability {
        Durability::Fsync => "survives a power loss",
        Durability::Os => "survives a crash of the process, not of the machine",
    };
    writeln!(f, "Store:     {} ({survives})", plain_path(&store.path))
}

fn sends(f: &mut fmt::Formatter<'_>, messages: &Messages) -> fmt::Result {
    let (ttl, ack) = (duration_in_words(messages.ttl), duration_in_words(messages.ack_timeout));
    let attempts = messages.max_attempts;
    write!(
        f,
        "Messages:  expire after {ttl}; sent again after {ack} without an ack, {attempts} times in all"
    )?;
    match messages.in_flight {
        1 => writeln!(f, "; one at a time per user"),
        n => writeln!(f, "; up to {n} at a time per user, so a resend may change their order"),
    }
}

fn explain_webhook(f: &mut fmt::Formatter<'_>, name: &str, webhook: &Webhook) -> fmt::Result {
    line(f, format_args!("{name}: {}", SafeUrl(&webhook.url)))?;
    let events = match &webhook.events {
        EventFilter::All => "every event of the platform".to_owned(),
        EventFilter::AllAnd(types) => format!("every event of the platform, and {}", types.join(", ")),
        EventFilter::Only(types) => format!("events of type {}", types.join(", ")),
    };
    let format = match (webhook.format, &webhook.template) {
        (BodyFormat::Envelope, _) => "as JSON envelopes".to_owned(),
        (BodyFormat::Frame, _) => "as the platform's frames".to_owned(),
        (BodyFormat::Form, _) => "as forms".to_owned(),
        (BodyFormat::Template(_), template) => template.as_ref().map_or_else(String::new, |template| {
            let source = template.source();
            format!("as {} makes them ({})", Plain(&source.file), Plain(&source.content_type))
        }),
    };
    let streaming = match webhook.streaming {
        Streaming::Chunks => "",
        Streaming::Assembled => ", streamed answers as one event",
    };
    let transcript = match webhook.transcript {
        0 => String::new(),
        n => format!(", the last {n} messages when an agent takes over"),
    };
    let method = match webhook.method {
        Method::Post => "",
        Method::Put => ", by PUT",
    };
    detail(f, format_args!("{events}, {format}{method}{streaming}{transcript}"))?;
    let order = if webhook.ordered { "each user's in order" } else { "in any order" };
    let rate = webhook.rate.map(|rate| format!(", at most {}", show_rate(rate))).unwrap_or_default();
    detail(f, format_args!("{order}, up to {} at once{rate}", webhook.max_in_flight))?;
    let (timeout, max_age) = (duration_in_words(webhook.timeout), duration_in_words(webhook.max_age));
    detail(f, format_args!("{timeout} for an attempt, tried for {max_age}, then a dead letter"))?;
    detail(f, format_args!("{}", authentication(webhook)))
}

/// How the receiver can know who is calling.
fn authentication(webhook: &Webhook) -> String {
    let mut means = vec![match webhook.secrets.len() {
        0 => "NOT signed".to_owned(),
        1 => "signed".to_owned(),
        n => format!("signed with {n} secrets (rotation)"),
    }];
    match webhook.auth {
        WebhookAuth::None => {}
        WebhookAuth::Bearer(_) => means.push("with a bearer token".into()),
        WebhookAuth::Basic { .. } => means.push("with basic authentication".into()),
    }
    if webhook.client_certificate.is_some() {
        means.push("with a client certificate".into());
    }
    if !webhook.headers.is_empty() {
        let names: Vec<_> = webhook.headers.iter().map(|(name, _)| name.as_str()).collect();
        means.push(format!("with the headers {}", names.join(", ")));
    }
    means.join(", ")
}

fn explain_client(f: &mut fmt::Formatter<'_>, name: &str, client: &Client) -> fmt::Result {
    let scopes =
        [(client.scopes.send, "send"), (client.scopes.read, "read"), (client.scopes.admin, "administrate")];
    let scopes: Vec<_> = scopes.iter().filter(|(granted, _)| *granted).map(|(_, scope)| *scope).collect();
    let rate = client.rate.map(|rate| format!(", at most {}", show_rate(rate))).unwrap_or_default();
    let rotation = if client.tokens.len() > 1 { " (several tokens: rotation)" } else { "" };
    let users = if client.users.iter().any(|glob| glob == "*") {
        "every user".to_owned()
    } else {
        client.users.join(", ")
    };
    line(f, format_args!("{name}: may {} for {users}{rate}{rotation}", scopes.join(" and ")))
}

/// A heading with a count, and the first of the things.
fn list<T>(
    f: &mut fmt::Formatter<'_>,
    word: &str,
    things: impl ExactSizeIterator<Item = T>,
    mut show: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let count = things.len();
    let plural = if count == 1 { "" } else { "s" };
    let colon = if count == 0 { "" } else { ":" };
    writeln!(f, "{count} {word}{plural}{colon}")?;
    for thing in things.take(LONGEST_LIST) {
        show(f, thing)?;
    }
    match count.saturating_sub(LONGEST_LIST) {
        0 => Ok(()),
        more => line(f, format_args!("... and {more} more")),
    }
}

fn line(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {}", Plain(&text.to_string()))
}

fn detail(f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "    {}", Plain(&text.to_string()))
}

/// A URL without its query, which may hold a token.
struct SafeUrl<'a>(&'a Url);

impl fmt::Display for SafeUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        let had_query = url.query().is_some();
        url.set_query(None);
        write!(f, "{}{}", Plain(url.as_str()), if had_query { "?..." } else { "" })
    }
}
