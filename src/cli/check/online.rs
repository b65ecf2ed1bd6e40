//! Walks sign-ins and the ways to webhooks, as [`super`] is asked to.

use std::{cell::Cell, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::Arguments;
use crate::{
    cli::{
        CommandError,
        process::Stop,
        progress::{Done, Progress},
    },
    clock::Timestamp,
    config::{Config, User, Webhook},
    events::{Body, Event, EventId, Source, Speaker},
    names::{BotName, UserName, WebhookName},
    rtm::{
        probe::{End, Probe, Walk},
        token::Skew,
    },
    webhook::{AttemptResult, Delivery, Outcome, Sender, Unreached},
};

/// So many are walked at once; the pace of the bot's requests holds them back further.
const AT_ONCE: usize = 16;
/// What `--post` sends.
const TEST_EVENT: &str = "bridge.test";
/// A clock that is further off than this is a problem. The platform tells whole seconds, and takes a while
/// to answer.
pub(super) const MOST_SKEW: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug)]
pub(super) struct Findings {
    /// How far the platform's clock is ahead of ours; none if it never answered.
    pub(super) skew: Option<Skew>,
    pub(super) users: Vec<UserFinding>,
    pub(super) webhooks: Vec<WebhookFinding>,
}

#[derive(Debug)]
pub(super) struct UserFinding {
    pub(super) name: UserName,
    pub(super) bot: BotName,
    /// None if Ctrl-C came before.
    pub(super) walk: Option<Walk>,
}

#[derive(Debug)]
pub(super) struct WebhookFinding {
    pub(super) name: WebhookName,
    pub(super) is_encrypted: bool,
    /// None if Ctrl-C came before.
    pub(super) way: Option<Way>,
}

/// How far an event would get.
#[derive(Debug)]
pub(super) enum Way {
    /// The settings name files that can't be used.
    Unusable(String),
    /// No connection.
    Unreached(Unreached),
    /// There is one; and what came of the test event, if one was posted.
    Reached(Option<AttemptResult>),
}

impl Findings {
    /// Whether everything that was asked for went well.
    pub(super) fn is_well(&self) -> bool {
        self.clock_is_right() != Some(false)
            && self.users.iter().all(UserFinding::is_well)
            && self.webhooks.iter().all(WebhookFinding::is_well)
    }

    /// Whether the two clocks agree, if that is known.
    pub(super) fn clock_is_right(&self) -> Option<bool> {
        self.skew.map(|skew| u128::from(skew.0.unsigned_abs()) <= MOST_SKEW.as_millis())
    }
}

impl UserFinding {
    pub(super) fn is_well(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.end == End::Well)
    }
}

impl WebhookFinding {
    pub(super) fn is_well(&self) -> bool {
        match &self.way {
            Some(Way::Reached(None)) => true,
            Some(Way::Reached(Some(result))) => result.outcome == Outcome::Delivered,
            Some(Way::Unusable(_) | Way::Unreached(_)) | None => false,
        }
    }
}

/// Walks what the arguments select. The first Ctrl-C lets what is under way end in order, the second ends
/// it at once.
pub(super) async fn walk(config: &Config, arguments: &Arguments) -> Result<Findings, CommandError> {
    let mut stop = Stop::listen()?;
    let probe = Probe::new(config).map_err(CommandError::failed)?;
    let users = selected(&config.users, &arguments.user, &arguments.webhook, "user")?;
    let webhooks = selected(&config.webhooks, &arguments.webhook, &arguments.user, "webhook")?;
    let users = walk_users(&probe, config, users, &mut stop).await?;
    let webhooks = walk_webhooks(config, webhooks, arguments.post, &mut stop).await?;
    Ok(Findings { skew: probe.skew(), users, webhooks })
}

/// The named entries of a table; all of them if nothing at all is named.
fn selected<'a, K: Ord + std::fmt::Display, V, O>(
    table: &'a std::collections::BTreeMap<K, V>,
    named: &[K],
    others: &[O],
    word: &str,
) -> Result<Vec<(&'a K, &'a V)>, CommandError> {
    if named.is_empty() {
        return Ok(if others.is_empty() { table.iter().collect() } else { Vec::new() });
    }
    if let Some(unknown) = named.iter().find(|name| !table.contains_key(name)) {
        return Err(CommandError::Refused(format!(
            "error: there is no {word} {unknown} in the configuration"
        )));
    }
    Ok(table.iter().filter(|(name, _)| named.contains(name)).collect())
}

async fn walk_users(
    probe: &Probe,
    config: &Config,
    users: Vec<(&UserName, &User)>,
    stop: &mut Stop,
) -> Result<Vec<UserFinding>, CommandError> {
    let stopped = Cell::new(false);
    let one = async |name: &UserName, user: &User| {
        let walk = match stopped.get() {
            false => Some(probe.walk(user, &config.bots[&user.bot]).await),
            true => None,
        };
        UserFinding { name: name.clone(), bot: user.bot.clone(), walk }
    };
    let mut progress = Progress::new("signing in", "users");
    let all = users.len() as u64;
    let mut users = users.into_iter();
    // The first one goes ahead: it learns what the time is there, and whether there is anybody at all.
    let first = stream::iter(users.next()).then(|(name, user)| one(name, user));
    let rest = stream::iter(users).map(|(name, user)| one(name, user)).buffered(AT_ONCE);
    collect(first.chain(rest), stop, &stopped, |done| progress.at(Done::of(done, all))).await
}

async fn walk_webhooks(
    config: &Config,
    webhooks: Vec<(&WebhookName, &Webhook)>,
    post: bool,
    stop: &mut Stop,
) -> Result<Vec<WebhookFinding>, CommandError> {
    let stopped = Cell::new(false);
    let mut progress = Progress::new("connecting", "webhooks");
    let all = webhooks.len() as u64;
    let findings = stream::iter(webhooks)
        .map(async |(name, settings)| {
            let way = match stopped.get() {
                false => Some(way(name, settings, post.then(|| test_event(config, name))).await),
                true => None,
            };
            WebhookFinding { name: name.clone(), is_encrypted: settings.url.scheme() == "https", way }
        })
        .buffered(AT_ONCE);
    collect(findings, stop, &stopped, |done| progress.at(Done::of(done, all))).await
}

async fn collect<T>(
    findings: impl stream::Stream<Item = T>,
    stop: &mut Stop,
    stopped: &Cell<bool>,
    mut progress: impl FnMut(u64),
) -> Result<Vec<T>, CommandError> {
    let mut findings = std::pin::pin!(findings);
    let mut found = Vec::new();
    loop {
        progress(found.len() as u64);
        tokio::select! {
            next = findings.next() => match next {
                Some(finding) => found.push(finding),
                None => return Ok(found),
            },
            () = stop.requested() => {
                if stopped.replace(true) {
                    return Err(CommandError::failed("interrupted"));
                }
            }
        }
    }
}

async fn way(name: &WebhookName, settings: &Webhook, event: Option<Event>) -> Way {
    let sender = match Sender::new(name, settings) {
        Ok(sender) => sender,
        Err(error) => return Way::Unusable(error.to_string()),
    };
    if let Err(unreached) = sender.reach().await {
        return Way::Unreached(unreached);
    }
    let Some(event) = event else { return Way::Reached(None) };
    let body = match (&settings.template, settings.format.plain()) {
        (Some(template), _) => match Body::render_with(template, None, &event, None) {
            Ok(body) => body,
            Err(error) => {
                return Way::Unusable(format!("its template makes nothing of bridge.test: {error}"));
            }
        },
        (None, format) => Body::render(&event, None, format.unwrap_or_default()),
    };
    let delivery = Delivery { event: Arc::new(event), attempt: 1, body, at: Timestamp::now(), trace: None };
    Way::Reached(Some(sender.attempt(&delivery).await))
}

/// An event that says nothing, of a user whose events go to this webhook.
fn test_event(config: &Config, webhook: &WebhookName) -> Event {
    let subscribed = config.users.iter().find(|(_, user)| user.webhooks.contains(webhook));
    let (user, bot) = match subscribed {
        Some((name, user)) => (name.clone(), user.bot.clone()),
        None => (UserName::new("nobody").expect("it is a name"), BotName::new("none").expect("it is a name")),
    };
    Event {
        // The store's events count from 1.
        id: EventId { store: fastrand::u32(..), number: 0 },
        user,
        bot,
        kind: TEST_EVENT.into(),
        received_at: Timestamp::now(),
        in_reply_to: None,
        source: Source::Bridge,
        speaker: Speaker::Platform,
        frame: r#"{"type":"bridge.test","reason":"rtm-bridge check --online --post"}"#.into(),
    }
}
