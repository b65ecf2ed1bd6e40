//! What a socket is read through: many bytes at once from the system, and no memory while nothing comes.
//!
//! The WebSocket library reads into a buffer that each socket keeps, and begins with the one of its handshake. With
//! thousands of users who mostly say nothing, that buffer is most of what they take. So it is small, and this
//! reads ahead for it: what does not fit is kept until it is asked for, and not longer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much is read at once, through the stack.
const AT_ONCE: usize = 8 * 1024;
/// The end of an HTTP head.
const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Intake<S> {
    stream: S,
    /// Read ahead; empty most of the time, and without memory then.
    ahead: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many bytes of [`HEAD_END`] were just handed out: nothing behind it is, so that the handshake's buffer
    /// can be let go of.
    Head(usize),
    Frames,
}

impl<S> Intake<S> {
    /// Begins with the answer to a handshake.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new(), taken: 0, stage: Stage::Head(0) }
    }

    /// Hands out what was read ahead, as far as it is wanted.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ahead[self.taken..];
        let fitting = rest.len().min(buffer.remaining());
        let length = match self.stage {
            Stage::Head(seen) => {
                let (length, stage) = up_to_head_end(&rest[..fitting], seen);
                self.stage = stage;
                length
            }
            Stage::Frames => fitting,
        };
        buffer.put_slice(&rest[..length]);
        self.taken += length;
        if self.taken == self.ahead.len() {
            (self.ahead, self.taken) = (Vec::new(), 0);
        }
    }
}

/// How much of these bytes belongs to a head of whose end so many bytes were seen before.
fn up_to_head_end(bytes: &[u8], mut seen: usize) -> (usize, Stage) {
    for (at, byte) in bytes.iter().enumerate() {
        seen = match seen {
            seen if *byte == HEAD_END[seen] => seen + 1,
            _ => usize::from(*byte == HEAD_END[0]),
        };
        if seen == HEAD_END.len() {
            return (at + 1, Stage::Frames);
        }
    }
    (bytes.len(), Stage::Head(seen))
}

impl<S: AsyncRead + Unpin> AsyncRead for Intake<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            this.hand_out(buffer);
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [std::mem::MaybeUninit::uninit(); AT_ONCE];
        let mut read = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
        let read = read.filled();
        // A head is looked through where it is kept.
        let fitting = if this.stage == Stage::Frames { read.len().min(buffer.remaining()) } else { 0 };
        buffer.put_slice(&read[..fitting]);
        if fitting < read.len() {
            this.ahead = read[fitting..].to_vec();
            if fitting == 0 {
                this.hand_out(buffer);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Intake<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// What a reader with this buffer gets, read by read.
    fn read_all(bytes: &[u8], buffer: usize) -> Vec<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut intake = Intake::new(bytes);
            let mut reads = Vec::new();
            loop {
                let mut read = vec![0; buffer];
                let length = intake.read(&mut read).await.unwrap();
                if length == 0 {
                    assert!(intake.ahead.capacity() == 0, "nothing is kept");
                    return reads;
                }
                read.truncate(length);
                reads.push(read);
            }
        })
    }

    proptest! {
        #[test]
        fn all_of_it_comes_and_a_head_comes_alone(
            head in "[a-z\r\n]{0,200}", frames: Vec<u8>, buffer in 1usize..400,
        ) {
            let mut bytes = head.into_bytes();
            bytes.extend(HEAD_END);
            let end = bytes.windows(HEAD_END.len()).position(|at| at == HEAD_END).unwrap() + HEAD_END.len();
            bytes.extend(frames);
            let reads = read_all(&bytes, buffer);
            prop_assert_eq!(reads.concat(), bytes);
            let mut ends = reads.iter().scan(0, |sum, read| { *sum += read.len(); Some(*sum) });
            prop_assert!(ends.any(|at| at == end), "a read ends with the head");
        }
    }

    #[test]
    fn more_than_is_read_at_once_comes_in_order() {
        let bytes: Vec<u8> = b"\r\n\r\n".iter().copied().chain((0..40_000u32).map(|n| n as u8)).collect();
        assert_eq!(read_all(&bytes, 512).concat(), bytes);
    }
}
