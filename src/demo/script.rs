//! The script: eleven steps, each of which looks whether what it tells is so.

use std::{fmt, io, io::Write, sync::Arc, time::Duration};

use serde_json::Value;

use super::{
    ledger::{Ledger, Tally},
    stage::{Answer, IDENTITY, Stage, StageError, USER},
    timeline::{
        Party::{Bridge, Crm, Platform, You},
        Timeline,
    },
};
use crate::{
    clock::Timestamp,
    receiver::{ReceivedEvent, Verdict},
    sandbox::{ConnectionInfo, ConnectionMode, Direction, Endpoint, Fault, FaultKind, SocketEnd},
    users::ConnectionState,
};

/// A step of the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// JWT, jwtgrant, rtm/start, WebSocket; the bot says welcome.
    SignIn,
    /// A POST is answered 202.
    Post,
    /// The message is a frame at the platform.
    Frame,
    /// Its ack makes it `acked`.
    Ack,
    /// The bot's answer reaches the webhook, signed.
    Reply,
    /// The socket is reset, and a message is POSTed meanwhile.
    Drop,
    /// A fresh rtm/start, a new URL, no second welcome.
    Reconnect,
    /// The message that waited is sent, acked and answered.
    CatchUp,
    /// The webhook answers 503 for a moment.
    Retry,
    /// The daemon is stopped and started with a message and an event in its store.
    Restart,
    /// Everything is counted.
    Count,
}

impl Step {
    /// The whole script.
    pub const ALL: [Self; 11] = [
        Self::SignIn,
        Self::Post,
        Self::Frame,
        Self::Ack,
        Self::Reply,
        Self::Drop,
        Self::Reconnect,
        Self::CatchUp,
        Self::Retry,
        Self::Restart,
        Self::Count,
    ];

    /// What it is called on the timeline.
    pub const fn title(self) -> &'static str {
        match self {
            Self::SignIn => "The bridge signs in",
            Self::Post => "You send a message",
            Self::Frame => "The message reaches the platform",
            Self::Ack => "The platform acks it",
            Self::Reply => "The bot replies, and the crm gets a webhook",
            Self::Drop => "The connection drops, and you send a message meanwhile",
            Self::Reconnect => "The bridge reconnects",
            Self::CatchUp => "The queued message goes out",
            Self::Retry => "The crm fails for a moment",
            Self::Restart => "The bridge is restarted with work in its store",
            Self::Count => "The ledger",
        }
    }
}

/// The step that failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("step {number} failed ({}): {why}", .step.title())]
pub struct ScriptError {
    /// Which.
    pub step: Step,
    /// Its number on the timeline, from 1.
    pub number: usize,
    why: StepError,
}

impl ScriptError {
    /// The writer's error, if that is all it was.
    pub(super) fn into_output_error(self) -> Result<io::Error, Self> {
        match self.why {
            StepError::Output(error) => Ok(error),
            why => Err(Self { why, ..self }),
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("waited {} ms in vain for {what}{hint}", .patience.as_millis())]
    Waited { what: String, patience: Duration, hint: String },
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("the timeline can't be written: {0}")]
    Output(#[from] io::Error),
}

/// Fails a step, in these words, unless something holds.
fn ensure<W: fmt::Display>(holds: bool, otherwise: impl FnOnce() -> W) -> Result<(), StepError> {
    if holds { Ok(()) } else { Err(wrong(otherwise())) }
}

fn wrong(what: impl fmt::Display) -> StepError {
    StepError::Wrong(what.to_string())
}

/// Plays the script on a stage that has just been set up.
pub async fn play<W: Write>(stage: &mut Stage, timeline: &mut Timeline<W>) -> Result<Ledger, ScriptError> {
    let mut script = Script { stage, timeline, sent: Vec::new(), sockets: Vec::new(), ledger: None };
    for (step, number) in Step::ALL.into_iter().zip(1..) {
        if let Err(why) = script.act(step, number).await {
            // The error says it too, should this not be seen.
            let _ = script.timeline.cross(&why);
            return Err(ScriptError { step, number, why });
        }
    }
    Ok(script.ledger.expect("the last step fills it in"))
}

/// A message that was accepted.
#[derive(Debug, Clone)]
struct Sent {
    id: u64,
    text: String,
}

impl Sent {
    /// What the stand-in's bot answers.
    fn reply(&self) -> String {
        format!("echo: {}", self.text)
    }

    fn path(&self) -> String {
        format!("{}/{}", Stage::messages_path(), self.id)
    }
}

type Done = Result<(), StepError>;

struct Script<'a, W> {
    stage: &'a mut Stage,
    timeline: &'a mut Timeline<W>,
    sent: Vec<Sent>,
    sockets: Vec<ConnectionInfo>,
    ledger: Option<Ledger>,
}

impl<W: Write> Script<'_, W> {
    async fn act(&mut self, step: Step, number: usize) -> Done {
        self.timeline.step(number, step.title()).await?;
        match step {
            Step::SignIn => self.sign_in().await,
            Step::Post => self.post_first().await,
            Step::Frame => self.frame().await,
            Step::Ack => self.ack().await,
            Step::Reply => self.reply().await,
            Step::Drop => self.drop_connection().await,
            Step::Reconnect => self.reconnect().await,
            Step::CatchUp => self.catch_up().await,
            Step::Retry => self.retry().await,
            Step::Restart => self.restart().await,
            Step::Count => self.count().await,
        }
    }

    async fn sign_in(&mut self) -> Done {
        let platform = self.stage.platform();
        let socket = self.next_socket().await?;
        let asked = [
            (Endpoint::Jwtgrant, "POST jwtgrant: a signed JWT for alice"),
            (Endpoint::RtmStart, "POST rtm/start: a URL for the socket"),
        ];
        for (endpoint, words) in asked {
            let requests = platform.requests_of(IDENTITY, endpoint);
            ensure(requests.len() == 1, || {
                format!("{} requests came to {endpoint:?}, not one", requests.len())
            })?;
            self.timeline.hop(requests[0].at, Bridge, Platform, words)?;
        }
        self.show_socket(&socket)?;
        self.timeline.check("JWT, access token and one-time sid passed every check")?;
        let welcome = platform.settings().welcome.unwrap_or_default();
        let event = self.delivered(&welcome).await?;
        self.show_event(&event)?;
        self.timeline.check("signature verified; the bot says welcome, and only now")?;
        Ok(())
    }

    async fn post_first(&mut self) -> Done {
        let sent = self.post("Hello").await?;
        let status = self.status(&sent).await?;
        ensure(status.status == 200, || format!("GET {} answered {}", sent.path(), status.status))?;
        Ok(self.timeline.check(format_args!("Location: {}", sent.path()))?)
    }

    async fn frame(&mut self) -> Done {
        let sent = self.latest();
        let frame = self.show_frame(&sent).await?;
        let bot = &self.stage.app().bot_name;
        ensure(frame["botInfo"]["chatBot"] == **bot, || "the frame names another bot")?;
        let words = format!("id {}, botInfo: {bot}", sent.id);
        Ok(self.timeline.check(words)?)
    }

    async fn ack(&mut self) -> Done {
        let sent = self.latest();
        let answer = self.show_ack(&sent).await?;
        let delivery = answer.body["delivery"].as_str().unwrap_or("unknown");
        ensure(delivery == "confirmed", || format!("it is acked, and yet its delivery is {delivery}"))?;
        self.timeline.hop(answer.at, Bridge, You, "200 status acked, delivery confirmed")?;
        let sends = &answer.body["attempts"];
        ensure(*sends == 1, || format!("it took {sends} sends, not one"))?;
        let took = time(&answer.body, "ackedAt")?.since(time(&answer.body, "sentAt")?);
        Ok(self.timeline.check(format_args!("sent once, acked {} ms later", took.as_millis()))?)
    }

    async fn reply(&mut self) -> Done {
        let sent = self.latest();
        let event = self.show_reply(&sent).await?;
        self.timeline.check("signature verified (Standard Webhooks, v1)")?;
        self.timeline.check(format_args!("webhook-id {}", event.id))?;
        Ok(self.timeline.check(format_args!("inReplyTo {}, sequence {}", sent.id, sequence(&event)))?)
    }

    async fn drop_connection(&mut self) -> Done {
        self.cut().await?;
        let sent = self.post("Are you there?").await?;
        let view = self.status(&sent).await?.body;
        let (status, delivery) = (view["status"].as_str(), view["delivery"].as_str());
        ensure((status, delivery) == (Some("queued"), Some("none")), || {
            format!("its status is {status:?} and its delivery {delivery:?}, without a connection")
        })?;
        let frames = self.stage.platform().messages(IDENTITY).len();
        ensure(frames == self.sent.len() - 1, || format!("the platform has {frames} frames"))?;
        Ok(self.timeline.check("safe in the store: status queued, delivery none")?)
    }

    async fn reconnect(&mut self) -> Done {
        let platform = self.stage.platform();
        // Each socket so far took one request; what comes after them is refused.
        let used = self.sockets.len();
        let tried = platform.wait_requests_of(IDENTITY, Endpoint::RtmStart, used + 1);
        self.within("a try to reconnect", tried).await?;
        for refused in platform.requests_of(IDENTITY, Endpoint::RtmStart).iter().skip(used) {
            self.timeline.hop(refused.at, Bridge, Platform, "POST rtm/start → 503: the bridge waits")?;
        }
        platform.clear_faults();
        let socket = self.next_socket().await?;
        let fresh = platform
            .requests_of(IDENTITY, Endpoint::RtmStart)
            .pop()
            .ok_or_else(|| wrong("no rtm/start came"))?;
        self.timeline.hop(fresh.at, Bridge, Platform, "POST rtm/start: a new URL for the socket")?;
        self.show_socket(&socket)?;
        self.timeline.check("a sid that was never used before")?;
        let sign_ins = platform.requests_of(IDENTITY, Endpoint::Jwtgrant).len();
        ensure(sign_ins == 1, || format!("there were {sign_ins} jwtgrants; the first token is still good"))?;
        self.timeline.check("no second sign-in: the access token is kept")?;
        self.check_one_welcome()
    }

    async fn catch_up(&mut self) -> Done {
        let sent = self.latest();
        self.show_frame(&sent).await?;
        self.show_ack(&sent).await?;
        let event = self.show_reply(&sent).await?;
        Ok(self.timeline.check(format_args!("sequence {}: nothing between", sequence(&event)))?)
    }

    async fn retry(&mut self) -> Done {
        self.stage.receiver().script([503, 503]);
        let sent = self.post("Try again").await?;
        let event = self.delivered(&sent.reply()).await?;
        self.show_answer(&event)?;
        let mut attempts = self.stage.receiver().attempts();
        attempts.retain(|attempt| attempt.text == event.text);
        for attempt in &attempts {
            self.show_attempt(attempt)?;
        }
        let answers: Vec<_> = attempts.iter().map(|attempt| attempt.answered / 100).collect();
        ensure(answers == [5, 5, 2], || format!("it was attempted {} times, not 3", answers.len()))?;
        self.check_same(&attempts)
    }

    async fn restart(&mut self) -> Done {
        self.stage.receiver().answer(503);
        let first = self.post("Keep this").await?;
        self.show_ack(&first).await?;
        let attempt = self.attempted(&first.reply()).await?;
        self.show_attempt(&attempt)?;
        self.cut().await?;
        let second = self.post("And this").await?;
        self.restart_bridge().await?;
        let event = self.delivered(&first.reply()).await?;
        self.show_attempt(&event)?;
        self.check_same(&[attempt, event])?;
        let socket = self.next_socket().await?;
        self.show_socket(&socket)?;
        self.show_frame(&second).await?;
        self.show_ack(&second).await?;
        self.show_reply(&second).await?;
        self.check_one_welcome()
    }

    /// Stops and starts the bridge, with one message and one event undone; meanwhile all others are
    /// well again.
    async fn restart_bridge(&mut self) -> Done {
        let bridge = self.stage.bridge().ok_or_else(|| wrong("the bridge doesn't run"))?;
        let undone = bridge.summary();
        ensure((undone.queued, undone.backlog) == (1, 1), || format!("before the restart: {undone}"))?;
        let (stopping, patience) = (Timestamp::now(), self.stage.patience());
        tokio::time::timeout(patience, self.stage.stop_bridge())
            .await
            .map_err(|_| wrong(format_args!("the bridge did not stop within {} ms", patience.as_millis())))?;
        let stopped = Timestamp::now();
        let took = stopped.since(stopping).as_millis();
        self.timeline.check(format_args!("stopped in {took} ms: 1 message and 1 event stay stored"))?;
        self.stage.receiver().answer(204);
        self.stage.platform().clear_faults();
        self.stage.start_bridge().await?;
        let took = Timestamp::now().since(stopped).as_millis();
        Ok(self.timeline.check(format_args!("started on the same store in {took} ms"))?)
    }

    async fn count(&mut self) -> Done {
        let ledger = self.reckon().await?;
        for line in ledger.lines() {
            self.timeline.line(format_args!("    {line}"))?;
        }
        self.ledger = Some(ledger);
        ensure(ledger.is_even(), || "something was lost, or came twice")
    }

    /// Compares what was given to the bridge with what came out, at both ends.
    async fn reckon(&self) -> Result<Ledger, StepError> {
        let platform = self.stage.platform();
        let mut acked = Vec::new();
        for sent in &self.sent {
            if self.status(sent).await?.body["status"] == "acked" {
                acked.push(sent.id);
            }
        }
        let frames = platform.messages(IDENTITY);
        let arrived = frames.iter().filter_map(|frame| frame.json()["id"].as_u64());
        let messages =
            Tally::of(self.sent.iter().map(|sent| sent.id), arrived.filter(|id| acked.contains(id)));
        let said =
            platform.history(IDENTITY).into_iter().filter(|item| item.direction == Direction::Outgoing);
        let events = self.stage.receiver().events();
        let heard = events.iter().map(|event| match envelope(event)["data"]["messageId"].as_str() {
            Some(id) => id.to_owned(),
            None => event.id.clone(),
        });
        Ok(Ledger { messages, events: Tally::of(said.map(|item| item.id), heard) })
    }
}

/// What steps are made of.
impl<W: Write> Script<'_, W> {
    /// The message that was sent last.
    fn latest(&self) -> Sent {
        self.sent.last().expect("a step before this one sent it").clone()
    }

    /// POSTs a message, and shows it and its answer.
    async fn post(&mut self, text: &str) -> Result<Sent, StepError> {
        let path = Stage::messages_path();
        self.timeline.hop(Timestamp::now(), You, Bridge, format_args!("POST {path} \"{text}\""))?;
        let answer = self.within("the bridge's answer", self.stage.post(text)).await??;
        let Answer { status, body, .. } = &answer;
        ensure(*status == 202, || format!("the POST was answered {status}: {}", body["detail"]))?;
        let id = body["clientMessageId"].as_u64().ok_or_else(|| wrong("the answer names no message"))?;
        let words = format!("202 {}, clientMessageId {id}", body["status"].as_str().unwrap_or_default());
        self.timeline.hop(answer.at, Bridge, You, words)?;
        let sent = Sent { id, text: text.to_owned() };
        ensure(answer.location == Some(sent.path()), || format!("its Location is {:?}", answer.location))?;
        self.sent.push(sent.clone());
        Ok(sent)
    }

    /// What the API says of a message now.
    async fn status(&self, sent: &Sent) -> Result<Answer, StepError> {
        let path = sent.path();
        Ok(self.within("the message's status", self.stage.get(&path)).await??)
    }

    /// Waits for the message's frame at the platform.
    async fn show_frame(&mut self, sent: &Sent) -> Result<Value, StepError> {
        let platform = self.stage.platform();
        let all = self.sent.len() as u64;
        let frames = self.within("the frame at the platform", platform.wait_messages(IDENTITY, all)).await?;
        let frame = frames.iter().find(|frame| frame.json()["id"] == sent.id);
        let frame = frame.ok_or_else(|| wrong("the platform got other frames instead"))?;
        let json = frame.json();
        let (resource, text) = (&json["resourceid"], &json["message"]["body"]);
        ensure(resource == "/bot.message" && *text == *sent.text, || {
            format!("the frame is {resource} with the text {text}")
        })?;
        self.timeline.hop(frame.at, Bridge, Platform, format_args!("/bot.message {text}"))?;
        Ok(json)
    }

    /// Waits for the message's ack; the answer is its final status.
    async fn show_ack(&mut self, sent: &Sent) -> Result<Answer, StepError> {
        let patience = self.stage.patience().as_millis();
        let path = format!("{}?wait=ack&timeout={patience}ms", sent.path());
        // The API's own timeout comes first, and knows more.
        let limit = self.stage.patience() + Duration::from_secs(2);
        let answer = tokio::time::timeout(limit, self.stage.get(&path)).await;
        let answer = answer.map_err(|_| wrong("the bridge's API doesn't answer"))??;
        let status = answer.body["status"].as_str().unwrap_or("unknown").to_owned();
        if answer.status != 200 {
            return Err(wrong(format_args!("no ack came within {patience} ms")));
        }
        ensure(status == "acked", || {
            format!("the message ended {status}, reason {}", answer.body["reason"].as_str().unwrap_or("none"))
        })?;
        ensure(answer.body["ack"]["replyto"] == sent.id, || format!("the ack is {}", answer.body["ack"]))?;
        let acked_at = time(&answer.body, "ackedAt")?;
        self.timeline.hop(acked_at, Platform, Bridge, format_args!("ack, replyto {}", sent.id))?;
        Ok(answer)
    }

    /// Waits for the bot's answer to a message at the webhook.
    async fn show_reply(&mut self, sent: &Sent) -> Result<Arc<ReceivedEvent>, StepError> {
        let event = self.delivered(&sent.reply()).await?;
        let cause = envelope(&event)["inReplyTo"].clone();
        ensure(cause == sent.id, || format!("the reply's inReplyTo is {cause}, not {}", sent.id))?;
        // The welcome was the first event, and each message has had one answer.
        let place = self.sent.iter().take_while(|other| other.id != sent.id).count() as u64 + 2;
        ensure(event.sequence == Some(place), || {
            format!("its sequence is {}, not {place}", sequence(&event))
        })?;
        self.show_event(&event)?;
        Ok(event)
    }

    fn show_event(&mut self, event: &ReceivedEvent) -> Done {
        self.show_answer(event)?;
        self.show_attempt(event)
    }

    /// An event as it came from the platform.
    fn show_answer(&mut self, event: &ReceivedEvent) -> Done {
        let text = event.text.as_deref().unwrap_or_default();
        let words = format!("{} \"{text}\"", event.event_type);
        Ok(self.timeline.hop(time(&envelope(event), "timestamp")?, Platform, Bridge, words)?)
    }

    fn show_attempt(&mut self, event: &ReceivedEvent) -> Done {
        let attempt = event.attempt.unwrap_or_default();
        let words = format!("POST {}, attempt {attempt} → {}", event.event_type, event.answered);
        Ok(self.timeline.hop(event.at, Bridge, Crm, words)?)
    }

    fn show_socket(&mut self, socket: &ConnectionInfo) -> Done {
        let words = format!("WebSocket /rtm/bot?{}", without_sid(&socket.query));
        Ok(self.timeline.hop(socket.connected_at, Bridge, Platform, words)?)
    }

    /// Waits for the user's next socket: with a new sid, and after the first as a reconnect.
    async fn next_socket(&mut self) -> Result<ConnectionInfo, StepError> {
        let platform = self.stage.platform();
        let open =
            self.within("alice's WebSocket at the platform", platform.wait_connected(IDENTITY, 1)).await?;
        let socket = open.into_iter().next().ok_or_else(|| wrong("no socket is open"))?;
        let is_new = self.sockets.iter().all(|known| known.sid != socket.sid);
        ensure(is_new, || "the socket's URL was used before")?;
        let wanted = if self.sockets.is_empty() { ConnectionMode::Plain } else { ConnectionMode::Reconnect };
        ensure(socket.mode == wanted, || format!("it connected as {:?}, not {wanted:?}", socket.mode))?;
        self.sockets.push(socket.clone());
        Ok(socket)
    }

    /// Cuts the user's connection; until the faults are cleared, the platform refuses a new one.
    async fn cut(&mut self) -> Done {
        let platform = self.stage.platform();
        let refuse = FaultKind::Refuse { at: Endpoint::RtmStart, status: 503, retry_after: None };
        platform.inject(Fault::always(refuse).for_user(IDENTITY));
        let at = Timestamp::now();
        let ended = platform.end_sockets(IDENTITY, &SocketEnd::Reset);
        ensure(ended == 1, || format!("{ended} connections were open, not one"))?;
        self.timeline.hop(at, Platform, Bridge, "TCP reset; rtm/start refuses for now")?;
        let user = self.stage.bridge().and_then(|bridge| bridge.users().get(USER));
        let mut status = user.ok_or_else(|| wrong("the bridge doesn't know alice"))?.watch_status();
        let noticed = status.wait_for(|status| status.state != ConnectionState::Connected);
        self.within("the bridge to notice the reset", noticed).await?.map_err(wrong)?;
        Ok(())
    }

    /// Waits until the webhook took an event with this text, and looks whether it is genuine.
    async fn delivered(&self, text: &str) -> Result<Arc<ReceivedEvent>, StepError> {
        let is_it = |event: &Arc<ReceivedEvent>| event.text.as_deref() == Some(text);
        let all = self.stage.receiver().wait_until(|events| events.iter().any(is_it));
        let all = self.within(&format!("\"{text}\" at the webhook"), all).await?;
        let event = all.into_iter().find(is_it).ok_or_else(|| wrong("the event is gone again"))?;
        genuine(&event)?;
        Ok(event)
    }

    /// Waits until an event with this text was POSTed, whatever the answer.
    async fn attempted(&self, text: &str) -> Result<Arc<ReceivedEvent>, StepError> {
        let receiver = self.stage.receiver();
        let found = async {
            let mut seen = 0;
            loop {
                let attempts = receiver.wait_attempts(seen + 1).await;
                seen = attempts.len();
                if let Some(found) = attempts.into_iter().find(|event| event.text.as_deref() == Some(text)) {
                    return found;
                }
            }
        };
        let event = self.within(&format!("an attempt to deliver \"{text}\""), found).await?;
        genuine(&event)?;
        Ok(event)
    }

    /// Looks whether all these are attempts of one event.
    fn check_same(&mut self, attempts: &[Arc<ReceivedEvent>]) -> Done {
        let first = &attempts[0];
        let same = attempts.iter().all(|other| other.id == first.id && other.body == first.body);
        ensure(same, || "the attempts differ in their webhook-id or body")?;
        attempts.iter().try_for_each(|attempt| genuine(attempt))?;
        Ok(self.timeline.check("same webhook-id and body, byte for byte; all verified")?)
    }

    fn check_one_welcome(&mut self) -> Done {
        let platform = self.stage.platform();
        let welcome = platform.settings().welcome.unwrap_or_default();
        let welcomes = platform.history(IDENTITY).iter().filter(|item| item.text == welcome).count();
        ensure(welcomes == 1, || format!("the bot said welcome {welcomes} times"))?;
        Ok(self.timeline.check("the bot said no second welcome")?)
    }

    async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, StepError> {
        let patience = self.stage.patience();
        let waited = tokio::time::timeout(patience, future).await;
        waited.map_err(|_| StepError::Waited { what: what.to_owned(), patience, hint: self.hint() })
    }

    /// Why the bridge has no connection, if it hasn't.
    fn hint(&self) -> String {
        let user = self.stage.bridge().and_then(|bridge| bridge.users().get(USER));
        let status = user.map(|user| user.status());
        let status = status.filter(|status| status.state != ConnectionState::Connected);
        status.and_then(|status| status.last_error).map(|why| format!(" ({why})")).unwrap_or_default()
    }
}

/// Looks whether an event is what the bridge must have posted.
fn genuine(event: &ReceivedEvent) -> Done {
    let ReceivedEvent { signature, user, event_type, .. } = event;
    ensure(*signature == Verdict::Verified, || format!("the crm says: {signature}"))?;
    ensure(user == USER && event_type == "bot_response", || format!("it is a {event_type} of {user}"))
}

fn envelope(event: &ReceivedEvent) -> Value {
    serde_json::from_slice(&event.body).unwrap_or_default()
}

fn sequence(event: &ReceivedEvent) -> u64 {
    event.sequence.unwrap_or_default()
}

fn time(json: &Value, key: &str) -> Result<Timestamp, StepError> {
    let at = json[key].as_str().and_then(Timestamp::parse);
    at.ok_or_else(|| wrong(format_args!("its {key} is {}", json[key])))
}

/// A socket's query without the secret in it.
fn without_sid(query: &str) -> String {
    let shown = query.split('&').map(|pair| if pair.starts_with("sid=") { "sid=…" } else { pair });
    shown.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_is_never_shown() {
        assert_eq!(without_sid("sid=5f2a&isReconnect=true"), "sid=…&isReconnect=true");
        assert_eq!(without_sid("isReconnect=true&sid=5f2a"), "isReconnect=true&sid=…");
        assert_eq!(without_sid(""), "");
    }
}
