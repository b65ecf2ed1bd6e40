//! Who calls, and what they may do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use axum::http::{HeaderMap, Uri, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::time::Instant;
use wildmatch::WildMatch;

use super::{
    loopback,
    problem::{Code, Problem},
};
use crate::{
    config::{Client, Rate, Scopes},
    names::ClientName,
    rate::Bucket,
    suggest::quoted,
};

/// What an action needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send messages.
    Send,
    /// Read statuses, users, events.
    Read,
    /// Reconnect, replay, delete, enable.
    Admin,
}

impl Scope {
    const fn granted(self, scopes: Scopes) -> bool {
        match self {
            Self::Send => scopes.send,
            Self::Read => scopes.read,
            Self::Admin => scopes.admin,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Decides who is let in: `[clients]`, or without them the loopback rules.
#[derive(Debug)]
pub struct Gate {
    clients: Vec<Arc<KnownClient>>,
}

/// A configured client, ready to be recognised.
#[derive(Debug)]
pub struct KnownClient {
    name: ClientName,
    /// Digests of its tokens: of one length, so that a comparison tells nothing about a token's.
    tokens: Vec<digest::Digest>,
    users: Vec<WildMatch>,
    scopes: Scopes,
    rate: Option<Pace>,
}

/// How often a client may call, and what it has used up of that.
#[derive(Debug, Clone)]
struct Pace {
    rate: Rate,
    bucket: Arc<Mutex<Bucket>>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A program on this machine, while no clients are configured. It may do everything.
    Loopback,
    /// A configured client.
    Client(Arc<KnownClient>),
}

/// What an `Authorization` header holds.
struct Credentials {
    /// The client that Basic names.
    name: Option<String>,
    token: String,
}

impl Gate {
    /// A gate for these clients.
    pub fn new(clients: &BTreeMap<ClientName, Client>) -> Self {
        Self { clients: Vec::new() }.succeeded_by(clients)
    }

    /// The gate for these clients that takes this one's place: a client whose rate is as it was has used up
    /// as much of it.
    pub fn succeeded_by(&self, clients: &BTreeMap<ClientName, Client>) -> Self {
        let pace_of = |name: &ClientName, rate: Rate| {
            let known = self.clients.iter().find(|known| known.name == *name)?.rate.as_ref();
            known.filter(|known| known.rate == rate).cloned()
        };
        let pace = |name, rate| pace_of(name, rate).unwrap_or_else(|| Pace::new(rate));
        let clients = clients.iter().map(|(name, client)| {
            Arc::new(KnownClient {
                name: name.clone(),
                tokens: client.tokens.iter().map(|token| digest_of(token.expose())).collect(),
                users: client.users.iter().map(|glob| WildMatch::new(glob)).collect(),
                scopes: client.scopes,
                rate: client.rate.map(|rate| pace(name, rate)),
            })
        });
        Self { clients: clients.collect() }
    }

    /// Lets a caller in, or says why not.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap, now: Instant) -> Result<Caller, Problem> {
        self.admit_to_listener(uri, headers)?;
        if self.clients.is_empty() {
            return Ok(Caller::Loopback);
        }
        let client = self.recognise(headers).ok_or_else(|| {
            let detail = "give a client's token: \"Authorization: Bearer TOKEN\", or Basic with the client's name and token";
            Problem::new(Code::Unauthorized, detail)
        })?;
        client.pace(now)?;
        Ok(Caller::Client(client))
    }

    /// What every request must keep to, also one that needs no token: the loopback rules, while
    /// no client is configured.
    pub fn admit_to_listener(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.clients.is_empty() { loopback::check(uri, headers) } else { Ok(()) }
    }

    /// Compares with every token of every client, so that the time taken tells nothing.
    fn recognise(&self, headers: &HeaderMap) -> Option<Arc<KnownClient>> {
        let credentials = Credentials::read(headers)?;
        let given = digest_of(&credentials.token);
        let mut found = None;
        for client in &self.clients {
            for token in &client.tokens {
                let same = verify_slices_are_equal(token.as_ref(), given.as_ref()).is_ok();
                let named = credentials.name.as_deref().is_none_or(|name| name == client.name.as_str());
                if same && named {
                    found = Some(client.clone());
                }
            }
        }
        found
    }
}

impl Pace {
    fn new(rate: Rate) -> Self {
        Self { rate, bucket: Arc::new(Mutex::new(Bucket::of(rate))) }
    }
}

impl KnownClient {
    fn pace(&self, now: Instant) -> Result<(), Problem> {
        let Some(Pace { bucket, .. }) = &self.rate else { return Ok(()) };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now).map_err(|at| {
            let detail = "this client calls more often than its rate (clients.NAME.rate) allows";
            Problem::new(Code::RateLimited, detail).retry_after(at - now)
        })
    }
}

impl Caller {
    /// The client's name; none for loopback callers.
    pub fn client(&self) -> Option<&ClientName> {
        match self {
            Self::Loopback => None,
            Self::Client(client) => Some(&client.name),
        }
    }

    /// Checks that the caller may do this.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        match self {
            Self::Client(client) if !scope.granted(client.scopes) => Err(Problem::new(
                Code::ScopeMissing,
                format!(
                    "the client {} lacks the scope {:?} (clients.NAME.scopes)",
                    client.name,
                    scope.as_str()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the caller may act for users of this name, existing or not.
    pub fn may_act_for(&self, user: &str) -> bool {
        match self {
            Self::Loopback => true,
            Self::Client(client) => client.users.iter().any(|glob| glob.matches(user)),
        }
    }

    /// Checks that the caller may act for users of this name, existing or not.
    pub fn require_user(&self, user: &str) -> Result<(), Problem> {
        if self.may_act_for(user) {
            return Ok(());
        }
        let detail = format!("this client may not act for the user {} (clients.NAME.users)", quoted(user));
        Err(Problem::new(Code::UserNotAllowed, detail))
    }
}

impl Credentials {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self { name: None, token: rest.to_owned() })
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
            let (name, token) = decoded.split_once(':')?;
            Some(Self { name: Some(name.to_owned()), token: token.to_owned() })
        } else {
            None
        }
    }
}

fn digest_of(token: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, token.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Secret;

    const SEND_AND_READ: Scopes = Scopes { send: true, read: true, admin: false };

    fn gate(rate: Option<Rate>) -> Gate {
        let client = |tokens: &[&str], users: &[&str]| Client {
            tokens: tokens.iter().map(|token| Secret::new(*token)).collect(),
            users: users.iter().map(|glob| (*glob).to_owned()).collect(),
            scopes: SEND_AND_READ,
            rate,
        };
        Gate::new(&BTreeMap::from([
            (ClientName::new("crm").unwrap(), client(&["new-token", "old-token"], &["sales-*", "bob?"])),
            (ClientName::new("all").unwrap(), client(&["other-token"], &["*"])),
        ]))
    }

    fn admit(gate: &Gate, authorization: &[&str]) -> Result<Caller, Code> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        gate.admit(&Uri::from_static("/"), &headers, Instant::now()).map_err(|problem| problem.code())
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn each_token_of_a_rotation_names_its_client() {
        for authorization in ["Bearer new-token", "bearer  old-token", &basic("crm:new-token")] {
            let caller = admit(&gate(None), &[authorization]).unwrap();
            assert_eq!(caller.client().unwrap().as_str(), "crm", "{authorization}");
        }
    }

    #[test]
    fn nothing_else_is_let_in() {
        for authorization in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer new-toke",
            "Bearer new-token2",
            "new-token",
            "Token new-token",
            "Basic !",
            "Basic bmV3",
            &basic("all:new-token"),
            &basic(":new-token"),
            &basic("crm:"),
            &basic("crm"),
        ] {
            assert_eq!(
                admit(&gate(None), &[authorization]).unwrap_err(),
                Code::Unauthorized,
                "{authorization}"
            );
        }
        let twice = ["Bearer new-token", "Bearer new-token"];
        assert_eq!(admit(&gate(None), &twice).unwrap_err(), Code::Unauthorized);
        assert_eq!(admit(&gate(None), &[]).unwrap_err(), Code::Unauthorized);
    }

    #[test]
    fn a_client_acts_within_its_globs_and_scopes() {
        let caller = admit(&gate(None), &["Bearer new-token"]).unwrap();
        let allowed =
            ["sales-1", "sales-", "bob1", "bob", "alice", "xsales-1"].map(|user| caller.may_act_for(user));
        assert_eq!(allowed, [true, true, true, false, false, false]);
        assert!(caller.require(Scope::Send).is_ok() && caller.require(Scope::Read).is_ok());
        assert_eq!(caller.require(Scope::Admin).unwrap_err().code(), Code::ScopeMissing);
    }

    #[test]
    fn a_client_is_held_to_its_rate_alone() {
        let gate = gate(Some(Rate { count: 1, per: Duration::from_secs(60) }));
        assert!(admit(&gate, &["Bearer new-token"]).is_ok());
        assert_eq!(admit(&gate, &["Bearer old-token"]).unwrap_err(), Code::RateLimited);
        assert!(admit(&gate, &["Bearer other-token"]).is_ok());
        assert_eq!(admit(&gate, &["Bearer wrong"]).unwrap_err(), Code::Unauthorized);
    }

    #[test]
    fn a_reload_gives_no_new_burst() {
        let rate = Rate { count: 1, per: Duration::from_secs(60) };
        let client = |rate| {
            let client = Client {
                tokens: vec![Secret::new("new-token")],
                users: vec!["*".to_owned()],
                scopes: SEND_AND_READ,
                rate: Some(rate),
            };
            BTreeMap::from([(ClientName::new("crm").unwrap(), client)])
        };
        let gate = Gate::new(&client(rate));
        assert!(admit(&gate, &["Bearer new-token"]).is_ok());
        let gate = gate.succeeded_by(&client(rate));
        assert_eq!(admit(&gate, &["Bearer new-token"]).unwrap_err(), Code::RateLimited);
        let gate = gate.succeeded_by(&client(Rate { count: 2, ..rate }));
        assert!(admit(&gate, &["Bearer new-token"]).is_ok(), "another rate begins anew");
    }
}
