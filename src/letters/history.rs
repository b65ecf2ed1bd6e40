//! What is remembered of an event's failed attempts.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// So many attempts are kept of the first ...
const FIRST: usize = 8;
/// ... and so many of the latest.
const LATEST: usize = 24;
/// Bytes of one answer that are kept.
const ANSWER: usize = 4096;
/// Bytes of all answers together, so that the record stays under the store's limit for small ones.
const ANSWERS: usize = 4096;
/// Bytes of a failure's text.
const TEXT: usize = 96;

/// An attempt that did not deliver its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// Which attempt it was, from 1.
    pub number: u32,
    /// When it was made.
    pub at: Timestamp,
    /// How it ended.
    pub end: AttemptEnd,
    /// The beginning of the answer's body, as it came.
    pub answer: Vec<u8>,
}

/// How a failed attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptEnd {
    /// With an answer of this status.
    Status(u16),
    /// Without one.
    NoAnswer {
        /// Why, in one word for programs: `timeout`.
        error: String,
        /// Why, in one line for people.
        text: String,
    },
}

/// The failed attempts of one event at one webhook: the first few and the latest, with as many of the
/// latest answers as fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History(Vec<FailedAttempt>);

impl History {
    pub(crate) const VERSION: u8 = 1;

    /// Adds an attempt. Numbers that a crash made the bridge give again count once, the last time.
    pub fn add(&mut self, mut attempt: FailedAttempt) {
        attempt.answer.truncate(ANSWER);
        if let AttemptEnd::NoAnswer { text, .. } = &mut attempt.end {
            cut(text, TEXT);
        }
        self.0.retain(|earlier| earlier.number < attempt.number);
        self.0.push(attempt);
        if self.0.len() > FIRST + LATEST {
            self.0.remove(FIRST);
        }
        let mut room = ANSWERS;
        for kept in self.0.iter_mut().rev() {
            room = room.checked_sub(kept.answer.len()).unwrap_or_else(|| {
                kept.answer = Vec::new();
                0
            });
        }
    }

    /// The attempts, the first first. A gap in their numbers is where some were left out.
    pub fn attempts(&self) -> &[FailedAttempt] {
        &self.0
    }

    /// What the last attempt was answered.
    pub fn last_answer(&self) -> Option<&[u8]> {
        self.0.last().map(|attempt| &*attempt.answer)
    }
}

/// Cuts a text to so many bytes, or a little less, between two characters.
fn cut(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(number: u32, answer: usize) -> FailedAttempt {
        let at = Timestamp::from_millis(u64::from(number));
        FailedAttempt { number, at, end: AttemptEnd::Status(503), answer: vec![b'x'; answer] }
    }

    fn numbers(history: &History) -> Vec<u32> {
        history.attempts().iter().map(|attempt| attempt.number).collect()
    }

    #[test]
    fn the_first_few_and_the_latest_are_kept() {
        let mut history = History::default();
        (1..=100).for_each(|number| history.add(attempt(number, 0)));
        assert_eq!(numbers(&history), (1..=8).chain(77..=100).collect::<Vec<_>>());
    }

    #[test]
    fn the_latest_answers_are_kept_as_far_as_they_fit() {
        let mut history = History::default();
        for (number, answer) in [(1, 100), (2, 3000), (3, 50), (4, 1000)] {
            history.add(attempt(number, answer));
        }
        let kept: Vec<_> = history.attempts().iter().map(|attempt| attempt.answer.len()).collect();
        assert_eq!(kept, [0, 3000, 50, 1000]);
        history.add(attempt(5, 9999));
        assert_eq!(history.last_answer().map(<[u8]>::len), Some(4096));
        assert_eq!(history.attempts()[3].answer, b"");
    }

    #[test]
    fn a_number_that_is_given_again_after_a_crash_counts_once() {
        let mut history = History::default();
        [1, 2, 3, 2].into_iter().for_each(|number| history.add(attempt(number, 0)));
        assert_eq!(numbers(&history), [1, 2]);
    }

    #[test]
    fn its_form_is_stable() {
        let mut history = History::default();
        history.add(attempt(1, 2));
        let end = AttemptEnd::NoAnswer { error: "dns".to_owned(), text: "no".to_owned() };
        history.add(FailedAttempt { end, ..attempt(2, 0) });
        let bytes = postcard::to_stdvec(&history).unwrap();
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[02, 01, 01, 00, f7, 03, 02, 78, 78, 02, 02, 01, 03, 64, 6e, 73, 02, 6e, 6f, 00]");
        assert_eq!(postcard::from_bytes::<History>(&bytes).unwrap(), history);
    }

    proptest! {
        #[test]
        fn it_stays_small_and_in_order(
            attempts in prop::collection::vec((1u32..200, 0usize..6000, ".{0,200}"), 0..120)
        ) {
            let mut history = History::default();
            for (number, answer, text) in attempts {
                let end = AttemptEnd::NoAnswer { error: "protocol".to_owned(), text };
                history.add(FailedAttempt { end, ..attempt(number, answer) });
                prop_assert_eq!(history.attempts().last().map(|last| last.number), Some(number));
            }
            prop_assert!(numbers(&history).is_sorted_by(|a, b| a < b));
            prop_assert!(postcard::to_stdvec(&history).unwrap().len() <= 8 * 1024);
        }
    }
}
