//! The limit beside a waited-for reply: a message and its answer on the users' sockets themselves.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::{connect_async_with_config, tungstenite::Message};

use super::{done, ready};
use crate::{
    Outcome, kernel,
    platform::{NumberedText, user_name},
};

pub(super) async fn run(platform: SocketAddr, users: usize, messages: usize) -> Outcome<()> {
    let mut sockets = Vec::new();
    for user in (0..users).map(user_name) {
        let url = format!("ws://{platform}/rtm/bot?sid={user}");
        // Without delay, as the bridge opens its own.
        let (socket, _) = connect_async_with_config(url, None, true).await?;
        sockets.push(socket);
    }
    ready(json!(null))?;
    let mut took = Vec::with_capacity(messages);
    for number in 0..messages {
        let socket = &mut sockets[number % users];
        let text = NumberedText(number);
        let frame = format!(
            r#"{{"clientMessageId":{number},"id":{number},"client":"sdk","message":{{"body":"{text}"}},"resourceid":"/bot.message"}}"#
        );
        let sent_at = kernel::nanos();
        socket.send(Message::text(frame)).await?;
        loop {
            let answer = socket.next().await.ok_or("the platform hung up")??;
            if answer.to_text().is_ok_and(|text| text.contains("bot_response")) {
                break;
            }
        }
        took.push(kernel::nanos() - sent_at);
    }
    done(&json!({ "nanos": took }))
}
