//! How a receiver answers.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};

use super::ReceivedEvent;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How long the request waits for it.
    pub delay: Duration,
}

impl Reply {
    /// An answer with this status, from 200 to 999.
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        Self {
            status: status.expect("a final status has three digits"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
        }
    }

    /// With a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value is plain text"));
        self
    }

    /// With a `Retry-After`: seconds or a date.
    pub fn retry_after(self, value: &str) -> Self {
        self.header(RETRY_AFTER, value)
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Given only after a while.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self::status(status)
    }
}

/// Answers some of the requests with an error: `503@10%`, or `503` for all of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailPlan {
    status: u16,
    percent: f64,
}

/// A text that is no failure plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a failure plan is a status and a share of the requests, such as 503@10%, or a status alone")]
pub struct InvalidFailPlan;

impl FailPlan {
    /// Whether this request fails, and with which status.
    fn roll(self, dice: &mut fastrand::Rng) -> Option<u16> {
        (dice.f64() * 100.0 < self.percent).then_some(self.status)
    }
}

impl FromStr for FailPlan {
    type Err = InvalidFailPlan;

    fn from_str(text: &str) -> Result<Self, InvalidFailPlan> {
        let (status, percent) = match text.split_once('@') {
            Some((status, share)) => {
                let percent = share.strip_suffix('%').ok_or(InvalidFailPlan)?;
                (status, percent.parse::<f64>().map_err(|_| InvalidFailPlan)?)
            }
            None => (text, 100.0),
        };
        let status = status.parse::<u16>().map_err(|_| InvalidFailPlan)?;
        let valid = (300..=599).contains(&status) && (0.0..=100.0).contains(&percent);
        if valid { Ok(Self { status, percent }) } else { Err(InvalidFailPlan) }
    }
}

impl fmt::Display for FailPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}%", self.status, self.percent)
    }
}

/// Chooses an answer by what a request says.
pub(super) type Rule = Arc<dyn Fn(&ReceivedEvent) -> Option<Reply> + Send + Sync>;

/// What a receiver was told to answer.
#[derive(Debug)]
pub(super) struct Behaviour(Mutex<Orders>);

struct Orders {
    script: VecDeque<Reply>,
    rule: Option<Rule>,
    fail: Option<FailPlan>,
    dice: fastrand::Rng,
    default: Reply,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders")
            .field("script", &self.script)
            .field("fail", &self.fail)
            .field("default", &self.default)
            .finish_non_exhaustive()
    }
}

impl Behaviour {
    pub(super) fn new(fail: Option<FailPlan>, seed: u64) -> Self {
        Self(Mutex::new(Orders {
            script: VecDeque::new(),
            rule: None,
            fail,
            dice: fastrand::Rng::with_seed(seed),
            default: Reply::status(204),
        }))
    }

    /// The answer to this request: the script's, else the rule's, else a failure, else the default.
    pub(super) fn choose(&self, event: &ReceivedEvent) -> Reply {
        let rule = {
            let mut orders = self.lock();
            if let Some(reply) = orders.script.pop_front() {
                return reply;
            }
            orders.rule.clone()
        };
        // Outside of the lock: a rule may well change the orders.
        if let Some(reply) = rule.and_then(|rule| rule(event)) {
            return reply;
        }
        let mut orders = self.lock();
        let failure = orders.fail.and_then(|plan| plan.roll(&mut orders.dice));
        failure.map_or_else(|| orders.default.clone(), Reply::status)
    }

    pub(super) fn set_default(&self, reply: Reply) {
        self.lock().default = reply;
    }

    pub(super) fn script(&self, replies: impl Iterator<Item = Reply>) {
        self.lock().script.extend(replies);
    }

    pub(super) fn set_rule(&self, rule: Rule) {
        self.lock().rule = Some(rule);
    }

    pub(super) fn set_fail(&self, plan: Option<FailPlan>) {
        self.lock().fail = plan;
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_plans_are_read() {
        assert_eq!("503@10%".parse(), Ok(FailPlan { status: 503, percent: 10.0 }));
        assert_eq!("429@0.5%".parse(), Ok(FailPlan { status: 429, percent: 0.5 }));
        assert_eq!("410".parse(), Ok(FailPlan { status: 410, percent: 100.0 }));
        assert_eq!("503@10%".parse::<FailPlan>().unwrap().to_string(), "503@10%");
        for bad in ["", "@10%", "503@", "503@10", "503@101%", "503@-1%", "503@NaN%", "204@10%", "600", "x@1%"]
        {
            assert_eq!(bad.parse::<FailPlan>(), Err(InvalidFailPlan), "{bad}");
        }
    }

    #[test]
    fn a_plan_fails_its_share() {
        let plan: FailPlan = "503@10%".parse().unwrap();
        let mut dice = fastrand::Rng::with_seed(1);
        let failed = (0..10_000).filter(|_| plan.roll(&mut dice).is_some()).count();
        assert!((900..1100).contains(&failed), "{failed}");
        let (always, never): (FailPlan, FailPlan) = ("500".parse().unwrap(), "500@0%".parse().unwrap());
        assert!((0..100).all(|_| always.roll(&mut dice) == Some(500) && never.roll(&mut dice).is_none()));
    }
}
