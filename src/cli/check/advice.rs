//! What to do about a step that failed. Plain words; names of knobs and commands that can be typed.

use url::Url;

use crate::{
    config::{Config, Credentials, WebhookAuth},
    names::{BotName, WebhookName},
    rtm::{
        failure::{Failure, FailureKind, Step},
        probe::{Spared, Trouble},
        session::CloseCause,
        token::Skew,
    },
    unreachable::{TlsTrouble, Unreachable},
    webhook::{self, AttemptResult, Outcome, RetryCause, Unreached},
};

use super::online::MOST_SKEW;

/// What is wrong with this machine's clock, and what to do.
pub(super) fn clock(skew: Skew) -> (String, String) {
    let way = if skew.0 > 0 { "behind" } else { "ahead of" };
    let said = format!("this machine's clock is {} s {way} the platform's", skew.0.unsigned_abs() / 1000);
    let advice = "Set it, and keep it set (timedatectl set-ntp true). The bridge makes up for it when it \
                  signs in, but receivers refuse webhook signatures of another time, and certificates are \
                  judged by it.";
    (said, advice.to_owned())
}

/// What to do about a failed step of a sign-in.
pub(super) fn sign_in(config: &Config, bot: &BotName, trouble: &Trouble, skew: Option<Skew>) -> String {
    match trouble {
        Trouble::Request(failure) => request(config, bot, failure, skew),
        Trouble::Closed(CloseCause::Code(1008, _)) => {
            "The platform allows this user no connection: look in the platform whether the bot is suspended, \
             the user blocked, or a limit of the account reached."
                .to_owned()
        }
        Trouble::Closed(_) => {
            "Try again in a minute. If it stays: a proxy or firewall may cut WebSockets off, or the platform \
             is in trouble."
                .to_owned()
        }
        Trouble::Silent(_) => "Something between here and the platform takes WebSockets but passes nothing \
                               on: look at proxies and firewalls. A slow network may need a longer \
                               platform.pong_timeout."
            .to_owned(),
    }
}

fn request(config: &Config, bot: &BotName, failure: &Failure, skew: Option<Skew>) -> String {
    if failure.step == Step::TokenService {
        return format!(
            "Look at [bots.{bot}] sts: its url, headers, fields and jwt_field, whether this machine can reach it, and \
             what its own log says of the request."
        );
    }
    if let Some(cause) = failure.unreachable {
        return match failure.step {
            Step::Open => socket_unreachable(config, cause),
            _ => unreachable(cause, &Place::platform(config)),
        };
    }
    let is_socket = failure.step == Step::Open;
    match failure.kind {
        FailureKind::Unauthorized => unauthorized(config, bot, skew),
        FailureKind::TokenRefused => format!(
            "The platform refuses a token that it has just granted. Is the bot of [bots.{bot}] name and id \
             the one that the app client_id belongs to?"
        ),
        FailureKind::RateLimited => {
            let wait = failure
                .retry_after
                .map_or_else(|| "a few minutes".to_owned(), |told| format!("{} s", told.as_secs()));
            format!(
                "The bot's requests are used up. Wait {wait}, then check again, with fewer users (--user \
                 NAME). If it happens in daily use, lower platform.request_rate: other programs may share \
                 the limit."
            )
        }
        FailureKind::Refused { status: 300..=399 } => {
            "The answer leads elsewhere, and redirects are not followed: set platform.url to the host that \
             serves the API."
                .to_owned()
        }
        FailureKind::Refused { .. } if is_socket => {
            "A proxy in between may refuse WebSockets (the headers Connection and Upgrade must pass), or \
             platform.websocket_url may lead to the wrong place."
                .to_owned()
        }
        FailureKind::Refused { .. } => format!(
            "Compare [bots.{bot}] name (letter case counts) and id with the platform. Is the bot published, \
             and its Web/Mobile channel enabled? Is platform.url the right host, with the right base path?"
        ),
        FailureKind::Server { .. } => {
            "The platform itself is in trouble: try again later, and look at its status page. The bridge \
             goes on trying by itself."
                .to_owned()
        }
        FailureKind::Timeout => {
            let knob = if is_socket { "connect_timeout" } else { "request_timeout" };
            format!(
                "Nothing came in time (platform.{knob}). A firewall that drops, a network that only lets a \
                 proxy out (the bridge uses none), or a slow platform."
            )
        }
        FailureKind::Network => "The connection broke before the answer. Try again; if it stays, look at \
                                 proxies and firewalls in between."
            .to_owned(),
        FailureKind::Impossible => match failure.step {
            Step::Jwt => {
                format!("Look at the keys of [bots.{bot}]: client_secret, or private_key and algorithm.")
            }
            _ => "Change the configuration as the message says.".to_owned(),
        },
        FailureKind::Malformed => match failure.step {
            Step::Jwt => {
                format!("Look at [bots.{bot}] client_secret, and whether this machine has /dev/urandom.")
            }
            Step::Open => "What answers is not the platform's WebSocket: look at platform.websocket_url and \
                           at proxies in between."
                .to_owned(),
            _ => "What answers is not what the platform's API answers: a login page of a proxy, another \
                  server, or sockets on another domain (see platform.url and platform.websocket_url)."
                .to_owned(),
        },
    }
}

fn unauthorized(config: &Config, bot: &BotName, skew: Option<Skew>) -> String {
    let mut advice = String::new();
    if skew.is_some_and(|skew| u128::from(skew.0.unsigned_abs()) > MOST_SKEW.as_millis()) {
        advice.push_str("Set this machine's clock first. ");
    }
    let what = match config.bots.get(bot).map(|bot| &bot.credentials) {
        Some(Credentials::PrivateKey { .. }) => {
            "client_id, private_key (the app must have its public half: openssl pkey -in KEY -pubout), name \
             (letter case counts), id and algorithm"
        }
        Some(Credentials::TokenService(_)) => {
            "client_id, name (letter case counts) and id; and see whether the JWT that its sts makes is signed \
             with that client's secret and has its iss, its sub and a time that is not over"
        }
        Some(Credentials::ClientSecret { .. }) | None => {
            "client_id, client_secret (it must be that client's), name (letter case counts), id and algorithm"
        }
    };
    let app = "Is the app enabled for the bot? Is platform.audience as the platform wants it?";
    advice.push_str(&format!("Compare with the bot's app in the platform: [bots.{bot}] {what}. {app}"));
    advice
}

/// Why others were not tried, and what to do.
pub(super) fn spared(why: Spared) -> (&'static str, &'static str) {
    match why {
        Spared::RateLimited => (
            "the platform asked for fewer requests before it was these users' turn",
            "Do as above, then check them with --user NAME.",
        ),
        Spared::Unreachable => (
            "another user of the bot found that the platform can't be reached",
            "Do as above, then check again.",
        ),
    }
}

/// What to do about settings that can't be used.
pub(super) fn unusable(name: &WebhookName) -> String {
    format!("Put the file right that [webhooks.{name}] names, and see that the bridge's user may read it.")
}

/// What to do about a webhook that can't be reached.
pub(super) fn webhook(config: &Config, name: &WebhookName, unreached: &Unreached) -> String {
    unreachable(unreached.cause, &Place::webhook(config, name))
}

/// What to do about a test event that was not taken; none if it was.
pub(super) fn post(config: &Config, name: &WebhookName, result: &AttemptResult) -> Option<String> {
    let settings = &config.webhooks[name];
    let advice = match result.outcome {
        Outcome::Delivered => return None,
        Outcome::Refused => {
            "The receiver refuses this event. If it does so only because it doesn't know the type \
             bridge.test, all is well; else its log says more. A real event would become a dead letter."
                .to_owned()
        }
        Outcome::Gone => format!(
            "The receiver says that it is gone for good. A running bridge would disable the webhook: correct \
             [webhooks.{name}] url, or remove the webhook."
        ),
        Outcome::Unrendered => format!("Look at [webhooks.{name}] template: it makes nothing of this event."),
        Outcome::Retry { cause, .. } => retry(cause, name, settings),
    };
    Some(advice)
}

fn retry(cause: RetryCause, name: &WebhookName, settings: &crate::config::Webhook) -> String {
    match cause {
        RetryCause::NoAnswer(webhook::FailureKind::Timeout) => format!(
            "The receiver took the event and did not answer in time. It should answer first and work then; \
             or give it longer: [webhooks.{name}] timeout."
        ),
        RetryCause::NoAnswer(webhook::FailureKind::Tls) => tls(
            TlsTrouble::Refused,
            &Place {
                host: host(&settings.url),
                knob: format!("[webhooks.{name}] url"),
                ca: format!("[webhooks.{name}] ca"),
                url: settings.url.clone(),
            },
        ),
        RetryCause::NoAnswer(_) => {
            "The connection came about, and no HTTP answer: is the port that of an HTTP server, with or \
             without TLS as the url says? The receiver's log says more."
                .to_owned()
        }
        RetryCause::Redirected => format!(
            "Redirects are never followed: set [webhooks.{name}] url to where the receiver really is. A \
             missing or superfluous / at the end is a common cause."
        ),
        RetryCause::Denied => {
            let signature = match settings.secrets.is_empty() {
                true => "The receiver may want a signature ([webhooks.NAME] secret). ",
                false => {
                    "The secret must be the same on both sides, the machines' clocks right, and the \
                          signature checked over the raw body. "
                }
            };
            let credentials = match settings.auth {
                WebhookAuth::None => "If it wants credentials: bearer, basic_auth or headers.",
                WebhookAuth::Bearer(_) => "Is the bearer token right?",
                WebhookAuth::Basic { .. } => "Are basic_auth's user and password right?",
            };
            format!("{signature}{credentials}").replace("NAME", name.as_str())
        }
        RetryCause::NotFound => format!("Look at the path of [webhooks.{name}] url."),
        RetryCause::NotNow | RetryCause::Throttled => format!(
            "The receiver is busy; a running bridge tries again by itself. If it stays, limit what it gets: \
             [webhooks.{name}] rate and max_in_flight."
        ),
        RetryCause::ServerError => "The receiver fails, or the proxy before it finds no receiver: its log \
                                    says more. A running bridge tries again by itself."
            .to_owned(),
        RetryCause::Unexpected => {
            "What answers is no HTTP server as we know them: look at the url.".to_owned()
        }
    }
}

/// Where a connection was to go, and the knobs that say so.
struct Place {
    host: String,
    url: Url,
    knob: String,
    ca: String,
}

impl Place {
    fn platform(config: &Config) -> Self {
        let url = config.platform.url.clone();
        Self { host: host(&url), url, knob: "platform.url".to_owned(), ca: "platform.ca".to_owned() }
    }

    fn webhook(config: &Config, name: &WebhookName) -> Self {
        let url = config.webhooks[name].url.clone();
        let (knob, ca) = (format!("[webhooks.{name}] url"), format!("[webhooks.{name}] ca"));
        Self { host: host(&url), url, knob, ca }
    }

    /// Scheme, host and port, without what may be secret in a path.
    fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}

fn socket_unreachable(config: &Config, cause: Unreachable) -> String {
    match &config.platform.websocket_url {
        Some(url) => {
            let knob = "platform.websocket_url".to_owned();
            unreachable(
                cause,
                &Place { host: host(url), url: url.clone(), knob, ca: "platform.ca".to_owned() },
            )
        }
        None => {
            "The API can be reached, and the host that it names for sockets can't: let this machine reach \
                 that one, too, or say with platform.websocket_url where sockets are."
                .to_owned()
        }
    }
}

fn unreachable(cause: Unreachable, place: &Place) -> String {
    let Place { host, knob, .. } = place;
    match cause {
        Unreachable::Name => format!(
            "Is the host in {knob} right, and can this machine look up names? Try: getent hosts {host}"
        ),
        Unreachable::Refused => format!(
            "Nobody listens at {}: is the server running, is the port in {knob} right, does a firewall refuse?",
            place.origin()
        ),
        Unreachable::Silent => format!(
            "Nothing answers at {}: a firewall that drops, or a network that only lets a proxy out (the \
             bridge uses none). Try from this machine: curl -v {}",
            place.origin(),
            place.origin()
        ),
        Unreachable::Tls(trouble) => tls(trouble, place),
        Unreachable::Other => format!(
            "Look at the network between here and {host}: routes, firewalls, proxies. Try from this machine: \
             curl -v {}",
            place.origin()
        ),
    }
}

fn tls(trouble: TlsTrouble, place: &Place) -> String {
    let Place { host, knob, ca, .. } = place;
    match trouble {
        TlsTrouble::Expired => format!(
            "The certificate of {host} has expired: whoever runs it must renew it, and load the new one. If it \
             has not, this machine's clock is wrong."
        ),
        TlsTrouble::NotYetValid => {
            format!("The certificate of {host} begins in the future: is this machine's clock right?")
        }
        TlsTrouble::UnknownAuthority => format!(
            "Nobody that is trusted has signed the certificate of {host}. For a private authority, or a proxy \
             that opens TLS: name its PEM file in {ca}. For a public one: the server must send its \
             intermediate certificates, and this machine have the package ca-certificates."
        ),
        TlsTrouble::WrongName => format!(
            "The certificate is for other names than {host}: {knob} must have a name that stands in it, or \
             the server needs another one."
        ),
        TlsTrouble::NotTls => {
            format!("What listens there doesn't speak TLS: are scheme and port of {knob} right?")
        }
        TlsTrouble::Refused => format!(
            "{host} refuses this client: if it wants a certificate of ours, see client_certificate beside \
             {knob}; else it may want a TLS version that is no longer spoken (1.2 and 1.3 are)."
        ),
        TlsTrouble::Other => format!(
            "Look at the certificate: openssl s_client -connect {host}:{}",
            place.url.port_or_known_default().unwrap_or(443)
        ),
    }
}
