//! The moment at which a session wants to be woken.
//!
//! It moves with every message and every frame, mostly further away. To set a timer costs the runtime's timers a lock, so a
//! busy session's is kept: it may go off too early, and is set anew then, or when the moment moves closer. An idle
//! session's is set each time: to be woken for nothing would cost it more than all else that it does.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// So often a timer is put off before it goes off; a ping and its answer put it off twice.
const PUT_OFF_AT_MOST: u8 = 4;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// How often, since it last went off.
    put_off: u8,
}

impl Alarm {
    /// Waits for this moment. Cancel-safe.
    pub(super) async fn reached(&mut self, moment: Instant) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        let is_later = moment > timer.deadline() && self.put_off < PUT_OFF_AT_MOST;
        if is_later || moment < timer.deadline() {
            self.put_off += u8::from(is_later);
            timer.as_mut().reset(moment);
        }
        loop {
            timer.as_mut().await;
            self.put_off = 0;
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
    async fn an_idle_sessions_timer_is_set_each_time_and_a_busy_ones_is_kept() {
        let (began, mut alarm) = (Instant::now(), Alarm::default());
        let mut set_to = |seconds| {
            let moment = began + Duration::from_secs(seconds);
            let _ = alarm.reached(moment).now_or_never();
            alarm.timer.as_ref().unwrap().deadline() == moment
        };
        let kept: Vec<bool> = (10..18).map(&mut set_to).collect();
        assert_eq!(kept, [true, true, true, true, true, false, false, false]);
        assert!(set_to(5), "closer");
        alarm.reached(began + Duration::from_secs(20)).await;
        let next = began + Duration::from_secs(40);
        assert!(alarm.reached(next).now_or_never().is_none());
        assert_eq!(alarm.timer.unwrap().deadline(), next, "it went off in between");
    }

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
