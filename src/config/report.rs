//! Collects what is found while a configuration is read.

use std::{
    cell::RefCell,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    errors::{ConfigError, ConfigErrors, Warning},
    source::{FileId, SourceFile, Span, Visibility},
};

/// The path of a knob: shown as `[users.alice] webhooks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyPath {
    /// The table, as its header writes it.
    table: Vec<String>,
    /// What is below it.
    rest: Vec<String>,
}

impl KeyPath {
    pub(super) fn table<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        Self { table: segments.into_iter().map(str::to_owned).collect(), rest: Vec::new() }
    }

    pub(super) fn join(&self, key: &str) -> Self {
        let mut joined = self.clone();
        joined.rest.push(key.to_owned());
        joined
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.table.is_empty() {
            write!(f, "[{}]", dotted(&self.table))?;
        }
        if !self.table.is_empty() && !self.rest.is_empty() {
            f.write_str(" ")?;
        }
        f.write_str(&dotted(&self.rest))
    }
}

/// `a."b@c".d`
fn dotted(segments: &[String]) -> String {
    let quoted = segments.iter().map(|segment| {
        let bare = !segment.is_empty()
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if bare { segment.clone() } else { format!("{segment:?}") }
    });
    quoted.collect::<Vec<_>>().join(".")
}

/// What a problem says about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The file is not TOML, or can't be read.
    File,
    /// What stands there is wrong.
    Present,
    /// Something isn't there. In a file that is not TOML it may only have been overlooked.
    Absent,
}

/// A mistake, before it is put into its file's context.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) about: About,
    pub(super) span: Span,
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) visibility: Visibility,
}

/// The files read so far, and what was found in them.
#[derive(Default)]
pub(super) struct Report {
    files: RefCell<Vec<SourceFile>>,
    problems: RefCell<Vec<Problem>>,
    /// Mistakes of a file as a whole.
    unreadable: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<(Span, Warning)>>,
    /// Where literal secrets stand.
    literal_secrets: RefCell<Vec<Span>>,
    /// Every knob that was asked for, for tests that compare with the documentation.
    #[cfg(test)]
    pub(super) knobs: RefCell<std::collections::BTreeSet<String>>,
}

impl Report {
    pub(super) fn add_file(&self, file: SourceFile) -> FileId {
        let mut files = self.files.borrow_mut();
        files.push(file);
        FileId(files.len() - 1)
    }

    pub(super) fn set_scalars(&self, file: FileId, scalars: Vec<Range<usize>>) {
        self.files.borrow_mut()[file.0].scalars = scalars;
    }

    pub(super) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// A file that can't be used at all.
    pub(super) fn unreadable(&self, file: &Path, message: String, help: Option<String>) {
        self.unreadable.borrow_mut().push(ConfigError {
            file: file.to_owned(),
            position: None,
            key: String::new(),
            message,
            help,
            excerpt: None,
        });
    }

    pub(super) fn warn(&self, span: &Span, key: &KeyPath, message: String) {
        let files = self.files.borrow();
        let file = &files[span.file.0];
        let position = Some(file.position(span.bytes.start));
        let warning = Warning { file: file.path.clone(), position, key: key.to_string(), message };
        self.warnings.borrow_mut().push((span.clone(), warning));
    }

    pub(super) fn literal_secret(&self, span: &Span) {
        self.literal_secrets.borrow_mut().push(span.clone());
    }

    /// The files with literal secrets: how many, and where the first stands.
    pub(super) fn literal_secrets(&self) -> Vec<(PathBuf, usize, Span)> {
        let mut spans = self.literal_secrets.borrow().clone();
        spans.sort_by_key(|span| (span.file, span.bytes.start));
        let files = self.files.borrow();
        spans
            .chunk_by(|a, b| a.file == b.file)
            .map(|of_file| (files[of_file[0].file.0].path.clone(), of_file.len(), of_file[0].clone()))
            .collect()
    }

    /// `bridge.toml:12`, for errors that name a second place.
    pub(super) fn place(&self, span: &Span) -> String {
        let files = self.files.borrow();
        let file = &files[span.file.0];
        format!("{}:{}", super::plain::plain_path(&file.path), file.position(span.bytes.start).line)
    }

    /// A path that stands in a file, which it is relative to.
    pub(super) fn resolve(&self, span: &Span, path: &str) -> PathBuf {
        self.files.borrow()[span.file.0].dir().join(path)
    }

    pub(super) fn failed(&self) -> bool {
        !self.problems.borrow().is_empty() || !self.unreadable.borrow().is_empty()
    }

    /// Ends the reading: what was read, or everything that is wrong with it.
    pub(super) fn conclude<T>(self, read: Option<T>) -> Result<(T, Vec<Warning>), ConfigErrors> {
        match read {
            Some(read) if !self.failed() => Ok((read, self.into_warnings())),
            _ => Err(self.into_errors()),
        }
    }

    fn into_warnings(self) -> Vec<Warning> {
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|(span, _)| (span.file, span.bytes.start));
        warnings.into_iter().map(|(_, warning)| warning).collect()
    }

    fn into_errors(self) -> ConfigErrors {
        let files = self.files.into_inner();
        let mut problems = self.problems.into_inner();
        let any_broken = problems.iter().any(|problem| problem.about == About::File);
        problems.retain(|problem| !(any_broken && problem.about == About::Absent));
        problems.sort_by_key(|problem| (problem.span.file, problem.span.bytes.start));
        // A line that is not TOML makes no sense in other ways, too: its syntax error is enough.
        let broken_lines: Vec<_> = problems
            .iter()
            .filter(|problem| problem.about == About::File)
            .map(|problem| line_of(&files, &problem.span))
            .collect();
        problems.retain(|problem| {
            broken_lines.is_empty()
                || problem.about == About::File
                || !broken_lines.contains(&line_of(&files, &problem.span))
        });
        let mut errors = self.unreadable.into_inner();
        errors.extend(problems.into_iter().map(|problem| in_context(&files, problem)));
        ConfigErrors { errors }
    }
}

fn line_of(files: &[SourceFile], span: &Span) -> (FileId, usize) {
    (span.file, files[span.file.0].position(span.bytes.start).line)
}

fn in_context(files: &[SourceFile], problem: Problem) -> ConfigError {
    let file = &files[problem.span.file.0];
    let excerpt = match problem.about {
        About::File => file.broken_excerpt(&problem.span.bytes),
        About::Present | About::Absent => file.excerpt(&problem.span.bytes, problem.visibility),
    };
    ConfigError {
        file: file.path.clone(),
        position: Some(file.position(problem.span.bytes.start)),
        key: problem.key,
        message: problem.message,
        help: problem.help,
        excerpt: Some(excerpt),
    }
}
