//! Calling a running bridge.

use std::{ffi::OsString, path::Path, time::Duration};

use bytes::Bytes;
use clap::Args;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use url::Url;

use super::{CommandError, settings};
use crate::{
    config::{ApiListener, Environment as _, ProcessEnvironment},
    names::{UserName, WebhookName},
    webhook::visible,
};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take, beyond what was asked to be waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// Which bridge is meant.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The running bridge's API [default: http.api of the configuration]
    #[arg(long, value_name = "URL", env = "RTM_BRIDGE_URL", hide_env_values = true)]
    url: Option<String>,
}

/// A running bridge, as far as anyone knows.
#[derive(Debug)]
pub(super) struct Bridge {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

/// Why the bridge didn't do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens there.
    #[error("no bridge answers at {url}; is it running? ({reason})")]
    Unreachable { url: Url, reason: String },
    /// Whoever answers there shows a certificate that can't be trusted.
    #[error(
        "the certificate of {url} can't be trusted ({reason}); call the bridge by a name that its certificate has \
         (--url), and let SSL_CERT_FILE name the authority's file if it is one of your own"
    )]
    Untrusted { url: Url, reason: String },
    /// It took too long.
    #[error("the bridge at {url} did not answer within {} s; is it overloaded or stopped?", limit.as_secs())]
    Silent { url: Url, limit: Duration },
    /// The connection ended before the answer did.
    #[error("the connection to the bridge at {url} broke before the whole answer came ({reason})")]
    Broken { url: Url, reason: String },
    /// Something else listens there.
    #[error("what answers at {url} does not answer like a bridge (status {status}); is the URL right?")]
    NotABridge { url: Url, status: StatusCode },
    /// It said why.
    #[error("{0}")]
    Problem(Problem),
}

impl From<CallError> for CommandError {
    fn from(error: CallError) -> Self {
        Self::Failed(format!("error: {error}"))
    }
}

/// A refusal in the bridge's words.
#[derive(Debug, Deserialize)]
pub(super) struct Problem {
    /// For programs.
    pub(super) code: String,
    /// For people.
    detail: String,
    /// The status of the message that was waited for, where there is one.
    pub(super) message: Option<Box<RawValue>>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&visible(&self.detail))?;
        if self.code == "unauthorized" {
            f.write_str("; put a client's token into the environment variable RTM_BRIDGE_TOKEN")?;
        }
        Ok(())
    }
}

/// One call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    path: &'a [&'a str],
    query: Vec<(&'static str, String)>,
    body: Option<String>,
    patience: Duration,
}

impl<'a> Call<'a> {
    /// Reads what is at `/v1/...`.
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: Vec::new(), body: None, patience: ANSWER_LIMIT }
    }

    /// Posts to `/v1/...`.
    pub(super) fn post(path: &'a [&'a str]) -> Self {
        Self { method: Method::POST, ..Self::get(path) }
    }

    /// Deletes what is at `/v1/...`.
    pub(super) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// With a query parameter.
    pub(super) fn query(mut self, name: &'static str, value: String) -> Self {
        self.query.push((name, value));
        self
    }

    /// With a JSON body.
    pub(super) fn body(self, json: String) -> Self {
        Self { body: Some(json), ..self }
    }

    /// The bridge itself waits for so long.
    pub(super) fn waits(self, wait: Duration) -> Self {
        Self { patience: wait + ANSWER_LIMIT, ..self }
    }
}

impl Bridge {
    /// The bridge that the command line, the environment or the configuration names.
    pub(super) fn find(target: &Target, config: &Path) -> Result<Self, CommandError> {
        let base = match target.url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => given_url(url)?,
            None => configured_url(config)?,
        };
        let authorization = ProcessEnvironment.var("RTM_BRIDGE_TOKEN").and_then(authorization).transpose()?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("rtm-bridge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false);
        if base.scheme() == "http" {
            // No TLS: don't fail for want of a machine's certificate store.
            http = http.tls_certs_only([]);
        }
        let cannot = |error| CommandError::Failed(format!("error: can't call a bridge: {}", cause(&error)));
        Ok(Self { http: http.build().map_err(cannot)?, base, authorization })
    }

    /// Calls, and gives the body of a successful answer.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let limit = call.patience;
        let request = self.request(call).timeout(limit);
        let response = request.send().await.map_err(|error| self.failed(&error, limit))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.failed(&error, limit))?;
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    /// Opens a stream of events. Only its beginning is waited for with a limit.
    pub(super) async fn open(
        &self,
        call: Call<'_>,
        last_event_id: Option<&str>,
    ) -> Result<Response, CallError> {
        let limit = call.patience;
        let mut request = self.request(call);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let silent = |_| CallError::Silent { url: self.base.clone(), limit };
        let response = tokio::time::timeout(limit, request.send()).await.map_err(silent)?;
        let response = response.map_err(|error| self.failed(&error, limit))?;
        let status = response.status();
        if !status.is_success() {
            let body = tokio::time::timeout(limit, response.bytes()).await.map_err(silent)?;
            return Err(self.refused(status, &body.map_err(|error| self.failed(&error, limit))?));
        }
        let content_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
            Ok(response)
        } else {
            Err(CallError::NotABridge { url: self.base.clone(), status })
        }
    }

    fn request(&self, call: Call<'_>) -> RequestBuilder {
        let mut request = self.http.request(call.method, self.at(call.path));
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        match call.body {
            Some(body) => request.header(CONTENT_TYPE, "application/json").body(body),
            None => request,
        }
    }

    fn failed(&self, error: &reqwest::Error, limit: Duration) -> CallError {
        let url = self.base.clone();
        match error {
            error if is_about_trust(error) => CallError::Untrusted { url, reason: cause(error) },
            error if error.is_connect() => CallError::Unreachable { url, reason: cause(error) },
            error if error.is_timeout() => CallError::Silent { url, limit },
            error => CallError::Broken { url, reason: cause(error) },
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> CallError {
        match serde_json::from_slice(body) {
            Ok(problem) => CallError::Problem(problem),
            Err(_) => CallError::NotABridge { url: self.base.clone(), status },
        }
    }

    /// Reads an answer of the bridge.
    pub(super) fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CallError> {
        serde_json::from_slice(body)
            .map_err(|_| CallError::NotABridge { url: self.base.clone(), status: StatusCode::OK })
    }

    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }
}

/// A user's name as an argument.
pub(super) fn user_name(text: &str) -> Result<UserName, String> {
    UserName::new(text).map_err(|invalid| invalid.to_string())
}

/// A webhook's name as an argument.
pub(super) fn webhook_name(text: &str) -> Result<WebhookName, String> {
    WebhookName::new(text).map_err(|invalid| invalid.to_string())
}

/// What is wrong with it is told without repeating it: there may be a password in it.
fn given_url(text: &str) -> Result<Url, CommandError> {
    let refused = |what: &str| {
        CommandError::Refused(format!(
            "error: the bridge's URL (--url or RTM_BRIDGE_URL) {what}; it looks like http://127.0.0.1:8080"
        ))
    };
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::IdnaError if !text.is_ascii() => {
            refused("must have its host name in ASCII (xn--...)")
        }
        error => refused(&format!("can't be read: {error}")),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("must start with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("must not hold a token, which belongs into RTM_BRIDGE_TOKEN"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("must not have a query or a fragment"));
    }
    Ok(url)
}

fn configured_url(file: &Path) -> Result<Url, CommandError> {
    const OR: &str = "  or name the running bridge itself: --url URL or RTM_BRIDGE_URL";
    if settings::is_missing(file) {
        return Err(CommandError::Refused(format!("{}\n{OR}", settings::missing(file))));
    }
    let listener =
        ApiListener::load(file).map_err(|errors| CommandError::Refused(format!("{errors}\n{OR}")))?;
    listener.url().ok_or_else(|| {
        CommandError::Refused(format!(
            "error: http.api takes any free port (its port is 0): the running bridge logs which\n{OR}"
        ))
    })
}

fn authorization(token: OsString) -> Option<Result<HeaderValue, CommandError>> {
    if token.is_empty() {
        return None;
    }
    let header = token.into_string().ok().and_then(|token| {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let refused = || CommandError::refused("error: RTM_BRIDGE_TOKEN holds what can't be a token");
    Some(header.ok_or_else(refused))
}

/// Whether a connection failed for its certificate.
fn is_about_trust(error: &reqwest::Error) -> bool {
    use std::{error::Error, io};
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An I/O error is no source of itself: what it wraps is.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

/// What lies at the bottom of an error, such as `Connection refused (os error 111)`.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    visible(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match given_url(url) {
            Err(CommandError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn bridge(url: &str) -> Bridge {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Bridge::find(&Target { url: Some(url.to_owned()) }, Path::new("")).unwrap()
    }

    #[test]
    fn a_url_must_lead_to_a_bridge_and_hold_no_token() {
        for bad in ["127.0.0.1:8080", "ftp://127.0.0.1", "", "http://h/?token=s3cret", "http://crm:s3cret@h/"]
        {
            let why = refusal(bad);
            assert!(why.contains("--url") && !why.contains("s3cret"), "{why}");
        }
        insta::assert_snapshot!(refusal("http://crm:s3cret@h/"), @"error: the bridge's URL (--url or RTM_BRIDGE_URL) must not hold a token, which belongs into RTM_BRIDGE_TOKEN; it looks like http://127.0.0.1:8080");
    }

    #[test]
    fn a_path_before_the_api_is_kept() {
        for (base, url) in [
            ("http://h", "http://h/v1/users/a@b"),
            ("http://h/", "http://h/v1/users/a@b"),
            ("https://h/kore/", "https://h/kore/v1/users/a@b"),
            ("https://h/kore", "https://h/kore/v1/users/a@b"),
        ] {
            assert_eq!(bridge(base).at(&["users", "a@b"]).as_str(), url);
        }
    }

    #[test]
    fn a_token_that_no_header_can_hold_is_refused_and_not_shown() {
        assert!(authorization("".into()).is_none());
        let value = authorization(" abc\n".into()).unwrap().unwrap();
        assert_eq!((value.as_bytes(), value.is_sensitive()), (&b"Bearer abc"[..], true));
        let Some(Err(CommandError::Refused(why))) = authorization("a\u{1}b".into()) else { panic!("taken") };
        assert_eq!(why, "error: RTM_BRIDGE_TOKEN holds what can't be a token");
    }

    #[test]
    fn refusals_are_in_the_bridges_words() {
        let problem = |json: &str| serde_json::from_str::<Problem>(json).unwrap().to_string();
        let unknown =
            r#"{"code":"unknown_user","detail":"no user \"b\u001bob\" is configured","status":404}"#;
        assert_eq!(problem(unknown), r#"no user "b\u{1b}ob" is configured"#);
        let nobody = problem(r#"{"code":"unauthorized","detail":"no token"}"#);
        assert!(nobody.ends_with("RTM_BRIDGE_TOKEN"), "{nobody}");
    }
}
