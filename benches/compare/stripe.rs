//! Stripe's side, as its command-line tool sees it: a session, whose socket brings events in
//! envelopes of their own. All users' events come on this one socket.

use std::io::Write as _;

use serde_json::json;

use crate::platform::{Asked, user_name};

/// Whose socket it is here.
pub const USER: usize = 0;
/// It renews its connection after so many seconds; not while it is watched.
const RECONNECT_DELAY: u32 = 3600;

/// The answer to who asks for a session.
pub fn session(asked: &Asked<'_>) -> Option<String> {
    asked.target.starts_with("/v1/stripecli/sessions").then(|| {
        json!({
            "websocket_url": format!("ws://{}/subscribe/sid={}", asked.platform, user_name(USER)),
            "websocket_id": "cliws_1",
            "websocket_authorized_feature": "webhooks",
            "reconnect_delay": RECONNECT_DELAY,
            "secret": "whsec_00000000000000000000000000000000",
            "default_version": "2026-01-01",
            "latest_version": "2026-01-01",
        })
        .to_string()
    })
}

/// An event as it comes on the socket; what is in it is POSTed byte for byte.
pub fn envelope(frame: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend(br#"{"type":"webhook_event","endpoint":{"api_version":null},"http_headers":{"Content-Type":"application/json"},"#);
    into.extend(br#""webhook_conversation_id":"wc_1","webhook_id":"wh_1","event_payload":"#);
    let text = std::str::from_utf8(frame).unwrap_or_default();
    // Into memory: nothing that could fail.
    let _ = serde_json::to_writer(&mut *into, text);
    let _ = into.write_all(b"}");
}
