//! Query parameters, read strictly: a misspelt one is an error, not silently nothing.

use std::time::Duration;

use super::problem::{Code, Problem};
use crate::{
    messages::urlencoded,
    suggest::{closest, quoted},
};

/// The parameters of a request.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query that may have these parameters, each once.
    pub fn read(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs = urlencoded::parse(query.unwrap_or_default().as_bytes())
            .map_err(|error| malformed(format!("the query is malformed: {error}")))?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(malformed(format!(
                    "the query parameter {} is unknown{}",
                    quoted(name),
                    hint(name, known)
                ))
                .with("key", name.chars().take(128).collect::<String>()));
            }
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(malformed(format!("the query parameter {name:?} is given twice"))
                    .with("key", name.as_str()));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter's value, if it is given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a duration of at most `max`.
    pub fn duration(&self, name: &str, max: Duration) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match parse_duration(text) {
            Some(duration) if duration <= max => Ok(Some(duration)),
            Some(_) => Err(bad_value(name, text, &format!("at most {}s", max.as_secs()))),
            None => Err(bad_value(name, text, "a duration, like 500ms or 10s")),
        }
    }
}

impl Query {
    /// The parameter `limit`, a number from 1 to `most`.
    pub fn limit(&self, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let limit = whole_number(text).filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| bad_value("limit", text, &format!("a number from 1 to {most}")))
    }

    /// The parameter `offset`, a whole number.
    pub fn offset(&self) -> Result<usize, Problem> {
        let Some(text) = self.get("offset") else { return Ok(0) };
        let offset = whole_number(text).filter(|offset| *offset <= u32::MAX as usize);
        offset.ok_or_else(|| bad_value("offset", text, "a whole number, 0 or more"))
    }
}

/// Digits alone: no sign, no space.
fn whole_number(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The problem of a parameter whose value is not what it must be.
pub fn bad_value(name: &str, value: &str, wanted: &str) -> Problem {
    malformed(format!("the query parameter {name:?} must be {wanted}, and is {}", quoted(value)))
        .with("key", name)
}

/// The problem of a query that can't be read.
pub fn malformed(detail: String) -> Problem {
    Problem::new(Code::MalformedQuery, detail)
}

fn hint(name: &str, known: &[&str]) -> String {
    match closest(name, known.iter().copied()) {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None if known.is_empty() => "; there are none here".to_owned(),
        None => format!("; there are {}", known.join(", ")),
    }
}

/// Reads `500ms`, `10s`, `2m`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(unit_at);
    let count: u64 = count.parse().ok()?;
    let millis = match unit {
        "ms" => count,
        "s" => count.checked_mul(1000)?,
        "m" => count.checked_mul(60_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(query: &str) -> String {
        format!("{:?}", Query::read(Some(query), &["wait", "timeout"]).unwrap_err())
    }

    #[test]
    fn reads_durations() {
        let read = |text: &str| {
            let query = Query::read(Some(text), &["timeout"]).unwrap();
            query.duration("timeout", Duration::from_secs(120)).map_err(|problem| problem.code())
        };
        assert_eq!(read("timeout=500ms"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(read("timeout=2m"), Ok(Some(Duration::from_secs(120))));
        assert_eq!(read(""), Ok(None));
        for bad in [
            "121s",
            "10",
            "",
            "s",
            "-1s",
            "1.5s",
            "1h",
            "10 s",
            "99999999999999999999s",
            "18446744073709551615s",
        ] {
            assert_eq!(read(&format!("timeout={bad}")), Err(Code::MalformedQuery), "{bad}");
        }
    }

    #[test]
    fn a_slip_is_told() {
        assert!(detail("wiat=ack").contains("did you mean"));
        assert!(detail("colour=red").contains("there are wait, timeout"));
        assert!(detail("wait=ack&wait=ack").contains("given twice"));
        assert!(detail("wait=%zz").contains("malformed"));
    }
}
