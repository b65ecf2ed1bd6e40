//! What the recorder wrote down, and what of it a power loss leaves.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// What a disk writes at once: a write that was under way is torn between these.
const SECTOR: usize = 512;

/// A change of a file's content.
#[derive(Debug)]
struct Change {
    /// Where its record ends.
    over: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Write {
        offset: u64,
        /// Where in the log.
        data: Range<usize>,
    },
    Truncate {
        length: u64,
    },
}

/// A change of a directory.
#[derive(Debug)]
enum Naming {
    Create { path: PathBuf, file: FileId },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
    MakeDirectory { path: PathBuf },
}

impl Naming {
    /// The directory whose sync makes it durable.
    fn directory(&self) -> &Path {
        let (Self::Create { path, .. }
        | Self::Rename { to: path, .. }
        | Self::Unlink { path }
        | Self::MakeDirectory { path }) = self;
        path.parent().unwrap()
    }
}

/// A file, whatever its name: inodes are given again, these are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FileId(usize);

/// What of the changes that were never synced reaches the disk all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    /// None.
    None,
    /// All up to some moment.
    Some,
    /// Any of them, in any order, torn between sectors. (Changes of directories keep their order: file
    /// systems journal them.)
    Torn,
}

/// When a file or a directory was synced.
#[derive(Debug, Clone, Copy)]
struct Synced {
    /// It covers what was logged up to here...
    began: u64,
    /// ... and was over here.
    over: u64,
}

/// How far something is durable after a power loss at `cut`.
fn durable_up_to(syncs: Option<&Vec<Synced>>, cut: u64) -> u64 {
    let over = syncs.into_iter().flatten().filter(|sync| sync.over <= cut);
    over.map(|sync| sync.began).max().unwrap_or(0)
}

/// A recording.
#[derive(Debug, Default)]
pub struct Recording {
    bytes: Vec<u8>,
    /// Changes of directories, in order.
    namings: Vec<(u64, Naming)>,
    changes: BTreeMap<FileId, Vec<Change>>,
    syncs: BTreeMap<FileId, Vec<Synced>>,
    directory_syncs: BTreeMap<PathBuf, Vec<Synced>>,
    /// The inodes' present files.
    files: BTreeMap<u64, FileId>,
}

impl Recording {
    /// Reads the recorder's log.
    pub fn read(log: &Path) -> Self {
        let mut recording = Self { bytes: fs::read(log).unwrap(), ..Self::default() };
        let mut at = 0;
        while at < recording.bytes.len() {
            let record = Record::at(&recording.bytes, at);
            at = record.data.end;
            recording.take(record);
        }
        recording
    }

    fn take(&mut self, record: Record) {
        let Record { kind, inode, offset, path, data } = record;
        let over = data.end as u64;
        let known = |files: &BTreeMap<u64, FileId>| *files.get(&inode).expect("made before it is used");
        match kind {
            1 => {
                let file = FileId(self.namings.len());
                self.files.insert(inode, file);
                self.namings.push((over, Naming::Create { path, file }));
            }
            2 => self.change(known(&self.files), Change { over, what: What::Write { offset, data } }),
            3 => self.change(known(&self.files), Change { over, what: What::Truncate { length: offset } }),
            4 => self.syncs.entry(known(&self.files)).or_default().push(Synced { began: offset, over }),
            5 => self.directory_syncs.entry(path).or_default().push(Synced { began: offset, over }),
            6 => {
                let to = PathBuf::from(std::str::from_utf8(&self.bytes[data]).unwrap());
                self.namings.push((over, Naming::Rename { from: path, to }));
            }
            7 => self.namings.push((over, Naming::Unlink { path })),
            8 => self.namings.push((over, Naming::MakeDirectory { path })),
            other => panic!("the recorder wrote a record of kind {other}"),
        }
    }

    fn change(&mut self, file: FileId, change: Change) {
        self.changes.entry(file).or_default().push(change);
    }

    /// How long the log is.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Makes `to`, which is empty, what `from` is after a power loss at the moment when the log was `cut` bytes long.
    pub fn restore(&self, cut: u64, luck: Luck, dice: &mut fastrand::Rng, from: &Path, to: &Path) {
        for (path, node) in self.names(cut, luck, dice) {
            let place = to.join(path.strip_prefix(from).unwrap());
            if !place.parent().unwrap().is_dir() {
                // A file can't be where its directory isn't.
                continue;
            }
            match node {
                Node::Directory => fs::create_dir(place).unwrap(),
                Node::File(file) => fs::write(place, self.content(file, cut, luck, dice)).unwrap(),
            }
        }
    }

    /// The names after a power loss: what was synced, and the first few changes that were not.
    fn names(&self, cut: u64, luck: Luck, dice: &mut fastrand::Rng) -> BTreeMap<PathBuf, Node> {
        let past: Vec<_> = self.namings.iter().take_while(|(over, _)| *over <= cut).collect();
        let is_durable = |over: u64, naming: &Naming| {
            over <= durable_up_to(self.directory_syncs.get(naming.directory()), cut)
        };
        let open = past.iter().filter(|(over, naming)| !is_durable(*over, naming)).count();
        let mut survivors = if luck == Luck::None { 0 } else { dice.usize(..=open) };
        let mut names = BTreeMap::new();
        for (over, naming) in past {
            if !is_durable(*over, naming) {
                if survivors == 0 {
                    continue;
                }
                survivors -= 1;
            }
            rename(&mut names, naming);
        }
        names
    }

    /// What a file holds after the power loss.
    fn content(&self, file: FileId, cut: u64, luck: Luck, dice: &mut fastrand::Rng) -> Vec<u8> {
        let durable = durable_up_to(self.syncs.get(&file), cut);
        let past = self.changes.get(&file).into_iter().flatten().take_while(|change| change.over <= cut);
        let (safe, open): (Vec<_>, Vec<_>) = past.partition(|change| change.over <= durable);
        let mut content = Vec::new();
        for change in safe {
            self.apply(&mut content, change, &mut || true);
        }
        let survivors = match luck {
            Luck::None => 0,
            Luck::Some => dice.usize(..=open.len()),
            Luck::Torn => open.len(),
        };
        for change in &open[..survivors] {
            let fate = if luck == Luck::Torn { dice.u8(..3) } else { 0 };
            self.apply(&mut content, change, &mut || match fate {
                0 => true,
                1 => false,
                _ => dice.bool(),
            });
        }
        content
    }

    fn apply(&self, content: &mut Vec<u8>, change: &Change, reaches_the_disk: &mut dyn FnMut() -> bool) {
        match &change.what {
            What::Write { offset, data } => {
                let mut offset = usize::try_from(*offset).unwrap();
                let mut rest = &self.bytes[data.clone()];
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(rest.len().min(SECTOR - offset % SECTOR));
                    let end = offset + part.len();
                    if reaches_the_disk() {
                        content.resize(content.len().max(end), 0);
                        content[offset..end].copy_from_slice(part);
                    }
                    (offset, rest) = (end, after);
                }
            }
            What::Truncate { length } => {
                if reaches_the_disk() {
                    content.resize(usize::try_from(*length).unwrap(), 0);
                }
            }
        }
    }
}

/// What stands in a directory under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(FileId),
}

fn rename(names: &mut BTreeMap<PathBuf, Node>, naming: &Naming) {
    match naming {
        Naming::Create { path, file } => drop(names.insert(path.clone(), Node::File(*file))),
        Naming::MakeDirectory { path } => drop(names.insert(path.clone(), Node::Directory)),
        Naming::Unlink { path } => drop(names.remove(path)),
        Naming::Rename { from, to } => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

/// A record as the recorder wrote it (`recorder.c`, `struct head`).
struct Record {
    kind: u32,
    inode: u64,
    offset: u64,
    path: PathBuf,
    data: Range<usize>,
}

impl Record {
    fn at(bytes: &[u8], at: usize) -> Self {
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let path = at + 32..at + 32 + u32_at(at + 4) as usize;
        let length = usize::try_from(u64_at(at + 24)).unwrap();
        Self {
            kind: u32_at(at),
            inode: u64_at(at + 8),
            offset: u64_at(at + 16),
            path: PathBuf::from(std::str::from_utf8(&bytes[path.clone()]).unwrap()),
            data: path.end..path.end + length,
        }
    }
}
