//! Live events that wait: for the history, or for what an old socket still says.

use bytes::Bytes;

use super::{
    Connection,
    overlap::Side,
    reading::{Incoming, Taken},
    recovering::Recovery,
};
use crate::{
    clock::Timestamp,
    messages::ClientMessageId,
    rtm::{
        frame::FrameHead,
        rooms::Rooms,
        session::{Answer, Input, Line},
    },
};

/// So many bytes of live events are held back, and at least one event; then the socket is not read.
const MOST_HELD: usize = 1024 * 1024;
/// What a held event costs beside its frame.
const HELD_BESIDE: usize = 128;

/// What is held back, oldest first.
#[derive(Debug, Default)]
pub(super) struct Holding {
    held: Vec<Held>,
    bytes: usize,
    /// The recovery that it waits for, if it does.
    pub(super) recovery: Option<Recovery>,
}

/// A live event that is held back.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) frame: Bytes,
    pub(super) at: Timestamp,
    in_reply_to: Option<ClientMessageId>,
    answer: Answer,
}

impl Holding {
    /// Whether no more may be held back.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST_HELD
    }

    fn push(&mut self, held: Held) {
        self.bytes += held.frame.len() + HELD_BESIDE;
        self.held.push(held);
    }

    /// Lets the oldest of these very bytes go, if there is one.
    fn take_out(&mut self, frame: &Bytes) -> bool {
        let Some(place) = self.held.iter().position(|held| held.frame == frame) else { return false };
        let held = self.held.remove(place);
        self.bytes -= held.frame.len() + HELD_BESIDE;
        true
    }
}

impl<R: Rooms> Connection<R> {
    /// Whether what comes on this line waits, if the session says nothing else.
    pub(super) fn holds(&self, line: Line) -> bool {
        let is_new = || self.overlap.as_ref().is_some_and(|overlap| overlap.side(line) == Side::New);
        self.holding.as_ref().is_some_and(|holding| holding.recovery.is_some() || is_new())
    }

    /// Whether this event came on the other socket of an overlap. If not, that is remembered.
    pub(super) fn is_copy(&mut self, incoming: &Incoming<'_>) -> bool {
        let Some(overlap) = &mut self.overlap else { return false };
        match overlap.side(incoming.line) {
            Side::New => overlap.came_on_old(incoming.bytes),
            Side::Old => {
                // Its place is here: on the old socket, and now.
                let was_held = self.holding.as_mut().is_some_and(|holding| holding.take_out(incoming.bytes));
                if !was_held {
                    overlap.came_first_on_old(incoming.bytes);
                }
                false
            }
        }
    }

    /// Keeps a live event for later.
    pub(super) fn hold(
        &mut self,
        incoming: &Incoming<'_>,
        in_reply_to: Option<ClientMessageId>,
        answer: Answer,
    ) {
        let held = Held { frame: incoming.bytes.clone(), at: incoming.at, in_reply_to, answer };
        self.holding.get_or_insert_default().push(held);
    }

    /// Stores what was held back, and what was missed before it, each event once, in order.
    pub(super) async fn release(&mut self) -> Input<'static> {
        let began = tokio::time::Instant::now();
        let seen = match self.holding.take().map(|holding| *holding) {
            Some(Holding { held, recovery: Some(recovery), .. }) => self.store_all(held, recovery).await,
            Some(Holding { held, recovery: None, .. }) => {
                for held in &held {
                    self.store_held(held).await;
                }
                None
            }
            None => None,
        };
        Input::Released { seen, stalled: began.elapsed() }
    }

    pub(super) async fn store_held(&mut self, held: &Held) -> Taken {
        let Ok(head) = FrameHead::parse(&held.frame) else { return Taken::Known };
        let incoming = Incoming { line: Line::Main, bytes: &held.frame, head: &head, at: held.at };
        self.hand_over(&incoming, held.in_reply_to, held.answer).await
    }
}
