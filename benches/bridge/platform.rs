//! The platform's side, as lean as it gets: it signs everybody in, keeps a socket per user, answers
//! what a user sends, and pushes what it is given. It checks nothing; tests do that elsewhere.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::AsyncReadExt as _,
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Outcome,
    http::{Conversation, Message},
    kernel,
    tls::Front,
    wait::Counter,
    ws::{self, Outgoing},
};

/// What the platform says to a user's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bot {
    /// An ack.
    Acks,
    /// An ack, and an answer at once.
    Answers,
}

/// What else can be asked of a platform: none if this is nothing that it knows.
pub type Routes = Box<dyn Fn(&Asked<'_>) -> Option<String> + Send + Sync>;

/// A request that isn't about signing in.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The platform itself.
    pub platform: SocketAddr,
    /// Path and query.
    pub target: &'a str,
    /// Whose access token came with it: the user's name.
    pub token: &'a str,
}

/// A running platform. It stops listening with this value; its sockets end with their daemon.
#[derive(Debug)]
pub struct Platform {
    address: SocketAddr,
    front: Option<Front>,
    shared: Arc<Shared>,
    _listening: AbortOnDropHandle<()>,
}

struct Shared {
    bot: Bot,
    routes: Option<Routes>,
    address: SocketAddr,
    /// Scheme and address of the sockets' URLs.
    origin: String,
    sockets: Mutex<HashMap<usize, Arc<Socket>>>,
    opened: Counter,
    acked: Counter,
    /// When messages arrived, by the number in their text.
    arrivals: Mutex<Vec<u64>>,
}

impl Platform {
    /// Starts one.
    pub async fn start(bot: Bot) -> Outcome<Self> {
        Self::start_with(bot, None).await
    }

    /// Starts one that is asked over TLS.
    pub async fn start_with_tls(bot: Bot) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let front = Front::before(listener.local_addr()?).await?;
        Self::on(listener, Some(front), bot, None)
    }

    /// Starts one that knows more.
    pub async fn start_with(bot: Bot, routes: Option<Routes>) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Self::on(listener, None, bot, routes)
    }

    fn on(listener: TcpListener, front: Option<Front>, bot: Bot, routes: Option<Routes>) -> Outcome<Self> {
        let address = listener.local_addr()?;
        let origin = match &front {
            Some(front) => format!("wss://{}", front.address()),
            None => format!("ws://{address}"),
        };
        let shared = Arc::new(Shared {
            bot,
            routes,
            address,
            origin,
            sockets: Mutex::default(),
            opened: Counter::default(),
            acked: Counter::default(),
            arrivals: Mutex::default(),
        });
        let served = shared.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = served.clone();
                // A connection that breaks is the daemon's end, or the row's.
                tokio::spawn(async move { shared.serve(stream).await.ok() });
            }
        });
        Ok(Self { address, front, shared, _listening: AbortOnDropHandle::new(listening) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as a configuration has it.
    pub fn url(&self) -> String {
        match &self.front {
            Some(front) => format!("https://{}", front.address()),
            None => format!("http://{}", self.address),
        }
    }

    /// Whom to trust, if it is asked over TLS: a file of certificates.
    pub fn authority(&self) -> Option<&str> {
        self.front.as_ref().map(Front::authority)
    }

    /// Waits until so many sockets were opened in all.
    pub async fn opened(&self, sockets: usize) -> Outcome<()> {
        self.shared.opened.reach(sockets as u64, "users connected").await
    }

    /// How many messages were acked so far.
    pub fn acks(&self) -> u64 {
        self.shared.acked.get()
    }

    /// Waits until so many messages were acked in all.
    pub async fn acked(&self, messages: u64) -> Outcome<()> {
        self.shared.acked.reach(messages, "messages at the platform").await
    }

    /// When messages arrived, by [`kernel::nanos`] and the number in their text.
    pub fn arrivals(&self) -> Vec<u64> {
        lock(&self.shared.arrivals).clone()
    }

    /// How many sockets were opened in all.
    pub fn opens(&self) -> u64 {
        self.shared.opened.get()
    }

    /// Whether a user has a socket.
    pub fn is_connected(&self, user: usize) -> bool {
        self.socket(user).is_some()
    }

    /// Ends all sockets without a word.
    pub fn drop_sockets(&self) {
        for (_, socket) in lock(&self.shared.sockets).drain() {
            // One that is gone already is dropped as well.
            let _ = rustix::net::shutdown(socket.stream.as_ref(), rustix::net::Shutdown::Both);
        }
    }

    fn socket(&self, user: usize) -> Option<Arc<Socket>> {
        lock(&self.shared.sockets).get(&user).cloned()
    }

    /// Sends a frame to a user, as soon as its socket takes it.
    pub async fn push(&self, user: usize, frame: &[u8]) -> Outcome<()> {
        let socket = self.socket(user);
        let socket = socket.ok_or_else(|| format!("user {user} is not connected"))?;
        socket.send(Outgoing::Text, frame);
        Ok(socket.flushed().await?)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// A connection: requests, or one that becomes a socket.
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut conversation = Conversation::on(stream)?;
        while let Some(request) = conversation.next().await? {
            let target = request.second_word();
            let (answer, user) = match target.split_once("sid=") {
                Some((_, sid)) => {
                    let user = sid.split(['&', '?']).next().and_then(user_of);
                    let key =
                        derive_accept_key(request.field("sec-websocket-key").unwrap_or_default().as_bytes());
                    let head =
                        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade";
                    (format!("{head}\r\nsec-websocket-accept: {key}\r\n\r\n"), user)
                }
                None => (self.answer(target, &request), None),
            };
            conversation.write(answer.as_bytes()).await?;
            if let Some(user) = user {
                let (stream, rest) = conversation.into_parts();
                return self.socket(user, stream, rest).await;
            }
        }
        Ok(())
    }

    /// Signs a user in. Its identity is its token, and its token its URL: nothing to remember.
    fn answer(&self, target: &str, request: &Message<'_>) -> String {
        let body = if target.ends_with("/jwtgrant") {
            identity(request.body).map(|identity| {
                format!(
                    r#"{{"authorization":{{"accessToken":"{identity}","token_type":"bearer","expiresDate":"2099-01-01T00:00:00.000Z"}},"userInfo":{{"userId":"u-{identity}"}}}}"#
                )
            })
        } else {
            let token = request.field("authorization").and_then(|value| value.split_whitespace().nth(1));
            token.and_then(|token| {
                let asked = Asked { platform: self.address, target, token };
                self.routes
                    .as_ref()
                    .and_then(|routes| routes(&asked))
                    .or_else(|| Some(format!(r#"{{"url":"{}/rtm/bot?sid={token}"}}"#, self.origin)))
            })
        };
        match body {
            Some(body) => format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned(),
        }
    }

    async fn socket(&self, user: usize, stream: TcpStream, buffer: Vec<u8>) -> io::Result<()> {
        let (reader, writer) = stream.into_split();
        let socket = Arc::new(Socket { stream: writer, unsent: Mutex::default() });
        lock(&self.sockets).insert(user, socket.clone());
        self.opened.add();
        let ended = self.listen(&socket, reader, buffer).await;
        // Unless it was dropped, and there is another one already.
        let mut sockets = lock(&self.sockets);
        if sockets.get(&user).is_some_and(|current| Arc::ptr_eq(current, &socket)) {
            sockets.remove(&user);
        }
        ended
    }

    async fn listen(
        &self,
        socket: &Socket,
        mut reader: OwnedReadHalf,
        mut buffer: Vec<u8>,
    ) -> io::Result<()> {
        loop {
            let mut at = 0;
            while let Some(frame) = ws::read(&mut buffer, at)? {
                let (start, end) = frame.payload;
                at = end;
                match frame.kind {
                    ws::Kind::Text => self.frame(socket, &buffer[start..end])?,
                    ws::Kind::Ping => socket.send(Outgoing::Pong, &buffer[start..end]),
                    ws::Kind::Close => {
                        socket.send(Outgoing::Close, &buffer[start..end]);
                        return socket.flushed().await;
                    }
                    ws::Kind::Other => {}
                }
            }
            buffer.drain(..at);
            socket.flushed().await?;
            // Where less comes than there is room for, the socket is empty: nothing is asked in vain, as it would be
            // with `readable` and `try_read_buf`.
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    fn frame(&self, socket: &Socket, frame: &[u8]) -> io::Result<()> {
        let Sent { kind, id, message } = serde_json::from_slice(frame).map_err(io::Error::other)?;
        if kind == Some("ping") {
            let id = id.map_or("null", RawValue::get);
            socket.say(format_args!(r#"{{"type":"pong","replyto":{id}}}"#));
            return Ok(());
        }
        // What others say of what they did.
        let Some(id) = id else { return Ok(()) };
        if let Some(number) = message.and_then(|message| number_of(message.body)) {
            self.arrived(number);
        }
        socket.say(format_args!(r#"{{"ok":true,"replyto":{id},"message":"delivered","type":"ack"}}"#));
        if self.bot == Bot::Answers {
            socket.say(format_args!(
                r#"{{"type":"bot_response","from":"bot","messageId":"ms-answer-{id}","message":[{{"type":"text","cInfo":{{"body":"You are welcome."}}}}]}}"#
            ));
        }
        self.acked.add();
        Ok(())
    }

    fn arrived(&self, number: usize) {
        let mut arrivals = lock(&self.arrivals);
        if arrivals.len() <= number {
            arrivals.resize(number + 1, 0);
        }
        arrivals[number] = kernel::nanos();
    }
}

/// What is read of a client's frame.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    message: Option<SentMessage<'a>>,
}

#[derive(Deserialize)]
struct SentMessage<'a> {
    body: &'a str,
}

/// A user's socket. Who has something to send may be its reader or a pusher: what the system
/// doesn't take at once waits in one place, in order.
#[derive(Debug)]
struct Socket {
    stream: OwnedWriteHalf,
    unsent: Mutex<Vec<u8>>,
}

impl Socket {
    /// Sends a short text, put together on the stack.
    fn say(&self, text: fmt::Arguments<'_>) {
        let mut whole = [0; 512];
        let mut rest = &mut whole[..];
        rest.write_fmt(text).expect("what is said here is short");
        let left = rest.len();
        self.send(Outgoing::Text, &whole[..whole.len() - left]);
    }

    /// Sends a frame, or puts it behind what waits.
    fn send(&self, kind: Outgoing, payload: &[u8]) {
        let mut unsent = lock(&self.unsent);
        ws::write(&mut unsent, kind, payload);
        // If it is broken, its reader finds out.
        let _ = self.try_flush(&mut unsent);
    }

    /// Waits until the system has taken everything.
    async fn flushed(&self) -> io::Result<()> {
        loop {
            if self.try_flush(&mut lock(&self.unsent))? {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }

    fn try_flush(&self, unsent: &mut Vec<u8>) -> io::Result<bool> {
        while !unsent.is_empty() {
            match self.stream.try_write(unsent) {
                Ok(written) => drop(unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The name of a user, and its identity.
pub fn user_name(user: usize) -> String {
    UserName(user).to_string()
}

/// The same, to be written.
#[derive(Debug, Clone, Copy)]
pub struct UserName(pub usize);

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

fn user_of(name: &str) -> Option<usize> {
    name.strip_prefix('u')?.parse().ok()
}

/// A message's text that says which one it is.
#[derive(Debug, Clone, Copy)]
pub struct NumberedText(pub usize);

impl fmt::Display for NumberedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:09} Where is my parcel? It should have been here on Tuesday.", self.0)
    }
}

fn number_of(text: &str) -> Option<usize> {
    text.strip_prefix('#')?.get(..9)?.parse().ok()
}

/// The `sub` of the assertion that a jwtgrant's body brings.
fn identity(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Grant<'a> {
        assertion: &'a str,
    }
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let Grant { assertion } = serde_json::from_slice(body).ok()?;
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.sub)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
