//! Files of callers, on their way to the platform.
//!
//! A file is taken a chunk at a time: while one is on its way, nothing more is read, so a file costs
//! the memory of a chunk, and the platform's pace is its caller's.

use std::{io::Write as _, sync::Arc, time::Duration};

use base64::{engine::general_purpose::STANDARD, write::EncoderWriter};
use bytes::Bytes;

use super::{
    callers::{Asking, Callers, PATIENCE},
    platform::{Chunk, FileToken, Whole},
};
use crate::{
    asking::AskError,
    attachments::{
        Attachment, BrokenOff, FileBytes, FileName, MOST_BYTES, Upload, UploadError, Uploads, mebibytes,
    },
    users::User,
};

/// The platform's chunks. What is no larger goes in one request.
const CHUNK: usize = 1024 * 1024;
/// How long an upload that has begun waits for leave for its next request: to give it up costs more than
/// to wait.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// Brings files to the platform.
#[derive(Debug)]
pub struct PlatformUploads(Arc<Callers>);

impl PlatformUploads {
    /// For these callers.
    pub fn new(callers: Arc<Callers>) -> Self {
        Self(callers)
    }
}

impl Uploads for PlatformUploads {
    fn upload<'a>(
        &'a self,
        user: &'a Arc<User>,
        name: &'a FileName,
        bytes: &'a mut dyn FileBytes,
    ) -> Upload<'a> {
        Box::pin(async move {
            let mut chunks = Chunks::of(bytes);
            // Nothing is asked of the platform for a file that does not come.
            let first = chunks.next().await?.ok_or(UploadError::Empty)?;
            let asking = self.0.asking(user, "upload")?;
            let uploading = Uploading { asking, name };
            let file_id = if first.is_last {
                uploading.whole(first.base64).await?
            } else {
                uploading.in_chunks(first, &mut chunks).await?
            };
            let file_url = uploading.url(&file_id).await?;
            tracing::debug!(user = %user.name, bytes = chunks.taken, "uploaded a file");
            Ok(Attachment {
                file_id,
                file_name: name.clone(),
                file_type: name.kind(),
                file_url,
                size: mebibytes(chunks.taken),
                unique_id: format!("{:06x}", fastrand::u32(..1 << 24)),
            })
        })
    }
}

/// One file's requests.
struct Uploading<'a> {
    asking: Asking<'a>,
    name: &'a FileName,
}

impl Uploading<'_> {
    async fn token(&self, patience: Duration) -> Result<FileToken, AskError> {
        let platform = &self.asking.callers.platform;
        self.asking.authorized(patience, |access| async move { platform.file_token(&access).await }).await
    }

    async fn whole(&self, data: Bytes) -> Result<String, AskError> {
        let token = &self.token(PATIENCE).await?;
        let (platform, name, data) = (&self.asking.callers.platform, self.name, &data);
        let upload = |access| async move {
            platform.upload_whole(&access, Whole { name, token, data: data.clone() }).await
        };
        self.asking.authorized(ON_THE_WAY, upload).await
    }

    async fn in_chunks(&self, first: Filled, chunks: &mut Chunks<'_>) -> Result<String, UploadError> {
        let (file, message) = (&self.token(PATIENCE).await?, &self.token(ON_THE_WAY).await?);
        let (platform, name) = (&self.asking.callers.platform, self.name);
        let mut next = Some(first);
        let mut number = 0;
        while let Some(filled) = next {
            let data = &filled.base64;
            let upload = |access| async move {
                let chunk = Chunk { name, file, message, number, data: data.clone() };
                platform.upload_chunk(&access, chunk).await
            };
            self.asking.authorized(ON_THE_WAY, upload).await?;
            number += 1;
            drop(filled);
            next = chunks.next().await?;
        }
        let done = |access| async move { platform.upload_done(&access, name, (file, message), number).await };
        Ok(self.asking.authorized(ON_THE_WAY, done).await?)
    }

    async fn url(&self, file_id: &str) -> Result<String, AskError> {
        let (platform, bot) = (&self.asking.callers.platform, &self.asking.person.bot);
        let url = |access| async move { platform.file_url(&access, bot, file_id).await };
        self.asking.authorized(ON_THE_WAY, url).await
    }
}

/// A file in chunks, encoded as they fill.
struct Chunks<'a> {
    bytes: &'a mut dyn FileBytes,
    /// What came, and is of the next chunk.
    rest: Bytes,
    taken: u64,
}

/// A chunk that is full, or the last.
#[derive(Debug, PartialEq, Eq)]
struct Filled {
    base64: Bytes,
    is_last: bool,
}

impl<'a> Chunks<'a> {
    fn of(bytes: &'a mut dyn FileBytes) -> Self {
        Self { bytes, rest: Bytes::new(), taken: 0 }
    }

    /// The next chunk; none behind the last. It is asked for when the one before is on the platform.
    async fn next(&mut self) -> Result<Option<Filled>, BrokenOff> {
        // A small file costs no more than it has; a large one's chunks are all alike.
        let buffer = if self.taken == 0 { Vec::new() } else { Vec::with_capacity(CHUNK.div_ceil(3) * 4) };
        let mut encoder = EncoderWriter::new(buffer, &STANDARD);
        let mut room = CHUNK;
        while room > 0 && self.has_more().await? {
            let piece = self.rest.split_to(room.min(self.rest.len()));
            room -= piece.len();
            self.taken += piece.len() as u64;
            // Whoever gives the bytes counts them; this is what nobody may get around.
            if self.taken > MOST_BYTES {
                return Err(BrokenOff);
            }
            encoder.write_all(&piece).expect("memory takes what is written to it");
        }
        if room == CHUNK {
            return Ok(None);
        }
        let base64 = encoder.finish().expect("memory takes what is written to it").into();
        Ok(Some(Filled { base64, is_last: !self.has_more().await? }))
    }

    async fn has_more(&mut self) -> Result<bool, BrokenOff> {
        while self.rest.is_empty() {
            match self.bytes.next().await? {
                Some(piece) => self.rest = piece,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;
    use crate::attachments::Piece;

    struct Given(Vec<Bytes>);

    impl FileBytes for Given {
        fn next(&mut self) -> Piece<'_> {
            let piece = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
            Box::pin(async move { Ok(piece) })
        }
    }

    /// The chunks of a file, decoded, and which of them is said to be the last.
    async fn chunks(pieces: Vec<Bytes>) -> (Vec<Vec<u8>>, Vec<bool>) {
        let mut given = Given(pieces);
        let mut chunks = Chunks::of(&mut given);
        let (mut all, mut last) = (Vec::new(), Vec::new());
        while let Some(Filled { base64, is_last }) = chunks.next().await.unwrap() {
            all.push(STANDARD.decode(base64).unwrap());
            last.push(is_last);
        }
        (all, last)
    }

    #[tokio::test]
    async fn the_last_chunk_is_known_as_such() {
        for (size, expected) in [
            (0, vec![]),
            (1, vec![1]),
            (CHUNK, vec![CHUNK]),
            (CHUNK + 1, vec![CHUNK, 1]),
            (2 * CHUNK, vec![CHUNK, CHUNK]),
        ] {
            let (all, last) = chunks(vec![Bytes::from(vec![7; size])]).await;
            assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{size}");
            let which: Vec<bool> = (1..=expected.len()).map(|n| n == expected.len()).collect();
            assert_eq!(last, which, "{size}");
        }
    }

    #[tokio::test]
    async fn no_more_is_taken_than_a_file_may_have() {
        let piece = Bytes::from(vec![0; CHUNK]);
        let mut given = Given(vec![piece; 26]);
        let mut chunks = Chunks::of(&mut given);
        for _ in 0..25 {
            chunks.next().await.unwrap().unwrap();
        }
        assert_eq!(chunks.next().await, Err(BrokenOff));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn however_it_comes_it_is_the_same_file(sizes in prop::collection::vec(0usize..700_000, 0..8), seed: u8) {
            let mut next = seed;
            let pieces: Vec<Bytes> = sizes.iter().map(|size| {
                (0..*size).map(|_| { next = next.wrapping_mul(31).wrapping_add(7); next }).collect::<Vec<u8>>().into()
            }).collect();
            let whole = pieces.concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (all, _) = runtime.block_on(chunks(pieces));
            prop_assert_eq!(all.iter().rev().skip(1).filter(|chunk| chunk.len() != CHUNK).count(), 0);
            prop_assert!(all.concat() == whole);
        }
    }
}
