//! "Did you mean".

/// The candidate that was probably meant by `word`.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&lower, &candidate.to_lowercase())?;
            Some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The suggestion as a help text.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// How far two words are apart; none if too far for a slip of the fingers.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    // Names may be long: the cost grows with the product of the lengths.
    if word.len() > 256 || candidate.len() > 256 {
        return None;
    }
    let shorter = word.chars().count().min(candidate.chars().count());
    // `hook` for `webhook`, `ack` for `ack_timeout`: a part of the name counts as close.
    if shorter >= 3 && (candidate.contains(word) || word.contains(candidate)) {
        return Some(1);
    }
    let distance = strsim::damerau_levenshtein(word, candidate);
    (distance <= (shorter / 3).max(1) && distance < shorter).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_leaves_strangers_alone() {
        let known = ["webhooks", "identity", "bot", "ack_timeout"];
        assert_eq!(closest("webhook", known), Some("webhooks"));
        assert_eq!(closest("idnetity", known), Some("identity"));
        assert_eq!(closest("Bot", known), Some("bot"));
        assert_eq!(closest("timeout", known), Some("ack_timeout"));
        assert_eq!(closest("colour", known), None);
        assert_eq!(closest("x", ["y"]), None);
    }
}
