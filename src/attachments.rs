//! Files for messages: what callers give, and what a message then says of them.
//!
//! Whoever takes files in ([`crate::api`]) knows nothing of the platform; whoever brings them there
//! implements [`Uploads`]. A file is never held whole: its taker is asked for one piece after the
//! other, and asked for no more than the platform has taken.

use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use crate::{asking::AskError, users::User};

/// The largest file, in bytes: 25 MiB, as in the platform's own clients.
pub const MOST_BYTES: u64 = 25 * 1024 * 1024;
/// The most files of one request, as in the platform's own clients.
pub const MOST_FILES: usize = 10;
/// The longest name, in bytes: what file systems take.
const LONGEST_NAME: usize = 255;

/// What is taken for the platform's kinds of file, by the ends of names, as its own clients do.
const KINDS: [(FileKind, &[&str]); 3] = [
    (FileKind::Image, &["png", "jpg", "jpeg", "gif"]),
    (FileKind::Video, &["mp4", "mov", "3gp", "flv"]),
    (FileKind::Audio, &["m4a", "amr", "wav", "aac", "mp3"]),
];

/// A file's kind, as the platform tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound.
    Audio,
    /// Anything else.
    Attachment,
}

/// A file's name: no path, nothing that changes how its neighbours are shown, 255 bytes at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FileName(String);

impl FileName {
    /// What is left of a name when its path and all that is dangerous in a name is taken off; none if
    /// that is nothing.
    pub fn cleaned(text: &str) -> Option<Self> {
        let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
        let printable: String = last.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect();
        let name = trimmed(&printable);
        (!name.is_empty()).then(|| Self(trimmed(&shortened(name)).to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is behind its last dot, in lower case; `bin` without one.
    pub fn extension(&self) -> String {
        match self.0.rsplit_once('.') {
            Some((stem, end)) if !stem.is_empty() => end.to_lowercase(),
            _ => "bin".to_owned(),
        }
    }

    /// What kind of file it names.
    pub fn kind(&self) -> FileKind {
        let extension = self.extension();
        let known = KINDS.into_iter().find(|(_, ends)| ends.contains(&&*extension));
        known.map_or(FileKind::Attachment, |(kind, _)| kind)
    }
}

/// Without the ends that systems make different things of; `.` and `..` are no names at all.
fn trimmed(name: &str) -> &str {
    name.trim_start_matches([' ', '\u{a0}']).trim_end_matches(['.', ' ', '\u{a0}'])
}

/// Characters that change how their neighbours are shown: directions, joiners, byte order marks.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A name that is too long loses the end of its stem: its extension says what it is.
fn shortened(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    let end = name.rfind('.').map(|at| &name[at..]).filter(|end| end.len() <= 32).unwrap_or_default();
    let mut at = LONGEST_NAME - end.len();
    while !name.is_char_boundary(at) {
        at -= 1;
    }
    format!("{}{end}", &name[..at])
}

/// A file that the platform has, as a message names it in its `attachments`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The platform's id of it.
    pub file_id: String,
    /// Its name.
    pub file_name: FileName,
    /// Its kind.
    pub file_type: FileKind,
    /// Where the platform serves it.
    pub file_url: String,
    /// Its size in MiB, to two digits.
    pub size: f64,
    /// What tells it from other files of a message for the platform's clients.
    pub unique_id: String,
}

/// A size as [`Attachment::size`] says it.
pub fn mebibytes(bytes: u64) -> f64 {
    (bytes as f64 / 1024.0 / 1024.0 * 100.0).round() / 100.0
}

/// A file's bytes can't be had to the end. Whoever gives them knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenOff;

/// What comes of asking for a piece of a file: some bytes, or none at its end.
pub type Piece<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, BrokenOff>> + Send + 'a>>;

/// A file, piece by piece.
pub trait FileBytes: Send {
    /// The next piece. Not asked for before there is room for it.
    fn next(&mut self) -> Piece<'_>;
}

/// Why a file is not on the platform.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// Its bytes were not all to be had.
    #[error("the file broke off")]
    BrokenOff,
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The platform doesn't take it.
    #[error(transparent)]
    Platform(#[from] AskError),
}

impl From<BrokenOff> for UploadError {
    fn from(_: BrokenOff) -> Self {
        Self::BrokenOff
    }
}

/// An upload on its way. Dropping it ends it; what the platform has of it then is part of no message.
pub type Upload<'a> = Pin<Box<dyn Future<Output = Result<Attachment, UploadError>> + Send + 'a>>;

/// Who can bring files to the platform.
pub trait Uploads: fmt::Debug + Send + Sync {
    /// Brings a file there, as this user.
    fn upload<'a>(
        &'a self,
        user: &'a Arc<User>,
        name: &'a FileName,
        bytes: &'a mut dyn FileBytes,
    ) -> Upload<'a>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(text: &str) -> String {
        FileName::cleaned(text).map_or_else(String::new, |name| name.0)
    }

    #[test]
    fn a_name_loses_what_is_dangerous() {
        for (given, expected) in [
            ("report.pdf", "report.pdf"),
            ("Grüße an alle.txt", "Grüße an alle.txt"),
            ("C:\\Users\\ann\\report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("a/", ""),
            ("..", ""),
            (".", ""),
            ("  ", ""),
            ("", ""),
            (".profile", ".profile"),
            ("a.txt. ", "a.txt"),
            ("a\r\nb\0.txt", "ab.txt"),
            ("cod\u{202e}fdp.exe", "codfdp.exe"),
            ("say \"hi\".txt", "say \"hi\".txt"),
        ] {
            assert_eq!(cleaned(given), expected, "{given:?}");
        }
    }

    #[test]
    fn the_end_of_a_name_says_what_it_is() {
        for (name, extension, kind) in [
            ("a.PNG", "png", FileKind::Image),
            ("a.mp4", "mp4", FileKind::Video),
            ("a.b.mp3", "mp3", FileKind::Audio),
            ("a.pdf", "pdf", FileKind::Attachment),
            ("readme", "bin", FileKind::Attachment),
            (".png", "bin", FileKind::Attachment),
        ] {
            let name = FileName::cleaned(name).unwrap();
            assert_eq!((name.extension().as_str(), name.kind()), (extension, kind), "{name:?}");
        }
    }

    #[test]
    fn sizes_are_told_as_the_platforms_clients_tell_them() {
        for (bytes, size) in [(16, 0.0), (1_572_864, 1.5), (MOST_BYTES, 25.0), (10_486, 0.01)] {
            assert!((mebibytes(bytes) - size).abs() < f64::EPSILON, "{bytes}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_short_and_cleaning_it_again_changes_nothing(text in "\\PC{0,300}(\\.[a-z]{1,5})?") {
            if let Some(name) = FileName::cleaned(&text) {
                prop_assert!(name.0.len() <= LONGEST_NAME);
                prop_assert!(!name.0.contains(['/', '\\']));
                prop_assert_eq!(FileName::cleaned(&name.0), Some(name.clone()));
            }
        }
    }
}
