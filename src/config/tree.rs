//! A TOML document as a tree whose parts know where they stand, merged from several files.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::source::{FileId, Scalar, Span, Visibility};

/// A key as it stands in a file.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Span,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// What TOML knows.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// Saturated: what doesn't fit is out of every knob's range.
    Integer(i128),
    Float(f64),
    Flag(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The type, in words.
    pub(super) fn type_in_words(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Datetime => "a date or time",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys and values, in the order of the keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<(Key, Node)>,
}

impl Table {
    pub(super) fn get(&self, name: &str) -> Option<&(Key, Node)> {
        self.entries.iter().find(|(key, _)| key.name == name)
    }
}

/// A key that two files set.
pub(super) struct Twice {
    pub(super) path: Vec<String>,
    pub(super) first: Span,
    pub(super) second: Span,
}

/// Adds a file's tables to `into`: settings knob by knob, the tables of names name by name.
pub(super) fn merge(into: &mut Table, from: Table) -> Vec<Twice> {
    let mut twice = Vec::new();
    for (key, node) in from.entries {
        let index = into.entries.iter().position(|(known, _)| known.name == key.name);
        let Some(index) = index else {
            into.entries.push((key, node));
            continue;
        };
        let (first_key, first) = &mut into.entries[index];
        match (&mut first.value, node.value) {
            (Value::Table(into), Value::Table(from)) => merge_entries(into, from, &key.name, &mut twice),
            _ => twice.push(Twice { path: vec![key.name], first: first_key.span.clone(), second: key.span }),
        }
    }
    twice
}

fn merge_entries(into: &mut Table, from: Table, table: &str, twice: &mut Vec<Twice>) {
    // Thousands of users in hundreds of files: no search through all of them for each.
    let known: std::collections::HashMap<String, Span> =
        into.entries.iter().map(|(key, _)| (key.name.clone(), key.span.clone())).collect();
    for (key, node) in from.entries {
        match known.get(&key.name) {
            Some(first) => twice.push(Twice {
                path: vec![table.to_owned(), key.name],
                first: first.clone(),
                second: key.span,
            }),
            None => into.entries.push((key, node)),
        }
    }
}

/// Turns toml's tree into ours, and notes every scalar for masking.
pub(super) struct Converter {
    pub(super) file: FileId,
    pub(super) scalars: Vec<Scalar>,
}

impl Converter {
    /// The whole document.
    pub(super) fn document(&mut self, document: &DeTable<'_>) -> Table {
        let table = self.table(document, &mut Vec::new());
        self.scalars.sort_by_key(|scalar| scalar.bytes.start);
        table
    }

    fn table<'d>(&mut self, table: &'d DeTable<'_>, path: &mut Vec<&'d str>) -> Table {
        let mut entries = Vec::new();
        for (key, value) in table {
            path.push(key.get_ref());
            let node = self.node(value.get_ref(), value.span(), path);
            path.pop();
            let key = Key { name: key.get_ref().clone().into_owned(), span: self.span(key.span()) };
            entries.push((key, node));
        }
        Table { entries }
    }

    fn node<'d>(&mut self, value: &'d DeValue<'_>, bytes: Range<usize>, path: &mut Vec<&'d str>) -> Node {
        let value = match value {
            DeValue::Array(list) => {
                Value::List(list.iter().map(|item| self.node(item.get_ref(), item.span(), path)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table, path)),
            scalar => {
                self.scalars.push(Scalar { bytes: bytes.clone(), visibility: visibility(path, scalar) });
                scalar_value(scalar)
            }
        };
        Node { span: self.span(bytes), value }
    }

    fn span(&self, bytes: Range<usize>) -> Span {
        Span { file: self.file, bytes }
    }
}

fn scalar_value(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Integer(integer) => {
            let text = integer.as_str();
            let overflow = if text.starts_with('-') { i128::MIN } else { i128::MAX };
            Value::Integer(i128::from_str_radix(text, integer.radix()).unwrap_or(overflow))
        }
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => Value::Datetime,
    }
}

/// Whether a value that an error isn't about may be shown beside it: not in tables that hold
/// secrets, not under keys that sound like one, and no URL with a password.
fn visibility(path: &[&str], value: &DeValue<'_>) -> Visibility {
    const OPEN_TABLES: [&str; 8] =
        ["include", "platform", "http", "store", "messages", "history", "log", "users"];
    const SECRET_WORDS: [&str; 8] =
        ["secret", "token", "password", "bearer", "auth", "key", "header", "credential"];
    let open = path.first().is_some_and(|root| OPEN_TABLES.contains(root));
    let sounds_secret = path.iter().skip(1).any(|key| {
        let key = key.to_ascii_lowercase();
        SECRET_WORDS.iter().any(|word| key.contains(word))
    });
    let with_password = value.as_str().is_some_and(|text| text.contains("://") && text.contains('@'));
    if open && !sounds_secret && !with_password { Visibility::Shown } else { Visibility::Hidden }
}
