//! What goes over a connection, and how many there are.

use rtm_bridge::{
    clock::Timestamp,
    config::{Secret, WebhookAuth},
    webhook::{Outcome, Sender},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};
use url::Url;

use crate::support::{PLENTY, delivery, raw_server, read_request, receiver, sender, sender_to, settings};

/// Posts these events, all of them at once.
async fn post_at_once(sender: &Sender, numbers: std::ops::Range<u64>) {
    let attempts: Vec<_> = numbers
        .map(|number| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.attempt(&delivery(number)).await.outcome })
        })
        .collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap(), Outcome::Delivered);
    }
}

#[tokio::test]
async fn a_request_is_the_same_to_the_letter_whatever_connection_it_takes() {
    let (requests, mut seen) = mpsc::unbounded_channel();
    let url = raw_server(move |_, mut stream| {
        let requests = requests.clone();
        async move {
            loop {
                requests.send(read_request(&mut stream).await).unwrap();
                stream
                    .write_all(b"HTTP/1.1 204 OK\r\nx-theirs: 1\r\nx-api-key: theirs\r\n\r\n")
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    let url = url.join("/hook/a%20b?key=c&d=%22").unwrap();
    let mut settings = settings(&url);
    settings.secrets.clear();
    settings.headers = vec![("X-Api-Key".into(), Secret::new("k"))];
    settings.auth = WebhookAuth::Bearer(Secret::new("token"));
    let sender = sender(&settings);
    let mut second = delivery(42);
    (second.attempt, second.at) = (17, Timestamp::from_millis(1_466_692_440_896));
    let expected = format!(
        "POST /hook/a%20b?key=c&d=%22 HTTP/1.1\r\n\
         user-agent: rtm-bridge/{}\r\n\
         x-api-key: k\r\n\
         authorization: Bearer token\r\n\
         content-type: application/json\r\n\
         webhook-timestamp: 1466692440\r\n\
         webhook-id: evt_00000007000000000000002a\r\n\
         bridge-user: alice\r\n\
         bridge-event: bot_response\r\n\
         bridge-attempt: 17\r\n\
         accept: */*\r\n\
         host: {}:{}\r\n\
         content-length: {}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        url.host_str().unwrap(),
        url.port().unwrap(),
        second.body.bytes.len(),
    );
    for _ in 0..3 {
        assert_eq!(sender.attempt(&second).await.outcome, Outcome::Delivered);
        assert_eq!(seen.recv().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_requests_at_once() {
    let receiver = receiver().await;
    let sender = sender_to(&receiver.url());
    receiver.hold();
    let all = tokio::spawn({
        let sender = sender.clone();
        async move { post_at_once(&sender, 0..8).await }
    });
    receiver.wait_attempts(8).await;
    receiver.release();
    all.await.unwrap();
    for round in 1..20 {
        post_at_once(&sender, 8 * round..8 * round + 8).await;
    }
    assert_eq!(receiver.accepted_connections(), 8);
}

#[tokio::test]
async fn no_more_connections_are_kept_than_may_be_used_at_once() {
    let receiver = receiver().await;
    let mut settings = settings(&receiver.url());
    settings.max_in_flight = 2;
    let sender = sender(&settings);
    receiver.hold();
    let all = tokio::spawn({
        let sender = sender.clone();
        async move { post_at_once(&sender, 0..5).await }
    });
    receiver.wait_attempts(5).await;
    receiver.release();
    all.await.unwrap();
    let closed = async {
        while receiver.open_connections() > 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PLENTY, closed).await.expect("the others are closed");
}

#[tokio::test]
async fn when_all_kept_connections_are_stale_one_new_one_is_enough() {
    let (requests, mut seen) = mpsc::unbounded_channel();
    let url = raw_server(move |number, mut stream| {
        let requests = requests.clone();
        async move {
            requests.send(number).unwrap();
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").await.unwrap();
            if number < 2 {
                read_request(&mut stream).await;
                requests.send(number).unwrap();
            } else {
                // Until the client hangs up.
                let _ = stream.read_u8().await;
            }
        }
    })
    .await;
    let sender = sender_to(&url);
    post_at_once(&sender, 0..2).await;
    let opened = [seen.recv().await.unwrap(), seen.recv().await.unwrap()];
    assert_eq!((opened.iter().min(), opened.iter().max()), (Some(&0), Some(&1)));
    assert_eq!(sender.attempt(&delivery(3)).await.outcome, Outcome::Delivered);
    assert!(seen.recv().await.unwrap() < 2, "a kept connection was tried");
    assert_eq!(seen.recv().await.unwrap(), 2, "and then a new one");
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_counts() {
    let url = raw_server(|_, mut stream| async move {
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        // Until the client hangs up, without reading more than fits into the socket.
        while stream.read_u8().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut large = delivery(1);
    large.body.bytes = vec![b' '; 16 << 20].into();
    let result = sender_to(&url).attempt(&large).await;
    assert_eq!((result.outcome, result.status), (Outcome::Refused, Some(413)));
    assert_eq!(result.answer, b"no");
}

#[tokio::test]
async fn an_ipv6_address_is_connected_to_and_named_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("SKIPPED: there is no IPv6 loopback");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").await.unwrap();
        head
    });
    let url = Url::parse(&format!("http://[::1]:{port}/")).unwrap();
    assert_eq!(sender_to(&url).attempt(&delivery(1)).await.outcome, Outcome::Delivered);
    assert!(serving.await.unwrap().contains(&format!("\r\nhost: [::1]:{port}\r\n")));
}
