//! Aligned tables for people.

use std::fmt;

use anstyle::Style;

use crate::webhook::visible;

/// One cell.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    style: Style,
    side: Side,
}

/// Where a cell's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Cell {
    /// Text, its control characters escaped; a dash if there is none.
    pub(super) fn text(text: &str) -> Self {
        let text = if text.is_empty() { "-".to_owned() } else { visible(text) };
        Self { text, style: Style::new(), side: Side::Left }
    }

    /// A number, right-aligned.
    pub(super) fn number(number: u64) -> Self {
        Self { text: number.to_string(), style: Style::new(), side: Side::Right }
    }

    /// In another style.
    pub(super) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// A table: show it with `Display`. Each line ends without spaces.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// A table of these columns.
    pub(super) fn new(headings: [&str; N], rows: impl IntoIterator<Item = [Cell; N]>) -> Self {
        let rows: Vec<_> = rows.into_iter().collect();
        let sides: [Side; N] = std::array::from_fn(|i| rows.first().map_or(Side::Left, |row| row[i].side));
        let heading = Style::new().bold();
        let head = std::array::from_fn(|i| Cell { text: headings[i].into(), style: heading, side: sides[i] });
        Self { rows: std::iter::once(head).chain(rows).collect() }
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: [usize; N] = std::array::from_fn(|i| {
            self.rows.iter().map(|row| row[i].text.chars().count()).max().unwrap_or_default()
        });
        for (at, row) in self.rows.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            for (i, Cell { text, style, side }) in row.iter().enumerate() {
                if i > 0 {
                    f.write_str("  ")?;
                }
                let gap = widths[i] - text.chars().count();
                let (before, after) = match side {
                    Side::Right => (gap, 0),
                    Side::Left if i + 1 == N => (0, 0),
                    Side::Left => (0, gap),
                };
                write!(f, "{:before$}{style}{text}{style:#}{:after$}", "", "")?;
            }
        }
        Ok(())
    }
}
