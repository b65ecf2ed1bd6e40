//! The moment at which a session wants to be woken.
//!
//! It moves with every message and every frame, mostly further away. To set a timer costs the runtime's timers a lock, so a
//! busy session's is kept: it may go off too early, and is set anew then, or when the moment moves closer. An idle
//! session's is set each time: to be woken for nothing would cost it more than all else that it does.
//!
//! What is far away (pings, mostly) may be a little late, so that many sessions are woken at once: to wake a thread for
//! each of thousands costs more than what they do then.

use std::{pin::Pin, sync::LazyLock, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// So often a timer is put off before it goes off; a ping and its answer put it off twice.
const PUT_OFF_AT_MOST: u8 = 4;
/// From here on a moment is far away.
const FAR: Duration = Duration::from_secs(5);
/// So far apart are the moments at which sessions are woken for what was far away.
const STEP: Duration = Duration::from_millis(100);

/// From when the steps count.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// How often, since it last went off.
    put_off: u8,
}

impl Alarm {
    /// Waits for this moment, or up to [`STEP`] longer if it is far away. Cancel-safe.
    pub(super) async fn reached(&mut self, moment: Instant) {
        match &self.timer {
            Some(timer) if self.put_off == PUT_OFF_AT_MOST && moment >= timer.deadline() => {}
            _ => self.set(coarse(moment)),
        }
        let Some(timer) = &mut self.timer else { return };
        loop {
            timer.as_mut().await;
            self.put_off = 0;
            if timer.deadline() >= moment {
                return;
            }
            timer.as_mut().reset(coarse(moment));
        }
    }

    fn set(&mut self, moment: Instant) {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        let is_later = moment > timer.deadline() && self.put_off < PUT_OFF_AT_MOST;
        if is_later || moment < timer.deadline() {
            self.put_off += u8::from(is_later);
            timer.as_mut().reset(moment);
        }
    }
}

/// This moment, or the step behind it if it is far away.
fn coarse(moment: Instant) -> Instant {
    if moment >= Instant::now() + FAR { next_step(*EPOCH, moment) } else { moment }
}

/// The first step that is not before the moment.
fn next_step(epoch: Instant, moment: Instant) -> Instant {
    let beyond_a_step = |span: Duration| Duration::from_nanos((span.as_nanos() % STEP.as_nanos()) as u64);
    let rest = match moment.checked_duration_since(epoch).map(beyond_a_step) {
        Some(Duration::ZERO) => Duration::ZERO,
        Some(beyond) => STEP - beyond,
        None => beyond_a_step(epoch - moment),
    };
    moment + rest
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
            (moment..moment + STEP).contains(&alarm.timer.as_ref().unwrap().deadline())
        };
        let kept: Vec<bool> = (10..18).map(&mut set_to).collect();
        assert_eq!(kept, [true, true, true, true, true, false, false, false]);
        assert!(set_to(6), "closer");
        alarm.reached(began + Duration::from_secs(20)).await;
        let next = began + Duration::from_secs(40);
        assert!(alarm.reached(next).now_or_never().is_none());
        assert!(alarm.timer.unwrap().deadline() >= next, "it went off in between");
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_moment_that_was_asked_for_last() {
        let (began, mut alarm) = (Instant::now(), Alarm::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        for (before, moment) in [(10, 20), (90, 30), (35, 40), (60, 60)] {
            assert!(alarm.reached(at(before)).now_or_never().is_none());
            alarm.reached(at(moment)).await;
            let late = Instant::now().checked_duration_since(at(moment)).expect("not before");
            assert!(late < STEP + Duration::from_millis(10), "{late:?} late");
        }
        alarm.reached(at(1)).now_or_never().expect("what is over is over");
    }

    #[test]
    fn steps_count_from_an_epoch_in_both_directions() {
        let epoch = Instant::now() + Duration::from_secs(9);
        let next = |moment: Instant| (next_step(epoch, moment) - moment).as_millis();
        let millis = Duration::from_millis;
        assert_eq!([0, 1, 99, 100].map(|after| next(epoch + millis(after))), [0, 99, 1, 0]);
        assert_eq!([1, 99, 100, 101].map(|before| next(epoch - millis(before))), [1, 99, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_far_away_comes_at_one_moment_and_what_is_near_at_its_own() {
        let began = next_step(*EPOCH, Instant::now());
        let woken_for = |millis| {
            let mut alarm = Alarm::default();
            let _ = alarm.reached(began + Duration::from_millis(millis)).now_or_never();
            (alarm.timer.unwrap().deadline() - began).as_millis()
        };
        assert_eq!([10_001, 10_050, 10_100, 10_101].map(woken_for), [10_100, 10_100, 10_100, 10_200]);
        assert_eq!([1, 1_050, 4_801].map(woken_for), [1, 1_050, 4_801]);
    }
}
