//! Who may call while no client is configured: this machine's programs, and no web page.
//!
//! The listeners are on loopback then, but a browser on the same machine reaches loopback too, on
//! behalf of any page. A page of another site gives itself away by its `Origin`; a page whose own
//! name was made to resolve to loopback (DNS rebinding), by its `Host`.

use std::net::Ipv4Addr;

use axum::http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};

use super::problem::{Code, Problem};
use crate::suggest::quoted;

/// Lets a request pass whose `Host` is a loopback name and whose `Origin`, if it has one, is the
/// listener's own.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if is_plain_program(uri, headers) {
        return Ok(());
    }
    let host = host(uri, headers)?;
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => Ok(()),
        (Some(origin), None) if origin.to_str().is_ok_and(|origin| is_own(origin, &host)) => Ok(()),
        _ => Err(Problem::new(
            Code::ForeignOrigin,
            "a web page of another origin may not call the bridge; give its program a token under [clients]",
        )),
    }
}

/// Whether a request is one of those that nearly all are, of a program that calls a loopback name in its usual
/// spelling. That is seen without taking anything apart.
fn is_plain_program(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let host = host.as_bytes();
            let port = host.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let name = host[..host.len() - port].strip_suffix(b":").filter(|_| port > 0).unwrap_or(host);
            let is_loopback = matches!(name, b"127.0.0.1" | b"localhost" | b"[::1]");
            is_loopback && uri.authority().is_none() && !headers.contains_key(header::ORIGIN)
        }
        _ => false,
    }
}

fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let given: Vec<&[u8]> = headers
        .get_all(header::HOST)
        .iter()
        .map(HeaderValue::as_bytes)
        .chain(uri.authority().map(|authority| authority.as_str().as_bytes()))
        .collect();
    let loopback = given.iter().map(|host| loopback(host)).collect::<Option<Vec<_>>>();
    match loopback.and_then(|hosts| hosts.into_iter().next()) {
        Some(host) => Ok(host),
        None => Err(not_loopback(&given)),
    }
}

fn not_loopback(given: &[&[u8]]) -> Problem {
    let called = match given {
        [] => "a request without a Host".to_owned(),
        [host, ..] => quoted(&String::from_utf8_lossy(host)),
    };
    let detail = format!(
        "while no [clients] are configured, the bridge answers only to loopback names (localhost, 127.0.0.1, \
         [::1]), not to {called}"
    );
    Problem::new(Code::NotLoopback, detail)
}

fn loopback(host: &[u8]) -> Option<Authority> {
    let authority = Authority::try_from(host).ok()?;
    let name = authority.host();
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    (is_loopback && !authority.as_str().contains('@')).then_some(authority)
}

/// Whether this origin is where the request itself went. Only one scheme can be spoken on a port.
fn is_own(origin: &str, host: &Authority) -> bool {
    let of_scheme = |scheme: &str, port: u16| {
        let authority: Authority = origin.strip_prefix(scheme)?.strip_prefix("://")?.parse().ok()?;
        let same_port = authority.port_u16().unwrap_or(port) == host.port_u16().unwrap_or(port);
        Some(
            same_port
                && authority.host().eq_ignore_ascii_case(host.host())
                && !authority.as_str().contains('@'),
        )
    };
    of_scheme("http", 80).or_else(|| of_scheme("https", 443)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &str)]) -> Option<Code> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        check(&Uri::from_static("/v1/users"), &headers).err().map(|problem| problem.code())
    }

    #[test]
    fn loopback_names_pass_on_any_port() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:8080"] {
            assert_eq!(verdict(&[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn every_other_name_is_refused() {
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "0.0.0.0",
            "192.168.0.1",
            "[::2]",
            "user@localhost",
            "localhost:8080@evil.example",
            "2130706433",
            "127.1",
        ] {
            assert_eq!(verdict(&[("host", host)]), Some(Code::NotLoopback), "{host}");
        }
        assert_eq!(verdict(&[]), Some(Code::NotLoopback));
        assert_eq!(verdict(&[("host", "localhost"), ("host", "evil.example")]), Some(Code::NotLoopback));
        let (uri, mut headers) = (Uri::from_static("http://evil.example/v1/users"), HeaderMap::new());
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        assert_eq!(check(&uri, &headers).unwrap_err().code(), Code::NotLoopback);
    }

    #[test]
    fn only_the_listeners_own_origin_passes() {
        let with = |host, origin| verdict(&[("host", host), ("origin", origin)]);
        assert_eq!(with("localhost:8081", "http://localhost:8081"), None);
        assert_eq!(with("localhost:8081", "https://LOCALHOST:8081"), None);
        assert_eq!(with("127.0.0.1", "http://127.0.0.1:80"), None);
        assert_eq!(with("[::1]:8080", "http://[::1]:8080"), None);
        for origin in [
            "null",
            "",
            "http://localhost:8080",
            "http://localhost",
            "http://evil.example:8081",
            "localhost:8081",
            "file://",
            "http://localhost:8081@evil.example",
            "http://evil@localhost:8081",
        ] {
            assert_eq!(with("localhost:8081", origin), Some(Code::ForeignOrigin), "{origin}");
        }
        let twice = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
        assert_eq!(verdict(&twice), Some(Code::ForeignOrigin));
    }
}
