//! Reading server-sent events, as the HTML standard describes them.

/// An event that was dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dispatched {
    /// The id from which the stream can be resumed; empty if there never was one.
    pub(super) id: String,
    /// What it says.
    pub(super) data: String,
}

/// Takes a stream apart, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right behind it belongs to it.
    after_return: bool,
    data: String,
    id: String,
    last_id: String,
}

impl Parser {
    /// Goes on with the next piece; gives the events that are whole now.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Dispatched> {
        let mut events = Vec::new();
        for byte in bytes {
            let was_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if was_return => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&String::from_utf8_lossy(&line)));
                }
                byte => self.line.push(*byte),
            }
        }
        events
    }

    /// The id of the latest event, or of what stands for one.
    pub(super) fn last_id(&self) -> Option<&str> {
        Some(self.last_id.as_str()).filter(|id| !id.is_empty())
    }

    /// The stream broke off: what is not whole is forgotten, and where it stood is remembered.
    pub(super) fn broken(&mut self) {
        let last_id = std::mem::take(&mut self.last_id);
        *self = Self { id: last_id.clone(), last_id, ..Self::default() };
    }

    /// Where it stood is of no use any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn end_line(&mut self, line: &str) -> Option<Dispatched> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments, and what this program has no use for.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Dispatched> {
        self.last_id.clone_from(&self.id);
        let mut data = std::mem::take(&mut self.data);
        // Its last line's end.
        data.pop()?;
        Some(Dispatched { id: self.last_id.clone(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, data: &str) -> Dispatched {
        Dispatched { id: id.to_owned(), data: data.to_owned() }
    }

    const STREAM: &str = "id: 0\n\n:\n\nid: 1\nevent: a\ndata: {\"x\":1}\n\ndata:two\ndata:  lines\r\n\r\nretry: 5\n\nid: 3\rdata\r\rdata: cut";

    fn told() -> Vec<Dispatched> {
        vec![event("1", "{\"x\":1}"), event("1", "two\n lines"), event("3", "")]
    }

    proptest::proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(cuts in proptest::collection::vec(0..STREAM.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut parser = Parser::default();
            let events: Vec<_> =
                cuts.windows(2).flat_map(|cut| parser.read(&STREAM.as_bytes()[cut[0]..cut[1]])).collect();
            proptest::prop_assert_eq!(events, told());
        }
    }

    #[test]
    fn a_stream_is_resumed_behind_its_last_whole_event() {
        let mut parser = Parser::default();
        assert_eq!(parser.last_id(), None);
        parser.read(b"id: 7\n\n");
        assert_eq!(parser.last_id(), Some("7"), "an id alone counts");
        assert_eq!(parser.read(b"id: 8\ndata: x"), []);
        parser.broken();
        assert_eq!(parser.last_id(), Some("7"));
        assert_eq!(parser.read(b"data: y\n\n"), [event("7", "y")]);
        parser.forget();
        assert_eq!(parser.last_id(), None);
    }
}
