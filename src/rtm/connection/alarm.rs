//! The moment at which a session wants to be woken.
//!
//! It moves with every message and every frame, mostly further away. So one timer is kept, which may go off too
//! early, and is set anew then, or when the moment moves closer: to set one costs the runtime's timers a lock.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits for this moment. Cancel-safe.
    pub(super) async fn reached(&mut self, moment: Instant) {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        if moment < timer.deadline() {
            timer.as_mut().reset(moment);
        }
        loop {
            timer.as_mut().await;
            if timer.deadline() >= moment {
                return;
            }
            timer.as_mut().reset(moment);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_moment_that_was_asked_for_last() {
        let (began, mut alarm) = (Instant::now(), Alarm::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        for (before, moment) in [(10, 20), (90, 30), (35, 40), (60, 60)] {
            assert!(alarm.reached(at(before)).now_or_never().is_none());
            alarm.reached(at(moment)).await;
            let late = Instant::now().checked_duration_since(at(moment)).expect("not before");
            assert!(late < Duration::from_millis(10), "{late:?} late");
        }
        alarm.reached(at(1)).now_or_never().expect("what is over is over");
    }
}
