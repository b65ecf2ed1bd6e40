//! Outside text, shown to people.

/// A text from outside as it may be shown on a terminal or in a log: control characters, line
/// breaks and the characters that turn the writing direction around are escaped.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible_format(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

const fn is_invisible_format(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_or_hides() {
        assert_eq!(
            visible("Grüße, \u{1b}[2J\r\n\u{9b}\u{202e}x\0"),
            r"Grüße, \u{1b}[2J\r\n\u{9b}\u{202e}x\u{0}"
        );
    }
}
