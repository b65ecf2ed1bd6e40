//! Trace contexts, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) passes them on in `traceparent` and
//! `tracestate`.
//!
//! A caller's trace goes on in what comes of its message: in log lines, and in the POSTs of the answers. No trace is
//! begun here; who sends none costs nothing.

use std::fmt;

use hyper::header::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

/// The header that names the trace, and the span in it that asks.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header with what tracing systems keep for themselves; passed on as it came.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flags that have a meaning: sampled, and that the trace's id is random.
const KNOWN_FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;
/// What has to be passed on of a `tracestate`; a longer one is left out.
const STATE_MAX: usize = 512;

/// A trace's id, never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId([u8; 16]);

/// The id of a span in a trace, never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId([u8; 8]);

/// A trace, and the span in it that something is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    flags: u8,
    state: String,
}

impl TraceId {
    /// The id of these bytes; none of zeros.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// The id of these bytes; none of zeros.
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// A new one.
    pub fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }

    /// Its bytes.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

/// In lower-case hexadecimal digits, as everywhere.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// In lower-case hexadecimal digits, as everywhere.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl TraceContext {
    /// A trace of one's own, whose id is random: sampled, without a state.
    pub const fn new(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: KNOWN_FLAGS, state: String::new() }
    }

    /// What a request's headers say. A context that breaks the rules is none, as the standard wants it.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (values.next(), values.next()) else { return None };
        let context = Self::parse(parent.as_bytes())?;
        Some(Self { state: state_of(headers).unwrap_or_default(), ..context })
    }

    /// Reads a `traceparent`: `00-<trace>-<span>-<flags>`, and what later versions may add.
    fn parse(text: &[u8]) -> Option<Self> {
        let (fields, more) = text.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        let [version] = hex(&fields[..2])?;
        let is_whole = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.first().is_none_or(|next| *next == b'-'),
        };
        if !dashes || !is_whole {
            return None;
        }
        let [flags] = hex(&fields[53..])?;
        Some(Self {
            trace: TraceId::new(hex(&fields[3..35])?)?,
            span: SpanId::new(hex(&fields[36..52])?)?,
            flags: flags & KNOWN_FLAGS,
            state: String::new(),
        })
    }

    /// The same trace, for what is a part of another span in it.
    pub fn within(&self, span: SpanId) -> Self {
        Self { span, ..self.clone() }
    }

    /// Whether whoever began the trace records it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As a `traceparent`.
    pub fn traceparent(&self) -> String {
        let Self { trace, span, flags, .. } = self;
        format!("00-{trace}-{span}-{flags:02x}")
    }

    /// As a `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        Some(self.state.as_str()).filter(|state| !state.is_empty())
    }
}

/// All `tracestate` headers as one; none if that is no text, or too much.
fn state_of(headers: &HeaderMap) -> Option<String> {
    let mut state = String::new();
    for value in headers.get_all(TRACESTATE) {
        let value = value.to_str().ok()?.trim();
        if !state.is_empty() && !value.is_empty() {
            state.push(',');
        }
        state.push_str(value);
        if state.len() > STATE_MAX {
            return None;
        }
    }
    Some(state)
}

/// Reads lower-case hexadecimal digits, two for each byte.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
            for value in values {
                headers.append(&name, HeaderValue::from_str(value).unwrap());
            }
        }
        headers
    }

    fn read(parent: &str) -> Option<TraceContext> {
        TraceContext::of(&headers(&[parent], &[]))
    }

    #[test]
    fn a_trace_is_passed_on_with_another_span() {
        let context = TraceContext::of(&headers(&[PARENT], &["a=1", " b=2,c=3 "])).unwrap();
        assert_eq!((context.traceparent().as_str(), context.tracestate()), (PARENT, Some("a=1,b=2,c=3")));
        assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled());
        let child = context.within(SpanId([0, 0, 0, 0, 0, 0, 0, 0xab]));
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
        assert_eq!(child.tracestate(), context.tracestate());
    }

    #[test]
    fn flags_without_a_meaning_are_left_out() {
        let sampled = |flags: &str| {
            let context = read(&format!("{}{flags}", &PARENT[..53])).unwrap();
            (context.is_sampled(), context.traceparent()[53..].to_owned())
        };
        assert_eq!(sampled("00"), (false, "00".to_owned()));
        assert_eq!(sampled("ff"), (true, "03".to_owned()));
        assert_eq!(sampled("fe"), (false, "02".to_owned()));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in ["01", "cc", "fe"] {
            for more in ["", "-", "-what-comes"] {
                let context = read(&format!("{later}{}{more}", &PARENT[2..])).unwrap();
                assert_eq!(context.traceparent(), PARENT, "{later}{more}");
            }
            assert_eq!(read(&format!("{later}{}x", &PARENT[2..])), None);
        }
    }

    #[test]
    fn what_breaks_the_rules_is_no_trace() {
        let with = |range: std::ops::Range<usize>, text: &str| {
            let mut parent = PARENT.to_owned();
            parent.replace_range(range, text);
            parent
        };
        let broken = [
            String::new(),
            PARENT[..54].to_owned(),
            format!("{PARENT}-"),
            with(0..2, "ff"),
            with(0..2, "0x"),
            with(2..3, "_"),
            with(35..36, "_"),
            with(52..53, "_"),
            with(3..35, &"0".repeat(32)),
            with(36..52, &"0".repeat(16)),
            with(3..4, "A"),
            with(40..41, "g"),
            with(53..55, "+1"),
            PARENT.to_uppercase(),
            format!(" {PARENT}x"),
        ];
        for parent in broken {
            assert_eq!(read(&parent), None, "{parent:?}");
        }
        assert_eq!(TraceContext::of(&headers(&[PARENT, PARENT], &[])), None, "which of the two?");
        assert_eq!(TraceContext::of(&headers(&[], &["a=1"])), None, "a state is of no trace");
    }

    #[test]
    fn a_state_that_is_too_long_or_no_text_is_left_out() {
        let longest = format!("a={}", "x".repeat(STATE_MAX - 2));
        let of = |states: &[&str]| {
            TraceContext::of(&headers(&[PARENT], states)).unwrap().tracestate().map(str::to_owned)
        };
        assert_eq!(of(&[&longest]), Some(longest.clone()));
        assert_eq!(of(&[&longest, "b=1"]), None);
        assert_eq!(of(&["a=\u{e4}"]), None);
        assert_eq!(of(&["", " "]), None);
    }

    proptest! {
        #[test]
        fn any_context_and_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in 0..4u8) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let context = TraceContext { trace: TraceId(trace), span: SpanId(span), flags, state: String::new() };
            prop_assert_eq!(TraceContext::parse(context.traceparent().as_bytes()), Some(context));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
