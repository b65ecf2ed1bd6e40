//! The form of a commit in the log.
//!
//! ```text
//! crc32 of all that follows   4 bytes
//! length of the writes        4
//! number of the commit        8
//! backlog after it            8
//! the writes, each:
//!   length of the key         2, its first bit set if there was no such key
//!   length of the value       4, or ff ff ff ff for a removal
//!   key, value
//! ```
//!
//! All numbers are big-endian. Commits are numbered without gaps, and the files of the log are written
//! over and over: so what follows the last commit is told from it by its number, whatever it is.

use std::ops::Range;

use crate::store::{commit::Write, worker::Counters};

/// The length of what precedes the writes.
pub(super) const HEAD: usize = 24;
/// In the place of a value's length: the key is removed.
const REMOVED: u32 = u32::MAX;
/// The bit of a key's length that says that there was no such key. No key is nearly as long.
const CREATED: u16 = 1 << 15;

/// A commit on its way into the log; its buffer is used again and again.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    buffer: Vec<u8>,
    /// Where each write's value is in the buffer, and its length.
    values: Vec<(u32, u32)>,
    /// Where the buffer is in the file.
    at: u64,
}

impl Encoder {
    /// A buffer that one large commit has grown beyond this is not kept.
    const KEPT: usize = 256 << 10;

    /// Begins a commit that has no writes yet.
    pub(super) fn begin(&mut self) {
        if self.buffer.capacity() > Self::KEPT {
            self.buffer = Vec::new();
        }
        self.values.clear();
        self.buffer.clear();
        self.buffer.resize(HEAD, 0);
    }

    pub(super) fn add(&mut self, write: &Write) {
        let key = write.key();
        let novelty = if let Write::Create(..) = write { CREATED } else { 0 };
        self.buffer.extend_from_slice(&(key.len() as u16 | novelty).to_be_bytes());
        match write {
            Write::Put(_, value) | Write::Create(_, value) => {
                self.buffer.extend_from_slice(&(value.len() as u32).to_be_bytes());
                self.buffer.extend_from_slice(key);
                self.values.push((self.buffer.len() as u32, value.len() as u32));
                self.buffer.extend_from_slice(value);
            }
            Write::Remove(_) => {
                self.buffer.extend_from_slice(&REMOVED.to_be_bytes());
                self.buffer.extend_from_slice(key);
                self.values.push((0, 0));
            }
        }
    }

    /// Ends the commit.
    pub(super) fn seal(&mut self, counters: Counters) {
        let writes = (self.buffer.len() - HEAD) as u32;
        self.buffer[4..8].copy_from_slice(&writes.to_be_bytes());
        self.buffer[8..16].copy_from_slice(&counters.commits.to_be_bytes());
        self.buffer[16..HEAD].copy_from_slice(&counters.backlog.to_be_bytes());
        let crc = crc32fast::hash(&self.buffer[4..]);
        self.buffer[..4].copy_from_slice(&crc.to_be_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The commit is there in its file.
    pub(super) fn is_at(&mut self, at: u64) {
        self.at = at;
    }

    /// Where the writes' values are in the file, and how long; of a removal it means nothing.
    pub(super) fn values(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let at = self.at as u32;
        self.values.iter().map(move |(offset, length)| (at + offset, *length))
    }
}

/// A write as it is found in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Found<'a> {
    pub key: &'a [u8],
    pub change: Change,
}

/// What a write does to its key. Where its value is, is told by the place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Change {
    Put(Range<usize>),
    /// The same of a key that was not there.
    Create(Range<usize>),
    Remove,
}

/// A commit as it is found in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit<'a> {
    pub counters: Counters,
    writes: &'a [u8],
    /// Where it ends in the file.
    pub end: usize,
}

impl<'a> Commit<'a> {
    /// Its writes, in order; none for one that claims what it doesn't hold, which its checksum rules out.
    pub(super) fn writes(&self) -> Option<Vec<Found<'a>>> {
        let mut rest = self.writes;
        let mut writes = Vec::new();
        while !rest.is_empty() {
            let key_length = u16::from_be_bytes(take(&mut rest)?);
            let value_length = u32::from_be_bytes(take(&mut rest)?);
            let key = split(&mut rest, usize::from(key_length & !CREATED))?;
            let change = match value_length {
                REMOVED => Change::Remove,
                length => {
                    let from = self.end - rest.len();
                    let value = from..from + length as usize;
                    split(&mut rest, value.len())?;
                    if key_length & CREATED == 0 { Change::Put(value) } else { Change::Create(value) }
                }
            };
            writes.push(Found { key, change });
        }
        Some(writes)
    }
}

/// How long the commit is that claims to begin so.
pub(super) fn length(head: &[u8; HEAD]) -> u64 {
    let [_, _, _, _, a, b, c, d, ..] = *head;
    HEAD as u64 + u64::from(u32::from_be_bytes([a, b, c, d]))
}

/// The commits at the start of a file, as far as they follow each other.
pub(super) fn commits(file: &[u8]) -> impl Iterator<Item = Commit<'_>> {
    let (mut previous, mut at) = (None, 0);
    std::iter::from_fn(move || {
        let commit = commit_at(file, at)?;
        let number = commit.counters.commits;
        if previous.is_some_and(|previous| number != previous + 1) {
            return None;
        }
        (previous, at) = (Some(number), commit.end);
        Some(commit)
    })
}

fn commit_at(file: &[u8], at: usize) -> Option<Commit<'_>> {
    let bytes = file.get(at..)?;
    let mut rest = bytes;
    let crc = u32::from_be_bytes(take(&mut rest)?);
    let length = u32::from_be_bytes(take(&mut rest)?) as usize;
    let commits = u64::from_be_bytes(take(&mut rest)?);
    let backlog = u64::from_be_bytes(take(&mut rest)?);
    let writes = split(&mut rest, length)?;
    let checked = bytes.get(4..HEAD + length)?;
    let counters = Counters { commits, backlog };
    (crc32fast::hash(checked) == crc).then_some(Commit { counters, writes, end: file.len() - rest.len() })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sled::IVec;

    use super::*;

    fn writes() -> impl Strategy<Value = Vec<Write>> {
        let key = || prop::collection::vec(any::<u8>(), 1..40).prop_map(IVec::from);
        let value = || any::<Vec<u8>>().prop_map(IVec::from);
        let write = prop_oneof![
            (key(), value()).prop_map(|(key, value)| Write::Put(key, value)),
            (key(), value()).prop_map(|(key, value)| Write::Create(key, value)),
            key().prop_map(Write::Remove),
        ];
        prop::collection::vec(write, 0..20)
    }

    fn encoded(number: u64, writes: &[Write]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.begin();
        writes.iter().for_each(|write| encoder.add(write));
        encoder.seal(Counters { commits: number, backlog: number * 10 });
        encoder.bytes().to_vec()
    }

    fn file(first: u64, commits: &[Vec<Write>]) -> Vec<u8> {
        (first..).zip(commits).flat_map(|(number, writes)| encoded(number, writes)).collect()
    }

    fn found(bytes: &[u8]) -> Vec<(u64, Vec<Write>)> {
        let write = |Found { key, change }: Found<'_>| match change {
            Change::Put(value) => Write::Put(IVec::from(key), IVec::from(&bytes[value])),
            Change::Create(value) => Write::Create(IVec::from(key), IVec::from(&bytes[value])),
            Change::Remove => Write::Remove(IVec::from(key)),
        };
        let writes = |commit: &Commit<'_>| commit.writes().unwrap().into_iter().map(write).collect();
        commits(bytes).map(|commit| (commit.counters.commits, writes(&commit))).collect()
    }

    #[test]
    fn its_form_is_stable() {
        let put = Write::Put(IVec::from(&[1, 2]), IVec::from(b"abc"));
        insta::assert_snapshot!(
            format!("{:02x?}", encoded(3, &[put, Write::Remove(IVec::from(&[9]))])),
            @"[94, 53, fd, 06, 00, 00, 00, 12, 00, 00, 00, 00, 00, 00, 00, 03, 00, 00, 00, 00, 00, 00, 00, 1e, 00, 02, 00, 00, 00, 03, 01, 02, 61, 62, 63, 00, 01, ff, ff, ff, ff, 09]"
        );
    }

    #[test]
    fn values_are_found_where_they_are() {
        let put = |key: u8, value: &[u8]| Write::Put(IVec::from(&[key]), IVec::from(value));
        let mut encoder = Encoder::default();
        encoder.begin();
        [put(1, b"abc"), Write::Remove(IVec::from(&[9])), put(2, b""), put(3, b"de")]
            .iter()
            .for_each(|write| encoder.add(write));
        encoder.seal(Counters { commits: 1, backlog: 0 });
        encoder.is_at(1000);
        let value = |(offset, length): (u32, u32)| {
            let from = (offset - 1000) as usize;
            &encoder.bytes()[from..from + length as usize]
        };
        let values: Vec<_> = encoder.values().collect();
        assert_eq!([value(values[0]), value(values[2]), value(values[3])], [&b"abc"[..], b"", b"de"]);
    }

    #[test]
    fn a_new_files_zeros_are_no_commit() {
        assert_eq!(commits(&[0; 4096]).count(), 0);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(of in prop::collection::vec(writes(), 0..8)) {
            let expected: Vec<_> = (7..).zip(of.iter().cloned()).collect();
            prop_assert_eq!(found(&file(7, &of)), expected);
        }

        #[test]
        fn a_torn_end_is_no_commit_and_what_is_before_it_is_whole(
            of in prop::collection::vec(writes(), 1..6), cut: prop::sample::Index, old: Vec<u8>,
        ) {
            let bytes = file(7, &of);
            let cut = cut.index(bytes.len());
            let mut torn = bytes[..cut].to_vec();
            torn.extend(&old);
            let whole = found(&torn);
            let expected: Vec<_> = (7..).zip(of.iter().cloned()).collect();
            // What follows a whole commit may be anything, but for the bytes that were there.
            if !bytes[cut..].starts_with(&old) {
                prop_assert!(whole.len() < expected.len() || cut == bytes.len());
            }
            prop_assert_eq!(&expected[..whole.len()], &whole[..]);
        }

        #[test]
        fn the_rest_of_an_older_turn_is_no_part_of_it(
            old in prop::collection::vec(writes(), 1..6), new in prop::collection::vec(writes(), 1..6),
        ) {
            let mut bytes = file(100, &old);
            let over = file(200, &new);
            bytes.resize(bytes.len().max(over.len()), 0);
            bytes[..over.len()].copy_from_slice(&over);
            let expected: Vec<_> = (200..).zip(new.iter().cloned()).collect();
            prop_assert_eq!(found(&bytes), expected);
        }

        #[test]
        fn damage_is_an_end_and_no_panic(bytes: Vec<u8>) {
            prop_assert_eq!(commits(&bytes).count(), 0);
        }
    }
}
