//! The files of a configuration, and lines of them that are safe to show.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::errors::{Excerpt, Position};

/// Which file of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(pub(super) usize);

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) file: FileId,
    pub(super) bytes: Range<usize>,
}

/// Whether the value that a problem is about may be shown to people. Its neighbours never are: a
/// misspelt knob may hold a secret anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Anyone may see it.
    Shown,
    /// It is, or may be, a secret.
    Hidden,
}

/// A file of a configuration.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// Where each line but the first begins.
    line_starts: Vec<usize>,
    /// Where its texts, numbers and dates stand, in the file's order.
    pub(super) scalars: Vec<Range<usize>>,
}

/// No line is shown beyond this many characters.
const LONGEST_LINE: usize = 120;
const ELLIPSIS: char = '…';

impl SourceFile {
    /// A file that is yet to be parsed.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        let line_starts = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
        Self { path, text, line_starts, scalars: Vec::new() }
    }

    /// The directory that paths in this file are relative to.
    pub(super) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Where a byte stands.
    pub(super) fn position(&self, byte: usize) -> Position {
        let lines_before = self.line_starts.partition_point(|start| *start <= byte);
        let start = if lines_before == 0 { 0 } else { self.line_starts[lines_before - 1] };
        let line = lines_before + 1;
        let column = self.before(byte)[start..].chars().count() + 1;
        Position { line, column }
    }

    /// The line at fault. `visibility` is about the value at `bytes`, if it is one.
    pub(super) fn excerpt(&self, bytes: &Range<usize>, visibility: Visibility) -> Excerpt {
        let (start, line, part) = self.line_with(bytes);
        mask_values(line, start, &self.scalars, &part, visibility)
    }

    /// A line that isn't TOML, and where in it that shows.
    pub(super) fn broken_excerpt(&self, bytes: &Range<usize>) -> Excerpt {
        let (_, line, part) = self.line_with(bytes);
        mask_broken(line, part.start)
    }

    /// The line in which a part of the file begins: its start, its text, and the part within it.
    fn line_with(&self, bytes: &Range<usize>) -> (usize, &str, Range<usize>) {
        let start = self.before(bytes.start).rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let end = bytes.end.saturating_sub(start).min(line.len());
        (start, line, bytes.start - start.min(bytes.start)..end)
    }

    /// The text before a byte, or before the character it is in.
    fn before(&self, byte: usize) -> &str {
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[..end]
    }
}

/// Copies a line of a well-formed file, with `…` for values and without its comment.
fn mask_values(
    line: &str,
    line_start: usize,
    scalars: &[Range<usize>],
    part: &Range<usize>,
    visibility: Visibility,
) -> Excerpt {
    let mut shown = Shown::default();
    // The last value that starts before the line may reach into it.
    let first = scalars.partition_point(|scalar| scalar.start < line_start).saturating_sub(1);
    let mut scalars = scalars[first..].iter().peekable();
    let mut masked_until = 0;
    for (offset, c) in line.char_indices() {
        let byte = line_start + offset;
        while scalars.next_if(|scalar| scalar.end <= byte).is_some() {}
        let scalar = scalars.peek().filter(|scalar| scalar.start <= byte);
        let hidden = scalar.is_some_and(|scalar| {
            visibility == Visibility::Hidden || **scalar != (line_start + part.start..line_start + part.end)
        });
        if offset == part.start {
            shown.underline_from();
        }
        match scalar {
            Some(scalar) if hidden => {
                if masked_until != scalar.end {
                    shown.push(ELLIPSIS);
                    masked_until = scalar.end;
                }
            }
            None if c == '#' && !part.contains(&offset) => break,
            _ => shown.push(c),
        }
        if part.contains(&offset) {
            shown.underline_to();
        }
    }
    shown.finish()
}

/// Shows of a malformed line no more than the knob or the table that it is about.
fn mask_broken(line: &str, part: usize) -> Excerpt {
    let visible = visible_head(line);
    let mut shown = Shown::default();
    for (offset, c) in line.char_indices() {
        if offset == part.min(visible) {
            shown.underline_from();
        }
        if offset < visible {
            shown.push(c);
        } else {
            shown.push(ELLIPSIS);
            break;
        }
    }
    shown.finish()
}

/// How much of a malformed line is surely no secret: `[users.alice]`, or `url =` of a known knob.
fn visible_head(line: &str) -> usize {
    const TABLES: [&str; 10] =
        ["platform", "http", "store", "messages", "history", "log", "bots", "users", "webhooks", "clients"];
    let text = line.trim_start();
    if let Some(header) = text.strip_prefix('[') {
        let header = header.trim_start_matches('[').trim_start();
        let table = TABLES.iter().find(|table| {
            header.strip_prefix(**table).is_some_and(|rest| rest.trim_start().starts_with([']', '.']))
        });
        let Some(table) = table else { return 0 };
        let before = line.len() - header.len();
        // What follows in a header that doesn't end as one may be anything.
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.@".contains(c);
        let name = header.find(|c| !is_name(c)).unwrap_or(header.len());
        return before + if header[name..].starts_with(']') { name + 1 } else { table.len() };
    }
    let key_length = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    let after_key = text[key_length..].trim_start();
    // Short and lower case: no token or key looks like this. Base64 may end in `=` as well.
    let has_value = after_key.starts_with('=') && !after_key.trim_start_matches('=').trim().is_empty();
    if (1..=24).contains(&key_length) && has_value { line.len() - after_key.len() + 1 } else { 0 }
}

/// A line on its way to an excerpt.
#[derive(Default)]
struct Shown {
    text: String,
    length: usize,
    from: Option<usize>,
    to: usize,
}

impl Shown {
    fn push(&mut self, c: char) {
        self.text.push(if c == '\t' { ' ' } else { c });
        self.length += 1;
    }

    fn underline_from(&mut self) {
        self.from = Some(self.length);
    }

    fn underline_to(&mut self) {
        self.to = self.length;
    }

    fn finish(self) -> Excerpt {
        let mut text: String = self.text.chars().take(LONGEST_LINE).collect();
        if self.length > LONGEST_LINE {
            text.push(ELLIPSIS);
        } else {
            text.truncate(text.trim_end().len());
        }
        let indent = self.from.unwrap_or(self.length).min(LONGEST_LINE);
        let width = self.to.min(LONGEST_LINE).saturating_sub(indent).max(1);
        Excerpt { text, indent, width }
    }
}
