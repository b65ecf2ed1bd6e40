//! The lists that what is told to a session goes through.

use std::cell::Cell;

use crate::rtm::session::{Action, Input};

/// The longest list that is kept: few things that a session is told make it do more.
const MAX_KEPT: usize = 16;

thread_local! {
    static SPARE: Cell<Lists> = const { Cell::new(Lists { actions: Vec::new(), outcomes: Vec::new() }) };
}

/// What is to be done, and what came of it. Each thread keeps a pair that it is done with, empty, for the next who
/// needs them: a frame and a message take them several times, and an idle user needs none of its own.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) actions: Vec<Action>,
    pub(super) outcomes: Vec<Input<'static>>,
}

impl Lists {
    /// Empty lists.
    pub(super) fn take() -> Self {
        SPARE.take()
    }

    /// Keeps them for the next.
    pub(super) fn put_back(mut self) {
        self.actions.clear();
        self.outcomes.clear();
        if self.actions.capacity() <= MAX_KEPT && self.outcomes.capacity() <= MAX_KEPT {
            SPARE.set(self);
        }
    }
}
