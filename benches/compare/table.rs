//! What was found: as a table for people, as JSON for programs.

use std::{fmt, path::Path};

use serde_json::{Value, json};

use crate::{Outcome, arguments::Amounts, ledger::Fate, machine::Machine, peer::Peer, report::Unit};

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    EventsRate,
    EventsCpu,
    LatencyP50,
    LatencyP99,
    PostsRate,
    PostsCpu,
    RestMemory,
    PeakMemory,
    MemoryPerUser,
    Connections,
    FloodOutOfOrder,
    FloodLost,
    Dropped,
    Refused,
    Killed,
}

impl Metric {
    const ALL: [Self; 15] = [
        Self::EventsRate,
        Self::EventsCpu,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::PostsRate,
        Self::PostsCpu,
        Self::RestMemory,
        Self::PeakMemory,
        Self::MemoryPerUser,
        Self::Connections,
        Self::FloodOutOfOrder,
        Self::FloodLost,
        Self::Dropped,
        Self::Refused,
        Self::Killed,
    ];

    const fn title(self) -> &'static str {
        match self {
            Self::EventsRate => "events, as fast as they come",
            Self::EventsCpu => "CPU per event",
            Self::LatencyP50 => "frame to POST at 500/s, p50",
            Self::LatencyP99 => "frame to POST at 500/s, p99",
            Self::PostsRate => "POSTs to frames",
            Self::PostsCpu => "CPU per POST",
            Self::RestMemory => "resident, 50 idle users",
            Self::PeakMemory => "resident at most, under load",
            Self::MemoryPerUser => "resident per further user",
            Self::Connections => "connections to the webhook",
            Self::FloodOutOfOrder => "out of order under load",
            Self::FloodLost => "lost under load",
            Self::Dropped => "a socket drops",
            Self::Refused => "503 for a while",
            Self::Killed => "SIGKILL under load, restart",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::EventsRate | Self::PostsRate => Unit::PerSecond,
            Self::EventsCpu | Self::PostsCpu => Unit::Micros,
            Self::LatencyP50 | Self::LatencyP99 => Unit::Millis,
            Self::RestMemory | Self::PeakMemory => Unit::MiB,
            Self::MemoryPerUser => Unit::KiB,
            Self::Connections
            | Self::FloodOutOfOrder
            | Self::FloodLost
            | Self::Dropped
            | Self::Refused
            | Self::Killed => Unit::Pieces,
        }
    }
}

/// A peer's part of the table.
#[derive(Debug)]
pub struct Column {
    peer: Peer,
    version: String,
    figures: Vec<(Metric, f64)>,
    fates: Vec<(Metric, Fate)>,
    failures: Vec<String>,
}

impl Column {
    /// Nothing yet.
    pub fn new(peer: Peer, version: String) -> Self {
        Self { peer, version, figures: Vec::new(), fates: Vec::new(), failures: Vec::new() }
    }

    /// Whose it is.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// It could not be run.
    pub fn skip(&mut self, why: String) {
        self.failures.push(format!("skipped: {why}"));
    }

    /// What was measured, or why it could not be.
    pub fn note(
        &mut self,
        what: &str,
        found: Outcome<Vec<(Metric, f64)>>,
        say: &impl Fn(fmt::Arguments<'_>),
    ) {
        match found {
            Ok(figures) => self.figures.extend(figures),
            Err(error) => self.failed(what, &error.to_string(), say),
        }
    }

    /// What became of what was said.
    pub fn note_fate(&mut self, metric: Metric, found: Outcome<Fate>, say: &impl Fn(fmt::Arguments<'_>)) {
        match found {
            Ok(fate) => {
                say(format_args!(
                    "{}: of {} events {} lost ({} of them had been sent to it), {} repeated, {} out of order",
                    metric.title(),
                    fate.said,
                    fate.lost,
                    fate.lost_though_sent,
                    fate.repeated,
                    fate.out_of_order
                ));
                self.fates.push((metric, fate));
            }
            Err(error) => self.failed(metric.title(), &error.to_string(), say),
        }
    }

    fn failed(&mut self, what: &str, why: &str, say: &impl Fn(fmt::Arguments<'_>)) {
        say(format_args!("{what} FAILED: {why}"));
        self.failures.push(format!("{what}: {why}"));
    }

    fn cell(&self, metric: Metric) -> String {
        let figure =
            self.figures.iter().find(|(own, _)| *own == metric).map(|(_, value)| metric.unit().show(*value));
        let fate = || self.fates.iter().find(|(own, _)| *own == metric).map(|(_, fate)| fate.show());
        figure.or_else(fate).unwrap_or_else(|| "-".to_owned())
    }

    fn json(&self) -> Value {
        let figures: Vec<_> = self
            .figures
            .iter()
            .map(|(metric, value)| json!({ "what": metric.title(), "unit": metric.unit().suffix().trim(), "value": value }))
            .collect();
        let fates: Vec<_> = self
            .fates
            .iter()
            .map(|(metric, fate)| {
                json!({
                    "what": metric.title(),
                    "said": fate.said,
                    "lost": fate.lost,
                    "lostThoughSent": fate.lost_though_sent,
                    "repeated": fate.repeated,
                    "outOfOrder": fate.out_of_order,
                })
            })
            .collect();
        json!({
            "peer": self.peer.title(),
            "version": self.version,
            "figures": figures,
            "losses": fates,
            "failures": self.failures,
        })
    }
}

impl Fate {
    /// In a cell: what is not zero.
    fn show(self) -> String {
        let mut parts = vec![format!("{} lost", self.lost)];
        let counts = [(self.repeated, "repeated"), (self.out_of_order, "out of order")];
        parts.extend(
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        format!("{} of {}", parts.join(", "), self.said)
    }
}

/// All columns.
#[derive(Debug)]
pub struct Table {
    machine: Machine,
    amounts: Amounts,
    columns: Vec<Column>,
}

impl Table {
    /// Nothing yet.
    pub fn new(machine: Machine, amounts: Amounts) -> Self {
        Self { machine, amounts, columns: Vec::new() }
    }

    /// One more.
    pub fn add(&mut self, column: Column) {
        self.columns.push(column);
    }

    /// Writes the JSON.
    pub fn write(&self, file: &Path) -> Outcome<()> {
        let columns: Vec<_> = self.columns.iter().map(Column::json).collect();
        let value = json!({ "machine": self.machine, "whole": self.amounts.whole, "peers": columns });
        Ok(std::fs::write(file, format!("{value:#}\n"))?)
    }
}

/// In Markdown: it is what the README shows.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![
            std::iter::once(String::new())
                .chain(self.columns.iter().map(|column| column.peer.title().to_owned()))
                .collect::<Vec<_>>(),
        ];
        for metric in Metric::ALL {
            let cells = self.columns.iter().map(|column| column.cell(metric));
            lines.push(std::iter::once(metric.title().to_owned()).chain(cells).collect());
        }
        let width =
            |index: usize| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<_> = (0..=self.columns.len()).map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            write!(f, "|")?;
            for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if index == 0 { write!(f, " {cell:width$} |")? } else { write!(f, " {cell:>width$} |")? }
            }
            writeln!(f)?;
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(index, width)| {
                    format!("{}{}", "-".repeat(width + 1), if index == 0 { "-" } else { ":" })
                });
                writeln!(f, "|{}|", rules.collect::<Vec<_>>().join("|"))?;
            }
        }
        writeln!(f)?;
        for column in &self.columns {
            writeln!(f, "{}: {}", column.peer.title(), column.version)?;
            for failure in &column.failures {
                writeln!(f, "{}: {failure}", column.peer.title())?;
            }
        }
        if !self.amounts.whole {
            writeln!(f, "\n--quick: these are not the figures of the whole")?;
        }
        Ok(())
    }
}
