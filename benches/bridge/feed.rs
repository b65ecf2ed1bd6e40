//! Frames for the platform to push, and the mark by which a receiver knows them again.
//!
//! The mark is the last thing in a frame, of fixed width: it is patched into a template and read
//! from the end of a body, which costs next to nothing on either side.

use std::fmt;

use crate::kernel;

/// The bytes of a frame, as in the contract of the row.
const FRAME: usize = 600;
/// `0000017.0000000042.00000000000123456789`: user, number, when.
const MARK: usize = 7 + 1 + 10 + 1 + 20;
/// What a frame, and the envelope around it, have behind the mark.
const BEHIND_IN_FRAME: usize = 2;
const BEHIND_IN_ENVELOPE: usize = BEHIND_IN_FRAME + 1;

/// Which frame something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub user: usize,
    /// Which of this user's, from 1.
    pub number: u64,
    /// When it was sent, by [`kernel::nanos`].
    pub sent_at: u64,
}

impl Mark {
    fn write(self, into: &mut [u8]) {
        digits(&mut into[..7], self.user as u64);
        digits(&mut into[8..18], self.number);
        digits(&mut into[19..], self.sent_at);
    }

    /// The mark at the end of a body, however deep in its objects.
    pub fn of_body(body: &[u8]) -> Option<Self> {
        let end = body.iter().rposition(|byte| !matches!(byte, b'}' | b'"'))? + 1;
        let mark = &body[end.checked_sub(MARK)?..end];
        let user = usize::try_from(number(&mark[..7])?).ok()?;
        Some(Self { user, number: number(&mark[8..18])?, sent_at: number(&mark[19..])? })
    }
}

impl Mark {
    /// The `messageId` of its frame.
    pub fn message_id(self) -> String {
        format!("ms-{:07}-{:010}", self.user, self.number)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:07}.{:010}.{:020}", self.user, self.number, self.sent_at)
    }
}

/// What the platform has to say: a frame for each user, numbered.
#[derive(Debug)]
pub struct Feed {
    frame: Vec<u8>,
    id_at: usize,
    mark_at: usize,
    given: Vec<u64>,
}

impl Feed {
    /// Frames of this type for so many users.
    pub fn new(kind: &str, users: usize) -> Self {
        let head = format!(
            r#"{{"type":"{kind}","from":"bot","messageId":"ms-0000000-0000000000","traceId":"dm-4f7a6e31-52a9-5f5c-8d4b-0f4cf1f4c9be","botInfo":{{"chatBot":"Bench","taskBotId":"st-8aaf0939-c34a-5976-8e2e-5c91e685b2ce"}},"createdOn":"2026-01-01T00:00:00.025Z","icon":"https://bots.example.com/api/getMediaStream/market/f-683e82be.png","message":[{{"type":"text","cInfo":{{"body":""#
        );
        let tail = format!(r#""}}}}],"mark":"{}"}}"#, ".".repeat(MARK));
        let words = "Your parcel is on its way and arrives between nine and eleven. ";
        let text: String = words.chars().cycle().take(FRAME - head.len() - tail.len()).collect();
        let frame = format!("{head}{text}{tail}").into_bytes();
        let id_at = head.find("ms-").map_or(0, |at| at + 3);
        let mark_at = frame.len() - BEHIND_IN_FRAME - MARK;
        Self { frame, id_at, mark_at, given: vec![0; users] }
    }

    /// The next frame of this user, sent now.
    pub fn next(&mut self, user: usize) -> &[u8] {
        self.next_marked(user).1
    }

    /// The same, and its mark.
    pub fn next_marked(&mut self, user: usize) -> (Mark, &[u8]) {
        self.given[user] += 1;
        let number = self.given[user];
        digits(&mut self.frame[self.id_at..self.id_at + 7], user as u64);
        digits(&mut self.frame[self.id_at + 8..self.id_at + 18], number);
        let mark = Mark { user, number, sent_at: kernel::nanos() };
        mark.write(&mut self.frame[self.mark_at..self.mark_at + MARK]);
        (mark, &self.frame)
    }
}

/// A body that is as long as an envelope and carries a mark as one does.
#[derive(Debug, Clone)]
pub struct BareBody(Vec<u8>);

impl BareBody {
    /// Of this many bytes.
    pub fn new(length: usize) -> Self {
        let (head, tail) = (r#"{"data":{"text":""#, format!(r#"","mark":"{}"}}}}"#, ".".repeat(MARK)));
        let text = "x".repeat(length.saturating_sub(head.len() + tail.len()));
        Self(format!("{head}{text}{tail}").into_bytes())
    }

    /// The body, sent now.
    pub fn next(&mut self, user: usize, number: u64) -> &[u8] {
        let at = self.0.len() - BEHIND_IN_ENVELOPE - MARK;
        Mark { user, number, sent_at: kernel::nanos() }.write(&mut self.0[at..at + MARK]);
        &self.0
    }
}

/// Writes a number with leading zeros.
fn digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// Reads one.
fn number(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}
