//! A store made from lines of JSON.

use std::{
    fs,
    io::{BufRead, Read as _},
    path::Path,
};

use super::{
    OfflineError,
    export::{EndLine, FORMAT, Head, VERSION},
    kinds::{Kind, Line, Stored},
    sync_directory,
};
use crate::{
    config,
    store::{
        CLOSED, OpenError, backlog,
        database::Handle,
        keys, open,
        payload::Payloads,
        wal,
        worker::{COUNTERS, Counters},
    },
};

/// No line is longer: a record's body is a frame or a message.
const LONGEST_LINE: u64 = 256 << 20;
/// So many bytes are written at once.
const BATCH_BYTES: usize = 1 << 20;

/// What was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many records.
    pub records: u64,
    /// How many the export says were unreadable when it was made.
    pub unreadable: u64,
}

/// Makes a store from an export. It is made beside, and becomes the store in one step. `progress` is told
/// how many records were read so far.
///
/// # Errors
/// There is a store already, a line can't be imported, or the disk fails; then there is none.
pub fn import(
    settings: &config::Store,
    export: &mut dyn BufRead,
    progress: &mut dyn FnMut(u64),
) -> Result<Imported, OfflineError> {
    let path = &settings.path;
    let io = |error| OfflineError::io(path, error);
    open::make_private_directory(path).map_err(io)?;
    let _lock = open::lock(path)?;
    open::settle_swap(path).map_err(io)?;
    if fs::metadata(open::database_in(path).join("db")).is_ok_and(|log| log.len() > 0) {
        return Err(OfflineError::NotEmpty(path.clone()));
    }
    let payloads = Payloads::open(path.join("payloads")).map_err(io)?;
    // Of an import that was cut short.
    payloads.sweep(|_| Ok(false))?;
    let made = Import::new(settings, &payloads).and_then(|mut import| import.run(export, progress));
    if made.is_err() {
        // Best effort: the next one clears up, too.
        let _ = fs::remove_dir_all(open::new_database_in(path));
        let _ = payloads.sweep(|_| Ok(false));
    }
    let imported = made?;
    let _ = fs::remove_dir_all(open::database_in(path));
    let _ = fs::remove_file(path.join("tip"));
    // Of a store whose database is gone: its numbers mean nothing here.
    let _ = fs::remove_dir_all(wal::directory_in(path));
    payloads.sync().map_err(io)?;
    fs::rename(open::new_database_in(path), open::database_in(path)).map_err(io)?;
    sync_directory(path).map_err(io)?;
    Ok(imported)
}

struct Import<'a> {
    path: &'a Path,
    handle: Handle,
    payloads: &'a Payloads,
    batch: sled::Batch,
    batch_bytes: usize,
    backlog: u64,
    line: u64,
}

impl<'a> Import<'a> {
    fn new(settings: &'a config::Store, payloads: &'a Payloads) -> Result<Self, OfflineError> {
        let handle = open::make_database(&settings.path, settings.cache)?;
        let batch = sled::Batch::default();
        Ok(Self { path: &settings.path, handle, payloads, batch, batch_bytes: 0, backlog: 0, line: 0 })
    }

    fn run(
        &mut self,
        export: &mut dyn BufRead,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Imported, OfflineError> {
        let first = self.next_line(export)?;
        let head: Head =
            serde_json::from_slice(&first).map_err(|_| self.bad("it is not the head of an export"))?;
        if head.format != FORMAT || head.version != VERSION {
            return Err(
                self.bad(&format!("its form is {} {}, not {FORMAT} {VERSION}", head.format, head.version))
            );
        }
        let mut records = 0;
        let end = loop {
            let line = self.next_line(export)?;
            if let Ok(EndLine { end }) = serde_json::from_slice(&line) {
                break end;
            }
            let line: Line = serde_json::from_slice(&line).map_err(|error| self.bad(&error.to_string()))?;
            let kind = Kind::of_word(&line.kind).ok_or_else(|| self.bad("its kind is unknown"))?;
            let stored = kind.write(line).map_err(|why| self.bad(&why))?;
            self.put(stored)?;
            records += 1;
            progress(records);
        };
        if end.records != records {
            return Err(self.bad(&format!("{} records are missing before it", end.records.abs_diff(records))));
        }
        self.finish(&head)?;
        Ok(Imported { records, unreadable: end.unreadable })
    }

    fn put(&mut self, stored: Stored) -> Result<(), OfflineError> {
        let Stored { key, value, payload } = stored;
        if let Some((id, body)) = payload {
            self.payloads
                .write(id, &body, true)
                .map_err(|error| OfflineError::io(self.payloads.path(), error))?;
        }
        self.backlog += backlog::of(&key, &value)?;
        self.batch_bytes += key.len() + value.len();
        self.batch.insert(key, value);
        if self.batch_bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// What makes it a store comes last.
    fn finish(&mut self, head: &Head) -> Result<(), OfflineError> {
        self.flush()?;
        self.batch.insert(keys::meta(open::SCHEMA_NAME), &open::SCHEMA.to_be_bytes());
        self.batch.insert(keys::meta(open::NONCE), &head.nonce.to_be_bytes());
        let counters = Counters { commits: 1, backlog: self.backlog };
        self.batch.insert(keys::meta(COUNTERS), counters.to_bytes());
        if head.closed {
            self.batch.insert(keys::meta(CLOSED), &[1]);
        }
        self.flush()?;
        open::make_database_durable(&open::new_database_in(self.path))
            .map_err(|error| OfflineError::io(self.path, error))
    }

    fn flush(&mut self) -> Result<(), OfflineError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let db = self.handle.db();
        let written = db.apply_batch(batch).and_then(|()| db.flush());
        written.map(drop).map_err(|error| OpenError::of_sled(self.path, error).into())
    }

    fn next_line(&mut self, export: &mut dyn BufRead) -> Result<Vec<u8>, OfflineError> {
        self.line += 1;
        let mut line = Vec::new();
        let read = export.take(LONGEST_LINE).read_until(b'\n', &mut line);
        read.map_err(|error| OfflineError::io(Path::new("the export"), error))?;
        match line.last() {
            Some(b'\n') => Ok(line),
            Some(_) | None => Err(self.bad("the export ends there, and is not complete")),
        }
    }

    fn bad(&self, why: &str) -> OfflineError {
        OfflineError::BadLine { line: self.line, why: why.to_owned() }
    }
}
