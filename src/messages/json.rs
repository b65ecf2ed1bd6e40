//! JSON as callers send it: read strictly, kept verbatim, compared by meaning.
//!
//! `serde_json` checks the syntax (iteratively, so that no depth overflows the stack); the walk
//! below then knows that every byte is where it belongs, finds what `serde_json` lets pass when it
//! only skims (lone surrogates, duplicate keys, depth), and keeps each value's own text, so that a
//! number of any length goes on as it came.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// How deep a body may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// A value and the text it was read from.
#[derive(Debug)]
pub(super) struct Value<'a> {
    /// Its text, without white space around it.
    pub raw: &'a str,
    /// What it is.
    pub node: Node<'a>,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// `null`, `true` or `false`.
    Word,
    /// A number; its text is in [`Value::raw`].
    Number,
    /// A string, unescaped.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object, in the order of its text.
    Object(Vec<Member<'a>>),
}

/// A member of an object.
pub(super) type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Why a text can't be used as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonError {
    /// Its syntax is wrong, or a string in it holds half a surrogate pair.
    Syntax(String),
    /// An object names a key twice, which readers take differently.
    DuplicateKey(String),
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// Reads a text that holds one JSON value. `depth` is how deep the text itself is nested in what
/// it is part of.
pub(super) fn parse(text: &str, depth: usize) -> Result<Value<'_>, JsonError> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    Walk { text, at: 0, limit: MAX_DEPTH }.value(depth)
}

/// Reads a text that was put together from values that were read before.
pub(super) fn parse_own(text: &str) -> Result<Value<'_>, JsonError> {
    Walk { text, at: 0, limit: usize::MAX }.value(0)
}

/// A walk over a text whose syntax was checked.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    limit: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, JsonError> {
        self.skip_space();
        let start = self.at;
        let node = match self.peek() {
            b'{' => self.object(depth + 1)?,
            b'[' => self.array(depth + 1)?,
            b'"' => Node::Text(self.string()?),
            first => {
                self.skip_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
                if first.is_ascii_alphabetic() { Node::Word } else { Node::Number }
            }
        };
        Ok(Value { raw: &self.text[start..self.at], node })
    }

    fn object(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        let mut members = Vec::new();
        self.enter(depth)?;
        while self.peek() != b'}' {
            let key = self.string()?;
            self.skip_space();
            self.at += 1; // the colon
            members.push((key, self.value(depth)?));
            self.skip_comma();
        }
        self.at += 1;
        unique(&members)?;
        Ok(Node::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        let mut items = Vec::new();
        self.enter(depth)?;
        while self.peek() != b']' {
            items.push(self.value(depth)?);
            self.skip_comma();
        }
        self.at += 1;
        Ok(Node::Array(items))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let text = &self.text[start..self.at];
        if !text.contains('\\') {
            return Ok(Cow::Borrowed(&text[1..text.len() - 1]));
        }
        serde_json::from_str(text).map(Cow::Owned).map_err(|_| {
            JsonError::Syntax(format!("half a surrogate pair in the string at byte {}", start + 1))
        })
    }

    /// Steps over an opening bracket.
    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > self.limit {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn skip_comma(&mut self) {
        self.skip_space();
        if self.peek() == b',' {
            self.at += 1;
            self.skip_space();
        }
    }

    fn skip_space(&mut self) {
        self.skip_while(|b| b" \t\r\n".contains(&b));
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|b| wanted(**b)).count();
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }
}

fn unique(members: &[Member<'_>]) -> Result<(), JsonError> {
    if let [] | [_] = members {
        return Ok(());
    }
    let mut keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(JsonError::DuplicateKey(pair[0].to_owned())),
        None => Ok(()),
    }
}

/// A string as JSON.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    write_quoted(text, &mut out);
    out
}

/// Writes a string as JSON.
pub(super) fn write_quoted(text: &str, out: &mut String) {
    if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') {
        // Displaying a JSON string can't fail.
        out.push_str(&serde_json::Value::from(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

impl<'a> Value<'a> {
    /// The text of a string.
    pub fn as_text(&self) -> Option<&str> {
        match &self.node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&[Member<'a>]> {
        match &self.node {
            Node::Object(members) => Some(members),
            _ => None,
        }
    }

    /// A member of an object.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.as_object()?.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    /// What the value is called in messages for people.
    pub fn kind(&self) -> &'static str {
        match &self.node {
            Node::Word if self.raw == "null" => "null",
            Node::Word => "a boolean",
            Node::Number => "a number",
            Node::Text(_) => "a string",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
        }
    }

    /// Writes the canonical form: equal for values that mean the same, whatever their white space,
    /// key order, escapes and spelling of numbers.
    pub fn write_canonical(&self, out: &mut String) {
        match &self.node {
            Node::Word => out.push_str(self.raw),
            Node::Number => write_number(self.raw, out),
            Node::Text(text) => write_quoted(text, out),
            Node::Array(items) => {
                out.push('[');
                for item in items {
                    item.write_canonical(out);
                    out.push(',');
                }
                out.push(']');
            }
            Node::Object(members) if members.is_sorted_by_key(|(key, _)| key) => write_members(members, out),
            Node::Object(members) => {
                let mut members: Vec<&Member<'_>> = members.iter().collect();
                members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                write_members(members, out);
            }
        }
    }
}

fn write_members<'m>(members: impl IntoIterator<Item = &'m Member<'m>>, out: &mut String) {
    out.push('{');
    for (key, value) in members {
        write_quoted(key, out);
        value.write_canonical(out);
        out.push(',');
    }
    out.push('}');
}

/// A number as its significant digits and a power of ten, exactly: `1.50` and `15e-1` are the same,
/// and no digit of a long one is lost.
fn write_number(raw: &str, out: &mut String) {
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    let zeros_cut = digits.len() - digits.trim_end_matches('0').len();
    match exponent.parse::<i64>() {
        _ if significant.is_empty() => out.push('0'),
        Ok(exponent) => {
            let exponent = i128::from(exponent) - fraction.len() as i128 + zeros_cut as i128;
            out.push_str(&format!("{sign}{significant}e{exponent}"));
        }
        // An exponent beyond all reason is compared as it is written.
        Err(_) => out.push_str(raw),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        parse(text, 0).unwrap().write_canonical(&mut out);
        out
    }

    #[test]
    fn numbers_are_compared_by_value_and_to_the_last_digit() {
        for same in [["1", "1.0"], ["10", "1e1"], ["-0", "0.00"], ["150", "1.5E+2"], ["0.05", "5e-2"]] {
            assert_eq!(canonical(same[0]), canonical(same[1]), "{same:?}");
        }
        for different in [["9007199254740993", "9007199254740992"], ["1", "-1"], ["1", "\"1\""], ["1", "10"]]
        {
            assert_ne!(canonical(different[0]), canonical(different[1]), "{different:?}");
        }
        assert_eq!(canonical("1e99999999999999999999"), "1e99999999999999999999");
    }

    #[test]
    fn values_keep_their_own_text() {
        let value = parse(" { \"a\" : [ 1 , 12345678901234567890123.10 ] , \"b\\n\" : null } ", 0).unwrap();
        assert_eq!(value.get("a").unwrap().raw, "[ 1 , 12345678901234567890123.10 ]");
        assert_eq!(value.get("b\n").unwrap().kind(), "null");
    }

    #[test]
    fn what_skimming_lets_pass_is_found() {
        assert!(matches!(parse(r#"{"a":["\ud800"]}"#, 0), Err(JsonError::Syntax(_))));
        assert!(matches!(parse(r#"{"\udc00":1}"#, 0), Err(JsonError::Syntax(_))));
        assert!(parse(r#""\ud83d\ude00""#, 0).is_ok());
        assert_eq!(parse(r#"[{"a":1,"\u0061":2}]"#, 0).unwrap_err(), JsonError::DuplicateKey("a".into()));
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(&nested(64), 0).is_ok());
        assert_eq!(parse(&nested(65), 0).unwrap_err(), JsonError::TooDeep);
        assert_eq!(parse(&nested(64), 1).unwrap_err(), JsonError::TooDeep);
        assert_eq!(parse(&nested(1_000_000), 0).unwrap_err(), JsonError::TooDeep);
        assert!(matches!(parse(&"[".repeat(1_000_000), 0), Err(JsonError::Syntax(_))));
    }

    /// Any JSON of moderate size.
    pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_walk_agrees_with_serde_json(value in json(), other in json()) {
            let compact = value.to_string();
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let parsed = parse(&pretty, 0).unwrap();
            prop_assert_eq!(parsed.raw, &pretty);
            prop_assert_eq!(canonical(&compact), canonical(&pretty));
            prop_assert_eq!(canonical(&compact) == canonical(&other.to_string()), value == other);
        }

        #[test]
        fn strings_are_quoted_as_serde_json_does(text in "[a\"\\\\/\u{0}-\u{1f}\u{7f}\u{e4}\u{2028}]{0,8}|.{0,8}") {
            prop_assert_eq!(quote(&text), serde_json::Value::from(text).to_string());
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[\[\]{}",:\\u0-9a-f. eE+-]{0,40}"#) {
            let _ = parse(&text, 0);
        }
    }
}
