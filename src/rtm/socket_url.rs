//! Which of the URLs that rtm/start returns may be opened.
//!
//! The answer to a request with our access token decides where the next connection goes, so it is
//! not followed just anywhere: `wss` if the platform is `https`, and on the platform's own domain,
//! unless `platform.websocket_url` says where sockets are.

use url::{Host, Url};

use crate::{config::ReconnectQuery, rtm::session::SocketUrl};

/// Where sockets may be opened.
#[derive(Debug, Clone)]
pub(super) struct SocketPolicy {
    platform: Url,
    replacement: Option<Url>,
}

/// Why a URL is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the url in the answer is not a URL")]
    NotAUrl,
    #[error("the url in the answer is no WebSocket URL ({0})")]
    NoWebSocket(String),
    #[error("the url in the answer is not encrypted (ws), but the platform is (https)")]
    NotEncrypted,
    #[error(
        "the url in the answer leads to {found}, which is not in the domain of {platform}; if that is right, set platform.websocket_url"
    )]
    ForeignHost { found: String, platform: String },
}

impl SocketPolicy {
    pub(super) fn new(platform: &Url, replacement: Option<&Url>) -> Self {
        Self { platform: platform.clone(), replacement: replacement.cloned() }
    }

    /// Checks a URL, or puts it where sockets are said to be.
    pub(super) fn admit(&self, text: &str) -> Result<Url, Refusal> {
        let mut url = Url::parse(text).map_err(|_| Refusal::NotAUrl)?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(Refusal::NoWebSocket(url.scheme().to_owned()));
        }
        url.set_fragment(None);
        match &self.replacement {
            Some(replacement) => replace_origin(&mut url, replacement)?,
            None => self.check(&url)?,
        }
        Ok(url)
    }

    fn check(&self, url: &Url) -> Result<(), Refusal> {
        if self.platform.scheme() == "https" && url.scheme() != "wss" {
            return Err(Refusal::NotEncrypted);
        }
        let same = match (self.platform.host(), url.host()) {
            (Some(Host::Domain(platform)), Some(Host::Domain(found))) => same_site(platform, found),
            (platform, found) => platform.is_some() && platform == found,
        };
        if same {
            return Ok(());
        }
        let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
        Err(Refusal::ForeignHost { found: host(url), platform: host(&self.platform) })
    }
}

fn replace_origin(url: &mut Url, replacement: &Url) -> Result<(), Refusal> {
    let replaced = url.set_scheme(replacement.scheme()).is_ok()
        && url.set_host(replacement.host_str()).is_ok()
        && url.set_port(replacement.port()).is_ok();
    if replaced { Ok(()) } else { Err(Refusal::NotAUrl) }
}

/// Whether two host names are the same or share their registrable domain. That is approximated,
/// without a list of public suffixes: the last two labels, or three where the last two look like a
/// country's suffix (`co.uk`).
fn same_site(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_end_matches('.'), other.trim_end_matches('.'));
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    match (site(one), site(other)) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}

fn site(host: &str) -> Option<&str> {
    const SECOND_LEVEL: [&str; 12] =
        ["co", "com", "org", "net", "gov", "gob", "edu", "ac", "or", "ne", "go", "mil"];
    let mut labels = host.rsplit('.');
    let (top, second) = (labels.next()?, labels.next()?);
    let mut length = top.len() + 1 + second.len();
    if top.len() == 2 && SECOND_LEVEL.iter().any(|suffix| suffix.eq_ignore_ascii_case(second)) {
        length += 1 + labels.next()?.len();
    }
    (!top.is_empty() && !second.is_empty()).then(|| &host[host.len() - length..])
}

impl SocketUrl {
    /// The URL with what says that this is a reconnect.
    pub(super) fn with(&self, query: Option<ReconnectQuery>) -> Url {
        let mut url = self.url.clone();
        if let Some(query) = query {
            let (name, value) = query.pair();
            url.query_pairs_mut().append_pair(name, value);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(platform: &str, url: &str) -> Result<String, Refusal> {
        SocketPolicy::new(&platform.parse().unwrap(), None).admit(url).map(|url| url.to_string())
    }

    #[test]
    fn the_platforms_own_domain_is_fine() {
        for (platform, url) in [
            ("https://bots.kore.ai", "wss://bots.kore.ai:443/rtm/bot?sid=a"),
            ("https://bots.kore.ai", "wss://rtm-eu.kore.ai/rtm/bot?sid=a"),
            ("https://kore.ai", "wss://a.b.KORE.ai./rtm/bot?sid=a"),
            ("https://bots.example.co.uk", "wss://rtm.example.co.uk/x"),
            ("http://127.0.0.1:9080", "ws://127.0.0.1:9081/rtm/bot?sid=a"),
            ("http://localhost:9080", "ws://localhost:9080/"),
            ("http://[::1]:9080", "ws://[::1]:1/"),
            ("http://bots.intra", "wss://bots.intra/"),
        ] {
            assert!(admit(platform, url).is_ok(), "{platform} {url}: {:?}", admit(platform, url));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (platform, url) in [
            ("https://bots.kore.ai", "ws://bots.kore.ai/"),
            ("https://bots.kore.ai", "https://bots.kore.ai/"),
            ("https://bots.kore.ai", "wss://kore.ai.evil.example/"),
            ("https://bots.kore.ai", "wss://evilkore.ai/"),
            ("https://bots.kore.ai", "wss://bots.kore.ai@evil.example/"),
            ("https://bots.example.co.uk", "wss://evil.co.uk/"),
            ("https://bots.kore.ai", "wss://169.254.169.254/"),
            ("http://127.0.0.1:9080", "ws://127.0.0.2:9080/"),
            ("http://127.0.0.1:9080", "ws://localhost:9080/"),
            ("http://10.0.0.1", "ws://20.0.0.1/"),
            ("http://one", "ws://two/"),
            ("https://bots.kore.ai", "/rtm/bot"),
            ("https://bots.kore.ai", ""),
        ] {
            assert!(admit(platform, url).is_err(), "{platform} {url}");
        }
    }

    #[test]
    fn a_replacement_moves_the_socket_and_keeps_the_rest() {
        let policy = |to: &str| {
            SocketPolicy::new(&"https://bots.kore.ai".parse().unwrap(), Some(&to.parse().unwrap()))
        };
        let moved = |to: &str| policy(to).admit("wss://inner.example:9443/rtm/bot?sid=a%2Bb").unwrap();
        assert_eq!(moved("ws://127.0.0.1:8000").as_str(), "ws://127.0.0.1:8000/rtm/bot?sid=a%2Bb");
        assert_eq!(moved("wss://proxy.example").as_str(), "wss://proxy.example/rtm/bot?sid=a%2Bb");
    }

    #[test]
    fn a_reconnect_says_so_and_leaves_the_sid_alone() {
        let url = SocketUrl { url: "wss://h/rtm/bot?sid=a+b%2Fc==".parse().unwrap(), nonce: None };
        assert_eq!(url.with(None).as_str(), "wss://h/rtm/bot?sid=a+b%2Fc==");
        assert_eq!(
            url.with(Some(ReconnectQuery::IsReconnect)).as_str(),
            "wss://h/rtm/bot?sid=a+b%2Fc==&isReconnect=true"
        );
        assert_eq!(
            url.with(Some(ReconnectQuery::ConnectionMode)).as_str(),
            "wss://h/rtm/bot?sid=a+b%2Fc==&ConnectionMode=Reconnect"
        );
    }
}
