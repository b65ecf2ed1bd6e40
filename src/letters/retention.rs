//! The end of dead letters: after `store.dead_letter_retention`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{DeadLetters, shelf::STEP};
use crate::{
    clock::Timestamp,
    store::{DeadLetterId, StoreError, UserNumber},
};

/// The clock is looked at this often at least: it may jump, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// However many letters there are, they are looked through this many times in their life at most, or
/// once an hour.
const LOOKS_IN_A_LIFE: u32 = 64;

/// Removes dead letters when they are older than `life`, until `stop`; first of all, what a crash left
/// behind. There is no timer per letter: after a look through all of them it is known when the next
/// one is due.
pub async fn keep(letters: DeadLetters, life: Duration, stop: CancellationToken) {
    let keeping = async {
        match letters.sweep_histories().await {
            Ok(0) => {}
            Ok(swept) => {
                tracing::info!(swept, "attempts of delivered events that a crash left behind were removed");
            }
            Err(error) => tracing::warn!(%error, "what is remembered of attempts can't be looked through"),
        }
        let mut due = None;
        loop {
            let now = Timestamp::now();
            if due.is_none_or(|due| due <= now) {
                due = Some(look(&letters, life, now).await);
            }
            tokio::time::sleep(nap(due.map_or(LOOK_EVERY, |due| due.since(now)), life)).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = keeping => {}
    }
}

/// How long to sleep when the next letter is due after so long.
fn nap(due: Duration, life: Duration) -> Duration {
    due.max(life / LOOKS_IN_A_LIFE).min(LOOK_EVERY)
}

/// Looks through all letters, and says when to look again.
async fn look(letters: &DeadLetters, life: Duration, now: Timestamp) -> Timestamp {
    match letters.expire(life, now).await {
        Ok(Expired { removed, next }) => {
            if removed > 0 {
                tracing::info!(
                    removed,
                    left = letters.total(),
                    "dead letters older than store.dead_letter_retention were removed"
                );
            }
            next
        }
        Err(error) => {
            tracing::warn!(%error, "dead letters can't be looked through; it is tried again");
            now.plus(LOOK_EVERY)
        }
    }
}

/// What a look through all letters came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) removed: u64,
    /// When the next letter is due; none that comes later is due earlier.
    pub(super) next: Timestamp,
}

impl DeadLetters {
    /// Removes letters older than `life`, but none that is being delivered after all.
    pub(super) async fn expire(&self, life: Duration, now: Timestamp) -> Result<Expired, StoreError> {
        let mut oldest = now;
        let store = &self.shared.store;
        let removed = self
            .remove_where(|letter| {
                let is_old = now.since(letter.dead_at) >= life;
                if is_old && !(self.is_connected(letter.webhook) && store.replay_of(letter)?.is_some()) {
                    return Ok(true);
                }
                if !is_old {
                    oldest = oldest.min(letter.dead_at);
                }
                Ok(false)
            })
            .await?;
        Ok(Expired { removed, next: oldest.plus(life) })
    }

    /// Forgets attempts of events that are neither waiting nor dead letters: a crash came between an
    /// event's delivery and the end of its history.
    pub(super) async fn sweep_histories(&self) -> Result<u64, StoreError> {
        let store = &self.shared.store;
        let (mut swept, mut after) = (0, None);
        loop {
            let batch: Vec<_> = store.histories_after(after).take(STEP).collect::<Result<_, _>>()?;
            let Some(last) = batch.last() else { return Ok(swept) };
            after = Some(*last);
            for (user, id) in batch {
                if self.is_finished(user, id)? && store.dead_letter(id)?.is_none() {
                    store.remove_history(user, id);
                    swept += 1;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether a lane is past an event, as the store knows it. An event's death is written together
    /// with this, so what is looked for afterwards is not missed.
    fn is_finished(&self, user: UserNumber, id: DeadLetterId) -> Result<bool, StoreError> {
        let lane = self.shared.store.lane(id.webhook(), user)?.unwrap_or_default();
        let event = id.event();
        Ok(event <= lane.done.event || lane.done_ahead.iter().any(|ahead| ahead.event == event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nap_is_no_hot_loop_and_no_longer_than_the_clock_may_be_trusted() {
        let secs = Duration::from_secs;
        for (due, life, expected) in [
            (0, 30 * 86_400, 3600),
            (86_400, 30 * 86_400, 3600),
            (0, 64 * 60, 60),
            (600, 64 * 60, 600),
            (1, 1, 1),
        ] {
            assert_eq!(nap(secs(due), secs(life)), secs(expected), "{due} {life}");
        }
        assert!(nap(Duration::ZERO, secs(1)) > Duration::ZERO);
    }
}
