//! A Node-RED flow: each user's WebSocket to an HTTP request, and an HTTP endpoint to the WebSockets.
//!
//! A WebSocket has a fixed address there: it signs nobody in, and gets one that stays good.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::{Outcome, platform::user_name};

const SETTINGS: &str = "module.exports = {\n  uiHost: '127.0.0.1',\n  httpAdminRoot: false,\n  credentialSecret: false,\n  telemetry: { enabled: false, updateNotification: false },\n  logging: { console: { level: 'warn', metrics: false, audit: false } },\n};\n";

/// Writes settings and flow into a directory.
pub fn write(directory: &Path, platform: SocketAddr, users: usize, webhook: &str) -> Outcome<()> {
    std::fs::write(directory.join("settings.js"), SETTINGS)?;
    std::fs::write(directory.join("flows.json"), flow(platform, users, webhook).to_string())?;
    Ok(())
}

fn flow(platform: SocketAddr, users: usize, webhook: &str) -> Value {
    let header = json!({ "keyType": "other", "keyValue": "content-type", "valueType": "other", "valueValue": "application/json" });
    let mut nodes = vec![
        json!({ "id": "tab", "type": "tab", "label": "bridge" }),
        json!({
            "id": "answers", "type": "function", "z": "tab", "outputs": 1, "wires": [["post"]],
            "func": "return JSON.parse(msg.payload).type === 'bot_response' ? msg : null;",
        }),
        json!({
            "id": "post", "type": "http request", "z": "tab", "method": "POST", "ret": "txt", "url": webhook,
            "paytoqs": "ignore", "persist": true, "senderr": false, "headers": [header], "wires": [[]],
        }),
        json!({ "id": "in", "type": "http in", "z": "tab", "url": "/v1/users/:user/messages", "method": "post", "wires": [["frame"]] }),
        json!({ "id": "done", "type": "http response", "z": "tab", "statusCode": "202", "wires": [] }),
    ];
    let mut to_users = Vec::new();
    for user in (0..users).map(user_name) {
        let client = format!("client-{user}");
        nodes.push(json!({
            "id": client, "type": "websocket-client", "path": format!("ws://{platform}/rtm/bot?sid={user}"),
            "tls": "", "wholemsg": "false", "hb": "15", "subprotocol": "", "headers": [],
        }));
        nodes.push(json!({ "id": format!("from-{user}"), "type": "websocket in", "z": "tab", "server": "", "client": client, "wires": [["answers"]] }));
        nodes.push(json!({ "id": format!("to-{user}"), "type": "websocket out", "z": "tab", "server": "", "client": client, "wires": [] }));
        to_users.push(vec![format!("to-{user}")]);
    }
    to_users.push(vec!["done".to_owned()]);
    nodes.push(json!({
        "id": "frame", "type": "function", "z": "tab", "outputs": users + 1, "wires": to_users,
        "func": format!(
            "const user = Number(msg.req.params.user.slice(1));\n\
             const id = context.get('id') || Date.now();\n\
             context.set('id', id + 1);\n\
             const frame = {{ clientMessageId: id, message: {{ body: msg.payload.text }}, resourceid: '/bot.message', id, client: 'sdk' }};\n\
             const outputs = new Array({}).fill(null);\n\
             outputs[user] = {{ payload: JSON.stringify(frame) }};\n\
             outputs[{users}] = {{ req: msg.req, res: msg.res, payload: {{ clientMessageId: id }} }};\n\
             return outputs;",
            users + 1
        ),
    }));
    Value::Array(nodes)
}
