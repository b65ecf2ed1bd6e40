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

/// Text with its control characters escaped.
pub(super) fn plain(text: &str) -> String {
    Plain(text).to_string()
}

/// A path as text, with its control characters escaped.
pub(super) fn plain_path(path: &std::path::Path) -> String {
    plain(&path.to_string_lossy())
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
        assert_eq!(plain("a\x1b[31m\n\u{202e}ä 日本"), "a\\u{1b}[31m\\n\\u{202e}ä 日本");
    }
}
