//! A streamed answer that is put together from its chunks, without I/O and without a clock.

use bytes::Bytes;

use super::{
    Assembled, Completeness,
    text::{complete_response, delta},
};
use crate::rtm::frame::Part;

/// An answer that has grown beyond this is not waited for any longer.
const MAX_TEXT: usize = 1 << 20;

/// What of a streamed answer came so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    chunks: u32,
    last: Bytes,
    progress: Progress,
    /// What the platform's history has of it, since its latest chunk.
    told: Option<String>,
}

#[derive(Debug, Default)]
enum Progress {
    #[default]
    Open,
    /// Its last chunk came, which may say what the whole is.
    Complete(Option<String>),
}

impl Assembly {
    /// Adds a chunk.
    pub(super) fn add(&mut self, frame: &Bytes, part: Part) {
        self.text.push_str(&delta(frame).unwrap_or_default());
        self.chunks = self.chunks.saturating_add(1);
        self.last = frame.clone();
        self.told = None;
        if part == Part::Last {
            self.progress = Progress::Complete(complete_response(frame));
        }
    }

    /// Notes a chunk whose text nobody asks for.
    pub(super) fn pass(&mut self, part: Part) {
        self.chunks = self.chunks.saturating_add(1);
        if part == Part::Last {
            self.progress = Progress::Complete(None);
        }
    }

    /// The platform's history says what the answer is: all of it, unless more chunks follow.
    pub(super) fn told_by_history(&mut self, text: &str) {
        self.told = Some(text.to_owned());
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self) -> bool {
        self.has_end() || self.text.len() >= MAX_TEXT
    }

    /// Whether its last chunk came.
    pub(super) fn has_end(&self) -> bool {
        matches!(self.progress, Progress::Complete(_))
    }

    /// About what the event takes that is made of it.
    pub(super) fn size(&self) -> usize {
        2 * self.text.len().max(self.told.as_ref().map_or(0, String::len)) + self.last.len() + 64
    }

    /// What there is now.
    pub(super) fn assembled(&self) -> (Assembled, &Bytes) {
        let told = self.told.as_ref().filter(|told| told.len() >= self.text.len());
        let (text, completeness) = match (&self.progress, told) {
            (Progress::Complete(whole), _) => (whole.as_ref().unwrap_or(&self.text), Completeness::Complete),
            (Progress::Open, Some(told)) => (told, Completeness::Complete),
            (Progress::Open, None) => (&self.text, Completeness::Cut),
        };
        let text = Some(text).filter(|text| !text.is_empty()).cloned();
        (Assembled { text, chunks: self.chunks, completeness }, &self.last)
    }

    /// Whether nothing of it was taken yet.
    pub(super) fn is_empty(&self) -> bool {
        self.chunks == 0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chunk(said: &str) -> Value {
        json!({"type": "bot_response", "message": [{"component": {"type": "text", "payload": {"text": said}}}]})
    }

    fn assembly(chunks: &[(Value, Part)]) -> Assembly {
        let mut assembly = Assembly::default();
        for (frame, part) in chunks {
            assert!(!assembly.is_over());
            assembly.add(&frame.to_string().into(), *part);
        }
        assembly
    }

    fn text(assembly: &Assembly) -> (Option<String>, u32, Completeness) {
        let (Assembled { text, chunks, completeness }, _) = assembly.assembled();
        (text, chunks, completeness)
    }

    #[test]
    fn the_chunks_are_joined_to_the_letter() {
        let whole = assembly(&[
            (chunk("Once "), Part::Chunk),
            (chunk(" upon\n"), Part::Chunk),
            (chunk("a time"), Part::Last),
        ]);
        assert!(whole.is_over());
        assert_eq!(text(&whole), (Some("Once  upon\na time".into()), 3, Completeness::Complete));
    }

    #[test]
    fn what_the_last_chunk_calls_complete_is_preferred() {
        let mut last = chunk("time");
        for (complete, expected) in [
            (json!("Once upon a time."), "Once upon a time."),
            (json!(json!({"payload": {"text": "Once."}}).to_string()), "Once."),
            (json!({"text": "Once."}), "Once."),
            (json!(""), "Once time"),
            (json!(null), "Once time"),
            (json!(7), "Once time"),
        ] {
            last["completeResponse"] = complete;
            let whole = assembly(&[(chunk("Once "), Part::Chunk), (last.clone(), Part::Last)]);
            assert_eq!(text(&whole), (Some(expected.into()), 2, Completeness::Complete));
        }
    }

    #[test]
    fn chunks_may_be_texts_in_json_or_fragments_of_an_answer() {
        let wrapped = json!({"message": [{"component": {"payload": json!({"text": "Once "}).to_string()}}]});
        let body = json!({"message": [{"cInfo": {"body": "upon "}}]});
        let answer = |fragment: &str| {
            json!({"message": [{"component": {"type": "template", "payload": {"type": "template", "payload": {
                "template_type": "answerTemplate", "answer_payload": {"center_panel": {"data": [{"snippet_content": [
                    {"answer_fragment": fragment, "sources": [{"title": "S", "url": "https://example.com"}]}]}]}}}}},
                "cInfo": {"body": "not this"}}]})
        };
        let whole = assembly(&[
            (wrapped, Part::Chunk),
            (body, Part::Chunk),
            (answer("a t"), Part::Chunk),
            (answer("ime"), Part::Chunk),
            (json!({"message": []}), Part::Last),
        ]);
        assert_eq!(text(&whole), (Some("Once upon a time".into()), 5, Completeness::Complete));
    }

    #[test]
    fn what_fell_silent_is_what_came_or_what_the_history_has_of_it() {
        let began = || assembly(&[(chunk("Once "), Part::Chunk), (chunk("upon"), Part::Chunk)]);
        assert_eq!(text(&began()), (Some("Once upon".into()), 2, Completeness::Cut));
        let mut told = began();
        told.told_by_history("Once upon a time");
        assert_eq!(text(&told), (Some("Once upon a time".into()), 2, Completeness::Complete));
        let mut told_less = began();
        told_less.told_by_history("Once ");
        assert_eq!(text(&told_less), (Some("Once upon".into()), 2, Completeness::Cut));
        let mut told_too_early = began();
        told_too_early.told_by_history("Once upon a");
        told_too_early.add(&chunk(" a").to_string().into(), Part::Chunk);
        assert_eq!(text(&told_too_early), (Some("Once upon a".into()), 3, Completeness::Cut));
    }

    #[test]
    fn an_endless_answer_ends() {
        let mut endless = Assembly::default();
        while !endless.is_over() {
            endless.add(&chunk(&"x".repeat(100_000)).to_string().into(), Part::Chunk);
        }
        assert!(endless.size() < 4 * MAX_TEXT);
        assert_eq!(text(&endless).2, Completeness::Cut);
    }
}
