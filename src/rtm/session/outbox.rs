//! A user's messages that are not final yet, in the order in which they were accepted, and what is
//! next to be sent of them.
//!
//! The entries that were sent on the open socket and are not acked are always the first ones: what
//! is sent next is the first entry that isn't under way, and after a disconnect all of them wait
//! again in their old places.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Action, NotSent, SessionSettings,
    turns::{Turn, Turns},
};
use crate::{
    clock::Now,
    config::Rate,
    events::Partner,
    messages::{Certainty, ClientMessageId, Expectation, FinalReason, MessageNumber, QueuedMessage, Verdict},
    rate::Bucket,
};

/// So many disconnects straight after sending a message: it is what breaks the connection.
const MOST_CUT_OFF: u32 = 5;
/// How often expiry is looked for at least, so that a wall clock that jumps is noticed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// A larger ack frame is no ack frame worth keeping.
const MOST_ACK: usize = 8 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Entry>,
    /// The message whose frame is being written; the next one waits for that.
    writing: Option<MessageNumber>,
    /// What was last sent on the open socket.
    last_on_socket: Option<MessageNumber>,
    /// The user's latest message that was ever sent, in the order of acceptance.
    last_sent: Option<(MessageNumber, ClientMessageId)>,
    rate: Option<Bucket>,
    /// When `rate` allows the next message, where one waits for that.
    rate_gate: Option<Instant>,
    /// Whose turn it is, while callers wait for answers.
    turns: Turns,
    /// When it is the next message's turn at the latest, where one waits for that.
    turn_gate: Option<Instant>,
    sweep_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    message: QueuedMessage,
    flight: Flight,
    left: Departure,
    doubt: Doubt,
    /// Whether the bot answered it, before its ack.
    answered: bool,
    /// Sends on an open socket that no ack followed in time.
    unacked_sends: u32,
    /// Sends that a disconnect followed before any ack.
    cut_off: u32,
}

/// How a message stands on the open socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flight {
    /// Not sent on it.
    Queued,
    /// Being written.
    Writing,
    /// Sent; its ack is due by then.
    Unacked(Instant),
    /// Its ack didn't come in time: to be sent again.
    Overdue,
}

/// Whether the platform may have seen the message, on any socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    Never,
    Perhaps,
}

/// Whether a message that is to be sent may have arrived already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// It didn't, as far as anybody can say.
    None,
    /// It may have: it is looked for before it is sent again.
    Open,
}

/// What pumping came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Whatever may be sent now was.
    Done,
    /// What is next may have arrived already.
    InDoubt,
}

/// Whether a disconnect may be a message's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The connection broke: it may be.
    Possible,
    /// We closed it for reasons of our own.
    None,
}

impl Outbox {
    pub(super) fn new(
        pending: Vec<QueuedMessage>,
        last_sent: Option<ClientMessageId>,
        turns: Turns,
        settings: &SessionSettings,
    ) -> Self {
        let rate = settings.message_rate.map(Bucket::of);
        Self {
            queue: pending.into_iter().map(Entry::new).collect(),
            writing: None,
            last_on_socket: None,
            // Whatever is sent from now on was accepted later, or is sent later.
            last_sent: last_sent.map(|id| (MessageNumber(0), id)),
            rate,
            rate_gate: None,
            turns,
            turn_gate: None,
            sweep_at: None,
        }
    }

    /// Goes by another rate from now on.
    pub(super) fn set_rate(&mut self, rate: Option<Rate>) {
        self.rate = rate.map(Bucket::of);
        self.rate_gate = None;
    }

    /// The user's latest message that was sent.
    pub(super) fn last_sent(&self) -> Option<ClientMessageId> {
        self.last_sent.map(|(_, id)| id)
    }

    /// How many messages are not final.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The first id from `id` on that no waiting message has.
    pub(super) fn free_id(&self, mut id: u64) -> u64 {
        while self.queue.iter().any(|entry| entry.message.id.get() == id) {
            id += 1;
        }
        id
    }

    /// Takes a new message. One that is here already (it was accepted while the session began) is
    /// not taken twice.
    pub(super) fn push(&mut self, message: QueuedMessage, now: Now) {
        let newest = self.queue.back().map(|entry| entry.message.number);
        let may_be_known = newest.is_some_and(|newest| message.number <= newest);
        if may_be_known && self.queue.iter().any(|entry| entry.message.number == message.number) {
            return;
        }
        let due = now.mono + message.expires_at.since(now.wall).min(SWEEP_EVERY);
        self.sweep_at = Some(self.sweep_at.map_or(due, |at| at.min(due)));
        self.queue.push_back(Entry::new(message));
    }

    /// Ends what is past its time, wherever it stands.
    pub(super) fn sweep(&mut self, now: Now, out: &mut Vec<Action>) {
        let mut next = SWEEP_EVERY;
        self.queue.retain(|entry| {
            let left = entry.message.expires_at.since(now.wall);
            if left.is_zero() {
                finish(entry, Verdict::Expired(FinalReason::Ttl), out);
                return false;
            }
            next = next.min(left);
            true
        });
        self.sweep_at = (!self.queue.is_empty()).then(|| now.mono + next);
    }

    /// Ends what is past its time, if it is time to look.
    pub(super) fn sweep_if_due(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.sweep_at.is_some_and(|at| now.mono >= at) {
            self.sweep(now, out);
        }
    }

    /// When to look for what is past its time.
    pub(super) fn sweep_deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Whether nothing sent on the open socket waits for its ack any more.
    pub(super) fn is_drained(&self) -> bool {
        let awaits = |entry: &Entry| matches!(entry.flight, Flight::Writing | Flight::Unacked(_));
        !self.under_way().any(awaits)
    }

    /// Nothing is sent until `pump` is called again.
    pub(super) fn pause(&mut self) {
        self.rate_gate = None;
        self.turn_gate = None;
    }

    /// A caller waits for the answer to this message: those after it wait for that.
    pub(super) fn turn_began(&mut self, number: MessageNumber) {
        self.turns.begin(number);
    }

    /// No caller waits for that answer any more.
    pub(super) fn turn_ended(&mut self, number: MessageNumber) {
        self.turns.end(number);
    }

    /// Says whether that is news.
    pub(super) fn talks_to(&mut self, partner: Partner) -> bool {
        self.turns.talks_to(partner)
    }

    /// An answer to this message came. Says whether one was owed.
    pub(super) fn answered(&mut self, id: ClientMessageId) -> bool {
        let mut departed = self.queue.iter_mut().take_while(|entry| entry.left == Departure::Perhaps);
        match departed.find(|entry| entry.message.id == id) {
            Some(entry) => {
                entry.answered = true;
                false
            }
            None => self.turns.answered(id),
        }
    }

    /// What is sent from now on goes out on another socket.
    pub(super) fn on_new_socket(&mut self) {
        self.last_on_socket = None;
    }

    /// When something is due on an open socket: an ack, or a message that waits for `rate` or its turn.
    pub(super) fn open_deadline(&self) -> Option<Instant> {
        let acks = self.under_way().filter_map(|entry| match entry.flight {
            Flight::Unacked(due) => Some(due),
            Flight::Queued | Flight::Writing | Flight::Overdue => None,
        });
        acks.chain(self.rate_gate).chain(self.turn_gate).min()
    }

    /// Counts the sends whose ack didn't come in time; those messages are looked for, and then they
    /// are sent again, or end.
    pub(super) fn acks_overdue(&mut self, now: Instant) {
        for entry in self.under_way_mut() {
            if matches!(entry.flight, Flight::Unacked(due) if due <= now) {
                entry.unacked_sends += 1;
                entry.flight = Flight::Overdue;
                entry.doubt = Doubt::Open;
            }
        }
    }

    /// The messages that may have arrived and are to be sent again.
    pub(super) fn in_doubt(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.queue.iter().filter(|entry| entry.doubt == Doubt::Open).map(|entry| &entry.message)
    }

    /// The history was read: what was found is acked; of the rest, what was `asked` for didn't arrive.
    /// Where nobody can say (`None`), everything is sent again.
    pub(super) fn looked_up(
        &mut self,
        found: &BTreeSet<MessageNumber>,
        asked: Option<&BTreeSet<MessageNumber>>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let mut latest = None;
        let last_sent = self.last_sent;
        let turns = &mut self.turns;
        self.queue.retain_mut(|entry| {
            let number = entry.message.number;
            if entry.doubt == Doubt::None {
                return true;
            }
            if found.contains(&number) {
                latest = Some((number, entry.message.id));
                if !entry.answered {
                    turns.acked(entry.message.id, last_sent.is_none_or(|(last, _)| last <= number), now.mono);
                }
                finish(entry, Verdict::Found, out);
                return false;
            }
            if asked.is_none_or(|asked| asked.contains(&number)) {
                entry.doubt = Doubt::None;
            }
            true
        });
        // A kill may have forgotten that it was sent.
        self.last_sent = self.last_sent.max(latest);
        if self.queue.is_empty() {
            self.sweep_at = None;
        }
    }

    /// Sends what is next, if anything may be sent now. Call it whenever that may have changed, and
    /// only while the socket is open.
    pub(super) fn pump(&mut self, now: Now, settings: &SessionSettings, out: &mut Vec<Action>) -> Pumped {
        self.rate_gate = None;
        self.turn_gate = None;
        if self.writing.is_some() {
            return Pumped::Done;
        }
        while let Some(index) = self.next_to_send(settings) {
            if self.queue[index].message.expires_at <= now.wall {
                self.finish_at(index, Verdict::Expired(FinalReason::Ttl), out);
                continue;
            }
            if self.queue[index].doubt == Doubt::Open {
                return Pumped::InDoubt;
            }
            if self.queue[index].unacked_sends >= settings.max_attempts {
                self.finish_at(index, Verdict::Expired(FinalReason::NoAck), out);
                continue;
            }
            match self.turn_of(index, now.mono) {
                Turn::Now => {}
                Turn::At(at) => {
                    self.turn_gate = Some(at);
                    return Pumped::Done;
                }
                Turn::Later => return Pumped::Done,
            }
            if let Some(Err(at)) = self.rate.as_mut().map(|rate| rate.take(now.mono)) {
                self.rate_gate = Some(at);
                return Pumped::Done;
            }
            let entry = &mut self.queue[index];
            entry.flight = Flight::Writing;
            entry.left = Departure::Perhaps;
            let (number, id) = (entry.message.number, entry.message.id);
            self.writing = Some(number);
            self.last_on_socket = Some(number);
            out.push(Action::Send { number, id });
            return Pumped::Done;
        }
        Pumped::Done
    }

    /// The frame of this message went out.
    pub(super) fn sent(
        &mut self,
        number: MessageNumber,
        now: Now,
        settings: &SessionSettings,
        out: &mut Vec<Action>,
    ) {
        let Some(index) = self.written(number) else { return };
        let entry = &mut self.queue[index];
        entry.flight = Flight::Unacked(now.mono + settings.ack_timeout);
        match entry.message.expectation {
            Expectation::Ack => {
                if self.last_sent.is_none_or(|(last, _)| last <= number) {
                    self.last_sent = Some((number, entry.message.id));
                    self.turns.sent(entry.message.id);
                }
                out.push(Action::MarkSent { number });
            }
            Expectation::Nothing => self.finish_at(index, Verdict::Sent, out),
        }
    }

    /// The frame of this message could not be made or written, though the socket is fine.
    pub(super) fn not_sent(
        &mut self,
        number: MessageNumber,
        why: NotSent,
        now: Now,
        settings: &SessionSettings,
        out: &mut Vec<Action>,
    ) {
        let Some(index) = self.written(number) else { return };
        let entry = &mut self.queue[index];
        match (why, entry.message.expectation) {
            (NotSent::TooLarge, _) => {
                self.finish_at(index, Verdict::Rejected(FinalReason::TooLarge, None), out);
            }
            // Tried again, as if no ack had come.
            (NotSent::Unreadable, Expectation::Ack) => {
                entry.flight = Flight::Unacked(now.mono + settings.ack_timeout);
            }
            (NotSent::Unreadable, Expectation::Nothing) => {
                self.finish_at(index, Verdict::Expired(FinalReason::Disconnected), out);
            }
        }
    }

    /// The platform's verdict on the frame with this id. One that isn't awaited is ignored; one for
    /// an earlier send, or from before a reconnect, counts.
    pub(super) fn acked(
        &mut self,
        id: ClientMessageId,
        ok: Option<bool>,
        frame: &str,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let awaited =
            |entry: &Entry| entry.message.id == id && matches!(entry.message.expectation, Expectation::Ack);
        let mut departed = self.queue.iter().take_while(|entry| entry.left == Departure::Perhaps);
        let Some(index) = departed.position(awaited) else { return };
        let frame = if frame.len() <= MOST_ACK { frame } else { r#"{"type":"ack","tooLarge":true}"# };
        let verdict = match ok {
            Some(true) | None => {
                let entry = &self.queue[index];
                if !entry.answered {
                    let number = entry.message.number;
                    let is_latest = self.last_sent.is_none_or(|(last, _)| last <= number);
                    self.turns.acked(id, is_latest, now.mono);
                }
                Verdict::Acked(frame.to_owned())
            }
            Some(false) => Verdict::Rejected(FinalReason::RefusedByPlatform, Some(frame.to_owned())),
        };
        self.finish_at(index, verdict, out);
    }

    /// The platform closed the socket because of what was sent last: that message ends.
    pub(super) fn reject_last(&mut self, reason: FinalReason, out: &mut Vec<Action>) {
        let Some(last) = self.last_on_socket else { return };
        let guilty = |entry: &Entry| {
            entry.message.number == last && matches!(entry.message.expectation, Expectation::Ack)
        };
        let Some(index) = self.under_way().position(guilty) else { return };
        if self.queue[index].flight == Flight::Writing {
            out.push(Action::MarkSent { number: last });
        }
        self.finish_at(index, Verdict::Rejected(reason, None), out);
    }

    /// The socket is gone, or there never was one: what awaits an ack waits for the next one, in
    /// its place; what is sent only once ends.
    pub(super) fn disconnected(&mut self, blame: Blame, out: &mut Vec<Action>) {
        self.take_back(blame, |_| false, out);
    }

    /// The socket broke, and another is open already: only what was on its way is taken back.
    pub(super) fn moved(&mut self, out: &mut Vec<Action>) {
        self.take_back(Blame::None, |flight| flight == Flight::Queued, out);
    }

    /// Takes back what was on its way; what is sent only once stays if `may_stay`.
    fn take_back(&mut self, blame: Blame, may_stay: impl Fn(Flight) -> bool, out: &mut Vec<Action>) {
        self.writing = None;
        self.last_on_socket = None;
        self.pause();
        self.queue.retain_mut(|entry| match entry.message.expectation {
            Expectation::Nothing if may_stay(entry.flight) => true,
            Expectation::Nothing => {
                finish(entry, Verdict::Expired(FinalReason::Disconnected), out);
                false
            }
            Expectation::Ack => {
                let flight = std::mem::replace(&mut entry.flight, Flight::Queued);
                if flight == Flight::Writing {
                    out.push(Action::MarkSent { number: entry.message.number });
                }
                if entry.left == Departure::Perhaps {
                    entry.doubt = Doubt::Open;
                }
                let cut_off = matches!(flight, Flight::Writing | Flight::Unacked(_));
                entry.cut_off += u32::from(cut_off && blame == Blame::Possible);
                if entry.cut_off >= MOST_CUT_OFF {
                    finish(entry, Verdict::Expired(FinalReason::NoAck), out);
                }
                entry.cut_off < MOST_CUT_OFF
            }
        });
        if self.queue.is_empty() {
            // An idle user holds no buffer.
            self.queue = VecDeque::new();
            self.sweep_at = None;
        }
    }

    /// Nobody read the socket for so long: acks may lie there.
    pub(super) fn stalled(&mut self, span: Duration) {
        for entry in self.under_way_mut() {
            if let Flight::Unacked(due) = &mut entry.flight {
                *due += span;
            }
        }
    }

    /// What is to be sent now, if anything may be: first what is overdue, then the next in order.
    fn next_to_send(&self, settings: &SessionSettings) -> Option<usize> {
        if let Some(overdue) = self.under_way().position(|entry| entry.flight == Flight::Overdue) {
            return Some(overdue);
        }
        // After a disconnect, one at a time until it is known whose fault it was not.
        let suspicious = self.queue.front().is_some_and(|entry| entry.cut_off > 0);
        let most = if suspicious { 1 } else { settings.in_flight.max(1) };
        let next = self.under_way().count();
        (next < most && next < self.queue.len()).then_some(next)
    }

    /// Whether it is this message's turn. What was sent before is sent again whoever waits.
    fn turn_of(&self, index: usize, now: Instant) -> Turn {
        let entry = &self.queue[index];
        match entry.left {
            Departure::Never => self.turns.turn_of(entry.message.number, index == 0, now),
            Departure::Perhaps => Turn::Now,
        }
    }

    fn under_way(&self) -> impl Iterator<Item = &Entry> {
        self.queue.iter().take_while(|entry| entry.flight != Flight::Queued)
    }

    fn under_way_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.queue.iter_mut().take_while(|entry| entry.flight != Flight::Queued)
    }

    /// The write of this message is over: its place, if it still waits for that.
    fn written(&mut self, number: MessageNumber) -> Option<usize> {
        if self.writing != Some(number) {
            return None;
        }
        self.writing = None;
        self.under_way().position(|entry| entry.message.number == number && entry.flight == Flight::Writing)
    }

    fn finish_at(&mut self, index: usize, verdict: Verdict, out: &mut Vec<Action>) {
        if let Some(entry) = self.queue.remove(index) {
            finish(&entry, verdict, out);
        }
        if self.queue.is_empty() {
            self.sweep_at = None;
        }
    }
}

impl Entry {
    fn new(message: QueuedMessage) -> Self {
        let (left, doubt) = match message.certainty {
            Certainty::None => (Departure::Never, Doubt::None),
            Certainty::Unknown | Certainty::Confirmed => (Departure::Perhaps, Doubt::Open),
        };
        Self { message, flight: Flight::Queued, left, doubt, answered: false, unacked_sends: 0, cut_off: 0 }
    }
}

fn finish(entry: &Entry, verdict: Verdict, out: &mut Vec<Action>) {
    out.push(Action::Finished { number: entry.message.number, verdict });
}
