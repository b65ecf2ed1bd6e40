//! Files, as the official web client sends them.

use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::{Value, json};

use super::client::{Answer, Client, send, start};
use crate::sandbox::{App, Endpoint, Fault, FaultKind};

const BOUNDARY: &str = "--------MultipartData0.9194661568931608";

/// A form with the web client's own ways: a semicolon too many, an odd content type, no line after the end.
fn form(fields: &[(&str, &str)], file: Option<(&str, &str)>) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        body +=
            &format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\";\r\n\r\n{value}\r\n");
    }
    if let Some((name, data)) = file {
        body += &format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"small.txt\"\r\n\
             Content-Type: UTF-8; charset=ISO-8859-1\r\nContent-Transfer-Encoding: base64\r\n\r\n{data}\r\n"
        );
    }
    format!("{body}--{BOUNDARY}--")
}

const ABOUT: [(&str, &str); 4] = [
    ("fileExtension", "txt"),
    ("fileContext", "workflows"),
    ("thumbnailUpload", "false"),
    ("filename", "small.txt"),
];

async fn ask(client: &Client, method: Method, path: &str, body: String) -> Answer {
    let request = client.http.request(method, client.url(&format!("/api/1.1/attachment{path}")));
    let request = request.header(AUTHORIZATION, format!("bearer {}", client.token));
    send(request.header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}")).body(body)).await
}

async fn token(client: &Client) -> String {
    let answer = ask(client, Method::POST, "/file/token", String::new()).await;
    assert!(answer.body["expiresOn"].is_string(), "{answer:?}");
    answer.body["fileToken"].as_str().unwrap().to_owned()
}

async fn served(client: &Client, file_id: &Value) -> String {
    let path = format!("/v2/stream/{}/file/{}/url", App::default().bot_id, file_id.as_str().unwrap());
    let answer = ask(client, Method::GET, &path, String::new()).await;
    let response = client.http.get(answer.body["fileUrl"].as_str().unwrap()).send().await.unwrap();
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_small_file_goes_in_one_request() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let whole = form(&ABOUT, Some(("file", "aGVsbG8gYXR0YWNobWVudA==")));
    let answer = ask(&client, Method::POST, "/file", whole.clone()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(served(&client, &answer.body["fileId"]).await, "hello attachment");
    let list = send(client.http.get(client.url("/sandbox/uploads?user=alice"))).await.body;
    assert_eq!((&list[0]["name"], &list[0]["size"]), (&json!("small.txt"), &json!(16)), "{list}");
    // Another user doesn't find it, and nobody gets in without a token.
    let bob = Client::signed_in(&sandbox, "bob").await;
    let path =
        format!("/v2/stream/{}/file/{}/url", App::default().bot_id, answer.body["fileId"].as_str().unwrap());
    assert_eq!(ask(&bob, Method::GET, &path, String::new()).await.status, 404);
    let nobody = Client::new(&sandbox, "nobody");
    assert_eq!(ask(&nobody, Method::POST, "/file", whole.clone()).await.status, 401);
    control.inject(Fault::once(FaultKind::Refuse {
        at: Endpoint::FileUpload,
        status: 401,
        retry_after: None,
    }));
    let refused = ask(&client, Method::POST, "/file", whole).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["code"]), (401, &json!("TOKEN_EXPIRED")));
    assert_eq!(ask(&client, Method::POST, "/file", "nothing".into()).await.status, 400);
    assert_eq!(control.uploads().len(), 1);
}

#[tokio::test]
async fn a_large_file_goes_in_chunks() {
    let (sandbox, control) = start().await;
    let client = Client::signed_in(&sandbox, "alice").await;
    let (file, message) = (token(&client).await, token(&client).await);
    // Three bytes are four characters, but for the last.
    let chunks = [format!("{}YQ==", "YWFh".repeat(1024 * 1024 / 3)), "Yg==".to_owned()];
    for (number, data) in chunks.iter().enumerate() {
        let number = number.to_string();
        let body = form(&[("chunkNo", &number), ("messageToken", &message)], Some(("chunk", data)));
        let answer = ask(&client, Method::POST, &format!("/file/{file}/chunk"), body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let done = [&[("totalChunks", "2"), ("messageToken", &*message)][..], &ABOUT].concat();
    let answer = ask(&client, Method::PUT, &format!("/file/{file}"), form(&done, None)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = served(&client, &answer.body["fileId"]).await;
    assert!(text.len() == 1024 * 1024 + 1 && text.ends_with("aab"), "{}", text.len());
    assert_eq!(control.uploads()[0].chunks, 2);
}
