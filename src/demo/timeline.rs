//! How the demo looks: a timeline of 80 columns.
//!
//! ```text
//!  2  You send a message
//!     41 ms       you → bridge    POST /v1/users/alice/messages "Hello"
//!                     ✓ what was looked at and found to be as it must
//! ```

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use anstyle::{AnsiColor, Color, Style};

use crate::{clock::Timestamp, webhook::visible};

/// No line is longer.
const WIDTH: usize = 80;
/// What stands before the words of an arrow's line: the time, two gaps, two parties, the arrow.
const BEFORE_WORDS: usize = 9 + 2 + 8 + 3 + 8 + 2;
/// What stands before a mark: as far as the arrow.
const BEFORE_MARK: usize = 9 + 2 + 8 + 1;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const ARROW: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan)));
const GOOD: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
const BAD: Style = Style::new().bold().fg_color(Some(Color::Ansi(AnsiColor::Red)));

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    /// The legacy system, with an HTTP client.
    You,
    /// The daemon.
    Bridge,
    /// The stand-in for the platform.
    Platform,
    /// The webhook's receiver.
    Crm,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::You => "you",
            Self::Bridge => "bridge",
            Self::Platform => "platform",
            Self::Crm => "crm",
        })
    }
}

/// Writes the timeline as things happen. What came from outside is shown escaped.
///
/// It writes colours; a writer that must not have them drops them (`anstream`).
#[derive(Debug)]
pub struct Timeline<W> {
    out: W,
    pause: Duration,
    started: Timestamp,
}

impl<W: Write> Timeline<W> {
    /// A timeline that begins now. `pause` is waited between two steps, for readers.
    pub fn new(out: W, pause: Duration) -> Self {
        Self { out, pause, started: Timestamp::now() }
    }

    /// How long ago it began.
    pub(super) fn age(&self) -> Duration {
        Timestamp::now().since(self.started)
    }

    /// The next step begins.
    pub(super) async fn step(&mut self, number: usize, title: &str) -> io::Result<()> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        writeln!(self.out, "\n{BOLD}{number:>2}  {title}{BOLD:#}")?;
        self.out.flush()
    }

    /// Something went from one party to another.
    pub(super) fn hop(
        &mut self,
        at: Timestamp,
        from: Party,
        to: Party,
        words: impl fmt::Display,
    ) -> io::Result<()> {
        let (offset, words) = (Offset(at.since(self.started)), fit(&words, WIDTH - BEFORE_WORDS));
        let times = format!("{offset:>9}");
        writeln!(self.out, "{DIM}{times}{DIM:#}  {from:>8} {ARROW}→{ARROW:#} {to:<8}  {words}")?;
        self.out.flush()
    }

    /// Something was looked at, and is as it must be.
    pub(super) fn check(&mut self, words: impl fmt::Display) -> io::Result<()> {
        self.mark(GOOD, '✓', &words)
    }

    /// Something is not as it must be.
    pub(super) fn cross(&mut self, words: impl fmt::Display) -> io::Result<()> {
        self.mark(BAD, '✗', &words)
    }

    fn mark(&mut self, style: Style, mark: char, words: &dyn fmt::Display) -> io::Result<()> {
        let words = fit(words, WIDTH - BEFORE_MARK - 2);
        writeln!(self.out, "{:BEFORE_MARK$}{style}{mark}{style:#} {words}", "")?;
        self.out.flush()
    }

    /// A line as it stands.
    pub(super) fn line(&mut self, words: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{words}")?;
        self.out.flush()
    }

    /// A line that stands out.
    pub(super) fn headline(&mut self, words: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "\n{BOLD}{words}{BOLD:#}")?;
        self.out.flush()
    }
}

/// A time since the beginning; whoever stays long counts in seconds.
struct Offset(Duration);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        f.pad(&if millis < 100_000 { format!("{millis} ms") } else { format!("{} s", self.0.as_secs()) })
    }
}

/// The words, escaped, and cut where they would leave the line.
fn fit(words: &dyn fmt::Display, width: usize) -> String {
    let words = visible(&words.to_string());
    if words.chars().count() <= width {
        return words;
    }
    words.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Timeline<Vec<u8>>)) -> String {
        let started = Timestamp::from_millis(1_000);
        let mut timeline = Timeline { out: Vec::new(), pause: Duration::ZERO, started };
        write(&mut timeline);
        String::from_utf8(timeline.out).unwrap()
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn lines_align_whoever_speaks() {
        let text = written(|timeline| {
            let at = |ms: u64| Timestamp::from_millis(1_000 + ms);
            timeline.hop(at(7), Party::You, Party::Bridge, "POST").unwrap();
            timeline.hop(at(1_234), Party::Bridge, Party::Platform, "a frame").unwrap();
            timeline.hop(at(99_999), Party::Platform, Party::Bridge, "an ack").unwrap();
            timeline.hop(at(3_600_000), Party::Bridge, Party::Crm, "an event").unwrap();
            timeline.check("fine").unwrap();
        });
        insta::assert_snapshot!(plain(&text), @r"
             7 ms       you → bridge    POST
          1234 ms    bridge → platform  a frame
         99999 ms  platform → bridge    an ack
           3600 s    bridge → crm       an event
                            ✓ fine
        ");
    }

    #[test]
    fn no_line_leaves_the_terminal_and_nothing_from_outside_moves_the_cursor() {
        let evil = format!("\u{1b}[2J\r\n{}", "ä".repeat(200));
        let text = written(|timeline| {
            timeline.hop(Timestamp::from_millis(0), Party::Crm, Party::You, &evil).unwrap();
            timeline.check(&evil).unwrap();
            timeline.cross(&evil).unwrap();
        });
        let text = plain(&text);
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            assert_eq!(line.chars().count(), WIDTH, "{line}");
            assert!(line.contains(r"\u{1b}[2J\r\nä") && line.ends_with("ä…"), "{line}");
        }
    }

    #[test]
    fn colours_are_written_for_whom_they_are_for() {
        let text = written(|timeline| timeline.check("fine").unwrap());
        assert!(text.contains("\u{1b}[32m✓\u{1b}[0m"), "{text:?}");
    }
}
