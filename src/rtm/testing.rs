//! What this room's tests share.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::config::{Bot, Credentials, HistorySource, Platform, ReconnectQuery};

/// A bot.
pub(super) fn bot() -> Bot {
    Bot {
        name: "Support".into(),
        id: "st-1".into(),
        client_id: "cs-1".into(),
        credentials: Credentials::client_secret("top secret"),
        history: HistorySource::Rtm,
    }
}

/// The platform's settings with their defaults, but quick to give up.
pub(super) fn platform_settings(url: &str) -> Platform {
    Platform {
        url: url.parse().expect("a URL"),
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_secs(15),
        pong_timeout: Duration::from_secs(10),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        unauthorized_retry: Duration::from_secs(60),
        request_rate: 100.0,
        request_burst: 100,
        max_frame: 64 * 1024,
        audience: "https://idproxy.kore.com/authorize".into(),
        jwt_lifetime: Duration::from_secs(300),
        reconnect_query: ReconnectQuery::IsReconnect,
        secure_handshake: false,
        websocket_url: None,
        delivery_acks: false,
        ca: None,
        insecure: false,
    }
}

/// Reads one HTTP request, head and body.
pub(super) async fn read_request(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return text;
        }
    }
}
