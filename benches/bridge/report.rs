//! What was found, against what must be reached: as a table for people, as JSON for programs.

use std::{fmt, fs, path::Path};

use serde_json::{Value, json};

use crate::{Outcome, machine::Machine};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Micros,
    Millis,
    Seconds,
    KiB,
    MiB,
    PercentOfCore,
    Pieces,
    Times,
}

impl Unit {
    /// How it is written behind a number.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Micros => " us",
            Self::Millis => " ms",
            Self::Seconds => " s",
            Self::KiB => " KiB",
            Self::MiB => " MiB",
            Self::PercentOfCore => " %",
            Self::Pieces => "",
            Self::Times => "x",
        }
    }

    /// A value of this unit, with as many digits as say something.
    pub fn show(self, value: f64) -> String {
        let digits = match self {
            Self::PerSecond | Self::Pieces => 0,
            Self::Millis | Self::Seconds | Self::PercentOfCore | Self::Times => 2,
            Self::Micros | Self::KiB | Self::MiB => 1,
        };
        format!("{}{}", grouped(value, digits), self.suffix())
    }
}

/// What a figure must be, the limit beside it being what it may be measured against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this share of the limit.
    ShareOfLimit(f64),
    /// At most so many times the limit.
    TimesLimit(f64),
    /// At most this above the limit.
    AboveLimit(f64),
    /// At most so many times the limit, and this above that.
    TimesLimitAndAbove(f64, f64),
}

impl Goal {
    fn is_reached(self, measured: f64, limit: Option<f64>) -> Option<bool> {
        Some(match self {
            Self::AtMost(most) => measured <= most,
            Self::ShareOfLimit(share) => measured >= share * limit?,
            Self::TimesLimit(times) => measured <= times * limit?,
            Self::AboveLimit(above) => measured <= limit? + above,
            Self::TimesLimitAndAbove(times, above) => measured <= times * limit? + above,
        })
    }

    fn show(self, unit: Unit) -> String {
        match self {
            Self::AtMost(most) => format!("<= {}", unit.show(most)),
            Self::ShareOfLimit(share) => format!(">= {:.0} % of it", share * 100.0),
            Self::TimesLimit(times) => format!("<= {times}x"),
            Self::AboveLimit(above) => format!("<= {} above", unit.show(above)),
            Self::TimesLimitAndAbove(times, above) => format!("<= {times}x + {}", unit.show(above)),
        }
    }
}

/// A figure.
#[derive(Debug, Clone)]
pub struct Finding {
    what: String,
    unit: Unit,
    measured: f64,
    limit: Option<(&'static str, f64)>,
    goal: Option<Goal>,
}

impl Finding {
    /// Something measured.
    pub fn new(what: impl Into<String>, unit: Unit, measured: f64) -> Self {
        Self { what: what.into(), unit, measured, limit: None, goal: None }
    }

    /// With what was measured beside it.
    pub fn beside(mut self, what: &'static str, limit: f64) -> Self {
        self.limit = Some((what, limit));
        self
    }

    /// With what it must reach.
    pub fn must(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.limit.filter(|(_, limit)| *limit > 0.0).map(|(_, limit)| self.measured / limit)
    }

    fn is_reached(&self) -> Option<bool> {
        self.goal?.is_reached(self.measured, self.limit.map(|(_, limit)| limit))
    }

    fn cells(&self, row: &str) -> [String; 7] {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let verdict = match self.is_reached() {
            None => "",
            Some(true) => "ok",
            Some(false) => "MISSED",
        };
        [
            row.to_owned(),
            self.what.clone(),
            self.unit.show(self.measured),
            shown(self.limit.map(|(what, limit)| format!("{what} {}", self.unit.show(limit)))),
            shown(self.ratio().map(|ratio| format!("{ratio:.2}"))),
            shown(self.goal.map(|goal| goal.show(self.unit))),
            verdict.to_owned(),
        ]
    }

    fn json(&self, row: &str) -> Value {
        json!({
            "row": row,
            "what": self.what,
            "unit": self.unit.suffix().trim(),
            "measured": self.measured,
            "limit": self.limit.map(|(what, value)| json!({ "what": what, "value": value })),
            "ratio": self.ratio(),
            "mustReach": self.goal.map(|goal| goal.show(self.unit)),
            "reached": self.is_reached(),
        })
    }
}

/// Everything that was found.
#[derive(Debug)]
pub struct Report {
    machine: Machine,
    scale: f64,
    findings: Vec<(&'static str, Finding)>,
    failures: Vec<(&'static str, String)>,
}

const HEADINGS: [&str; 7] = ["row", "what", "measured", "limit beside it", "ratio", "must reach", ""];

impl Report {
    /// Nothing yet.
    pub fn new(machine: Machine, scale: f64) -> Self {
        Self { machine, scale, findings: Vec::new(), failures: Vec::new() }
    }

    /// What a row found.
    pub fn add(&mut self, row: &'static str, findings: Vec<Finding>) {
        self.findings.extend(findings.into_iter().map(|finding| (row, finding)));
    }

    /// A row could not be measured.
    pub fn failed(&mut self, row: &'static str, why: String) {
        self.failures.push((row, why));
    }

    /// Writes the JSON, and the directory that it is in.
    pub fn write(&self, file: &Path) -> Outcome<()> {
        let failures: Vec<_> =
            self.failures.iter().map(|(row, why)| json!({ "row": row, "error": why })).collect();
        let findings: Vec<_> = self.findings.iter().map(|(row, finding)| finding.json(row)).collect();
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "scale": self.scale,
            "findings": findings,
            "failures": failures,
        });
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        Ok(fs::write(file, format!("{value:#}\n"))?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![HEADINGS.map(str::to_owned)];
        lines.extend(self.findings.iter().map(|(row, finding)| finding.cells(row)));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        });
        for [row, what, measured, limit, ratio, goal, verdict] in &lines {
            let [w0, w1, w2, w3, w4, w5, _] = widths;
            let line = format!(
                "{row:w0$}  {what:w1$}  {measured:>w2$}  {limit:>w3$}  {ratio:>w4$}  {goal:w5$}  {verdict}"
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for (row, why) in &self.failures {
            writeln!(f, "{row}: could not be measured: {why}")?;
        }
        let reached = self.findings.iter().filter_map(|(_, finding)| finding.is_reached());
        let missed = reached.clone().filter(|reached| !reached).count();
        write!(f, "\n{} of {} goals reached", reached.clone().count() - missed, reached.count())?;
        if self.scale < 1.0 {
            write!(f, "; at a scale of {}, these are not the figures of the whole", self.scale)?;
        }
        writeln!(f)
    }
}

/// A number with so many digits behind the point, its thousands apart.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}
