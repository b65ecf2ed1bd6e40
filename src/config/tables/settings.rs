//! `[platform]`, `[http]`, `[store]`, `[messages]`, `[history]` and `[log]`.

use std::{net::SocketAddr, time::Duration};

use super::{
    urls::{self, Purpose},
    webhooks::check_backoff,
};
use crate::config::{
    ApiListener, Durability, Environment, History, Http, Log, LogFormat, Messages, Platform, ReconnectQuery,
    Scheme, Store, log_filter,
    plain::plain,
    reader::{Item, TableReader, flag, rate},
    report::Report,
    suggest::did_you_mean,
    tls_files,
    tree::Table,
    values::{Invalid, show_duration, show_size},
};

/// Short enough for any test, long enough not to be a busy loop.
const SHORTEST: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const PIB: u64 = 1 << 50;

/// The platform's documented limits: 18,000 requests an hour, 600 a minute.
const PLATFORM_PER_SECOND: f64 = 18_000.0 / 3600.0;
const PLATFORM_PER_MINUTE: f64 = 600.0;
/// As fast as a bridge may ask: for a platform of one's own, and for benchmarks.
const MOST_REQUESTS: f64 = 10_000.0;

pub(super) fn platform(report: &Report, root: &Table) -> Platform {
    let mut table = TableReader::settings(report, root, "platform");
    let default = Platform::default();
    let platform = Platform {
        url: table.knob("url", default.url, |item| urls::url(item, Purpose::Platform)),
        connect_timeout: table
            .knob("connect_timeout", default.connect_timeout, |item| item.duration(SHORTEST..=TEN_MINUTES)),
        request_timeout: table
            .knob("request_timeout", default.request_timeout, |item| item.duration(SHORTEST..=TEN_MINUTES)),
        ping_interval: table
            .knob("ping_interval", default.ping_interval, |item| item.duration(SHORTEST..=HOUR)),
        pong_timeout: table
            .knob("pong_timeout", default.pong_timeout, |item| item.duration(SHORTEST..=TEN_MINUTES)),
        backoff_min: table.knob("backoff_min", default.backoff_min, |item| item.duration(SHORTEST..=DAY)),
        backoff_max: table.knob("backoff_max", default.backoff_max, |item| item.duration(SHORTEST..=DAY)),
        unauthorized_retry: table
            .knob("unauthorized_retry", default.unauthorized_retry, |item| item.duration(SHORTEST..=DAY)),
        request_rate: table.knob("request_rate", default.request_rate, request_rate),
        request_burst: table.knob("request_burst", default.request_burst, |item| item.count(1..=100_000)),
        max_frame: table.knob("max_frame", default.max_frame, |item| item.memory_size(64 * KIB..=256 * MIB)),
        audience: table
            .knob("audience", default.audience, |item| Some(item.nonempty("\"https://...\"")?.to_owned())),
        jwt_lifetime: table.knob("jwt_lifetime", default.jwt_lifetime, jwt_lifetime),
        reconnect_query: table.knob("reconnect_query", default.reconnect_query, |item| {
            item.choice(&[
                ("isReconnect=true", ReconnectQuery::IsReconnect),
                ("ConnectionMode=Reconnect", ReconnectQuery::ConnectionMode),
            ])
        }),
        secure_handshake: table.knob("secure_handshake", default.secure_handshake, flag),
        websocket_url: table.optional("websocket_url", |item| urls::url(item, Purpose::WebSocket)),
        delivery_acks: table.knob("delivery_acks", default.delivery_acks, flag),
        ca: table.optional("ca", tls_files::authorities),
        insecure: table.knob("insecure", default.insecure, flag),
    };
    check_backoff(&table, platform.backoff_min, platform.backoff_max);
    check_encryption(&table, &platform);
    warn_of_pace(&table, &platform);
    table.finish();
    platform
}

fn request_rate(item: Item<'_>) -> Option<f64> {
    let rate = item.number("`4.5`")?;
    if rate.is_finite() && rate > 0.0 && rate <= MOST_REQUESTS {
        return Some(rate);
    }
    item.problem(
        Invalid::new(format!("must be more than 0 and at most {MOST_REQUESTS} requests a second"))
            .help("such as `4.5`"),
    );
    None
}

fn jwt_lifetime(item: Item<'_>) -> Option<Duration> {
    let lifetime = item.duration(SECOND..=DAY)?;
    if lifetime > HOUR {
        item.problem(
            Invalid::new("the platform refuses a JWT that lives longer than an hour").help("at most \"1h\""),
        );
        return None;
    }
    Some(lifetime)
}

fn check_encryption(table: &TableReader<'_>, platform: &Platform) {
    if platform.insecure {
        if let Some(item) = table.item("insecure") {
            item.warn("secrets and messages may travel unencrypted; only for tests");
        }
        return;
    }
    for (key, url) in [("url", Some(&platform.url)), ("websocket_url", platform.websocket_url.as_ref())] {
        if let (Some(url), Some(item)) = (url, table.item(key))
            && urls::is_exposed(url)
        {
            let scheme = url.scheme();
            item.problem(
                Invalid::new(format!("{scheme}:// would send secrets and messages unencrypted"))
                    .help(format!("use {scheme}s://, or set `insecure = true` for a test")),
            );
        }
    }
}

fn warn_of_pace(table: &TableReader<'_>, platform: &Platform) {
    let a_minute = f64::from(platform.request_burst) + 60.0 * platform.request_rate;
    if platform.request_rate <= PLATFORM_PER_SECOND && a_minute <= PLATFORM_PER_MINUTE {
        return;
    }
    if let Some(item) = table.first_of(&["request_rate", "request_burst"]) {
        item.warn("is beyond the platform's documented 600 requests a minute and 18,000 an hour");
    }
}

pub(super) fn http(report: &Report, root: &Table, open_to_all: bool) -> Http {
    let mut table = TableReader::settings(report, root, "http");
    let default = Http::default();
    let http = Http {
        api: table.knob("api", default.api, |item| address(item, "127.0.0.1:8080")),
        ops: table.knob("ops", default.ops, |item| address(item, "127.0.0.1:8081")),
        header_timeout: table
            .knob("header_timeout", default.header_timeout, |item| item.duration(SHORTEST..=TEN_MINUTES)),
        idle_timeout: table.knob("idle_timeout", default.idle_timeout, |item| item.duration(SHORTEST..=DAY)),
        max_connections: table
            .knob("max_connections", default.max_connections, |item| item.many(1..=1_000_000)),
        tls: table.optional("tls", |item| tls_files::key_pair(item, "http.tls")),
    };
    check_listeners(&table, &http, open_to_all);
    table.finish();
    http
}

/// Where the API listens, and nothing else of `[http]`: whoever only calls the API may not be able to
/// read the certificate's key.
pub(in crate::config) fn api_listener(report: &Report, root: &Table) -> ApiListener {
    let mut table = TableReader::settings(report, root, "http");
    let address = table.knob("api", Http::default().api, |item| address(item, "127.0.0.1:8080"));
    let tls = table.optional("tls", |_| Some(Scheme::Https));
    ApiListener { address, scheme: tls.unwrap_or(Scheme::Http) }
}

fn address(item: Item<'_>, example: &str) -> Option<SocketAddr> {
    let text = item.text(&format!("\"{example}\""))?;
    let address = text.parse::<SocketAddr>().map_err(|_| {
        let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let meant = match (port, text.starts_with("localhost") || text.starts_with(':')) {
            (Some(port), true) => format!("did you mean `\"127.0.0.1:{port}\"`?"),
            _ => format!("write an IP address and a port, such as \"{example}\""),
        };
        Invalid::new(format!("`{}` is not an address to listen on", plain(text))).help(meant)
    });
    item.checked(address)
}

fn check_listeners(table: &TableReader<'_>, http: &Http, open_to_all: bool) {
    let (api, ops) = (http.api, http.ops);
    let same_ip = api.ip() == ops.ip() || api.ip().is_unspecified() || ops.ip().is_unspecified();
    if api.port() == ops.port()
        && api.port() != 0
        && same_ip
        && let Some(item) = table.first_of(&["ops", "api"])
    {
        item.problem(
            Invalid::new("`api` and `ops` can't listen on the same port")
                .help("give one of them another port"),
        );
    }
    for (key, address) in [("api", api), ("ops", ops)] {
        let Some(item) = table.item(key) else { continue };
        if address.ip().to_canonical().is_loopback() {
            continue;
        }
        if open_to_all {
            item.problem(
                Invalid::new("without [clients] anyone could use the API: it may listen on loopback only")
                    .help("add `[clients.NAME]` with a token, or listen on 127.0.0.1"),
            );
        } else if key == "ops" {
            item.warn("health, metrics and the status page are open beyond this machine; keep them private");
        }
    }
}

pub(in crate::config) fn store(report: &Report, root: &Table, env: &dyn Environment) -> Store {
    let mut table = TableReader::settings(report, root, "store");
    let default = Store::default();
    let without_path = env.state_dir().unwrap_or(default.path);
    let store = Store {
        path: table.optional("path", |item| item.path("\"data\"")).unwrap_or(without_path),
        retention: table.knob("retention", default.retention, |item| item.duration(SECOND..=TEN_YEARS)),
        max_messages: table.knob("max_messages", default.max_messages, |item| item.many(1..=100_000_000)),
        dead_letter_retention: table.knob("dead_letter_retention", default.dead_letter_retention, |item| {
            item.duration(SECOND..=TEN_YEARS)
        }),
        recent: table.knob("recent", default.recent, |item| item.size(4 * KIB..=64 * GIB)),
        max_size: table.knob("max_size", default.max_size, |item| item.size(MIB..=PIB)),
        cache: table.knob("cache", default.cache, |item| item.size(MIB..=64 * GIB)),
        durability: table.knob("durability", default.durability, |item| {
            item.choice(&[("fsync", Durability::Fsync), ("os", Durability::Os)])
        }),
    };
    if store.recent > store.max_size
        && let Some(item) = table.first_of(&["recent", "max_size"])
    {
        let (recent, max_size) = (show_size(store.recent), show_size(store.max_size));
        item.problem(
            Invalid::new(format!("recent ({recent}) is larger than max_size ({max_size})"))
                .help("the recent events are a part of the store"),
        );
    }
    if let (Durability::Os, Some(item)) = (store.durability, table.item("durability")) {
        item.warn("accepted messages and received events may be lost when the machine loses power");
    }
    table.finish();
    store
}

pub(super) fn messages(report: &Report, root: &Table, platform: &Platform) -> Messages {
    let mut table = TableReader::settings(report, root, "messages");
    let default = Messages::default();
    let messages = Messages {
        ttl: table.knob("ttl", default.ttl, |item| item.duration(SHORTEST..=30 * DAY)),
        ack_timeout: table
            .knob("ack_timeout", default.ack_timeout, |item| item.duration(SHORTEST..=TEN_MINUTES)),
        max_attempts: table.knob("max_attempts", default.max_attempts, |item| item.count(1..=100)),
        in_flight: table.knob("in_flight", default.in_flight, |item| item.many(1..=1000)),
        rate: table.optional("rate", rate),
        max_queued: table.knob("max_queued", default.max_queued, |item| item.many(1..=1_000_000)),
        max_body: table.knob("max_body", default.max_body, |item| item.memory_size(KIB..=64 * MIB)),
    };
    if messages.ack_timeout > messages.ttl
        && let Some(item) = table.first_of(&["ack_timeout", "ttl"])
    {
        let (ack, ttl) = (show_duration(messages.ack_timeout), show_duration(messages.ttl));
        item.warn(format!("ack_timeout ({ack}) is longer than ttl ({ttl}): nothing is ever sent again"));
    }
    if messages.max_body > platform.max_frame
        && let Some(item) = table.item("max_body")
    {
        item.warn("is more than [platform] max_frame: answers to such messages may not be readable");
    }
    table.finish();
    messages
}

pub(super) fn history(report: &Report, root: &Table) -> History {
    let mut table = TableReader::settings(report, root, "history");
    let default = History::default();
    let history = History {
        recover: table.knob("recover", default.recover, flag),
        max_messages: table.knob("max_messages", default.max_messages, |item| item.many(1..=100_000)),
        max_age: table.knob("max_age", default.max_age, |item| item.duration(SECOND..=365 * DAY)),
        timeout: table.knob("timeout", default.timeout, |item| item.duration(SHORTEST..=HOUR)),
    };
    table.finish();
    history
}

pub(super) fn log(report: &Report, root: &Table) -> Log {
    let mut table = TableReader::settings(report, root, "log");
    let default = Log::default();
    let log = Log {
        level: table.knob("level", default.level, level),
        format: table.knob("format", default.format, |item| {
            item.choice(&[
                ("auto", LogFormat::Auto),
                ("journald", LogFormat::Journald),
                ("terminal", LogFormat::Terminal),
                ("json", LogFormat::Json),
            ])
        }),
    };
    table.finish();
    log
}

/// A level or a filter. A single unknown word would be taken for a module's name, silently.
fn level(item: Item<'_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = item.nonempty("\"info\"")?;
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(text));
    let is_filter = text.contains(['=', ',', '[', ':']);
    if is_level || (is_filter && log_filter(text).is_some()) {
        return Some(text.to_owned());
    }
    let slip = if is_filter { None } else { did_you_mean(text, LEVELS) };
    let help = slip.unwrap_or_else(|| {
        "one of off, error, warn, info, debug, trace, or a filter as RUST_LOG takes it, such as \"info,rtm_bridge::rtm=debug\"".into()
    });
    item.problem(Invalid::new(format!("`{}` is not a log level", plain(text))).help(help));
    None
}
