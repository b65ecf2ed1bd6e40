//! Everything that a broken or a hostile caller may send where files are taken: each has its status and its
//! code, and nothing of it is left behind.

use crate::{
    attachments::Form,
    bad_input::{Bad, bad, refused_without_a_trace},
};

const FILES: &str = "/v1/users/alice/attachments";
const MESSAGES: &str = "/v1/users/alice/messages";
const RAW: &str = "content-type: application/octet-stream";

/// A form to one of the paths.
fn form(path: &str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Bad {
    let content_type = format!("content-type: {}", Form::CONTENT_TYPE);
    bad("POST", path, status, code).with(&[&content_type]).bringing(body)
}

fn raw(query: &str, headers: &[&str], body: &str, status: u16, code: &'static str) -> Bad {
    bad("POST", format!("{FILES}{query}"), status, code).with(headers).bringing(body)
}

/// What is no multipart body, for both routes.
fn broken_forms() -> Vec<Bad> {
    let whole = || Form::new().file("a.txt", "hello").end();
    let mut rows = Vec::new();
    for path in [FILES, MESSAGES] {
        for (kind, says) in [
            ("multipart/form-data", "no boundary"),
            ("multipart/form-data; boundary", "malformed"),
            ("multipart/form-data; boundary=", ""),
            ("multipart/form-data; boundary=\"\"", ""),
            ("multipart/form-data; boundary=a b", ""),
            ("multipart/form-data; charset=utf-8", "no boundary"),
        ] {
            let header = format!("content-type: {kind}");
            rows.push(bad("POST", path, 400, "malformed_body").with(&[&header]).bringing(whole()).says(says));
        }
        let long = format!("content-type: multipart/form-data; boundary={}", "x".repeat(71));
        rows.push(bad("POST", path, 400, "malformed_body").with(&[&long]).says("1 to 70 characters"));
        let mut no_end = whole();
        no_end.truncate(no_end.len() - 18);
        let other = b"--other\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nx\r\n--other--\r\n";
        for body in [
            Vec::new(),
            b"hello".to_vec(),
            b"--XxBoundaryxX".to_vec(),
            b"--XxBoundaryxX\r\n".to_vec(),
            b"--XxBoundaryxXContent-Disposition: form-data\r\n\r\nx\r\n--XxBoundaryxX--".to_vec(),
            other.to_vec(),
            no_end,
            Form::new().part("Content Disposition: form-data; name=\"a\"", "x").end(),
            Form::new().part("\u{7f}: x", "x").end(),
            Form::new().part("Content-Disposition: form-data", "x").end(),
            Form::new().part("X-Nothing: x", "x").end(),
            Form::new().part(&format!("X-Long: {}", "x".repeat(20_000)), "x").end(),
            Form::new().part(&"X-Many: x\r\n".repeat(40), "x").end(),
        ] {
            rows.push(form(path, body, 400, "malformed_body"));
        }
        // No end of what comes before the first part, or of its head.
        rows.push(form(path, "x".repeat(600_000), 400, "malformed_body").says("headers of a part"));
        let endless = format!("--XxBoundaryxX\r\nX-Long: {}", "x".repeat(600_000));
        rows.push(form(path, endless, 400, "malformed_body").says("headers of a part"));
        for encoding in ["base64", "quoted-printable", "x-gzip", ""] {
            let head = format!(
                "Content-Disposition: form-data; name=\"f\"; filename=\"a\"\r\nContent-Transfer-Encoding: {encoding}"
            );
            let body = Form::new().part(&head, "aGVsbG8=").end();
            rows.push(form(path, body, 415, "unsupported_content_encoding"));
        }
        rows.push(form(path, whole(), 415, "unsupported_content_encoding").with(&["content-encoding: gzip"]));
        for name in ["..", "/", "a/", "\u{202e}"] {
            rows.push(form(path, Form::new().file(name, "x").end(), 422, "unnamed_file"));
        }
        rows.push(form(path, Form::new().file("", "x").end(), 422, "unnamed_file"));
        rows.push(form(path, Form::new().file("a", "").end(), 422, "empty_file").says("\"a\""));
        let too_long = ["content-length: 300000000"];
        let mut announced = form(path, "", 413, "file_too_large").with(&too_long);
        announced = announced.says("larger than");
        rows.push(announced);
    }
    rows
}

fn files_alone() -> Vec<Bad> {
    let mut rows = vec![
        form(FILES, Form::new().end(), 422, "no_file"),
        form(FILES, Form::new().file("", "").end(), 422, "no_file"),
        form(FILES, Form::new().field("text", "x").end(), 422, "unknown_key").says("\"text\""),
        form(&format!("{FILES}?name=a.txt"), Form::new().file("a", "x").end(), 400, "malformed_query"),
        raw("", &[RAW], "x", 422, "unnamed_file").says("?name="),
        raw("?name=", &[RAW], "x", 422, "unnamed_file"),
        raw("?name=..", &[RAW], "x", 422, "unnamed_file"),
        raw("", &[RAW, "content-disposition: attachment"], "x", 422, "unnamed_file"),
        raw("", &[RAW, "content-disposition: attachment; filename=\"a"], "x", 422, "unnamed_file"),
        raw("?name=a", &[RAW], "", 422, "empty_file"),
        raw("?name=a&name=b", &[RAW], "x", 400, "malformed_query"),
        raw("?name=%ff", &[RAW], "x", 400, "malformed_query"),
        raw("?nam=a", &[RAW], "x", 400, "malformed_query").says("did you mean"),
        raw("?name=a", &[RAW, "content-encoding: gzip"], "x", 415, "unsupported_content_encoding"),
        raw("?name=a", &[RAW, RAW], "x", 415, "unsupported_content_type"),
        raw("?name=a", &[RAW, "content-length: 26214401"], "", 413, "file_too_large").says("25 MiB"),
        raw("?name=a", &[RAW, "transfer-encoding: chunked"], "zz\r\nx\r\n0\r\n\r\n", 400, "malformed_body"),
        raw("?name=a", &[], "x", 415, "unsupported_content_type").says("application/octet-stream"),
    ];
    for kind in [
        "",
        "pdf",
        "*/*",
        "a/b/c",
        "/pdf",
        "application/",
        "text/plain, text/html",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "multipart/formdata; boundary=x",
    ] {
        let header = format!("content-type: {kind}");
        rows.push(raw("?name=a", &[&header], "x", 415, "unsupported_content_type"));
    }
    rows
}

fn messages_with_files() -> Vec<Bad> {
    let with_file = |form: Form| form.file("a.txt", "x").end();
    let mut rows = Vec::new();
    for (fields, status, code) in [
        (vec![("txet", "x")], 422, "unknown_key"),
        (vec![("", "x")], 422, "unknown_key"),
        (vec![("resourceid", "/bot.message")], 422, "unknown_key"),
        (vec![("text", "x"), ("text", "y")], 400, "malformed_body"),
        (vec![("text", "x"), ("text", "x")], 400, "malformed_body"),
        (vec![("customData", "{")], 400, "malformed_body"),
        (vec![("customData", "[]")], 422, "wrong_type"),
        (vec![("attachments", "{}")], 422, "wrong_type"),
        (vec![("clientMessageId", "x")], 422, "bad_client_message_id"),
        (vec![("clientMessageId", "0")], 422, "bad_client_message_id"),
    ] {
        let all = |form| fields.iter().fold(form, |form: Form, (name, text)| form.field(name, text));
        rows.push(form(MESSAGES, with_file(all(Form::new())), status, code));
        rows.push(form(MESSAGES, all(Form::new()).end(), status, code));
    }
    let large = "x".repeat(5_000);
    rows.extend([
        form(MESSAGES, Form::new().end(), 422, "empty_message"),
        form(MESSAGES, Form::new().file("", "").end(), 422, "empty_message"),
        form(MESSAGES, Form::new().field("text", " ").end(), 422, "empty_message"),
        form(MESSAGES, Form::new().field("renderMsg", "x").end(), 422, "empty_message"),
        form(
            MESSAGES,
            Form::new().field("text", &large).field("renderMsg", &large).end(),
            413,
            "body_too_large",
        )
        .says("messages.max_body"),
        form(
            MESSAGES,
            with_file(Form::new().part("Content-Disposition: form-data; name=\"text\"", b"\xff")),
            400,
            "malformed_body",
        )
        .says("UTF-8"),
    ]);
    for charset in ["iso-8859-1", "utf-16", ""] {
        let head = format!(
            "Content-Disposition: form-data; name=\"text\"\r\nContent-Type: text/plain; charset={charset}"
        );
        rows.push(form(MESSAGES, with_file(Form::new().part(&head, "x")), 415, "unsupported_charset"));
    }
    rows
}

#[tokio::test]
async fn bad_files_have_their_answer_and_leave_no_trace() {
    let rows: Vec<Bad> =
        [broken_forms(), files_alone(), messages_with_files()].into_iter().flatten().collect();
    assert!(rows.len() >= 100, "{} rows", rows.len());
    refused_without_a_trace(&rows).await;
}
