//! Files that clients upload: leave for each, chunks in order, and what came of them.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;

use super::{auth::UserKey, ids};
use crate::clock::Timestamp;

/// The largest file.
const MOST_BYTES: usize = 25 * 1024 * 1024;
/// A chunk; what is no larger goes in one request.
const CHUNK: usize = 1024 * 1024;
/// What is kept of files, in bytes; beyond it the oldest are forgotten.
const KEPT: usize = 256 * 1024 * 1024;
/// Leave that was granted and is remembered; beyond it what is oldest is forgotten.
const MOST_TOKENS: usize = 10_000;

/// Why an upload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the file token is unknown, used, expired, or another user's")]
    Token,
    #[error("the message token is unknown, expired, another user's, or not that of the other chunks")]
    MessageToken,
    #[error("chunk {expected} is expected, and this is chunk {given}")]
    Order { expected: usize, given: usize },
    #[error("only the last chunk may be shorter or empty, and none longer than 1 MiB")]
    ChunkSize,
    #[error("{given} chunks are said to be there, and {there} are")]
    Total { there: usize, given: usize },
    #[error("the file is larger than 25 MB")]
    TooLarge,
    #[error("the file is larger than 1 MiB: it must come in chunks")]
    NeedsChunks,
    #[error("the file is empty")]
    Empty,
    #[error("filename is missing, fileExtension is not its end, or fileContext is not workflows")]
    About,
    #[error("there is no such file")]
    NoFile,
}

/// What is said of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: String,
    pub(super) extension: String,
    pub(super) context: String,
}

impl About {
    fn check(&self) -> Result<(), Refusal> {
        let end = self.name.rsplit_once('.').map_or("bin", |(_, end)| end);
        let fits =
            self.extension.eq_ignore_ascii_case(end) || self.extension.eq_ignore_ascii_case(&self.name);
        if self.name.is_empty() || !(fits || self.extension == "bin") || self.context != "workflows" {
            return Err(Refusal::About);
        }
        Ok(())
    }
}

/// A file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadedFile {
    /// Its id.
    pub file_id: String,
    /// Whose it is.
    pub user: String,
    /// The id of the bot that the user talks to.
    pub bot: String,
    /// Its name.
    pub name: String,
    /// How many bytes it has.
    pub size: usize,
    /// In how many chunks it came; 0 if it came in one request.
    pub chunks: usize,
    /// When it was complete, by the platform's clock.
    pub at: Timestamp,
}

/// Leave to upload one file, and what came with it.
#[derive(Debug)]
struct Leave {
    user: UserKey,
    expires: Timestamp,
    message: Option<String>,
    chunks: Vec<Bytes>,
}

/// All uploads.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    leaves: HashMap<String, Leave>,
    order: VecDeque<String>,
    files: VecDeque<(UploadedFile, Vec<Bytes>)>,
    kept: usize,
}

impl Uploads {
    /// Leave to upload one file.
    pub(super) fn grant(&mut self, user: UserKey, expires: Timestamp) -> String {
        if self.order.len() >= MOST_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.leaves.remove(&oldest);
        }
        let token = ids::id("ft");
        self.leaves.insert(token.clone(), Leave { user, expires, message: None, chunks: Vec::new() });
        self.order.push_back(token.clone());
        token
    }

    fn leave(&mut self, user: &UserKey, token: &str, now: Timestamp) -> Option<&mut Leave> {
        self.leaves.get_mut(token).filter(|leave| leave.user == *user && leave.expires > now)
    }

    /// A file comes in one request. The official clients name no token then.
    pub(super) fn whole(
        &mut self,
        user: &UserKey,
        token: Option<&str>,
        about: &About,
        data: Bytes,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        if let Some(token) = token {
            self.leave(user, token, now).filter(|leave| leave.chunks.is_empty()).ok_or(Refusal::Token)?;
        }
        about.check()?;
        match data.len() {
            0 => return Err(Refusal::Empty),
            size if size > CHUNK => return Err(Refusal::NeedsChunks),
            _ => {}
        }
        token.and_then(|token| self.leaves.remove(token));
        Ok(self.keep(user, about, vec![data], 0, now))
    }

    /// A chunk comes.
    pub(super) fn chunk(
        &mut self,
        user: &UserKey,
        (token, message): (&str, &str),
        number: usize,
        data: Bytes,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if token == message || self.leave(user, message, now).is_none() {
            return Err(Refusal::MessageToken);
        }
        let leave = self.leave(user, token, now).ok_or(Refusal::Token)?;
        if leave.message.get_or_insert_with(|| message.to_owned()) != message {
            return Err(Refusal::MessageToken);
        }
        if number != leave.chunks.len() {
            return Err(Refusal::Order { expected: leave.chunks.len(), given: number });
        }
        if data.len() > CHUNK || leave.chunks.last().is_some_and(|last| last.len() < CHUNK) {
            return Err(Refusal::ChunkSize);
        }
        if leave.chunks.iter().map(Bytes::len).sum::<usize>() + data.len() > MOST_BYTES {
            return Err(Refusal::TooLarge);
        }
        leave.chunks.push(data);
        Ok(())
    }

    /// All chunks are there.
    pub(super) fn done(
        &mut self,
        user: &UserKey,
        (token, message): (&str, &str),
        total: usize,
        about: &About,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let leave = self.leave(user, token, now).ok_or(Refusal::Token)?;
        if leave.message.as_deref() != Some(message) {
            return Err(Refusal::MessageToken);
        }
        let there = leave.chunks.len();
        if total != there || there == 0 {
            return Err(Refusal::Total { there, given: total });
        }
        about.check()?;
        let chunks = std::mem::take(&mut leave.chunks);
        for used in [token, message] {
            self.leaves.remove(used);
        }
        Ok(self.keep(user, about, chunks, there, now))
    }

    fn keep(
        &mut self,
        user: &UserKey,
        about: &About,
        data: Vec<Bytes>,
        chunks: usize,
        now: Timestamp,
    ) -> String {
        let size = data.iter().map(Bytes::len).sum();
        let file_id = ids::id("f");
        let file = UploadedFile {
            file_id: file_id.clone(),
            user: user.identity.to_string(),
            bot: user.bot_id.to_string(),
            name: about.name.clone(),
            size,
            chunks,
            at: now,
        };
        self.files.push_back((file, data));
        self.kept += size;
        while self.kept > KEPT
            && let Some((oldest, _)) = self.files.pop_front()
        {
            self.kept -= oldest.size;
        }
        file_id
    }

    /// What was uploaded, oldest first.
    pub(super) fn files(&self) -> impl Iterator<Item = &UploadedFile> {
        self.files.iter().map(|(file, _)| file)
    }

    /// A user's file.
    pub(super) fn of_user(&self, user: &UserKey, file_id: &str) -> Result<&UploadedFile, Refusal> {
        let is_it = |file: &&UploadedFile| {
            file.file_id == file_id && file.user == *user.identity && file.bot == *user.bot_id
        };
        self.files().find(is_it).ok_or(Refusal::NoFile)
    }

    /// A file's bytes, and what is known of it.
    pub(super) fn content(&self, file_id: &str) -> Option<(UploadedFile, Bytes)> {
        let (file, data) = self.files.iter().find(|(file, _)| file.file_id == file_id)?;
        Some((file.clone(), data.concat().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);
    const LATER: Timestamp = Timestamp::from_millis(2_000);

    fn user(identity: &str) -> UserKey {
        UserKey { bot_id: "st-1".into(), identity: identity.into() }
    }

    fn about(name: &str, extension: &str) -> About {
        About { name: name.into(), extension: extension.into(), context: "workflows".into() }
    }

    fn chunk(size: usize) -> Bytes {
        vec![1; size].into()
    }

    #[test]
    fn a_file_in_chunks() {
        let (mut uploads, alice) = (Uploads::default(), user("alice"));
        let [file, message] = [(), ()].map(|()| uploads.grant(alice.clone(), LATER));
        let tokens = (&*file, &*message);
        let pdf = about("a.PDF", "pdf");
        let send =
            |uploads: &mut Uploads, number, size| uploads.chunk(&alice, tokens, number, chunk(size), NOW);
        assert_eq!(send(&mut uploads, 1, 5), Err(Refusal::Order { expected: 0, given: 1 }));
        assert_eq!(send(&mut uploads, 0, CHUNK + 1), Err(Refusal::ChunkSize));
        assert_eq!(send(&mut uploads, 0, CHUNK), Ok(()));
        assert_eq!(send(&mut uploads, 0, CHUNK), Err(Refusal::Order { expected: 1, given: 0 }));
        assert_eq!(send(&mut uploads, 1, 7), Ok(()));
        assert_eq!(send(&mut uploads, 2, 7), Err(Refusal::ChunkSize), "behind the last");
        let total = Refusal::Total { there: 2, given: 3 };
        assert_eq!(uploads.done(&alice, tokens, 3, &pdf, NOW), Err(total));
        assert_eq!(uploads.done(&alice, tokens, 2, &about("a.pdf", "txt"), NOW), Err(Refusal::About));
        let id = uploads.done(&alice, tokens, 2, &pdf, NOW).unwrap();
        assert_eq!(uploads.done(&alice, tokens, 2, &pdf, NOW), Err(Refusal::Token), "it is used");
        let (info, bytes) = uploads.content(&id).unwrap();
        assert_eq!((info.size, info.chunks, bytes.len()), (CHUNK + 7, 2, CHUNK + 7));
        assert!(uploads.of_user(&alice, &id).is_ok());
        assert_eq!(uploads.of_user(&user("bob"), &id), Err(Refusal::NoFile));
    }

    #[test]
    fn leave_is_for_one_user_one_file_and_a_while() {
        let (mut uploads, alice) = (Uploads::default(), user("alice"));
        let txt = about("a.txt", "txt");
        let token = uploads.grant(alice.clone(), LATER);
        let mut whole =
            |who: &UserKey, token: &str, size, now| uploads.whole(who, Some(token), &txt, chunk(size), now);
        assert_eq!(whole(&user("bob"), &token, 5, NOW), Err(Refusal::Token));
        assert_eq!(whole(&alice, &token, 5, LATER), Err(Refusal::Token));
        assert_eq!(whole(&alice, "ft-x", 5, NOW), Err(Refusal::Token));
        assert_eq!(whole(&alice, &token, 0, NOW), Err(Refusal::Empty));
        assert_eq!(whole(&alice, &token, CHUNK + 1, NOW), Err(Refusal::NeedsChunks));
        assert!(whole(&alice, &token, CHUNK, NOW).is_ok());
        assert_eq!(whole(&alice, &token, 5, NOW), Err(Refusal::Token));
        assert!(uploads.whole(&alice, None, &txt, chunk(5), NOW).is_ok(), "as the official clients do");
        let [file, message, other] = [(), (), ()].map(|()| uploads.grant(alice.clone(), LATER));
        let mut send =
            |file: &str, message: &str, now| uploads.chunk(&alice, (file, message), 0, chunk(CHUNK), now);
        assert_eq!(send(&file, &file, NOW), Err(Refusal::MessageToken));
        assert_eq!(send(&file, "ft-x", NOW), Err(Refusal::MessageToken));
        assert_eq!(send(&file, &message, LATER), Err(Refusal::MessageToken));
        assert_eq!(send(&file, &message, NOW), Ok(()));
        assert_eq!(send(&file, &other, NOW), Err(Refusal::MessageToken));
    }

    #[test]
    fn no_file_is_larger_than_it_may_be() {
        let (mut uploads, alice) = (Uploads::default(), user("alice"));
        let [file, message] = [(), ()].map(|()| uploads.grant(alice.clone(), LATER));
        let full = chunk(CHUNK);
        for number in 0..25 {
            assert_eq!(uploads.chunk(&alice, (&file, &message), number, full.clone(), NOW), Ok(()));
        }
        assert_eq!(uploads.chunk(&alice, (&file, &message), 25, full, NOW), Err(Refusal::TooLarge));
    }
}
