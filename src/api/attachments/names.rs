//! Names of files in `Content-Disposition`.

use crate::messages::urlencoded;

/// The file's name that a `Content-Disposition` gives: `filename*` before `filename`, as RFC 6266 says.
pub(super) fn of_disposition(header: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(header).ok()?;
    let mut plain = None;
    let mut rest = text.split_once(';')?.1;
    while !rest.trim().is_empty() {
        let (key, behind) = rest.split_once('=')?;
        let (value, behind) = value(behind.trim_start())?;
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => return extended(&value),
            "filename" => plain = Some(value),
            _ => {}
        }
        rest = behind.trim_start().strip_prefix(';').unwrap_or("");
    }
    plain
}

/// A parameter's value, in quotes or without, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            // Escapes a quote or itself; anywhere else it is a path's, of a browser that knows no better.
            '\\' if quoted[at + 1..].starts_with(['"', '\\']) => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    None
}

/// A value of RFC 8187, `UTF-8''percent-encoded`.
fn extended(value: &str) -> Option<String> {
    let (charset, behind) = value.split_once('\'')?;
    let (_language, encoded) = behind.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let form = format!("name={}", encoded.replace('+', "%2B").replace('&', "%26"));
    let (_, name) = urlencoded::parse(form.as_bytes()).ok()?.pop()?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_a_name() {
        for (header, expected) in [
            ("attachment; filename=\"a b.txt\"", Some("a b.txt")),
            ("attachment;filename=a.txt", Some("a.txt")),
            ("attachment; FileName = a.txt ; x=y", Some("a.txt")),
            ("inline; x=\"filename=no\"; filename=\"say \\\"hi\\\"; now.txt\"", Some("say \"hi\"; now.txt")),
            ("attachment; filename=\"C:\\dir\\a.txt\"", Some("C:\\dir\\a.txt")),
            ("attachment; filename=\"Grüße.txt\"", Some("Grüße.txt")),
            ("attachment; filename=\"x.txt\"; filename*=UTF-8''%C3%BC+%26.txt", Some("ü+&.txt")),
            ("attachment; filename*=utf-8'en'a%20b", Some("a b")),
            ("attachment; filename*=latin1''%FC", None),
            ("attachment; filename*=UTF-8''%FC", None),
            ("attachment; filename=\"a", None),
            ("attachment; filename", None),
            ("attachment", None),
            ("", None),
        ] {
            assert_eq!(of_disposition(header.as_bytes()).as_deref(), expected, "{header}");
        }
        assert_eq!(of_disposition(b"attachment; filename=\"\xfc\""), None);
    }
}
