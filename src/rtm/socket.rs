//! A WebSocket to the platform: opening it, and what its errors mean.

mod intake;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        error::{CapacityError, ProtocolError, SubProtocolError},
        http::{
            HeaderValue,
            header::{SEC_WEBSOCKET_PROTOCOL, USER_AGENT},
        },
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use url::{Host, Url};

use self::intake::Intake;
use super::{
    failure::{Failure, FailureKind, Step},
    platform,
    session::CloseCause,
};
use crate::{clock::Timestamp, unreachable::Unreachable};

/// Limits of a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct SocketLimits {
    /// Largest frame that is read, in bytes.
    pub(super) max_frame: usize,
    /// Most bytes that wait to be written.
    pub(super) write_buffer: usize,
    /// Limit for a connect, all of it.
    pub(super) connect_timeout: Duration,
    /// Limit for writing a frame.
    pub(super) write_timeout: Duration,
}

/// An open socket. Boxed: TLS makes it large, and most of a user's life is spent waiting.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Box<WebSocketStream<Intake<MaybeTlsStream<TcpStream>>>>,
    write_timeout: Duration,
    outgrown: Outgrown,
}

/// Keeps a large frame from blowing up its socket's read buffer for good.
///
/// The buffer grows to the frame, which is then cut out of it without a copy; once nobody has the frame
/// any more, all of that memory would be used to read into again, for as long as the socket lives. While
/// somebody has it, the buffer gets new memory of its usual size as soon as it runs out of room. So the
/// frame is held until a later one lies somewhere else.
#[derive(Debug, Default)]
struct Outgrown(Option<Bytes>);

impl Outgrown {
    fn note(&mut self, message: &Message) {
        let bytes = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes,
            Message::Close(_) | Message::Frame(_) => return,
        };
        if bytes.len() >= LARGE {
            self.0 = match message {
                Message::Text(text) => Some(text.clone().into()),
                Message::Binary(bytes) => Some(bytes.clone()),
                _ => None,
            };
        } else if !bytes.is_empty() && self.0.as_ref().is_some_and(|large| !lies_close_behind(bytes, large)) {
            self.0 = None;
        }
    }
}

/// Whether these bytes were read into the same memory, after the large frame.
fn lies_close_behind(bytes: &[u8], large: &Bytes) -> bool {
    let start = large.as_ptr().addr();
    (start..start + large.len() + 2 * READ_BUFFER).contains(&bytes.as_ptr().addr())
}

/// Why a frame was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// It is larger than what may wait to be written. The socket is fine.
    TooLarge,
    /// The socket is broken.
    Closed(CloseCause),
}

/// A small buffer to read into: each socket has one at once, busy or not. It grows with the frames that come.
const READ_BUFFER: usize = 512;
/// A frame that the read buffer should not stay as large as.
const LARGE: usize = 64 * 1024;
/// How long the platform is given to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// So many messages are read behind a goodbye; whoever sends more doesn't listen.
const MOST_LATE: usize = 16;

impl Socket {
    /// Opens a socket: TCP, TLS and handshake within the connect timeout and before the URL is too
    /// old (`by`). Of `subprotocols` the platform has to choose one.
    pub(super) async fn open(
        url: &Url,
        subprotocols: Option<HeaderValue>,
        tls: &Arc<rustls::ClientConfig>,
        limits: SocketLimits,
        by: Instant,
    ) -> Result<Self, Failure> {
        let failed = |kind, words: &str| Failure::new(Step::Open, kind, words);
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|_| failed(FailureKind::Malformed, "the URL can't be requested"))?;
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(platform::USER_AGENT));
        if let Some(offer) = subprotocols {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offer);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(limits.write_buffer)
            .max_message_size(Some(limits.max_frame))
            .max_frame_size(Some(limits.max_frame));
        let connecting = async {
            let stream = Intake::new(connect(url, tls).await?);
            let (handshaken, _) = client_async_with_config(request, stream, Some(config)).await?;
            // Nothing behind the handshake was read yet: its buffer has nothing in it.
            let stream = handshaken.into_inner();
            Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
        };
        let deadline = by.min(Instant::now() + limits.connect_timeout);
        match timeout_at(deadline, connecting).await {
            Err(_) => Err(failed(FailureKind::Timeout, "")),
            Ok(Err(error)) => Err(open_failure(&error)),
            Ok(Ok(stream)) => Ok(Self {
                stream: Box::new(stream),
                write_timeout: limits.write_timeout,
                outgrown: Outgrown::default(),
            }),
        }
    }

    /// The next message, of whatever kind. Cancel-safe.
    pub(super) async fn read(&mut self) -> Result<Message, CloseCause> {
        match self.stream.next().await {
            Some(Ok(message)) => {
                self.outgrown.note(&message);
                Ok(message)
            }
            Some(Err(error)) => Err(close_cause(&error)),
            None => Err(CloseCause::Lost(String::new())),
        }
    }

    /// Writes a message, down to the system.
    pub(super) async fn write(&mut self, message: Message) -> Result<(), WriteError> {
        match timeout(self.write_timeout, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::WriteBufferFull(_))) => Err(WriteError::TooLarge),
            Ok(Err(error)) => Err(WriteError::Closed(close_cause(&error))),
            Err(_) => {
                Err(WriteError::Closed(CloseCause::Lost("nothing could be written for too long".into())))
            }
        }
    }

    /// Lets the answer to the platform's goodbye out.
    pub(super) async fn answer_goodbye(&mut self) {
        let _ = timeout(GOODBYE, self.stream.flush()).await;
    }

    /// Says goodbye, without waiting for the answer: whoever reads on hears it, or that the socket broke.
    pub(super) async fn say_goodbye(&mut self, code: u16) {
        let goodbye = CloseFrame { code: CloseCode::from(code), reason: Default::default() };
        let _ = timeout(GOODBYE, self.stream.send(Message::Close(Some(goodbye)))).await;
    }

    /// Says goodbye and waits a moment for the answer, so that the platform hears it. Answers with
    /// the messages that came before that.
    pub(super) async fn close(mut self, code: u16) -> Vec<Message> {
        let by = Instant::now() + GOODBYE;
        self.say_goodbye(code).await;
        self.read_late(by).await
    }

    /// The messages that lie there, and those that come until then or until the platform's goodbye.
    /// That is the socket's end.
    pub(super) async fn rest(mut self, by: Instant) -> Vec<Message> {
        let late = self.read_late(by).await;
        // If it was not said before, and can be said at once.
        let _ = self.say_goodbye(CloseCode::Away.into()).now_or_never();
        late
    }

    async fn read_late(&mut self, by: Instant) -> Vec<Message> {
        let mut late = Vec::new();
        while late.len() < MOST_LATE {
            let Ok(Some(Ok(message))) = timeout_at(by, self.stream.next()).await else { break };
            late.push(message);
        }
        late
    }
}

/// Connects to a URL's host, with TLS for `wss`.
async fn connect(url: &Url, tls: &Arc<rustls::ClientConfig>) -> Result<MaybeTlsStream<TcpStream>, Error> {
    let unusable = || io::Error::new(io::ErrorKind::InvalidInput, "the URL names no host and port");
    let (host, port) = url.host().zip(url.port_or_known_default()).ok_or_else(unusable)?;
    let tcp = match host {
        Host::Domain(name) => TcpStream::connect((name, port)).await?,
        Host::Ipv4(address) => TcpStream::connect((address, port)).await?,
        Host::Ipv6(address) => TcpStream::connect((address, port)).await?,
    };
    tcp.set_nodelay(true)?;
    if url.scheme() != "wss" {
        return Ok(MaybeTlsStream::Plain(tcp));
    }
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
    };
    let connected = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await?;
    Ok(MaybeTlsStream::Rustls(connected))
}

fn open_failure(error: &Error) -> Failure {
    let (kind, retry_after) = match error {
        Error::Http(response) => {
            let status = response.status().as_u16();
            let kind = match status {
                429 => FailureKind::RateLimited,
                500.. => FailureKind::Server { status },
                _ => FailureKind::Refused { status },
            };
            (kind, platform::retry_after(response.headers(), Timestamp::now()))
        }
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol)) => {
            let words = "the platform chose none of the subprotocols, so it does not know the secure handshake: set platform.secure_handshake = false, or upgrade the platform";
            return Failure::new(Step::Open, FailureKind::Impossible, words);
        }
        Error::Protocol(_) | Error::Capacity(_) | Error::HttpFormat(_) | Error::Utf8(_) => {
            (FailureKind::Malformed, None)
        }
        _ => (FailureKind::Network, None),
    };
    let words = if matches!(error, Error::Http(_)) { String::new() } else { error.to_string() };
    let unreachable = (kind == FailureKind::Network).then(|| Unreachable::of(error));
    Failure::new(Step::Open, kind, &words).retry_after(retry_after).unreachable(unreachable)
}

fn close_cause(error: &Error) -> CloseCause {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCause::FrameTooLarge,
        Error::ConnectionClosed | Error::AlreadyClosed => CloseCause::Lost(String::new()),
        error => CloseCause::Lost(error.to_string()),
    }
}

/// What a close frame says.
pub(super) fn close_frame_cause(frame: Option<CloseFrame>) -> CloseCause {
    match frame {
        Some(frame) => CloseCause::Code(frame.code.into(), frame.reason.to_string()),
        None => CloseCause::Code(1005, String::new()),
    }
}

#[cfg(test)]
mod tests;
