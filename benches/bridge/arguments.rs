//! What is measured, and how much of it.

use clap::Parser;

use crate::{Outcome, rows::Row};

/// The bridge's measurements.
#[derive(Debug, Parser)]
#[command(
    name = "cargo bench --",
    after_help = "Examples:\n  cargo bench                          everything\n  cargo bench -- --quick               everything, at a tenth\n  cargo bench -- events posts          the rows whose names start so\n  cargo bench -- idle --scale 0.5"
)]
pub struct Arguments {
    /// Rows to measure, by the beginnings of their names; all by default
    rows: Vec<String>,
    /// How many users, events and messages: 1 is the whole
    #[arg(long, value_parser = positive)]
    scale: Option<f64>,
    /// The same as --scale 0.1
    #[arg(long, conflicts_with = "scale")]
    quick: bool,
    /// List the rows
    #[arg(long)]
    pub list: bool,
    /// What `cargo bench` passes; `cargo test` doesn't, and measures nothing
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// Whether anybody asked for a measurement.
    pub fn is_bench(&self) -> bool {
        self.bench || self.quick || self.scale.is_some() || !self.rows.is_empty()
    }

    /// How much is done, as a share of the whole.
    pub fn scale(&self) -> f64 {
        self.scale.unwrap_or(if self.quick { 0.1 } else { 1.0 })
    }

    /// The rows that were asked for, in their own order.
    pub fn chosen(&self) -> Outcome<Vec<Row>> {
        let matches = |row: &Row, word: &String| row.name().starts_with(word.as_str());
        if let Some(unknown) = self.rows.iter().find(|word| !Row::ALL.iter().any(|row| matches(row, word))) {
            return Err(format!("no row's name starts with {unknown:?}; --list shows them").into());
        }
        let is_chosen = |row: &Row| self.rows.is_empty() || self.rows.iter().any(|word| matches(row, word));
        Ok(Row::ALL.into_iter().filter(is_chosen).collect())
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(scale) if scale > 0.0 && scale <= 10.0 => Ok(scale),
        _ => Err("give a number above 0, and at most 10".to_owned()),
    }
}
