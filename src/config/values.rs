//! Durations, sizes and rates: from text, and back into words.

use std::time::Duration;

use super::{Rate, plain::plain};

/// Why a value is wrong, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Invalid {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Invalid> {
    let invalid = || {
        let error = Invalid::new(format!("`{}` is not a duration", plain(text)));
        match meant_duration(text) {
            Some(meant) => error.help(format!("did you mean `\"{meant}\"`?")),
            None => error.help("write a whole number and a unit (ms, s, m, h or d), such as \"30s\""),
        }
    };
    let (number, unit) = split(text).ok_or_else(invalid)?;
    let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
    let millis = number.checked_mul(*millis).ok_or_else(|| too_large(text))?;
    Ok(Duration::from_millis(millis))
}

/// Reads `"64KiB"`, `"4MiB"`, `"10GiB"` as bytes.
pub(super) fn size(text: &str) -> Result<u64, Invalid> {
    let invalid = || {
        let error = Invalid::new(format!("`{}` is not a size", plain(text)));
        match meant_size(text) {
            Some(meant) => error.help(format!("did you mean `\"{meant}\"`?")),
            None => {
                error.help("write a whole number and a unit (B, KiB, MiB, GiB or TiB), such as \"64KiB\"")
            }
        }
    };
    let (number, unit) = split(text).ok_or_else(invalid)?;
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
    number.checked_mul(*bytes).ok_or_else(|| too_large(text))
}

/// Reads `"50/s"`, `"10/m"`, `"1000/h"`.
pub(super) fn rate(text: &str) -> Result<Rate, Invalid> {
    let invalid = || {
        Invalid::new(format!("`{}` is not a rate", plain(text)))
            .help("write how many in which time (s, m or h), such as \"50/s\"")
    };
    let (count, unit) = text.split_once('/').ok_or_else(invalid)?;
    let count = whole(count).ok_or_else(invalid)?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(invalid()),
    };
    if count == 0 {
        return Err(Invalid::new("a rate of nothing would stop everything").help("leave it out for no limit"));
    }
    let count = u32::try_from(count).map_err(|_| too_large(text))?;
    Ok(Rate { count, per: Duration::from_secs(per) })
}

fn too_large(text: &str) -> Invalid {
    Invalid::new(format!("`{}` is too large", plain(text)))
}

/// A whole number and the rest.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((whole(&text[..end])?, &text[end..]))
}

/// Digits only: `parse` alone would take a sign.
fn whole(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What a duration in another notation probably means.
fn meant_duration(text: &str) -> Option<String> {
    let (number, unit) = split(text.trim())?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => "ms",
        "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// What a size in another notation probably means.
fn meant_size(text: &str) -> Option<String> {
    let (number, unit) = split(text.trim())?;
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// A duration as `bridge.toml` writes it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = DURATION_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// A size as `bridge.toml` writes it.
pub(super) fn show_size(bytes: u64) -> String {
    let (unit, factor) = SIZE_UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// A rate as `bridge.toml` writes it.
pub(super) fn show_rate(rate: Rate) -> String {
    let unit = match rate.per.as_secs() {
        1 => "s",
        60 => "m",
        3600 => "h",
        // The model allows more than the file can say.
        _ => return format!("{} in {}", rate.count, show_duration(rate.per)),
    };
    format!("{}/{unit}", rate.count)
}

/// A duration in words: `24 hours`, `15 minutes`.
pub(super) fn duration_in_words(duration: Duration) -> String {
    let text = show_duration(duration);
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let word = match unit {
        "d" => "day",
        "h" => "hour",
        "m" => "minute",
        "s" => "second",
        _ => "millisecond",
    };
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {word}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [("64KiB", 65_536), ("4MiB", 4 << 20), ("10GiB", 10 << 30), ("7B", 7)] {
            assert_eq!(size(text), Ok(bytes));
        }
    }

    #[test]
    fn refuses_with_a_suggestion() {
        let help = |error: Invalid| error.help.unwrap_or_default();
        for (text, meant) in
            [("30 s", "\"30s\""), ("30sec", "\"30s\""), ("5MIN", "\"5m\""), ("30", "\"30s\"")]
        {
            assert!(help(duration(text).unwrap_err()).contains(meant), "{text}");
        }
        for (text, meant) in [("64kb", "\"64KiB\""), ("4 MiB", "\"4MiB\""), ("10G", "\"10GiB\"")] {
            assert!(help(size(text).unwrap_err()).contains(meant), "{text}");
        }
        for text in ["", "s", "-1s", "+1s", "1.5s", "1h30m", "∞", "1µs"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "/s", "0/s", "-5/s", "5/d", "5 / s", "5", "4294967296/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overflow_is_refused() {
        assert!(duration("18446744073709551615d").unwrap_err().message.contains("too large"));
        assert!(size("18446744073709551615TiB").unwrap_err().message.contains("too large"));
        assert!(duration("99999999999999999999999s").is_err());
    }

    #[test]
    fn words() {
        assert_eq!(duration_in_words(Duration::from_secs(60)), "1 minute");
        assert_eq!(duration_in_words(Duration::from_secs(90)), "90 seconds");
        assert_eq!(duration_in_words(Duration::from_secs(86_400)), "1 day");
        assert_eq!(duration_in_words(Duration::ZERO), "0 milliseconds");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0u64..=u64::MAX / 86_400_000, bytes: u64, count in 1u32..) {
            let time = Duration::from_millis(millis);
            proptest::prop_assert_eq!(duration(&show_duration(time)), Ok(time));
            proptest::prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let limit = Rate { count, per: Duration::from_secs(60) };
            proptest::prop_assert_eq!(rate(&show_rate(limit)), Ok(limit));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (duration(&text), size(&text), rate(&text));
        }
    }
}
