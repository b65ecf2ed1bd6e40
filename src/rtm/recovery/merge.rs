//! One sequence of what was missed and what came meanwhile.

use std::collections::HashSet;

use super::{
    Missed,
    known::SAME_EVENT,
    likeness::Likeness,
    matching::{Pair, apart, partners},
    record::{Direction, Record},
};

/// The next event, by its place in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A missed record.
    Missed(usize),
    /// A live frame that was held back.
    Held(usize),
}

/// Every event once, in order: the missed records, which are sorted, and the live frames that were held
/// back. A record that came as a live frame after all is that frame, at its place; the frames' own order
/// stays.
pub fn merge(missed: &[Missed], held: &[Likeness]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(missed.len() + held.len());
    let mut held_from = 0;
    for (place, frame) in frames_of(missed, held).into_iter().enumerate() {
        match frame {
            Some(frame) => {
                steps.extend((held_from..=frame).map(Step::Held));
                held_from = held_from.max(frame + 1);
            }
            None => steps.push(Step::Missed(place)),
        }
    }
    steps.extend((held_from..held.len()).map(Step::Held));
    steps
}

/// The held frame that each record came as.
fn frames_of(missed: &[Missed], held: &[Likeness]) -> Vec<Option<usize>> {
    let is_it = |record: &Record, frame: &Likeness| {
        let given = record.user_msg_id.as_ref().filter(|_| record.direction == Direction::Incoming);
        frame.message_id.as_ref() == Some(&record.id)
            || (frame.message_id.is_none() && given.is_some() && frame.user_msg_id.as_ref() == given)
    };
    let by_id: Vec<_> =
        missed.iter().map(|one| held.iter().position(|frame| is_it(&one.record, frame))).collect();
    let claimed: HashSet<usize> = by_id.iter().copied().flatten().collect();
    let mut pairs = Vec::new();
    for (place, Missed { record, .. }) in
        missed.iter().enumerate().filter(|(place, _)| by_id[*place].is_none())
    {
        let said = record.said();
        let unclaimed = held.iter().enumerate().filter(|(frame, _)| !claimed.contains(frame));
        for (frame, like) in unclaimed {
            // Two ids that differ tell two events apart, whatever they say.
            let are_told_apart = record.user_msg_id.is_some() && like.user_msg_id.is_some();
            let Some(live) = like.said.filter(|_| !are_told_apart) else { continue };
            let apart = apart(live.at, said.at);
            if live.text == said.text && apart <= SAME_EVENT {
                pairs.push(Pair::new(place, frame, apart));
            }
        }
    }
    let by_text = partners(missed.len(), pairs, |_| 1);
    by_id.into_iter().zip(by_text).map(|(by_id, by_text)| by_id.or(by_text)).collect()
}
