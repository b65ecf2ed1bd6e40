//! The part of a connection that recovers what was missed: has the history read, and stores what it says
//! together with what was held back, in order.

use super::{Connection, holding::Held, reading::Taken, unless_stopped};
use crate::{
    clock::Timestamp,
    events::{Awaited, Gap, Received, Reception, Report, Source},
    rtm::{
        frame::FrameHead,
        recovery::{
            Conclusion, Halt, Likeness, Missed, Step, conclude,
            fetch::{Fetched, fetch, knowledge},
        },
        rooms::Rooms,
        session::{FetchPlan, HistoryReply, Input, Purpose, Reading},
    },
    store::Seen,
};

/// A recovery that is under way.
#[derive(Debug)]
pub(super) struct Recovery {
    /// When the socket opened behind the gap, by our clock.
    opened: Timestamp,
    /// What was seen before.
    before: Seen,
    conclusion: Option<Conclusion>,
    occasion: Occasion,
}

/// Why the history is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// The connection was away.
    Gap,
    /// It was read before, and not whole: that is known.
    Retry,
}

impl<R: Rooms> Connection<R> {
    pub(super) fn fetch_history(&mut self, plan: FetchPlan) {
        if let Some(seen) = plan.purpose.seen() {
            let is_retry = matches!(plan.purpose, Purpose::Retry(_));
            self.holding.get_or_insert_default().recovery.get_or_insert_with(|| Recovery {
                opened: Timestamp::now(),
                before: seen.clone(),
                conclusion: None,
                occasion: if is_retry { Occasion::Retry } else { Occasion::Gap },
            });
        }
        self.fetch = Some(Box::pin(fetch(self.shared.clone(), self.who.clone(), plan)));
    }

    /// The history was read, as far as that was possible.
    pub(super) async fn history_read(&mut self, fetched: Box<Fetched>) {
        let Fetched { plan, gathered, halt, grant } = *fetched;
        // Asked again: meanwhile messages were sent, and perhaps acked.
        let known = knowledge(&self.shared, &self.who, &plan, gathered.records(), &mut None);
        let reading = match halt {
            Halt::Enough => Reading::Whole,
            Halt::TooMany => Reading::Limited,
            Halt::TimedOut | Halt::Failed => Reading::Cut,
        };
        let reply = match known {
            Ok(known) => {
                let most = self.terms.history.max_messages;
                let conclusion = conclude(gathered, halt, &known, most, plan.last_sent);
                let found = conclusion.found.clone();
                if let Some(recovery) = self.holding.as_mut().and_then(|holding| holding.recovery.as_mut())
                    && plan.purpose.seen().is_some()
                {
                    recovery.conclusion = Some(conclusion);
                }
                HistoryReply { found, reading, grant }
            }
            Err(error) => {
                tracing::error!(user = %self.who.user.name, bot = %self.who.user.bot, %error, "what was missed can't be told from what is known");
                HistoryReply { found: Default::default(), reading: Reading::Cut, grant }
            }
        };
        self.tell(Input::HistoryRead(reply), None).await;
    }

    /// Answers with what of the history is seen now, if all of it is stored.
    pub(super) async fn store_all(&mut self, held: Vec<Held>, recovery: Recovery) -> Option<Seen> {
        let Recovery { opened, before, conclusion, occasion } = recovery;
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
                // The history may have it as well: what it says is seen only if this is stored.
                Step::Held(place) => lost += usize::from(self.store_held(&held[place]).await == Taken::No),
                Step::Missed(place) => match self.store_missed(&conclusion.missed[place]).await {
                    Some(Reception::Event { .. }) => recovered += 1,
                    Some(Reception::Repeat) => {}
                    None => lost += 1,
                },
            }
        }
        let is_news = occasion == Occasion::Gap && conclusion.shortfall.is_some();
        if recovered > 0 || is_news {
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

    async fn store_missed(&mut self, missed: &Missed) -> Option<Reception> {
        let frame = missed.record.to_frame(&self.who.bot);
        let head = FrameHead::parse(&frame).expect("it was made here");
        let received = Received {
            frame: frame.clone(),
            at: Timestamp::now(),
            in_reply_to: missed.in_reply_to,
            source: Source::History,
            said: None,
            awaited: Awaited::No,
        };
        self.offer(&head, received).await
    }

    async fn report(&mut self, conclusion: &Conclusion, before: &Seen, opened: Timestamp, recovered: u64) {
        let skew = self.shared.platform.skew().unwrap_or_default();
        let (from, to) = conclusion.stretch(before, skew.to_platform(opened));
        let (from, to, user) = (skew.to_ours(from), skew.to_ours(to), &self.who.user);
        match conclusion.shortfall {
            None => {
                tracing::info!(user = %user.name, bot = %user.bot, %from, %to, recovered, "events were missed, and recovered");
            }
            Some(reason) => {
                tracing::warn!(user = %user.name, bot = %user.bot, %from, %to, recovered, %reason, "events may have been missed");
            }
        }
        let reason = conclusion.shortfall.map(|shortfall| shortfall.to_string());
        let gap = Gap { from, to, recovered, complete: reason.is_none(), reason };
        let announced = self.shared.rooms.announce(user, Report::Gap(gap));
        if let None | Some(Err(_)) = unless_stopped(&self.stop, announced).await {
            tracing::warn!(user = %user.name, bot = %user.bot, "the gap could not be stored as an event");
        }
    }
}
