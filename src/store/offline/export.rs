//! A store as lines of JSON.
//!
//! The first line is the [`Head`], the last the [`End`], and each between them a record: its kind, the
//! fields of its key, its own fields, and its body as `text` or `base64`.

use std::{io::Write, path::Path};

use serde::{Deserialize, Serialize};

use super::{Damages, Offline, OfflineError, walk::Found};
use crate::{clock::Timestamp, config};

/// What the first line's `format` says.
pub(super) const FORMAT: &str = "rtm-bridge store";
/// The form of the lines.
pub(super) const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub format: String,
    pub version: u32,
    /// What wrote it.
    pub program: String,
    pub exported_at: Timestamp,
    /// The store's random number, which event ids begin with.
    pub nonce: u32,
    /// Whether the store was closed in order.
    pub closed: bool,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    /// How many records came before it.
    pub records: u64,
    /// How many could not be read.
    pub unreadable: u64,
}

/// The last line, as it is told apart from records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndLine {
    pub end: End,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// How many records.
    pub records: u64,
    /// What could not be.
    pub damages: Damages,
}

/// Writes everything that a store holds, but for access tokens. Of a damaged one, what can be read.
/// `progress` is told how many records were written so far.
///
/// # Errors
/// The store doesn't open at all, is in use, or `out` can't be written.
pub fn export(
    settings: &config::Store,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported, OfflineError> {
    let store = Offline::open(settings)?;
    let head = Head {
        format: FORMAT.to_owned(),
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        exported_at: Timestamp::now(),
        nonce: store.nonce,
        closed: store.closed,
    };
    write_line(out, &head)?;
    let mut exported = Exported { records: 0, damages: Damages::default() };
    store.walk(|found| {
        match found {
            Found::Record(line) => {
                write_line(out, &line)?;
                exported.records += 1;
                progress(exported.records);
            }
            Found::Damage(what) => exported.damages.add(what),
        }
        Ok::<(), OfflineError>(())
    })?;
    let end = End { records: exported.records, unreadable: exported.damages.count };
    write_line(out, &EndLine { end })?;
    out.flush().map_err(|error| OfflineError::io(Path::new("the export"), error))?;
    Ok(exported)
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> Result<(), OfflineError> {
    let mut bytes = serde_json::to_vec(line).expect("lines are plain data with text keys");
    bytes.push(b'\n');
    out.write_all(&bytes).map_err(|error| OfflineError::io(Path::new("the export"), error))
}
