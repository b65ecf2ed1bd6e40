//! "Did you mean": the known word nearest to an unknown one.

/// The candidate that `word` is most likely a slip of, if any is near enough: up to a third of the
/// word's letters may differ, and letter case doesn't count.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words than any known one are no slips, and comparing them is quadratic work.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `word` in quotes, control characters escaped, cut to a length that fits a sentence.
pub fn quoted(word: &str) -> String {
    match word.char_indices().nth(64) {
        Some((end, _)) => format!("{:?} (cut short)", &word[..end]),
        None => format!("{word:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["text", "attachments", "customData"];

    #[test]
    fn finds_slips_and_nothing_else() {
        assert_eq!(closest("txet", KEYS), Some("text"));
        assert_eq!(closest("CUSTOMDATA", KEYS), Some("customData"));
        assert_eq!(closest("attachment", KEYS), Some("attachments"));
        assert_eq!(closest("colour", KEYS), None);
        assert_eq!(closest(&"text".repeat(1000), KEYS), None);
    }

    #[test]
    fn quotes_what_could_harm_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2J"), r#""a\u{1b}[2J""#);
        assert!(quoted(&"ä".repeat(500)).len() < 160);
    }
}
