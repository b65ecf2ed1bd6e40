//! Getting in, and not getting in.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::{AUTHORIZATION, DATE};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};

use super::client::{Client, Socket, bot_info, http, send, soon, start, start_with};
use crate::{
    clock::Timestamp,
    sandbox::{App, Endpoint, Push, Sandbox, Settings},
};

fn claims() -> Value {
    let now = Timestamp::now().as_secs();
    json!({"iss": App::default().client_id, "sub": "alice", "iat": now, "exp": now + 60})
}

fn sign(claims: &Value, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

async fn grant(sandbox: &Sandbox, jwt: &str, bot_info: &Value) -> (u16, Value) {
    let url = sandbox.url().join("api/oAuth/token/jwtgrant").unwrap();
    let answer = send(http().post(url).json(&json!({"assertion": jwt, "botInfo": bot_info}))).await;
    (answer.status, answer.body)
}

fn msg(body: &Value) -> &str {
    body["errors"][0]["msg"].as_str().unwrap()
}

#[tokio::test]
async fn a_grant_answers_in_the_documented_shape() {
    let (sandbox, control) = start().await;
    let documented: Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/vectors/documented/jwtgrant.response.json"
    )))
    .unwrap();
    let (status, body) = grant(&sandbox, &sign(&claims(), &App::default().client_secret), &bot_info()).await;
    assert_eq!(status, 200);
    for part in ["authorization", "userInfo"] {
        for key in documented[part].as_object().unwrap().keys() {
            assert!(body[part][key].is_string(), "{part}.{key}");
        }
    }
    let time = |key: &str| Timestamp::parse(body["authorization"][key].as_str().unwrap()).unwrap();
    assert_eq!(time("expiresDate").since(time("issuedDate")), Duration::from_secs(120 * 24 * 3600));
    assert_eq!(body["userInfo"]["identity"], format!("{}/alice", App::default().client_id));
    let requests = control.requests(Endpoint::Jwtgrant);
    assert_eq!(requests[0].user.as_deref(), Some("alice"));
}

#[tokio::test]
async fn bad_assertions_get_401_with_a_reason() {
    let (sandbox, _control) = start().await;
    let secret = App::default().client_secret;
    let mut expired = claims();
    expired["exp"] = json!(Timestamp::now().as_secs() - 1);
    let (status, body) = grant(&sandbox, &sign(&expired, &secret), &bot_info()).await;
    assert_eq!((status, msg(&body)), (401, "error verifying the jwt: jwt expired"));
    assert_eq!(body["errors"][0]["code"], 401);
    let (status, body) = grant(&sandbox, &sign(&claims(), "another secret"), &bot_info()).await;
    assert_eq!((status, msg(&body)), (401, "error verifying the jwt: invalid signature"));
    assert_eq!(grant(&sandbox, "", &bot_info()).await.0, 400);
}

#[tokio::test]
async fn a_jti_is_good_once() {
    let (sandbox, _control) = start().await;
    let mut with_jti = claims();
    with_jti["jti"] = json!("once");
    let jwt = sign(&with_jti, &App::default().client_secret);
    assert_eq!(grant(&sandbox, &jwt, &bot_info()).await.0, 200);
    let (status, body) = grant(&sandbox, &jwt, &bot_info()).await;
    assert_eq!((status, msg(&body)), (401, "error verifying the jwt: possibly a replay"));
}

#[tokio::test]
async fn the_bots_name_is_case_sensitive_and_its_id_counts() {
    let (sandbox, _control) = start().await;
    let jwt = sign(&claims(), &App::default().client_secret);
    for (key, value) in [("chatBot", "sandbox bot"), ("taskBotId", "st-other")] {
        let mut wrong = bot_info();
        wrong[key] = json!(value);
        assert_eq!(grant(&sandbox, &jwt, &wrong).await.0, 400, "{key}");
    }
}

#[tokio::test]
async fn the_platforms_clock_may_be_off() {
    let skew = 2 * 3600 * 1000;
    let (sandbox, _control) = start_with(Settings { clock_skew_ms: skew, ..Settings::default() }).await;
    let jwt = sign(&claims(), &App::default().client_secret);
    assert_eq!(grant(&sandbox, &jwt, &bot_info()).await.0, 401);
    let response = http().get(sandbox.url()).send().await.unwrap();
    let date = httpdate::parse_http_date(response.headers()[DATE].to_str().unwrap()).unwrap();
    let ahead = date.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - Timestamp::now().as_secs();
    assert!((7190..7210).contains(&ahead), "{ahead}");
    assert_eq!(response.headers().get_all(DATE).iter().count(), 1);
}

#[tokio::test]
async fn a_token_that_expired_or_was_revoked_is_401_token_expired() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    assert_eq!(client.rtm_start().await.status, 200);
    assert_eq!(control.revoke("alice"), 1);
    let answer = client.rtm_start().await;
    assert_eq!(
        (answer.status, &answer.body),
        (401, &json!({"errors": [{"msg": "token expired", "code": "TOKEN_EXPIRED"}]}))
    );
    assert_eq!(client.history("").await.status, 401);
    control.configure(|settings| settings.token_lifetime = Duration::ZERO);
    let again = Client::signed_in(&sandbox, "alice").await;
    assert_eq!(again.rtm_start().await.status, 401);
    let counted = control.requests(Endpoint::RtmStart);
    assert!(counted.iter().all(|request| request.user.as_deref() == Some("alice")), "{counted:?}");
}

#[tokio::test]
async fn a_sid_is_good_once_and_for_a_while() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let url = client.socket_url().await;
    assert!(url.starts_with(&format!("ws://{}/rtm/bot?sid=", sandbox.address())), "{url}");
    let _open = Socket::open(&url).await.unwrap();
    assert_eq!(refusal(&url).await, 401);
    control.configure(|settings| settings.sid_lifetime = Duration::ZERO);
    assert_eq!(refusal(&client.socket_url().await).await, 401);
    assert_eq!(refusal(&format!("ws://{}/rtm/bot", sandbox.address())).await, 401);
}

async fn refusal(url: &str) -> u16 {
    match Socket::open(url).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the socket opened"),
    }
}

#[tokio::test]
async fn the_secure_handshake_is_checked_and_answered() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let (jwt, mallorys) = (client.jwt().await, Client::new(&sandbox, "mallory").jwt().await);
    for (jwt, nonce_suffix, expected) in [(&jwt, "", 101), (&jwt, "x", 401), (&mallorys, "", 401)] {
        let start = client.http.post(client.url("/api/rtm/start")).header("x-rtm-v", "1");
        let answer = send(start.header(AUTHORIZATION, format!("bearer {}", client.token))).await.body;
        let nonce = answer["nonce"].as_str().unwrap();
        let mut request = answer["url"].as_str().unwrap().into_client_request().unwrap();
        let offer = format!("x-rtm-v|1, jwt|{jwt}, nonce|{nonce}{nonce_suffix}");
        request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
        let status = match soon(tokio_tungstenite::connect_async(request)).await {
            Ok((_, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], "x-rtm-v|1");
                response.status().as_u16()
            }
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(status, expected);
    }
    control.configure(|settings| settings.secure_handshake = false);
    let start = client.http.post(client.url("/api/rtm/start")).header("x-rtm-v", "1");
    let answer = send(start.header(AUTHORIZATION, format!("Bearer {}", client.token))).await;
    assert!(answer.body.get("nonce").is_none());
}

#[tokio::test]
async fn socket_urls_can_point_elsewhere() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    control.configure(|settings| settings.socket_base = Some("wss://elsewhere.example:443".into()));
    assert!(client.socket_url().await.starts_with("wss://elsewhere.example:443/rtm/bot?sid="));
}

#[tokio::test]
async fn the_botkit_history_wants_an_apps_jwt() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    control.push("alice", Push::text("one"));
    control.push("alice", Push::text("two"));
    let (app, user_id) = (App::default(), client.grant().await.body["userInfo"]["userId"].clone());
    let ask = |jwt: String| {
        let path = format!("/api/botsdk/stream/{}/getMessages", app.bot_id);
        let query = [("userId", user_id.as_str().unwrap()), ("skip", "0"), ("limit", "1")];
        send(client.http.get(client.url(&path)).query(&query).header("auth", jwt))
    };
    let exp = Timestamp::now().as_millis() as f64 / 1000.0 + 60.0;
    let good = ask(sign(&json!({"appId": app.client_id, "exp": exp}), &app.client_secret)).await;
    assert_eq!((good.status, &good.body["moreAvailable"]), (200, &json!(true)));
    assert_eq!(good.body["messages"][0]["components"][0]["data"]["text"], "two");
    let bad = ask(sign(&json!({"appId": app.client_id, "exp": exp}), "wrong")).await;
    assert_eq!(bad.status, 401);
    assert_eq!(control.request_count(Endpoint::GetMessages), 2);
}

#[tokio::test]
async fn browsers_may_ask_from_anywhere() {
    let (sandbox, _control) = start().await;
    for path in ["api/rtm/start", "api/1.1/oAuth/token/jwtgrant", "api/botmessages/rtm?botId=x"] {
        let preflight = http()
            .request(reqwest::Method::OPTIONS, sandbox.url().join(path).unwrap())
            .header("origin", "http://localhost:9")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "Authorization, x-rtm-v");
        let response = preflight.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("access-control-allow-origin"), "http://localhost:9");
        for name in ["authorization", "content-type", "x-rtm-v", "x-requested-with"] {
            assert!(header("access-control-allow-headers").contains(name));
        }
    }
    let refused = http().post(sandbox.url().join("api/rtm/start").unwrap()).header("origin", "null");
    let response = refused.send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["access-control-allow-origin"], "null");
    let control = http().get(sandbox.url().join("sandbox/connections").unwrap()).header("origin", "null");
    assert!(control.send().await.unwrap().headers().get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn what_isnt_there_is_404_in_the_platforms_shape() {
    let (sandbox, _control) = start().await;
    let url = sandbox.url().join("api/websdkthemes/st-1/activetheme").unwrap();
    let answer = send(http().get(url)).await;
    assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (404, &json!(404)));
    let url = sandbox.url().join(&format!("api/1.1/botmeta/{}", App::default().bot_id)).unwrap();
    assert_eq!(send(http().get(url)).await.body["name"], "Sandbox Bot");
}
