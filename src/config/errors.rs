//! What is wrong with a configuration, and what is merely unwise, for people to read.

use std::{fmt, path::PathBuf};

use super::plain::{Plain, plain_path};

/// Where in a file something stands, both counted from 1 (columns in characters).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// The line at fault, with everything that may be secret replaced by `…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The line's text.
    pub text: String,
    /// Characters before the underlined part.
    pub indent: usize,
    /// Characters of the underlined part, at least one.
    pub width: usize,
}

/// One mistake in a configuration. It never shows a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file at fault.
    pub file: PathBuf,
    /// Where in the file; none if the file as a whole is at fault.
    pub position: Option<Position>,
    /// The knob at fault, as `[users.alice] webhooks`; empty if there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line at fault.
    pub excerpt: Option<Excerpt>,
}

/// Every mistake in a configuration, in the order of the files: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub(super) errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// The mistakes, in the order of the files and their lines.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.errors.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for ConfigErrors {}
impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            writeln!(f, "{error}\n")?;
        }
        match self.errors.len() {
            1 => f.write_str("1 error: the configuration can't be used"),
            n => write!(f, "{n} errors: the configuration can't be used"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        place(f, &self.file, self.position, &self.key)?;
        write!(f, "{}", Plain(&self.message))?;
        let help = self.help.as_deref().map(Plain);
        match (&self.excerpt, self.position, help) {
            (Some(excerpt), Some(position), help) => excerpt.show(f, position.line, help),
            (_, _, Some(help)) => write!(f, "\n       = {help}"),
            _ => Ok(()),
        }
    }
}

impl Excerpt {
    fn show(&self, f: &mut fmt::Formatter<'_>, line: usize, help: Option<Plain<'_>>) -> fmt::Result {
        let (indent, width) = (self.indent, self.width);
        write!(f, "\n{line:>6} | {}\n{:>6} | {:indent$}{:^<width$}", Plain(&self.text), "", "", "")?;
        match help {
            Some(help) => write!(f, " {help}"),
            None => Ok(()),
        }
    }
}

/// `bridge.toml:12: [users.alice] webhook: `
fn place(f: &mut fmt::Formatter<'_>, file: &std::path::Path, at: Option<Position>, key: &str) -> fmt::Result {
    f.write_str(&plain_path(file))?;
    if let Some(position) = at {
        write!(f, ":{}", position.line)?;
    }
    f.write_str(": ")?;
    if !key.is_empty() {
        write!(f, "{}: ", Plain(key))?;
    }
    Ok(())
}

/// What a valid configuration had better not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file it stands in.
    pub file: PathBuf,
    /// Where in the file.
    pub position: Option<Position>,
    /// The knob, as `[webhooks.crm] url`; empty if there is none.
    pub key: String,
    /// What is unwise, and what to do about it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("warning: ")?;
        place(f, &self.file, self.position, &self.key)?;
        write!(f, "{}", Plain(&self.message))
    }
}
