//! The part of a connection that recovers what was missed: holds live events back, has the history read,
//! and stores everything in order.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Connection, Incoming, unless_stopped};
use crate::{
    clock::Timestamp,
    events::{Gap, Received, Reception, Report, Source},
    messages::ClientMessageId,
    rtm::{
        frame::FrameHead,
        recovery::{
            Conclusion, Halt, Likeness, Missed, Step, conclude,
            fetch::{Fetched, fetch, knowledge},
        },
        rooms::Rooms,
        session::{Answer, FetchPlan, HistoryReply, Input, Purpose, Reading},
    },
    store::Seen,
};

/// So many bytes of live events are held back, and at least one event; then the socket is not read.
const MOST_HELD: usize = 1024 * 1024;
/// What a held event costs beside its frame.
const HELD_BESIDE: usize = 128;

/// A recovery that is under way.
#[derive(Debug)]
pub(super) struct Recovery {
    held: Vec<Held>,
    bytes: usize,
    /// When the socket opened behind the gap, by our clock.
    opened: Timestamp,
    /// What was seen before.
    before: Seen,
    conclusion: Option<Conclusion>,
}

/// A live event that is held back.
#[derive(Debug)]
struct Held {
    frame: Bytes,
    at: Timestamp,
    in_reply_to: Option<ClientMessageId>,
    answer: Answer,
}

impl Recovery {
    /// Whether no more may be held back.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST_HELD
    }
}

impl<R: Rooms> Connection<R> {
    pub(super) fn fetch_history(&mut self, plan: FetchPlan) {
        if let Purpose::Recovery(seen) = &plan.purpose {
            self.recovery.get_or_insert_with(|| {
                Box::new(Recovery {
                    held: Vec::new(),
                    bytes: 0,
                    opened: Timestamp::now(),
                    before: seen.clone(),
                    conclusion: None,
                })
            });
        }
        self.fetch = Some(Box::pin(fetch(self.shared.clone(), self.who.clone(), plan)));
    }

    /// Keeps a live event for later.
    pub(super) fn hold(
        &mut self,
        incoming: &Incoming<'_>,
        in_reply_to: Option<ClientMessageId>,
        answer: Answer,
    ) {
        let Some(recovery) = &mut self.recovery else { return };
        let frame = incoming.bytes.clone();
        recovery.bytes += frame.len() + HELD_BESIDE;
        recovery.held.push(Held { frame, at: incoming.at, in_reply_to, answer });
    }

    /// The history was read, as far as that was possible.
    pub(super) async fn history_read(&mut self, fetched: Fetched) {
        let Fetched { plan, gathered, halt, grant } = fetched;
        // Asked again: meanwhile messages were sent, and perhaps acked.
        let known = knowledge(&self.shared, &self.who, &plan, gathered.records(), &mut None);
        let reading = if halt == Halt::Enough { Reading::Whole } else { Reading::Cut };
        let reply = match known {
            Ok(known) => {
                let most = self.shared.history.max_messages;
                let conclusion = conclude(gathered, halt, &known, most, plan.last_sent);
                let found = conclusion.found.clone();
                if let Some(recovery) = &mut self.recovery
                    && matches!(plan.purpose, Purpose::Recovery(_))
                {
                    recovery.conclusion = Some(conclusion);
                }
                HistoryReply { found, reading, grant }
            }
            Err(error) => {
                tracing::error!(user = %self.who.user.name, %error, "what was missed can't be told from what is known");
                HistoryReply { found: Default::default(), reading: Reading::Cut, grant }
            }
        };
        self.tell(Input::HistoryRead(reply), None).await;
    }

    /// Stores what was missed and what was held back, each event once, in order.
    pub(super) async fn release(&mut self) -> Input<'static> {
        let began = Instant::now();
        let seen = match self.recovery.take() {
            Some(recovery) => self.store_all(*recovery).await,
            None => None,
        };
        Input::Released { seen, stalled: began.elapsed() }
    }

    /// Answers with what of the history is seen now, if all of it is stored.
    async fn store_all(&mut self, recovery: Recovery) -> Option<Seen> {
        let Recovery { held, opened, before, conclusion, .. } = recovery;
        let Some(conclusion) = conclusion else {
            for held in &held {
                self.store_held(held).await;
            }
            return None;
        };
        let likenesses: Vec<Likeness> = held.iter().map(|held| self.likeness(held)).collect();
        let (mut recovered, mut lost) = (0, 0);
        for step in conclusion.steps(&likenesses) {
            match step {
                Step::Held(place) => self.store_held(&held[place]).await,
                Step::Missed(place) => match self.store_missed(&conclusion.missed[place]).await {
                    Some(Reception::Event { .. }) => recovered += 1,
                    Some(Reception::Repeat) => {}
                    None => lost += 1,
                },
            }
        }
        if recovered > 0 || conclusion.shortfall.is_some() {
            self.report(&conclusion, &before, opened, recovered).await;
        }
        (lost == 0).then_some(conclusion.seen)
    }

    fn likeness(&self, held: &Held) -> Likeness {
        FrameHead::parse(&held.frame).map_or_else(
            |_| Likeness::default(),
            |head| Likeness::of(&head, &held.frame, self.platform_time(held.at)),
        )
    }

    async fn store_held(&mut self, held: &Held) {
        let Ok(head) = FrameHead::parse(&held.frame) else { return };
        let incoming = Incoming { bytes: &held.frame, head: &head, at: held.at };
        self.store_event(&incoming, held.in_reply_to, held.answer).await;
    }

    async fn store_missed(&mut self, missed: &Missed) -> Option<Reception> {
        let frame = missed.record.to_frame(&self.who.bot);
        let head = FrameHead::parse(&frame).expect("it was made here");
        let received = Received {
            frame: frame.clone(),
            at: Timestamp::now(),
            in_reply_to: missed.in_reply_to,
            source: Source::History,
            said: None,
        };
        self.offer(&head, received).await
    }

    async fn report(&mut self, conclusion: &Conclusion, before: &Seen, opened: Timestamp, recovered: u64) {
        let skew = self.shared.platform.skew().unwrap_or_default();
        let (from, to) = conclusion.stretch(before, skew.to_platform(opened));
        let (from, to, user) = (skew.to_ours(from), skew.to_ours(to), &self.who.user);
        match conclusion.shortfall {
            None => {
                tracing::info!(user = %user.name, %from, %to, recovered, "events were missed, and recovered");
            }
            Some(reason) => {
                tracing::warn!(user = %user.name, %from, %to, recovered, %reason, "events may have been missed");
            }
        }
        let reason = conclusion.shortfall.map(|shortfall| shortfall.to_string());
        let gap = Gap { from, to, recovered, complete: reason.is_none(), reason };
        let announced = self.shared.rooms.announce(user, Report::Gap(gap));
        if let None | Some(Err(_)) = unless_stopped(&self.stop, announced).await {
            tracing::warn!(user = %user.name, "the gap could not be stored as an event");
        }
    }
}
