//! From files to one tree, and from the tree to a [`Config`].

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use wildmatch::WildMatchPattern;

use super::{
    ApiListener, Config, ConfigErrors, Environment, Store, Warning,
    reader::{Item, shown},
    report::{About, KeyPath, Problem, Report},
    source::{SourceFile, Span, Visibility},
    syntax::{self, SyntaxError},
    tables,
    tree::{Key, Node, Table, Twice, Value, merge},
    values::Invalid,
};

/// No file of a configuration may be larger; 100,000 users fit.
const LARGEST_FILE: u64 = 64 << 20;

impl Config {
    /// Reads and checks a configuration file and what it includes, with the warnings that a person
    /// should see. It reads files, so it blocks.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(path: &Path, env: &dyn Environment) -> Result<(Self, Vec<Warning>), ConfigErrors> {
        let report = Report::default();
        let config = read_all(path, &report).and_then(|root| tables::read(&root, &report, env));
        report.conclude(config)
    }
}

impl ApiListener {
    /// Reads where the API of this configuration listens, and checks nothing else: the rest may take
    /// secrets that only the daemon has. It reads files, so it blocks.
    ///
    /// # Errors
    /// The file, or one that it includes, can't be read, or the address can't.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let report = Report::default();
        let listener = read_all(path, &report).map(|root| tables::api_listener(&report, &root));
        report.conclude(listener).map(|(listener, _)| listener)
    }
}

impl Store {
    /// Reads the `[store]` table of a configuration, and checks nothing else: the rest may take secrets
    /// that only the daemon has. It reads files, so it blocks.
    ///
    /// # Errors
    /// The file, or one that it includes, can't be read, or the table can't.
    pub fn load(path: &Path, env: &dyn Environment) -> Result<Self, ConfigErrors> {
        let report = Report::default();
        let store = read_all(path, &report).map(|root| tables::store(&report, &root, env));
        report.conclude(store).map(|(store, _)| store)
    }
}

/// The merged tree of a file and its includes; none if there is no such file.
fn read_all(path: &Path, report: &Report) -> Option<Table> {
    let mut root = read_file(path, report)?;
    let include = take_include(&mut root);
    let mut files = Vec::new();
    if let Some((_, node)) = &include {
        let path = KeyPath::default().join("include");
        files = included_files(Item { report, node, path: &path });
    }
    let mut trees = vec![root];
    let itself = fs::canonicalize(path).ok();
    for file in files.iter().filter(|file| fs::canonicalize(file).ok() != itself) {
        let Some(mut tree) = read_file(file, report) else { continue };
        if let Some((key, _)) = take_include(&mut tree) {
            report.problem(Problem {
                about: About::Present,
                span: key.span,
                key: "include".into(),
                message: "an included file can't include others".into(),
                help: Some("move it to the main file".into()),
                visibility: Visibility::Shown,
            });
        }
        trees.push(tree);
    }
    let (merged, twice) = merge(trees);
    for Twice { path, first, second } in twice {
        report.problem(Problem {
            about: About::Present,
            span: second,
            key: path.to_string(),
            message: format!("is defined twice: first at {}", report.place(&first)),
            help: Some("rename or remove one of them".into()),
            visibility: Visibility::Shown,
        });
    }
    Some(merged)
}

fn take_include(root: &mut Table) -> Option<(Key, Node)> {
    let index = root.entries.iter().position(|(key, _)| key.name == "include")?;
    Some(root.entries.remove(index))
}

/// Reads one file. What of it is TOML comes back even if not all of it is.
fn read_file(path: &Path, report: &Report) -> Option<Table> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(Invalid { message, help }) => {
            report.unreadable(path, message, help);
            return None;
        }
    };
    let file = report.add_file(SourceFile::new(path.to_owned(), text.clone()));
    let parsed = syntax::parse(&text, file);
    report.set_scalars(file, parsed.scalars);
    for SyntaxError { bytes, message, help } in parsed.errors {
        report.problem(Problem {
            about: About::File,
            span: Span { file, bytes },
            key: String::new(),
            message,
            help,
            visibility: Visibility::Hidden,
        });
    }
    Some(parsed.tree)
}

fn read_text(path: &Path) -> Result<String, Invalid> {
    let bytes = read_limited(path, LARGEST_FILE).map_err(|error| {
        let invalid = Invalid::new(format!("can't be read: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => invalid.help("name another file with --config, or create this one"),
            io::ErrorKind::PermissionDenied => invalid.help("let the user that runs rtm-bridge read it"),
            _ => invalid,
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|b| **b == b'\n').count() + 1;
        Invalid::new(format!("is not UTF-8 text (line {line})")).help("save it as UTF-8")
    })
}

/// Reads a regular file of a limited size: a pipe or a device could keep the reader for ever.
pub(super) fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > limit {
        return Err(io::Error::other(format!("it is larger than {}", super::values::show_size(limit))));
    }
    fs::read(path)
}

/// The files that `include` names, each once.
fn included_files(include: Item<'_>) -> Vec<PathBuf> {
    const EXAMPLE: &str = "[\"users.d/*.toml\"]";
    let mut files: Vec<PathBuf> = Vec::new();
    let mut seen = HashSet::new();
    for node in include.list(EXAMPLE).unwrap_or_default() {
        let item = include.element(node);
        let Some(pattern) = item.path("\"users.d/*.toml\"") else { continue };
        match matching_files(&pattern) {
            Ok(found) => {
                if found.is_empty() {
                    item.warn(format!("no file matches `{}`", shown(&pattern)));
                }
                files.extend(found.into_iter().filter(|file| seen.insert(file.clone())));
            }
            Err(invalid) => item.problem(invalid),
        }
    }
    files
}

/// The files that a pattern stands for, sorted by name.
fn matching_files(pattern: &Path) -> Result<Vec<PathBuf>, Invalid> {
    let dir = pattern.parent().unwrap_or(Path::new(""));
    let Some(name) = pattern.file_name().map(|name| name.to_string_lossy()) else {
        return Err(Invalid::new("names no file").help("such as \"users.d/*.toml\""));
    };
    if dir.to_string_lossy().contains('*') {
        return Err(Invalid::new("a `*` may only stand in the file's name, not in its directory")
            .help("list each directory on its own"));
    }
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    // `?` is an ordinary character of a file's name here.
    let glob = WildMatchPattern::<'*', '\0'>::new(&name);
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = match fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Invalid::new(format!("can't list {}: {error}", shown(listed)))),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Invalid::new(format!("can't list {}: {error}", shown(listed))))?;
        let found = entry.file_name();
        let found = found.to_string_lossy();
        // Hidden files are an editor's, unless they are asked for.
        let hidden = found.starts_with('.') && !name.starts_with('.');
        if !hidden && glob.matches(&found) && entry.path().is_file() {
            files.push(dir.join(entry.file_name()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reports what stands at the top of the file and is no table of ours.
pub(super) fn unknown_tables(root: &Table, report: &Report, known: &[&str]) {
    for (key, node) in &root.entries {
        if known.contains(&key.name.as_str()) {
            continue;
        }
        let name = key.name.as_str();
        let (what, path) = match node.value {
            Value::Table(_) => ("table", KeyPath::table([name])),
            _ => ("key", KeyPath::default().join(name)),
        };
        let help = super::suggest::did_you_mean(&key.name, known.iter().copied())
            .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        report.problem(Problem {
            about: About::Present,
            span: key.span.clone(),
            key: path.to_string(),
            message: format!("unknown {what}"),
            help: Some(help),
            visibility: Visibility::Shown,
        });
    }
}

/// Every knob that is asked for when a file is read, such as `webhooks.*.url`.
#[cfg(test)]
pub(super) fn knobs_of(path: &Path, env: &dyn Environment) -> std::collections::BTreeSet<String> {
    let report = Report::default();
    let root = read_all(path, &report).expect("a readable file");
    tables::read(&root, &report, env);
    report.knobs.into_inner()
}
