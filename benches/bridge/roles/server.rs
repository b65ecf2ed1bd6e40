//! The limit beside posted messages: the bridge's own HTTP server, with nothing behind it.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::Path,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::post,
};
use rtm_bridge::api::server::{Acceptor, Limits, Server};
use tokio_util::sync::CancellationToken;

use super::ready;
use crate::Outcome;

pub(super) async fn run() -> Outcome<()> {
    let server = Server::bind("127.0.0.1:0".parse()?).await?;
    let address = server.local_addr();
    let limits = Limits {
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        max_connections: 10_000,
        drain: Duration::ZERO,
    };
    let router = Router::new().route("/v1/users/{user}/messages", post(accept));
    let over = CancellationToken::new();
    let serving = tokio::spawn(server.serve(router, Acceptor::Plain, limits, over.clone()));
    // Until the input ends.
    tokio::task::spawn_blocking(move || ready(address)).await??;
    over.cancel();
    Ok(serving.await?)
}

/// An answer as long as the bridge's.
async fn accept(Path(user): Path<String>, _body: Bytes) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::LOCATION, format!("/v1/users/{user}/messages/1466692440896")),
    ];
    let body = format!(
        r#"{{"user":"{user}","clientMessageId":1466692440896,"status":"queued","createdAt":"2016-06-23T14:34:00.896Z"}}"#
    );
    (StatusCode::ACCEPTED, headers, body)
}
