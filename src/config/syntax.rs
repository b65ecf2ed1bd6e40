//! From text to a TOML document, past every place where it isn't one.
//!
//! One slip makes a parser stumble over everything after it. So the first error is taken for real,
//! its line is blanked out, and the rest is parsed again: what is wrong then is wrong by itself.

use std::ops::Range;

use toml::de::DeTable;

use super::{source::FileId, tree::Converter, tree::Table};

/// More slips than this in one file aren't slips.
const MOST_ERRORS: usize = 50;

/// A place where a file isn't TOML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) bytes: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A document, as far as it is one.
pub(super) struct Parsed {
    pub(super) tree: Table,
    /// Where its texts, numbers and dates stand.
    pub(super) scalars: Vec<Range<usize>>,
    pub(super) errors: Vec<SyntaxError>,
}

/// Parses a file.
pub(super) fn parse(text: &str, file: FileId) -> Parsed {
    let mut remaining = text.to_owned();
    let mut errors: Vec<SyntaxError> = Vec::new();
    let mut last_blanked = 0..0;
    for _ in 0..MOST_ERRORS {
        let error = match DeTable::parse(&remaining) {
            Ok(document) => {
                let mut converter = Converter { file, scalars: Vec::new() };
                let tree = converter.document(document.get_ref());
                return Parsed { tree, scalars: converter.scalars, errors };
            }
            Err(error) => error,
        };
        let bytes = error.span().unwrap_or(text.len()..text.len());
        let message = error.message();
        let line = line_at(text, bytes.start);
        let unclosed = is_unclosed(message, &text[line.clone()]);
        let block = if unclosed { line.start..text.len() } else { statement(text, &line) };
        // The rest of a value that went on over several lines fell with its first line.
        let is_rest = last_blanked.end == line.start && line.start > 0 && !is_statement(&text[line]);
        // The array that was left open has been reported by what stumbled over it.
        let is_known = message.contains("unclosed") && last_blanked.end == text.len();
        if !is_rest && !is_known {
            errors.push(describe(message, text, bytes, unclosed));
        }
        if !blank(&mut remaining, &block) {
            break;
        }
        last_blanked = block;
    }
    Parsed { tree: Table::default(), scalars: Vec::new(), errors }
}

/// The line that a byte is in, with its line break.
fn line_at(text: &str, byte: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let byte = byte.min(bytes.len());
    let start = bytes[..byte].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let end =
        bytes[byte..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |newline| byte + newline + 1);
    start..end
}

/// What falls with a line: with a table's header, the whole table.
fn statement(text: &str, line: &Range<usize>) -> Range<usize> {
    if !text[line.clone()].trim_start().starts_with('[') {
        return line.clone();
    }
    let next_header = text[line.end..].split_inclusive('\n').scan(line.end, |start, next| {
        let here = *start;
        *start += next.len();
        Some((here, next))
    });
    let end = next_header.into_iter().find(|(_, next)| next.trim_start().starts_with('['));
    line.start..end.map_or(text.len(), |(start, _)| start)
}

/// Whether a line starts something new, rather than going on with an array or a text.
fn is_statement(line: &str) -> bool {
    let key =
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c));
    line.trim_start().starts_with('[') || key.trim_start().starts_with('=')
}

/// Whether an array was left open, so that the next statement was read as a part of it.
fn is_unclosed(message: &str, line: &str) -> bool {
    let in_array = message.contains("array") || message.contains("must be quoted");
    let is_header = line.trim_start().starts_with('[');
    in_array && is_statement(line) && (is_header || message.contains("array"))
}

/// Replaces a part by spaces, keeping its lines. Whether that changed anything.
fn blank(text: &mut String, part: &Range<usize>) -> bool {
    let blanked: String = text[part.clone()]
        .bytes()
        .map(|byte| if matches!(byte, b'\n' | b'\r') { char::from(byte) } else { ' ' })
        .collect();
    let changed = text[part.clone()] != blanked;
    text.replace_range(part.clone(), &blanked);
    changed
}

/// The parser's words, and what to do where that is known.
fn describe(message: &str, text: &str, bytes: Range<usize>, unclosed: bool) -> SyntaxError {
    if message == "duplicate key" {
        let first = first_definition(text, bytes.start).map(|line| format!(": first on line {line}"));
        let message = format!("is defined twice{}", first.unwrap_or_default());
        return SyntaxError { bytes, message, help: Some("rename or remove one of them".into()) };
    }
    let help = if unclosed {
        Some("is a `]` missing before this line?".into())
    } else if message.contains("must be quoted") {
        Some("put quotation marks around texts".into())
    } else {
        None
    };
    SyntaxError { bytes, message: format!("not valid TOML: {message}"), help }
}

/// The line before the one at `byte` that says the same up to its `=`, in the same table.
fn first_definition(text: &str, byte: usize) -> Option<usize> {
    fn head(line: &str) -> &str {
        let line = line.trim();
        if line.starts_with('[') { line } else { line.split('=').next().unwrap_or_default().trim() }
    }
    let line = text.get(..byte)?.matches('\n').count();
    let lines: Vec<_> = text.lines().take(line + 1).collect();
    let wanted = head(lines.get(line)?);
    let is_header = wanted.starts_with('[');
    lines[..line]
        .iter()
        .rev()
        .take_while(|line| is_header || !line.trim_start().starts_with('['))
        .position(|line| head(line) == wanted)
        .map(|lines_back| line - lines_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of the errors, and the tables that are left.
    fn outcome(text: &str) -> (Vec<usize>, Vec<String>) {
        let parsed = parse(text, FileId(0));
        let lines = parsed.errors.iter().map(|error| text[..error.bytes.start].matches('\n').count() + 1);
        (lines.collect(), parsed.tree.entries.into_iter().map(|(key, _)| key.name).collect())
    }

    #[test]
    fn every_slip_is_found_and_the_rest_is_read() {
        let text = "[log]\nlevel = info\nformat = \"json\"\n[http]\napi = \n[store]\npath = \"x\"\n";
        assert_eq!(outcome(text), (vec![2, 5], vec!["http".into(), "log".into(), "store".into()]));
    }

    #[test]
    fn a_bad_header_takes_its_table_with_it() {
        let text = "[log]\nlevel = \"info\"\n[http\nlevel = 1\n[store]\npath = \"x\"\n";
        assert_eq!(outcome(text), (vec![3], vec!["log".into(), "store".into()]));
    }

    #[test]
    fn an_open_array_is_one_error() {
        let text = "include = [\"a.toml\"\n[http]\napi = \"x\"\n[store]\npath = \"x\"\n";
        let parsed = parse(text, FileId(0));
        assert_eq!(parsed.errors.len(), 1, "{:?}", parsed.errors);
        assert_eq!(parsed.errors[0].help.as_deref(), Some("is a `]` missing before this line?"));
    }

    #[test]
    fn the_rest_of_a_broken_array_is_no_further_error() {
        let text = "a = [oops,\n  \"b\",\n  \"c\"\n]\n[log]\n";
        assert_eq!(outcome(text), (vec![1], vec!["log".into()]));
    }
}
