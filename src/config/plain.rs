//! Outside text, made safe to show on a terminal.

use std::fmt::{self, Write as _};

/// Shows text with control characters (and the ones that turn the reading direction) escaped.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_unsafe(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// No value is quoted at greater length: what is wrong shows in the excerpt.
const LONGEST_QUOTE: usize = 60;

/// A value as messages quote it: its control characters escaped, and no more than a line of it. (A
/// forgotten quotation mark can make half of the file into one value.)
pub(super) fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let quote: String = line.chars().take(LONGEST_QUOTE).collect();
    let ellipsis = if quote.len() < text.len() { "…" } else { "" };
    format!("{}{ellipsis}", Plain(&quote))
}

/// A path as text, with its control characters escaped.
pub(super) fn plain_path(path: &std::path::Path) -> String {
    Plain(&path.to_string_lossy()).to_string()
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_moves_cursors_and_nothing_else() {
        let shown = Plain("a\x1b[31m\n\u{202e}ä 日本").to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\n\\u{202e}ä 日本");
    }

    #[test]
    fn quotes_are_short() {
        assert_eq!(plain("a\rb"), "a\\rb");
        assert_eq!(plain("one\ntwo"), "one…");
        assert_eq!(plain(&"x".repeat(100)).chars().count(), LONGEST_QUOTE + 1);
    }
}
