//! What a content type asks of those who print values into it.

/// How values are escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// As text and attributes of XML and HTML.
    Markup,
    /// Each value is JSON: a text comes with its quotes.
    Json,
    /// Percent-encoded.
    Form,
    /// Not at all.
    None,
}

/// How values are escaped in this content type; none if it isn't one.
pub fn escaping(content_type: &str) -> Option<Escaping> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let is_visible = |b: u8| b == b' ' || b.is_ascii_graphic();
    let essence = content_type.split(';').next()?.trim().to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    if !is_token(kind) || !is_token(subtype) || !content_type.bytes().all(is_visible) {
        return None;
    }
    let (_, suffix) = subtype.rsplit_once('+').unwrap_or(("", subtype));
    Some(match (suffix, &*essence) {
        ("xml", _) | (_, "text/html") => Escaping::Markup,
        ("json", _) => Escaping::Json,
        (_, "application/x-www-form-urlencoded") => Escaping::Form,
        _ => Escaping::None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_decides_how_values_are_escaped() {
        let cases = [
            ("text/xml; charset=utf-8", Some(Escaping::Markup)),
            ("application/soap+xml;action=\"urn:x\"", Some(Escaping::Markup)),
            ("Text/HTML", Some(Escaping::Markup)),
            ("application/json", Some(Escaping::Json)),
            ("application/vnd.api+json", Some(Escaping::Json)),
            ("application/x-www-form-urlencoded", Some(Escaping::Form)),
            ("text/plain", Some(Escaping::None)),
            ("text/csv", Some(Escaping::None)),
            ("xml", None),
            ("text/", None),
            ("/xml", None),
            ("text/x ml", None),
            ("text/xml\r\nx-a: b", None),
            ("", None),
        ];
        for (content_type, expected) in cases {
            assert_eq!(escaping(content_type), expected, "{content_type:?}");
        }
    }
}
