//! `rtm-bridge store`: the tools of a stopped bridge's store.

use std::{
    cell::Cell,
    fs,
    io::{self, BufReader, IsTerminal as _, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    CommandError, output,
    progress::{Done, Progress},
    settings,
};
use crate::{
    config::{self, ProcessEnvironment},
    store::offline::{self, Damages, OfflineError},
    webhook::visible,
};

const AFTER_HELP: &str = "\
The bridge must be stopped: the store is locked while it runs.

Exit codes:
  0  fine
  1  failed: the store is in use, the disk is full, a file can't be written
  2  the store is damaged, or isn't what the command needs

Examples:
  rtm-bridge store verify
  rtm-bridge store export backup.jsonl
  rtm-bridge store import backup.jsonl --path /var/lib/rtm-bridge
  rtm-bridge store export - | gzip > backup.jsonl.gz";

const AFTER_VERIFY: &str = "\
Nothing is changed. What is damaged is told with its place; store export saves
the rest.

Examples:
  rtm-bridge store verify
  rtm-bridge store verify --path /var/lib/rtm-bridge";

const AFTER_EXPORT: &str = "\
The file holds the contents of messages and events: keep it as private as the
store. It appears under its name when it is whole.

Examples:
  rtm-bridge store export backup.jsonl
  rtm-bridge store export - | gzip > backup.jsonl.gz";

const AFTER_IMPORT: &str = "\
Access tokens are not in an export: each user signs in anew. All or nothing is
imported.

Examples:
  rtm-bridge store import backup.jsonl
  gunzip -c backup.jsonl.gz | rtm-bridge store import - --path /srv/bridge";

const AFTER_COMPACT: &str = "\
Needs as much free space as the store's records take. Cut short, it leaves the
store as it was.

Example:
  rtm-bridge store compact";

/// What `store` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// The store's directory [default: store.path of the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Read everything, count it, and tell what is damaged
    #[command(after_help = AFTER_VERIFY)]
    Verify,
    /// Save everything but access tokens as lines of JSON; of a damaged store, what can be read
    #[command(after_help = AFTER_EXPORT)]
    Export {
        /// The file to write, readable for its owner only; - for stdout
        file: PathBuf,
    },
    /// Make a store from an export, where there is none yet
    #[command(after_help = AFTER_IMPORT)]
    Import {
        /// The file to read; - for stdin
        file: PathBuf,
    },
    /// Give back the disk space that a backlog once took
    #[command(after_help = AFTER_COMPACT)]
    Compact,
}

/// Does one of them.
pub(super) fn run(arguments: &Arguments, file: &Path) -> Result<(), CommandError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let settings = store_settings(arguments, file)?;
    match &arguments.action {
        Action::Verify => verify(&settings),
        Action::Export { file } => export(&settings, file),
        Action::Import { file } => import(&settings, file),
        Action::Compact => compact(&settings),
    }
}

fn store_settings(arguments: &Arguments, file: &Path) -> Result<config::Store, CommandError> {
    match &arguments.path {
        Some(path) => Ok(config::Store { path: path.clone(), ..config::Store::default() }),
        None if settings::is_missing(file) => Err(CommandError::Refused(format!(
            "{}\n  or name the store with --path DIR",
            settings::missing(file)
        ))),
        None => config::Store::load(file, &ProcessEnvironment).map_err(CommandError::refused),
    }
}

fn verify(settings: &config::Store) -> Result<(), CommandError> {
    let mut progress = Progress::new("verifying", "records");
    let verified = offline::verify(settings, &mut |records| progress.at(Done::so_far(records)));
    drop(progress);
    let verified = verified.map_err(refusal)?;
    for (kind, count) in &verified.records {
        output::line(format_args!("{count:>10}  {kind}"))?;
    }
    output::line(format_args!("{:>10}  payload files", verified.payload_files))?;
    if verified.orphans > 0 {
        output::line(format_args!(
            "{:>10}  of them without a record: left by a crash, removed at the next start",
            verified.orphans
        ))?;
    }
    match damage(&verified.damages) {
        None => output::line("Everything can be read."),
        Some(damage) => Err(CommandError::Refused(format!(
            "error: the store {} is damaged:\n{damage}\n  to save what can be read: rtm-bridge store export FILE",
            shown(&settings.path)
        ))),
    }
}

fn export(settings: &config::Store, file: &Path) -> Result<(), CommandError> {
    let mut progress = Progress::new("exporting", "records");
    // An export on the terminal itself is not to be drawn over.
    let is_drawn = !(is_standard(file) && io::stdout().is_terminal());
    let mut tell = |records| {
        if is_drawn {
            progress.at(Done::so_far(records));
        }
    };
    let exported = if is_standard(file) {
        offline::export(settings, &mut io::stdout().lock(), &mut tell).map_err(refusal)
    } else {
        export_to_file(settings, file, &mut tell)
    };
    drop(progress);
    let exported = exported?;
    anstream::eprintln!("{} records exported to {}", exported.records, shown(file));
    damage(&exported.damages).map_or(Ok(()), |damage| {
        Err(CommandError::Refused(format!(
            "error: the store is damaged; the export has what could be read, and lacks:\n{damage}"
        )))
    })
}

/// Written under another name first: a file of the name is a whole export.
fn export_to_file(
    settings: &config::Store,
    file: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<offline::Exported, CommandError> {
    let failed = |error: io::Error| CommandError::Failed(format!("error: {}: {error}", shown(file)));
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{}.part", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let mut options = fs::OpenOptions::new();
    let target = options.write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    let mut out = io::BufWriter::new(target);
    let outcome = offline::export(settings, &mut out, progress).map_err(refusal).and_then(|exported| {
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(failed)?;
        fs::rename(&unfinished, file).map_err(failed)?;
        Ok(exported)
    });
    if outcome.is_err() {
        // Best effort: what went wrong is told below.
        let _ = fs::remove_file(&unfinished);
    }
    outcome
}

fn import(settings: &config::Store, file: &Path) -> Result<(), CommandError> {
    let read = Cell::new(0);
    let (source, size): (Box<dyn Read>, _) = if is_standard(file) {
        (Box::new(io::stdin()), None)
    } else {
        let failed = |error| CommandError::Failed(format!("error: {}: {error}", shown(file)));
        let opened = fs::File::open(file).map_err(failed)?;
        // Of a pipe the end isn't known.
        let size = opened.metadata().ok().map(|file| file.len()).filter(|size| *size > 0);
        (Box::new(opened), size)
    };
    let mut source = BufReader::new(Counted { source, read: &read });
    let mut progress = Progress::new("importing", "records");
    let imported = offline::import(settings, &mut source, &mut |count| {
        let share = size.map(|size| read.get() as f64 / size as f64);
        progress.at(Done { count, share });
    });
    drop(progress);
    let imported = imported.map_err(refusal)?;
    output::line(format_args!("{} records imported into {}", imported.records, shown(&settings.path)))?;
    if imported.unreadable > 0 {
        output::line(format_args!(
            "The export was made of a damaged store: {} records could not be read then.",
            imported.unreadable
        ))?;
    }
    Ok(())
}

fn compact(settings: &config::Store) -> Result<(), CommandError> {
    let mut progress = Progress::new("copying", "records");
    let compacted = offline::compact(settings, &mut |records| progress.at(Done::so_far(records)));
    drop(progress);
    let offline::Compacted { records, before, after } = compacted.map_err(refusal)?;
    output::line(format_args!("{records} records: {before} bytes before, {after} bytes now"))
}

/// Counts what is read.
struct Counted<'a> {
    source: Box<dyn Read>,
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

fn shown(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// The first of what is damaged, a line each.
fn damage(damages: &Damages) -> Option<String> {
    let Damages { count, first } = damages;
    let told: Vec<String> = first.iter().map(|what| format!("  - {}", visible(what))).collect();
    let rest = count - told.len() as u64;
    let rest = (rest > 0).then(|| format!("\n  and {rest} more"));
    (*count > 0).then(|| told.join("\n") + &rest.unwrap_or_default())
}

fn refusal(error: OfflineError) -> CommandError {
    let why = format!("error: {}", visible(&error.to_string()));
    if error.needs_a_person() { CommandError::Refused(why) } else { CommandError::Failed(why) }
}
