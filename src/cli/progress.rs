//! How far long work is: one line on stderr, for people who watch a terminal, and nothing elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use tokio::time::Instant;

/// Drawn anew no more often than this.
const EVERY: Duration = Duration::from_millis(100);
/// Quick work shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);
const BAR: usize = 20;
/// Erases the line that the cursor is in.
const ERASE: &str = "\r\u{1b}[K";

/// A line that tells how far something is, and goes when that is over.
#[derive(Debug)]
pub(super) struct Progress {
    verb: &'static str,
    unit: &'static str,
    is_watched: bool,
    began: Instant,
    drawn: Option<Instant>,
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Done {
    /// So many things.
    pub(super) count: u64,
    /// Of all there is to do, from 0 to 1, if that is known.
    pub(super) share: Option<f64>,
}

impl Done {
    /// So many, of who knows how many.
    pub(super) fn so_far(count: u64) -> Self {
        Self { count, share: None }
    }

    /// So many of so many.
    pub(super) fn of(count: u64, all: u64) -> Self {
        Self { count, share: Some(count as f64 / all.max(1) as f64) }
    }
}

impl Progress {
    /// `verb` and `unit` as in "exporting 7 records".
    pub(super) fn new(verb: &'static str, unit: &'static str) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_watched = io::stderr().is_terminal() && !is_dumb;
        Self { verb, unit, is_watched, began: Instant::now(), drawn: None }
    }

    /// Notes how far it is. Cheap, so it may be told of every step.
    pub(super) fn at(&mut self, done: Done) {
        self.draw(|verb, unit, elapsed| line(verb, unit, done, elapsed));
    }

    /// Waits for work that says nothing until it is done, and shows that it goes on.
    pub(super) async fn during<T>(verb: &'static str, work: impl Future<Output = T>) -> T {
        let mut progress = Self::new(verb, "");
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = every.tick() => {
                    progress.draw(|verb, _, elapsed| format!("{verb}: {} s", elapsed.as_secs()));
                }
            }
        }
    }

    fn draw(&mut self, line: impl FnOnce(&str, &str, Duration) -> String) {
        if !self.is_watched {
            return;
        }
        let now = Instant::now();
        let elapsed = now.duration_since(self.began);
        let is_soon = self.drawn.is_some_and(|drawn| now.duration_since(drawn) < EVERY);
        if elapsed < PATIENCE || is_soon {
            return;
        }
        self.drawn = Some(now);
        // A terminal that went away costs the work nothing.
        let _ = write!(io::stderr(), "{ERASE}{}", line(self.verb, self.unit, elapsed));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "{ERASE}");
        }
    }
}

fn line(verb: &str, unit: &str, done: Done, elapsed: Duration) -> String {
    let bar = done.share.map(|share| {
        let share = share.clamp(0.0, 1.0);
        let full = (share * BAR as f64) as usize;
        format!(" [{}{}] {:>3} %,", "#".repeat(full), "-".repeat(BAR - full), (share * 100.0) as u64)
    });
    let per_second = done.count as f64 / elapsed.as_secs_f64().max(0.001);
    let rate = if per_second < 10.0 { format!("{per_second:.1}") } else { grouped(per_second as u64) };
    format!("{verb}:{} {} {unit}, {rate} a second", bar.unwrap_or_default(), grouped(done.count))
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(done: Done, seconds: u64) -> String {
        line("exporting", "records", done, Duration::from_secs(seconds))
    }

    #[test]
    fn a_line_has_count_and_rate_and_a_bar_if_the_end_is_known() {
        assert_eq!(shown(Done::so_far(1_234_567), 10), "exporting: 1,234,567 records, 123,456 a second");
        assert_eq!(
            shown(Done::of(30, 60), 20),
            "exporting: [##########----------]  50 %, 30 records, 1.5 a second"
        );
        assert_eq!(
            shown(Done { count: 5, share: Some(2.0) }, 1),
            format!("exporting: [{}] 100 %, 5 records, 5.0 a second", "#".repeat(20))
        );
        assert_eq!(
            shown(Done::of(0, 0), 0),
            "exporting: [--------------------]   0 %, 0 records, 0.0 a second"
        );
    }

    #[test]
    fn it_fits_a_terminal() {
        let longest = line(
            "walking sign-ins",
            "records",
            Done { count: 999_999_999, share: Some(1.0) },
            Duration::from_secs(1),
        );
        assert!(longest.len() < 100, "{longest}");
        let usual = line(
            "importing",
            "records",
            Done { count: 99_999_999, share: Some(0.5) },
            Duration::from_secs(60),
        );
        assert!(usual.len() < 80, "{} {usual}", usual.len());
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345, "12,345"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
