//! What commands print.

use std::{
    fmt,
    io::{self, Write as _},
};

use super::CommandError;
use crate::webhook::visible;

/// Prints a line on stdout. Styles vanish where they can't be shown.
pub(super) fn line(text: impl fmt::Display) -> Result<(), CommandError> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::NobodyReads,
        _ => CommandError::Failed(format!("error: the output can't be written: {error}")),
    })
}

/// Text from outside with its line breaks kept, and everything else that moves a cursor escaped.
pub(super) fn visible_lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

/// JSON from outside for a terminal or a program: the same JSON, with the characters that a terminal
/// could take for orders written as escapes. (Those below U+0020 can't stand in JSON's strings.)
pub(super) fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    let mut buffer = [0; 4];
    for c in json.chars() {
        let is_white_space = matches!(c, '\n' | '\r' | '\t');
        if is_white_space || visible(c.encode_utf8(&mut buffer)) == *c.encode_utf8(&mut [0; 4]) {
            shown.push(c);
        } else {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn lines_stay_lines_and_nothing_else_moves() {
        assert_eq!(visible_lines("one\ntwo\u{1b}[2J\r\n\nü"), "one\ntwo\\u{1b}[2J\n\nü");
    }

    #[test]
    fn json_stays_the_same_json() {
        let json = "{\n  \"a\": \"ü \u{9b}2J \u{202e}\u{7f}\"\n}";
        let shown = visible_json(json);
        assert_eq!(shown, "{\n  \"a\": \"ü \\u009b2J \\u202e\\u007f\"\n}");
        let parse = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(parse(json), parse(&shown));
    }
}
