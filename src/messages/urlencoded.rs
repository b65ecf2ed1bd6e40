//! `application/x-www-form-urlencoded`, read strictly: the usual readers replace what they can't
//! decode, and so would change what a caller said.

/// Why a text is not form-urlencoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlencodedError {
    /// `%` without two hexadecimal digits after it.
    #[error("a % is not followed by two hexadecimal digits; a percent sign itself is written %25")]
    BadEscape,
    /// The decoded bytes are not UTF-8.
    #[error("a name or value is not UTF-8")]
    NotUtf8,
}

/// The names and values of a form or a query, in order. A name without `=` has an empty value.
pub fn parse(text: &[u8]) -> Result<Vec<(String, String)>, UrlencodedError> {
    text.split(|b| *b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let split = pair.iter().position(|b| *b == b'=');
            let (name, value) = split.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &[u8]) -> Result<String, UrlencodedError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high * 16 + low,
                _ => return Err(UrlencodedError::BadEscape),
            },
            other => other,
        });
    }
    String::from_utf8(decoded).map_err(|_| UrlencodedError::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_browsers_send() {
        let pairs = parse(b"text=a+b%26c%C3%A4&&empty=&alone").unwrap();
        let expected = [("text", "a b&cä"), ("empty", ""), ("alone", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn refuses_what_others_would_replace() {
        for bad in [&b"a=%"[..], b"a=%4", b"%zz=1", b"a=%+1"] {
            assert_eq!(parse(bad), Err(UrlencodedError::BadEscape));
        }
        for bad in [&b"a=%ff"[..], b"a=\xff"] {
            assert_eq!(parse(bad), Err(UrlencodedError::NotUtf8));
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_usual_writer(pairs: Vec<(String, String)>) {
            let written = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            proptest::prop_assert_eq!(parse(written.as_bytes()).unwrap(), pairs);
        }
    }
}
