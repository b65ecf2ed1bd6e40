//! A TOML document as a tree whose parts know where they stand, merged from several files.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

use toml::de::{DeTable, DeValue};

use super::{
    report::KeyPath,
    source::{FileId, Span},
};

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
    pub(super) path: KeyPath,
    pub(super) first: Span,
    pub(super) second: Span,
}

/// Puts the tables of several files together: settings knob by knob, tables of names name by name.
/// What is set twice stays as it was first.
pub(super) fn merge(trees: Vec<Table>) -> (Table, Vec<Twice>) {
    let mut merged = Table::default();
    let mut twice = Vec::new();
    // Thousands of users in a file each: no search through all of them for every one.
    let mut tables: HashMap<String, usize> = HashMap::new();
    let mut known: HashMap<(usize, String), Span> = HashMap::new();
    for (key, node) in trees.into_iter().flat_map(|tree| tree.entries) {
        let Some(&index) = tables.get(&key.name) else {
            let index = merged.entries.len();
            tables.insert(key.name.clone(), index);
            if let Value::Table(table) = &node.value {
                known.extend(table.entries.iter().map(|(k, _)| ((index, k.name.clone()), k.span.clone())));
            }
            merged.entries.push((key, node));
            continue;
        };
        let (first, into) = &mut merged.entries[index];
        let (Value::Table(into), Value::Table(from)) = (&mut into.value, node.value) else {
            let path = KeyPath::default().join(&key.name);
            twice.push(Twice { path, first: first.span.clone(), second: key.span });
            continue;
        };
        for (inner, node) in from.entries {
            match known.entry((index, inner.name.clone())) {
                Entry::Occupied(first) => {
                    let path = path_in(&key.name, &inner.name);
                    twice.push(Twice { path, first: first.get().clone(), second: inner.span });
                }
                Entry::Vacant(entry) => {
                    entry.insert(inner.span.clone());
                    into.entries.push((inner, node));
                }
            }
        }
    }
    (merged, twice)
}

/// `[users.alice]`, but `[log] level`.
fn path_in(table: &str, key: &str) -> KeyPath {
    const TABLES_OF_NAMES: [&str; 4] = ["bots", "users", "webhooks", "clients"];
    if TABLES_OF_NAMES.contains(&table) {
        KeyPath::table([table, key])
    } else {
        KeyPath::table([table]).join(key)
    }
}

/// Turns toml's tree into ours, and notes every scalar for masking.
pub(super) struct Converter {
    pub(super) file: FileId,
    pub(super) scalars: Vec<Range<usize>>,
}

impl Converter {
    /// The whole document.
    pub(super) fn document(&mut self, document: &DeTable<'_>) -> Table {
        let table = self.table(document);
        self.scalars.sort_unstable_by_key(|bytes| bytes.start);
        table
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries = Vec::new();
        for (key, value) in table {
            let node = self.node(value.get_ref(), value.span());
            let key = Key { name: key.get_ref().clone().into_owned(), span: self.span(key.span()) };
            entries.push((key, node));
        }
        Table { entries }
    }

    fn node(&mut self, value: &DeValue<'_>, bytes: Range<usize>) -> Node {
        let value = match value {
            DeValue::Array(list) => {
                Value::List(list.iter().map(|item| self.node(item.get_ref(), item.span())).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
            scalar => {
                self.scalars.push(bytes.clone());
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
