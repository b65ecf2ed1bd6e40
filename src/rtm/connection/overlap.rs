//! Two sockets of one user side by side: what comes on both is one frame.
//!
//! Counted for each socket: of some equal frames, the first that comes on one is the first that came on
//! the other, and so on. A frame that comes twice on the same socket is two frames. What is on the new
//! socket ahead of the old one is held back, and found there; this keeps the marks of what was on the old one
//! first.

use std::collections::VecDeque;

use crate::{messages::Fingerprint, rtm::session::Line};

/// So many frames may be on the old socket ahead of the new one. Of more, the oldest are forgotten: then a
/// frame without an identity may come twice.
const MOST_AHEAD: usize = 1_000;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Overlap {
    turn: Turn,
    /// What came on the old socket and has not come on the new one, oldest first.
    ahead: VecDeque<Fingerprint>,
}

/// Whether the new socket has taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    Before,
    After,
}

/// Which of the two sockets a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

impl Overlap {
    /// Which of the two sockets this is.
    pub(super) fn side(&self, line: Line) -> Side {
        match (self.turn, line) {
            (Turn::Before, Line::Main) | (Turn::After, Line::Beside) => Side::Old,
            (Turn::Before, Line::Beside) | (Turn::After, Line::Main) => Side::New,
        }
    }

    /// The new socket takes over.
    pub(super) fn promoted(&mut self) {
        self.turn = Turn::After;
    }

    /// A frame came on the old socket, and not on the new one before.
    pub(super) fn came_first_on_old(&mut self, frame: &[u8]) {
        if self.ahead.len() >= MOST_AHEAD {
            self.ahead.pop_front();
        }
        self.ahead.push_back(Fingerprint::of(frame));
    }

    /// Whether a frame on the new socket is one that came on the old one.
    pub(super) fn came_on_old(&mut self, frame: &[u8]) -> bool {
        let mark = Fingerprint::of(frame);
        let place = self.ahead.iter().position(|ahead| *ahead == mark);
        place.and_then(|place| self.ahead.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_of_equal_frames_is_the_nth_on_the_other_socket() {
        let mut overlap = Overlap::default();
        for frame in ["a", "b", "a"] {
            overlap.came_first_on_old(frame.as_bytes());
        }
        let on_new = ["a", "a", "a", "b", "b", "c"].map(|frame| overlap.came_on_old(frame.as_bytes()));
        assert_eq!(on_new, [true, true, false, true, false, false]);
    }

    #[test]
    fn the_lines_swap_when_the_new_socket_takes_over() {
        let mut overlap = Overlap::default();
        assert_eq!([Line::Main, Line::Beside].map(|line| overlap.side(line)), [Side::Old, Side::New]);
        overlap.promoted();
        assert_eq!([Line::Main, Line::Beside].map(|line| overlap.side(line)), [Side::New, Side::Old]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut overlap = Overlap::default();
        for n in 0..=MOST_AHEAD {
            overlap.came_first_on_old(n.to_string().as_bytes());
        }
        assert!(!overlap.came_on_old(b"0"));
        assert!(overlap.came_on_old(b"1"));
    }
}
