//! Traces of messages.

use crate::trace::TraceContext;

impl TraceContext {
    pub(in crate::store) const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::{
        store::records::{decode, encode},
        trace::{TRACEPARENT, TRACESTATE},
    };

    #[test]
    fn its_form_is_stable() {
        let mut headers = HeaderMap::new();
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
        headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
        let trace = TraceContext::of(&headers).unwrap();
        let bytes = encode(TraceContext::VERSION, &trace);
        insta::assert_snapshot!(format!("{bytes:02x?}"), @"[01, 4b, f9, 2f, 35, 77, b3, 4d, a6, a3, ce, 92, 9d, 0e, 0e, 47, 36, 00, f0, 67, aa, 0b, a9, 02, b7, 01, 03, 61, 3d, 31]");
        assert_eq!(decode::<TraceContext>(TraceContext::VERSION, "trace", &bytes).unwrap(), trace);
    }
}
