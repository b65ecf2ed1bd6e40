//! Reads a table knob by knob. The knobs that are asked for are the ones that are known.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Rate,
    report::{About, KeyPath, Problem, Report},
    source::{Span, Visibility},
    suggest::{closest, did_you_mean},
    tree::{Key, Node, Table, Value},
    values::{self, Invalid, show_duration, show_size},
};

/// A value, where it stands and what it is called.
#[derive(Clone, Copy)]
pub(super) struct Item<'r> {
    pub(super) report: &'r Report,
    pub(super) node: &'r Node,
    /// The table's path and the knob's own.
    pub(super) path: &'r KeyPath,
}

impl<'r> Item<'r> {
    /// Reports that the value is wrong.
    pub(super) fn problem(self, invalid: Invalid) {
        self.report_problem(invalid, Visibility::Shown);
    }

    /// Reports that the value is wrong, without showing it.
    pub(super) fn hidden_problem(self, invalid: Invalid) {
        self.report_problem(invalid, Visibility::Hidden);
    }

    fn report_problem(self, Invalid { message, help }: Invalid, visibility: Visibility) {
        self.report.problem(Problem {
            about: About::Present,
            span: self.node.span.clone(),
            key: self.path.to_string(),
            message,
            help,
            visibility,
        });
    }

    pub(super) fn warn(self, message: impl Into<String>) {
        self.report.warn(&self.node.span, self.path, message.into());
    }

    /// Reports a type that isn't the wanted one.
    pub(super) fn wrong_type(self, wanted: &str, example: &str) {
        self.problem(self.type_mismatch(wanted, example));
    }

    pub(super) fn type_mismatch(self, wanted: &str, example: &str) -> Invalid {
        Invalid::new(format!("must be {wanted}, not {}", self.node.value.type_in_words()))
            .help(format!("such as {example}"))
    }

    /// What `read` makes of it; its complaint is reported.
    pub(super) fn checked<T>(self, read: Result<T, Invalid>) -> Option<T> {
        read.map_err(|invalid| self.problem(invalid)).ok()
    }

    pub(super) fn text(self, example: &str) -> Option<&'r str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.wrong_type("a text", example);
                None
            }
        }
    }

    /// A text that says something.
    pub(super) fn nonempty(self, example: &str) -> Option<&'r str> {
        let text = self.text(example)?;
        if text.trim().is_empty() {
            self.problem(Invalid::new("must not be empty").help(format!("such as {example}")));
            return None;
        }
        Some(text)
    }

    pub(super) fn duration(self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let invalid = match &self.node.value {
            Value::Text(text) => match values::duration(text) {
                Ok(duration) => return self.in_range(duration, &range, |limit| show_duration(*limit)),
                Err(invalid) => invalid,
            },
            Value::Integer(number) if *number >= 0 => Invalid::new("must be a duration with its unit")
                .help(format!("did you mean `\"{number}s\"`?")),
            _ => self.type_mismatch("a duration", "\"30s\""),
        };
        self.problem(invalid);
        None
    }

    pub(super) fn size(self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match &self.node.value {
            Value::Text(text) => self.checked(values::size(text))?,
            Value::Integer(bytes) => match u64::try_from(*bytes) {
                Ok(bytes) => bytes,
                Err(_) if *bytes < 0 => {
                    self.problem(Invalid::new("must not be negative"));
                    return None;
                }
                Err(_) => u64::MAX,
            },
            _ => {
                self.wrong_type("a size", "\"64KiB\"");
                return None;
            }
        };
        self.in_range(bytes, &range, |limit| show_size(*limit))
    }

    /// A size that has to fit into memory.
    pub(super) fn memory_size(self, range: RangeInclusive<u64>) -> Option<usize> {
        self.size(range).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    pub(super) fn count(self, range: RangeInclusive<u32>) -> Option<u32> {
        let Value::Integer(number) = self.node.value else {
            self.wrong_type("a whole number", &format!("`{}`", range.start()));
            return None;
        };
        let range = i128::from(*range.start())..=i128::from(*range.end());
        let number = self.in_range(number, &range, ToString::to_string)?;
        u32::try_from(number).ok()
    }

    pub(super) fn many(self, range: RangeInclusive<u32>) -> Option<usize> {
        self.count(range).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    pub(super) fn number(self, example: &str) -> Option<f64> {
        match self.node.value {
            Value::Float(number) => Some(number),
            // Exact for every number that is in some knob's range.
            Value::Integer(number) => Some(number as f64),
            _ => {
                self.wrong_type("a number", example);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| *word);
        let text = self.text(&format!("\"{}\"", choices.first()?.0))?;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            self.problem(unknown_word(text, words()));
        }
        chosen
    }

    pub(super) fn list(self, example: &str) -> Option<&'r [Node]> {
        match &self.node.value {
            Value::List(items) => Some(items),
            Value::Text(_) => {
                self.problem(Invalid::new("must be an array").help(format!("did you mean `{example}`?")));
                None
            }
            _ => {
                self.wrong_type("an array", example);
                None
            }
        }
    }

    /// An item of this array.
    pub(super) fn element(self, node: &'r Node) -> Self {
        Self { node, ..self }
    }

    /// A path, relative to the file that it stands in.
    pub(super) fn path(self, example: &str) -> Option<PathBuf> {
        let text = self.nonempty(example)?;
        Some(self.report.resolve(&self.node.span, text))
    }

    /// Where it stands, for errors that name a second place.
    pub(super) fn place(self) -> String {
        self.report.place(&self.node.span)
    }

    pub(super) fn span(self) -> &'r Span {
        &self.node.span
    }

    fn in_range<T: PartialOrd>(
        self,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let invalid = if value < *range.start() {
            Invalid::new(format!("is too small: at least {}", show(range.start())))
        } else if value > *range.end() {
            Invalid::new(format!("is too large: at most {}", show(range.end())))
        } else {
            return Some(value);
        };
        self.problem(invalid);
        None
    }
}

/// `true` or `false`.
pub(super) fn flag(item: Item<'_>) -> Option<bool> {
    match item.node.value {
        Value::Flag(flag) => Some(flag),
        _ => {
            item.wrong_type("true or false", "`true`");
            None
        }
    }
}

/// How many in which time.
pub(super) fn rate(item: Item<'_>) -> Option<Rate> {
    let invalid = match &item.node.value {
        Value::Text(text) => match values::rate(text) {
            Ok(rate) => return Some(rate),
            Err(invalid) => invalid,
        },
        Value::Integer(number) if *number > 0 => Invalid::new("must be a rate: how many in which time")
            .help(format!("did you mean `\"{number}/s\"`?")),
        _ => item.type_mismatch("a rate", "\"50/s\""),
    };
    item.problem(invalid);
    None
}

/// A word that isn't one of those that are known.
pub(super) fn unknown_word<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Invalid {
    let help = did_you_mean(word, known.clone()).unwrap_or_else(|| {
        let known: Vec<_> = known.map(|word| format!("\"{word}\"")).collect();
        format!("one of {}", known.join(", "))
    });
    Invalid::new(format!("`{}` is not known here", super::plain::plain(word))).help(help)
}

/// A table on its way into the configuration.
pub(super) struct TableReader<'r> {
    pub(super) report: &'r Report,
    pub(super) path: KeyPath,
    /// What its knobs are called in general, for the tests that look whether each is documented: `webhooks.*`.
    #[cfg_attr(not(test), expect(dead_code, reason = "what is known is only asked for by tests"))]
    group: &'static str,
    table: Option<&'r Table>,
    /// What to blame for a missing knob: the table's name.
    name_span: Option<&'r Span>,
    /// The knobs that were asked for.
    known: Vec<(&'static str, KeyPath)>,
}

impl<'r> TableReader<'r> {
    /// The settings under `[name]`, which may not be there.
    pub(super) fn settings(report: &'r Report, root: &'r Table, name: &'static str) -> Self {
        let path = KeyPath::table([name]);
        let found = root.get(name);
        Self::new(report, path, name, found.map(|(key, _)| key), found.map(|(_, node)| node))
    }

    /// A table that holds one thing: `[users.alice]`.
    pub(super) fn entry(
        report: &'r Report,
        group: &'static str,
        table: &'static str,
        (key, node): &'r (Key, Node),
    ) -> Self {
        Self::new(report, KeyPath::table([table, &key.name]), group, Some(key), Some(node))
    }

    /// A table in a knob: `basic_auth = { user = ..., password = ... }`.
    pub(super) fn inline(item: Item<'r>, group: &'static str, example: &str) -> Option<Self> {
        let Value::Table(table) = &item.node.value else {
            // Often the user and the password in one text.
            item.hidden_problem(item.type_mismatch("a table", example));
            return None;
        };
        Some(Self {
            report: item.report,
            path: item.path.clone(),
            group,
            table: Some(table),
            name_span: Some(&item.node.span),
            known: Vec::new(),
        })
    }

    fn new(
        report: &'r Report,
        path: KeyPath,
        group: &'static str,
        key: Option<&'r Key>,
        node: Option<&'r Node>,
    ) -> Self {
        let table = match node.map(|node| &node.value) {
            Some(Value::Table(table)) => Some(table),
            Some(other) => {
                let key = key.expect("a value has a key");
                report.problem(Problem {
                    about: About::Present,
                    span: key.span.clone(),
                    key: path.to_string(),
                    message: format!("must be a table, not {}", other.type_in_words()),
                    help: Some(format!("write {path} on a line of its own")),
                    visibility: Visibility::Shown,
                });
                None
            }
            None => None,
        };
        Self { report, path, group, table, name_span: key.map(|key| &key.span), known: Vec::new() }
    }

    /// Whether the table is there and is one.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a knob is in the file, asked for or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// Asks for a knob, and hands it to `read`.
    fn with<T>(&mut self, key: &'static str, read: impl FnOnce(Item<'_>) -> Option<T>) -> Asked<T> {
        match self.ask(key) {
            None => Asked::Missing,
            Some(item) => read(item).map_or(Asked::Refused, Asked::Read),
        }
    }

    /// Notes that a knob is known; its value, if it is in the file. Here is all that does not depend on what it is read
    /// as: the rest is in the program once for each knob.
    fn ask(&mut self, key: &'static str) -> Option<Item<'_>> {
        #[cfg(test)]
        self.report.knobs.borrow_mut().insert(format!("{}.{key}", self.group));
        self.known.push((key, self.path.join(key)));
        self.item(key)
    }

    /// A knob with a default.
    pub(super) fn knob<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> T {
        match self.with(key, read) {
            Asked::Read(value) => value,
            Asked::Missing | Asked::Refused => default,
        }
    }

    /// A knob that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.with(key, read) {
            Asked::Read(value) => Some(value),
            Asked::Missing | Asked::Refused => None,
        }
    }

    /// A knob that must be there. None: the mistake is reported.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(Item<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.with(key, read) {
            Asked::Read(value) => Some(value),
            Asked::Refused => None,
            Asked::Missing => {
                self.missing(key, example);
                None
            }
        }
    }

    /// A knob that was asked for, if it is in the file: to report what is wrong with it beside others.
    pub(super) fn item(&self, key: &str) -> Option<Item<'_>> {
        let (_, path) = self.known.iter().find(|(known, _)| *known == key)?;
        let (_, node) = self.table?.get(key)?;
        Some(Item { report: self.report, node, path })
    }

    /// The first of these knobs that is in the file.
    pub(super) fn first_of(&self, keys: &[&str]) -> Option<Item<'_>> {
        keys.iter().find_map(|key| self.item(key))
    }

    /// Warns about the table as a whole.
    pub(super) fn warn(&self, message: impl Into<String>) {
        if let Some(span) = self.name_span {
            self.report.warn(span, &self.path, message.into());
        }
    }

    /// Reports every knob that nobody asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (key, _) in &table.entries {
            if !self.known.iter().any(|(known, _)| *known == key.name) {
                self.unknown(key);
            }
        }
    }

    fn unknown(&self, key: &Key) {
        let known = || self.known.iter().map(|(known, _)| *known);
        let help = match closest(&key.name, known()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.report.problem(Problem {
            about: About::Present,
            span: key.span.clone(),
            key: self.path.join(&key.name).to_string(),
            message: "unknown key".into(),
            help: Some(help),
            visibility: Visibility::Shown,
        });
    }

    fn missing(&self, key: &str, example: &str) {
        // Without its table there is nothing to blame, and the table's own mistake is reported.
        let (Some(span), true) = (self.name_span, self.is_present()) else { return };
        self.report.problem(Problem {
            about: About::Absent,
            span: span.clone(),
            key: self.path.join(key).to_string(),
            message: "is missing".into(),
            help: Some(format!("add `{key} = {example}`")),
            visibility: Visibility::Hidden,
        });
    }
}

/// What became of asking for a knob.
enum Asked<T> {
    Read(T),
    /// It is there, but wrong: that is reported.
    Refused,
    Missing,
}

/// A path for people.
pub(super) fn shown(path: &Path) -> String {
    super::plain::plain_path(path)
}
