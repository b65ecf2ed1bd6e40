//! Where the API listens, as its callers see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Url;

/// How the API is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// With `http.tls`.
    Https,
}

/// Where the API listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiListener {
    /// `http.api`
    pub address: SocketAddr,
    /// Whether `http.tls` is set.
    pub scheme: Scheme,
}

impl ApiListener {
    /// What a program on the same machine calls; none when any free port is taken.
    pub fn url(self) -> Option<Url> {
        let Self { mut address, scheme } = self;
        if address.port() == 0 {
            return None;
        }
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Url::parse(&format!("{scheme}://{address}/")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(address: &str, scheme: Scheme) -> Option<String> {
        ApiListener { address: address.parse().unwrap(), scheme }.url().map(String::from)
    }

    #[test]
    fn every_address_becomes_one_that_can_be_called() {
        assert_eq!(url("127.0.0.1:8080", Scheme::Http).unwrap(), "http://127.0.0.1:8080/");
        assert_eq!(url("0.0.0.0:8080", Scheme::Https).unwrap(), "https://127.0.0.1:8080/");
        assert_eq!(url("[::]:8080", Scheme::Http).unwrap(), "http://[::1]:8080/");
        assert_eq!(url("10.1.2.3:80", Scheme::Http).unwrap(), "http://10.1.2.3/");
        assert_eq!(url("127.0.0.1:0", Scheme::Http), None);
    }

    #[test]
    fn only_the_listener_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bridge.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            ApiListener::load(&file).map_err(|errors| errors.to_string())
        };
        let secrets = "[bots.a]\nclient_secret = { env = \"NOT_SET_HERE\" }\n";
        assert_eq!(load(secrets).unwrap().url().unwrap().as_str(), "http://127.0.0.1:8080/");
        let tls =
            format!("{secrets}[http]\napi = \"0.0.0.0:9\"\ntls = {{ certificate = \"/no\", key = \"/no\" }}");
        assert_eq!(load(&tls).unwrap().url().unwrap().as_str(), "https://127.0.0.1:9/");
        assert!(load("[http]\napi = \"here\"").unwrap_err().contains("not an address to listen on"));
        assert!(load("[http").unwrap_err().contains("bridge.toml:1"));
    }
}
