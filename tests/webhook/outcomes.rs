//! What attempts come to.

use std::{sync::Arc, time::Duration};

use reqwest::header::LOCATION;
use rtm_bridge::{
    config::{KeyPair, Secret, WebhookAuth},
    receiver::{Receiver, ReceiverOptions, Reply, Verdict},
    webhook::{FailureKind, Outcome, RetryCause, SenderProblem},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    time::{Instant, timeout},
};
use url::Url;

use crate::support::{
    PLENTY, answers, delivery, key, no_answer, raw_server, read_request, receiver, sender, sender_to,
    settings, try_sender,
};

#[tokio::test]
async fn every_answer_has_its_outcome() {
    let receiver = receiver().await;
    let sender = sender_to(&receiver.url());
    let retry = |cause| Outcome::Retry { cause, hold: None };
    let cases = [
        (200, Outcome::Delivered),
        (202, Outcome::Delivered),
        (204, Outcome::Delivered),
        (304, retry(RetryCause::Redirected)),
        (400, Outcome::Refused),
        (401, retry(RetryCause::Denied)),
        (404, retry(RetryCause::NotFound)),
        (409, retry(RetryCause::NotNow)),
        (410, Outcome::Gone),
        (422, Outcome::Refused),
        (429, retry(RetryCause::Throttled)),
        (503, retry(RetryCause::ServerError)),
    ];
    for (status, outcome) in cases {
        receiver.script([Reply::status(status).body("because")]);
        let result = sender.attempt(&delivery(1)).await;
        assert_eq!((result.outcome, result.status), (outcome, Some(status)));
        assert_eq!(result.failure, None);
        let kept: &[u8] = if outcome == Outcome::Delivered || status == 304 { b"" } else { b"because" };
        assert_eq!(result.answer, kept, "{status}");
    }
    receiver.script([Reply::status(503).retry_after("120")]);
    let Outcome::Retry { hold, .. } = sender.attempt(&delivery(1)).await.outcome else { panic!("retried") };
    assert_eq!(hold, Some(Duration::from_secs(120)));
}

#[tokio::test]
async fn a_request_says_all_it_should() {
    let options = ReceiverOptions { secrets: vec![key(1)], ..ReceiverOptions::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let mut settings = settings(&receiver.url());
    settings.secrets = vec![key(2), key(1)];
    settings.headers = vec![("X-Api-Key".into(), Secret::new("k"))];
    settings.auth = WebhookAuth::Bearer(Secret::new("token"));
    let mut second = delivery(42);
    second.attempt = 2;
    sender(&settings).attempt(&second).await;
    let seen = &receiver.wait_events(1).await[0];
    assert_eq!(seen.signature, Verdict::Verified);
    assert_eq!(seen.body, second.body.bytes);
    assert_eq!((seen.attempt, seen.sequence, seen.text.as_deref()), (Some(2), Some(42), Some("Hi.")));
    let at = second.at.as_secs().to_string();
    let expected = [
        ("webhook-id", "evt_00000007000000000000002a"),
        ("webhook-timestamp", &at),
        ("bridge-user", "alice"),
        ("bridge-event", "bot_response"),
        ("bridge-attempt", "2"),
        ("content-type", "application/json"),
        ("user-agent", concat!("rtm-bridge/", env!("CARGO_PKG_VERSION"))),
        ("x-api-key", "k"),
        ("authorization", "Bearer token"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.headers.get(name).unwrap(), value, "{name}");
    }
    let signatures = seen.headers["webhook-signature"].to_str().unwrap();
    assert_eq!(signatures.split(' ').filter(|one| one.starts_with("v1,")).count(), 2);
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed_and_odd_types_are_unknown() {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let mut settings = settings(&receiver.url());
    settings.secrets.clear();
    settings.auth = WebhookAuth::Basic { user: "Aladdin".into(), password: Secret::new("open sesame") };
    let mut odd = delivery(1);
    Arc::make_mut(&mut odd.event).kind = "späte\r\nsache".into();
    sender(&settings).attempt(&odd).await;
    let seen = &receiver.wait_events(1).await[0];
    assert_eq!((seen.signature, &*seen.event_type), (Verdict::Missing, "unknown"));
    assert_eq!(seen.headers["authorization"], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, source) = (receiver().await, receiver().await);
    source.answer(Reply::status(307).header(LOCATION, target.url().as_str()));
    let result = sender_to(&source.url()).attempt(&delivery(1)).await;
    assert_eq!(result.outcome, Outcome::Retry { cause: RetryCause::Redirected, hold: None });
    assert_eq!(target.accepted_connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again_whatever_the_answer() {
    let receiver = receiver().await;
    let sender = sender_to(&receiver.url());
    for round in 0..20u64 {
        let status = if round % 2 == 0 { 200 } else { 500 };
        receiver.script([Reply::status(status).body(vec![b'x'; 50_000])]);
        let result = sender.attempt(&delivery(round)).await;
        assert_eq!(result.answer.len(), if status == 200 { 0 } else { 4096 });
    }
    assert_eq!(receiver.accepted_connections(), 1);
}

#[tokio::test]
async fn a_success_does_not_wait_for_its_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    ] {
        let url = answers(answer).await;
        let started = Instant::now();
        assert_eq!(sender_to(&url).attempt(&delivery(1)).await.outcome, Outcome::Delivered, "{answer}");
        assert!(started.elapsed() < PLENTY / 2, "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut() {
    for status in ["200 OK", "500 Oh"] {
        let (gave_up, mut ended) = mpsc::unbounded_channel();
        let url = raw_server(move |_, mut stream| {
            let gave_up = gave_up.clone();
            async move {
                read_request(&mut stream).await;
                let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                while stream.write_all(chunk.as_bytes()).await.is_ok() {}
                gave_up.send(()).unwrap();
            }
        })
        .await;
        let result = sender_to(&url).attempt(&delivery(1)).await;
        assert_eq!(result.outcome == Outcome::Delivered, status == "200 OK");
        assert_eq!(result.answer.len(), if status == "200 OK" { 0 } else { 4096 });
        timeout(PLENTY, ended.recv()).await.expect("the connection is given up").unwrap();
    }
}

#[tokio::test]
async fn a_reset_after_a_success_is_a_success_and_before_it_is_none() {
    for (begin, outcome) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", Some(Outcome::Delivered)),
        ("HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\nabc", Some(Outcome::Refused)),
        ("HTTP/1.1 200 O", None),
        ("", None),
    ] {
        let url = raw_server(move |_, mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(begin.as_bytes()).await.unwrap();
            // Closed like this, its other end sees a reset.
            stream.set_zero_linger().unwrap();
        })
        .await;
        let result = sender_to(&url).attempt(&delivery(1)).await;
        match outcome {
            Some(outcome) => assert_eq!(result.outcome, outcome, "{begin:?}"),
            None => assert_eq!(no_answer(&result, FailureKind::Reset), result.summary(), "{begin:?}"),
        }
    }
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_is_left_after_the_timeout() {
    let url = raw_server(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut settings = settings(&url);
    settings.timeout = Duration::from_millis(200);
    // More than fits into the socket's buffers.
    let mut large = delivery(1);
    large.body.bytes = vec![b' '; 16 << 20].into();
    for delivery in [delivery(1), large] {
        let result = sender(&settings).attempt(&delivery).await;
        no_answer(&result, FailureKind::Timeout);
    }
}

#[tokio::test]
async fn a_failures_body_is_read_no_longer_than_the_timeout() {
    let url = answers("HTTP/1.1 500 Oh\r\ncontent-length: 100\r\n\r\nabc").await;
    let mut settings = settings(&url);
    settings.timeout = Duration::from_millis(300);
    let result = sender(&settings).attempt(&delivery(1)).await;
    assert_eq!((result.status, &*result.answer), (Some(500), &b"abc"[..]));
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_after_the_timeout() {
    for answer in ["", "HTTP/1.1 200 OK\r\nslow: "] {
        let mut settings = settings(&answers(answer).await);
        settings.timeout = Duration::from_millis(200);
        let result = sender(&settings).attempt(&delivery(1)).await;
        assert_eq!(no_answer(&result, FailureKind::Timeout), "no answer within 200ms");
        assert!(result.took >= settings.timeout);
    }
}

#[tokio::test]
async fn a_failure_says_what_happened_and_no_credentials() {
    let gone = receiver().await;
    let mut url = gone.url();
    gone.stop().await;
    url.set_username("me").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let result = sender_to(&url).attempt(&delivery(1)).await;
    let text = no_answer(&result, FailureKind::Connect);
    let port = url.port().unwrap();
    assert_eq!(text, format!("127.0.0.1:{port} refuses connections: is the receiver running?"));
    assert_eq!(result.summary(), text);

    let result = sender_to(&answers("SSH-2.0-OpenSSH\r\n\r\n").await).attempt(&delivery(1)).await;
    assert!(no_answer(&result, FailureKind::Protocol).contains("not HTTP"));

    let nowhere = Url::parse("http://me:hunter2@nowhere.invalid/secret-path").unwrap();
    let result = sender_to(&nowhere).attempt(&delivery(1)).await;
    let text = no_answer(&result, FailureKind::Dns);
    assert!(text.contains("nowhere.invalid can't be resolved"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("secret-path"), "{text}");
}

#[tokio::test]
async fn a_fresh_connection_that_is_cut_is_a_failed_attempt() {
    let (requests, mut seen) = mpsc::unbounded_channel();
    let url = raw_server(move |number, mut stream| {
        let requests = requests.clone();
        async move {
            requests.send((number, read_request(&mut stream).await)).unwrap();
        }
    })
    .await;
    let result = sender_to(&url).attempt(&delivery(1)).await;
    assert!(no_answer(&result, FailureKind::Reset).contains("closed the connection"));
    assert!(seen.recv().await.is_some());
    assert!(seen.try_recv().is_err(), "it was sent once");
}

#[tokio::test]
async fn a_kept_connection_that_is_cut_is_replaced_within_the_attempt() {
    let (requests, mut seen) = mpsc::unbounded_channel();
    let url = raw_server(move |number, mut stream| {
        let requests = requests.clone();
        async move {
            requests.send((number, read_request(&mut stream).await)).unwrap();
            stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").await.unwrap();
            if number == 0 {
                // Takes one more request, and closes without a word.
                requests.send((number, read_request(&mut stream).await)).unwrap();
            } else {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let sender = sender_to(&url);
    assert_eq!(sender.attempt(&delivery(1)).await.outcome, Outcome::Delivered);
    assert_eq!(sender.attempt(&delivery(2)).await.outcome, Outcome::Delivered);
    let (first, cut, again) =
        (seen.recv().await.unwrap(), seen.recv().await.unwrap(), seen.recv().await.unwrap());
    assert_eq!((first.0, cut.0, again.0), (0, 0, 1));
    assert_eq!(cut.1, again.1, "the same request, to the letter");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_showing_secrets() {
    let plain = settings(&Url::parse("https://crm.example.com/").unwrap());
    let refused = |change: &dyn Fn(&mut rtm_bridge::config::Webhook)| {
        let mut changed = plain.clone();
        change(&mut changed);
        let error = try_sender(&changed).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().starts_with("webhook crm: "), "{error}");
        error.problem
    };
    let header = |name: &str, value: &str| vec![(name.to_owned(), Secret::new(value))];
    for reserved in ["webhook-id", "Bridge-User", "Content-Length", "content-type"] {
        let problem = refused(&|webhook| webhook.headers = header(reserved, "hunter2"));
        assert!(matches!(problem, SenderProblem::ReservedHeader(name) if name == reserved));
    }
    let problem = refused(&|webhook| webhook.headers = header("x", "hunter2\r\n"));
    assert!(matches!(problem, SenderProblem::InvalidHeader(_)));
    let problem = refused(&|webhook| webhook.headers = header("x y", "hunter2"));
    assert!(matches!(problem, SenderProblem::InvalidHeader(_)));
    let problem = refused(&|webhook| webhook.auth = WebhookAuth::Bearer(Secret::new("hunter2\n")));
    assert!(matches!(problem, SenderProblem::InvalidToken));
    let problem = refused(&|webhook| {
        webhook.headers = header("Authorization", "hunter2");
        webhook.auth = WebhookAuth::Bearer(Secret::new("hunter2"));
    });
    assert!(matches!(problem, SenderProblem::TwoAuthorizations));
    let problem = refused(&|webhook| webhook.ca = Some("/does/not/exist".into()));
    assert!(matches!(problem, SenderProblem::Unreadable { key: "ca", .. }));
    let problem = refused(&|webhook| webhook.ca = Some("Cargo.toml".into()));
    assert!(matches!(problem, SenderProblem::NotPem { key: "ca", .. }));
    let problem = refused(&|webhook| {
        webhook.client_certificate =
            Some(KeyPair { certificate: "Cargo.toml".into(), key: "Cargo.toml".into() });
    });
    assert!(matches!(problem, SenderProblem::NotPem { key: "client_certificate", .. }));

    let mut fine = plain.clone();
    fine.headers = header("x-key", "hunter2");
    fine.auth = WebhookAuth::Bearer(Secret::new("hunter2"));
    assert!(!format!("{:?}", sender(&fine)).contains("hunter2"));
}
