//! URLs: which ones can be used, and which are safe.

use url::{Host, Url};

use crate::config::{reader::Item, values::Invalid};

/// What a URL is for, and so what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The platform's API: a base that paths are appended to.
    Platform,
    /// Replaces scheme, host and port of WebSocket URLs.
    WebSocket,
    /// Where events are POSTed.
    Webhook,
    /// Where JWTs come from.
    TokenService,
}

impl Purpose {
    const fn schemes(self) -> [&'static str; 2] {
        match self {
            Self::WebSocket => ["wss", "ws"],
            Self::Platform | Self::Webhook | Self::TokenService => ["https", "http"],
        }
    }

    const fn example(self) -> &'static str {
        match self {
            Self::Platform => "\"https://bots.kore.ai\"",
            Self::WebSocket => "\"wss://rtm.example.com\"",
            Self::Webhook => "\"https://crm.example.com/kore-events\"",
            Self::TokenService => "\"https://sts.example.com/jwt\"",
        }
    }
}

/// The program has no tables of Unicode: Cargo.toml, `idna_adapter`.
const ASCII_NAMES: &str =
    "write it in its ASCII form, such as `xn--mnchen-3ya.example` for `m\u{fc}nchen.example`";

/// Reads a URL. When it is refused it isn't shown: what is no URL yet may be one with a password,
/// and the path of many a webhook is a secret.
pub(super) fn url(item: Item<'_>, purpose: Purpose) -> Option<Url> {
    let text = item.text(purpose.example())?;
    parse(text, purpose).map_err(|invalid| item.hidden_problem(invalid)).ok()
}

fn parse(text: &str, purpose: Purpose) -> Result<Url, Invalid> {
    let such_as = format!("such as {}", purpose.example());
    // The parser drops such characters silently, and something else would be called than stands here.
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new("a URL has no spaces or control characters").help(such_as));
    }
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            let scheme = purpose.schemes()[0];
            return Err(Invalid::new("is not a URL: the scheme is missing")
                .help(format!("start it with `{scheme}://`")));
        }
        Err(url::ParseError::IdnaError) if !text.is_ascii() => {
            return Err(Invalid::new("the host name has letters that are not ASCII").help(ASCII_NAMES));
        }
        Err(error) => return Err(Invalid::new(format!("is not a URL: {error}")).help(such_as)),
    };
    let schemes = purpose.schemes();
    if !schemes.contains(&url.scheme()) {
        let [secure, plain] = schemes;
        return Err(Invalid::new(format!(
            "the scheme must be {secure} or {plain}, not {}",
            crate::config::plain::plain(url.scheme())
        ))
        .help(such_as));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help = match purpose {
            Purpose::Webhook => "use `basic_auth` or `bearer`, which keep it secret",
            Purpose::TokenService => "use `bearer`, `headers` or `fields`, which keep it secret",
            Purpose::Platform | Purpose::WebSocket => "remove them: bots sign in with their client secret",
        };
        return Err(Invalid::new("a URL must not hold a user or a password").help(help));
    }
    if url.fragment().is_some() {
        return Err(Invalid::new("a URL must not hold a fragment").help("remove the `#` and what follows"));
    }
    if matches!(purpose, Purpose::Platform | Purpose::WebSocket) && url.query().is_some() {
        return Err(Invalid::new("must not hold a query").help("remove the `?` and what follows"));
    }
    if purpose == Purpose::WebSocket && !matches!(url.path(), "" | "/") {
        return Err(Invalid::new("must not hold a path: it replaces scheme, host and port only")
            .help("remove what follows the host"));
    }
    if purpose == Purpose::Platform {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    Ok(url)
}

/// Whether a URL leads to this machine, so that nobody can listen in.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// Whether what is sent there can be read on the way.
pub(super) fn is_exposed(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "ws") && !is_loopback(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_may_do_without_tls() {
        for (url, exposed) in [
            ("http://127.0.0.1:80", false),
            ("http://127.9.9.9", false),
            ("http://[::1]", false),
            ("http://[::ffff:127.0.0.1]", false),
            ("http://localhost", false),
            ("http://LOCALHOST.", false),
            ("http://a.localhost", false),
            ("http://127.0.0.1.example.com", true),
            ("http://localhost.example.com", true),
            ("http://10.0.0.1", true),
            ("https://example.com", false),
            ("ws://example.com", true),
        ] {
            assert_eq!(is_exposed(&Url::parse(url).unwrap()), exposed, "{url}");
        }
    }

    #[test]
    fn a_platform_url_ends_without_a_slash() {
        let path = |text| parse(text, Purpose::Platform).unwrap().to_string();
        assert_eq!(path("https://a.example//"), "https://a.example/");
        assert_eq!(path("https://a.example/base/"), "https://a.example/base");
    }

    #[test]
    fn host_names_are_ascii() {
        // With a capital letter a debug build of the back end of names would panic: Cargo.toml, `profile.dev`.
        for text in [
            "https://m\u{fc}nchen.example/events",
            "https://\u{65e5}\u{672c}.example",
            "https://M\u{fc}nchen.example",
        ] {
            let refused = parse(text, Purpose::Webhook).unwrap_err();
            assert_eq!(refused.message, "the host name has letters that are not ASCII");
            assert_eq!(refused.help.as_deref(), Some(ASCII_NAMES));
        }
        let parsed = |text| parse(text, Purpose::Webhook).unwrap().to_string();
        assert_eq!(parsed("https://xn--mnchen-3ya.example/"), "https://xn--mnchen-3ya.example/");
        assert_eq!(parsed("https://XN--MNCHEN-3YA.example/"), "https://xn--mnchen-3ya.example/");
        // A path may have any letters.
        assert_eq!(parsed("https://a.example/\u{fc}"), "https://a.example/%C3%BC");
    }
}
