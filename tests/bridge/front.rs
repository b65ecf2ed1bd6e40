//! Something in front of the platform: a reverse proxy with a base path that remembers what went
//! through it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use serde_json::Value;
use url::Url;

/// Where the platform is, behind the front.
const BASE: &str = "/some/base";

/// A running front. Its URLs of sockets lead past it, to the platform itself.
pub struct Front {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Passed>>>,
}

/// A request that went through.
#[derive(Debug, Clone)]
pub struct Passed {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

#[derive(Clone)]
struct Behind {
    platform: Url,
    http: reqwest::Client,
    seen: Arc<Mutex<Vec<Passed>>>,
}

impl Front {
    pub async fn of(platform: Url) -> Self {
        let seen = Arc::<Mutex<Vec<Passed>>>::default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let behind = Behind { platform, http, seen: seen.clone() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass).with_state(behind);
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, seen }
    }

    /// What `platform.url` is to be.
    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}{BASE}", self.address)).unwrap()
    }

    pub fn seen(&self) -> Vec<Passed> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(
    State(behind): State<Behind>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let passed = Passed {
        path: path.clone(),
        headers: headers.clone(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    behind.seen.lock().unwrap().push(passed);
    let whole = uri.path_and_query().map_or(path, ToString::to_string);
    let Some(path) = whole.strip_prefix(BASE) else {
        return Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap();
    };
    let mut request = behind.http.request(method, behind.platform.join(path).unwrap()).body(body);
    for name in ["authorization", "content-type"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    Response::builder().status(answer.status()).body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
