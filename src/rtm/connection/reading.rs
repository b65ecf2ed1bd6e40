//! The part of a connection that reads: from a frame on a socket to an event in the store, and to its
//! delivery ack.

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Connection, DeliveryAcks, STORE_PAUSE};
use crate::{
    clock::{Now, Timestamp},
    events::{Awaited, Received, Reception, Source},
    messages::ClientMessageId,
    rtm::{
        confirmations::Confirmation,
        frame::{FrameClass, FrameHead},
        outgoing, recovery,
        rooms::Rooms,
        session::{Answer, CloseCause, Input, Line},
        socket::close_frame_cause,
    },
    store::StoreError,
};

/// A frame that is being handled.
pub(super) struct Incoming<'a> {
    pub(super) line: Line,
    pub(super) bytes: &'a Bytes,
    pub(super) head: &'a FrameHead<'a>,
    pub(super) at: Timestamp,
}

/// Whether the store took an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is new, and on its way to the disk.
    New,
    /// It is there already.
    Known,
    /// It did not, and will not be asked again.
    No,
}

impl<R: Rooms> Connection<R> {
    pub(super) async fn read(&mut self, line: Line, read: Result<Message, CloseCause>) {
        match read {
            Ok(Message::Close(frame)) => {
                if let Some(socket) = self.on(line) {
                    socket.answer_goodbye().await;
                }
                let lost = self.lost(line, close_frame_cause(frame));
                self.tell(lost, None).await;
            }
            Err(cause) => {
                let lost = self.lost(line, cause);
                self.tell(lost, None).await;
            }
            Ok(message) => match bytes_of(message) {
                Some(bytes) => self.frame(line, &bytes).await,
                None => self.tell(Input::Heard(line), None).await,
            },
        }
    }

    async fn frame(&mut self, line: Line, bytes: &Bytes) {
        match FrameHead::parse(bytes) {
            Ok(head) => {
                let incoming = Incoming { line, bytes, head: &head, at: Timestamp::now() };
                let text = std::str::from_utf8(bytes).expect("it was parsed from UTF-8");
                self.tell(Input::Frame { line, head: &head, text }, Some(&incoming)).await;
            }
            Err(why) => {
                self.shared.counters.frames_rejected.add(why);
                tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, bytes = bytes.len(), %why, "skipped a frame");
                self.tell(Input::Heard(line), None).await;
            }
        }
    }

    /// What is read is stored, even behind a goodbye. A store that is stuck must not hold the end up.
    pub(super) async fn store_late(&mut self, line: Line, late: Vec<Message>) {
        if timeout(STORE_PAUSE, self.take_late(line, late)).await.is_err() {
            self.leave_to_history(Timestamp::now());
            tracing::warn!(user = %self.who.user.name, bot = %self.who.user.bot, "events that came behind a goodbye were not stored");
        }
    }

    async fn take_late(&mut self, line: Line, late: Vec<Message>) {
        for bytes in late.into_iter().filter_map(bytes_of) {
            let Ok(head) = FrameHead::parse(&bytes) else { continue };
            let incoming = Incoming { line, bytes: &bytes, head: &head, at: Timestamp::now() };
            if head.class() != FrameClass::Event || self.is_copy(&incoming) {
                continue;
            }
            if self.holds(line) {
                self.hold(&incoming, None, Answer::No);
                continue;
            }
            let (user, received) = (&self.who.user, self.received(&incoming, None));
            match self.shared.rooms.receive(user, &head, received).await {
                Ok(reception) => self.note_partner(&reception),
                Err(error) => {
                    tracing::warn!(user = %user.name, bot = %user.bot, %error, "an event that came behind a goodbye was not stored");
                    self.leave_to_history(incoming.at);
                }
            }
        }
    }

    /// Hands an event to the store. Until it is taken nothing more is read, which is what holds the
    /// platform back; the session is told how long that was.
    pub(super) async fn store_event(
        &mut self,
        incoming: &Incoming<'_>,
        in_reply_to: Option<ClientMessageId>,
        answer: Answer,
    ) -> Option<Input<'static>> {
        let began = Instant::now();
        let taken = self.hand_over(incoming, in_reply_to, answer).await;
        let is_answer = answer == Answer::Yes && taken == Taken::New;
        Some(Input::EventStored { answered: in_reply_to.filter(|_| is_answer), stalled: began.elapsed() })
    }

    /// The same, for those who must know what became of it.
    pub(super) async fn hand_over(
        &mut self,
        incoming: &Incoming<'_>,
        in_reply_to: Option<ClientMessageId>,
        answer: Answer,
    ) -> Taken {
        let is_confirmed = self.terms.delivery_acks == DeliveryAcks::Sent && answer == Answer::Yes;
        let awaited = if is_confirmed { Awaited::Yes } else { Awaited::No };
        let received = Received { awaited, ..self.received(incoming, in_reply_to) };
        let reception = self.offer(incoming.head, received).await;
        let taken = match reception {
            Some(Reception::Event { .. }) => Taken::New,
            Some(Reception::Repeat) => Taken::Known,
            None => Taken::No,
        };
        if is_confirmed {
            let frame = outgoing::delivery_ack(incoming.head, incoming.at);
            match reception {
                Some(Reception::Event { durable, .. }) => {
                    let durable = durable.expect("it is awaited");
                    self.confirmations.push(Confirmation { durable, frame });
                }
                // It is in the store already, or about to be: confirmed again, as each frame is.
                Some(Reception::Repeat) => {
                    let durable = self.shared.rooms.settled();
                    self.confirmations.push(Confirmation { durable, frame });
                }
                None => {}
            }
        }
        taken
    }

    /// A live event as it is handed over.
    fn received(&self, incoming: &Incoming<'_>, in_reply_to: Option<ClientMessageId>) -> Received {
        let said = recovery::said(incoming.head, incoming.bytes, self.platform_time(incoming.at));
        let frame = incoming.bytes.clone();
        Received { frame, at: incoming.at, in_reply_to, source: Source::Live, said, awaited: Awaited::No }
    }

    /// The platform's time of a moment of ours.
    pub(super) fn platform_time(&self, at: Timestamp) -> Timestamp {
        self.shared.platform.skew().unwrap_or_default().to_platform(at)
    }

    /// Offers an event until the store takes it, or it is clear that it never will: at the stop, or
    /// when the store can't read itself. Then the frame is not confirmed, and the history has it.
    pub(super) async fn offer(&mut self, head: &FrameHead<'_>, received: Received) -> Option<Reception> {
        let mut refused = false;
        loop {
            let user = &self.who.user;
            let taken = tokio::select! {
                biased;
                taken = self.shared.rooms.receive(user, head, received.clone()) => taken,
                // Looked at only if the store lets it wait: it is in no cache.
                () = async { self.stop.cancelled().await } => break,
            };
            let error = match taken {
                // Known only because it was offered before? Then nobody can say that it is stored.
                Ok(Reception::Repeat) if refused => break,
                Ok(reception) => {
                    self.note_partner(&reception);
                    return Some(reception);
                }
                Err(error) => error,
            };
            if !refused {
                tracing::warn!(user = %user.name, bot = %user.bot, %error, "an event can't be stored; nothing more is read until it is");
            }
            refused = true;
            if matches!(error, StoreError::Unreadable(_)) {
                break;
            }
            tokio::select! {
                () = sleep(STORE_PAUSE) => {}
                () = self.stop.cancelled() => break,
            }
        }
        self.leave_to_history(received.at);
        None
    }

    /// What came at `at` was not stored: it is looked for in the history, whatever is stored behind it.
    fn leave_to_history(&mut self, at: Timestamp) {
        if self.session.left_to_history(at, Now::read()) {
            drop(self.shared.rooms.save_user(self.who.user.number, self.session.memory()));
        }
    }

    /// The session is told behind what it is doing.
    fn note_partner(&mut self, reception: &Reception) {
        if let Reception::Event { partner: Some(partner), .. } = reception {
            self.partner = Some(*partner);
        }
    }

    /// Confirms an event that is on stable storage now.
    pub(super) async fn confirm(&mut self, frame: String) {
        if let Some(lost) = self.write(Line::Main, Message::text(frame)).await {
            self.tell(lost, None).await;
        }
    }
}

/// The bytes of a frame, text or binary.
fn bytes_of(message: Message) -> Option<Bytes> {
    match message {
        Message::Text(text) => Some(text.into()),
        Message::Binary(bytes) => Some(bytes),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}
