//! The ledger against what arrived.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use rtm_bridge::{
    receiver::ReceivedEvent,
    sandbox::{Direction, FrameKind, ReceivedFrame},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    ledger::{Entries, Message, Pushed},
    load::Stage,
    world::{USERS, WELCOME, World, user_name},
};

/// What the API and the disk said at the end.
#[derive(Debug)]
pub struct Finals {
    /// Every accepted message, by its place in the ledger, once it was final.
    pub statuses: Vec<(usize, Result<Value, String>)>,
    /// The same after an orderly end and a restart.
    pub again: Vec<(usize, Result<Value, String>)>,
    /// Payload files after the orderly end.
    pub left_files: Vec<String>,
    /// How many requests each webhook had got before that restart.
    pub known_before: [usize; 3],
}

/// What came out.
#[derive(Debug, Default)]
pub struct Findings {
    /// What must not be.
    pub wrong: Vec<String>,
    /// What was counted.
    pub figures: Figures,
}

/// A run in numbers.
#[derive(Debug, Default)]
pub struct Figures {
    kills: usize,
    drops: u32,
    slowest_start: Duration,
    accepted: usize,
    unknown: usize,
    unknown_arrived: usize,
    resends: usize,
    pushes: usize,
    unconfirmed: usize,
    confirmed: usize,
    events: usize,
    deliveries: usize,
    repeated_deliveries: usize,
    recovered: usize,
    arrived_twice: usize,
    repeated_pushes: u32,
    reports: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, drops, slowest_start, accepted, unknown, unknown_arrived, resends, .. } = self;
        let Self { pushes, unconfirmed, confirmed, events, deliveries, .. } = self;
        let Self { repeated_deliveries, repeated_pushes, reports, recovered, arrived_twice, .. } = self;
        write!(
            f,
            "{kills} kills, {drops} dropped connections, slowest start {slowest_start:.1?}; \
             {accepted} messages accepted, {unknown} of unknown fate ({unknown_arrived} of them arrived), {resends} resends, {arrived_twice} of which were not needed; \
             {pushes} pushes ({unconfirmed} not confirmed, {repeated_pushes} repeated), {confirmed} delivery acks; \
             {recovered} events recovered from the history; \
             {reports} reported ends of messages; \
             {events} events at webhooks, {deliveries} successful deliveries, {repeated_deliveries} of them repeated"
        )
    }
}

/// Holds everything that happened against what must hold.
pub fn judge(world: &World, stage: &Stage, finals: &Finals) -> Findings {
    let entries = stage.ledger.open();
    let mut findings = Findings::default();
    findings.wrong.extend(entries.surprises.iter().cloned());
    judge_statuses(&entries, finals, &mut findings);
    if !finals.left_files.is_empty() {
        let files = &finals.left_files;
        findings.wrong.push(format!("payload files without a purpose after an orderly end: {files:?}"));
    }
    for user in 0..USERS {
        judge_messages(user, stage, &entries, &mut findings);
        judge_welcomes(user, stage, &mut findings);
    }
    for ((webhook, receiver), known_before) in world.webhooks().into_iter().zip(finals.known_before) {
        let attempts = receiver.attempts();
        findings.wrong.extend(judge_restart(webhook, &attempts, known_before));
        for user in 0..USERS {
            Lane { webhook, user, findings: &mut findings }.judge_order(&attempts);
        }
    }
    judge_reports(world, &entries, finals, &mut findings);
    let confirmed: Vec<HashSet<String>> = (0..USERS).map(|user| delivery_acks(stage, user)).collect();
    let mut ids_of_keys = HashMap::new();
    for (webhook, receiver) in world.event_webhooks() {
        let attempts = receiver.attempts();
        let delivered = Lanes::of(&receiver.events());
        for (user, confirmed) in confirmed.iter().enumerate() {
            let mut lane = Lane { webhook, user, findings: &mut findings };
            lane.judge_pushes(&attempts, &entries, &mut ids_of_keys);
            lane.judge_history(&attempts, stage);
            lane.judge_deliveries(&attempts, &delivered, confirmed, &entries);
        }
    }
    findings.figures.arrived_twice = (0..USERS).map(|user| arrived_twice(user, stage)).sum();
    count(world, &entries, &confirmed, &mut findings.figures);
    findings
}

fn count(world: &World, entries: &Entries, confirmed: &[HashSet<String>], figures: &mut Figures) {
    figures.kills = entries.lives.len();
    figures.drops = entries.drops;
    figures.slowest_start =
        entries.lives.iter().filter_map(|life| life.ready_after).max().unwrap_or_default();
    figures.accepted = entries.messages.iter().filter(|message| message.id.is_some()).count();
    figures.unknown = entries.messages.len() - figures.accepted;
    figures.pushes = entries.pushes.len();
    figures.unconfirmed =
        entries.pushes.iter().filter(|pushed| !confirmed[pushed.user].contains(&pushed.key)).count();
    figures.repeated_pushes = entries.pushes.iter().map(|pushed| pushed.repeats).sum();
    figures.confirmed = confirmed.iter().map(HashSet::len).sum();
    for (_, receiver) in world.event_webhooks() {
        let events = receiver.events();
        let distinct: HashSet<&str> = events.iter().map(|event| &*event.id).collect();
        figures.events += distinct.len();
        figures.deliveries += events.len();
        figures.repeated_deliveries += events.len() - distinct.len();
    }
}

// ---- Messages.

/// How many messages of a user the bot got twice: each text is sent by one message only.
fn arrived_twice(user: usize, stage: &Stage) -> usize {
    let history = stage.control.history(&user_name(user));
    let incoming = history.iter().filter(|item| item.direction == Direction::Incoming);
    let mut texts = HashSet::new();
    incoming.filter(|item| !texts.insert(&*item.text)).count()
}

/// Every accepted message is final and confirmed, also after a restart.
fn judge_statuses(entries: &Entries, finals: &Finals, findings: &mut Findings) {
    for (when, statuses) in [("at the end", &finals.statuses), ("after a restart", &finals.again)] {
        for (index, status) in statuses {
            let fine = status
                .as_ref()
                .is_ok_and(|status| status["status"] == "acked" && status["delivery"] == "confirmed");
            if !fine {
                let message = &entries.messages[*index];
                findings
                    .wrong
                    .push(format!("{when} an accepted message is not acked: {status:?}; {message}"));
            }
        }
    }
}

/// The messages of a user as the platform saw them: each accepted one, in the order of acceptance,
/// and the same bytes each time.
fn judge_messages(user: usize, stage: &Stage, entries: &Entries, findings: &mut Findings) {
    let sent: Vec<&Message> = entries.messages.iter().filter(|message| message.user == user).collect();
    let by_text: HashMap<&str, &Message> = sent.iter().map(|message| (&*message.text, *message)).collect();
    let frames = stage.control.messages(&user_name(user));
    let mut arrived: HashMap<u32, (u64, &ReceivedFrame)> = HashMap::new();
    let mut ids: HashMap<u64, u32> = HashMap::new();
    let mut last = 0;
    for frame in &frames {
        let json = frame.json();
        let text = json["message"]["body"].as_str().unwrap_or_default();
        let Some(message) = by_text.get(text) else {
            findings.wrong.push(format!(
                "{} got a frame that nobody sent: {}",
                user_name(user),
                start_of(&frame.bytes)
            ));
            continue;
        };
        let id = json["clientMessageId"].as_u64().unwrap_or_default();
        if let Some((first_id, first)) = arrived.get(&message.number) {
            findings.figures.resends += 1;
            if (*first_id, &first.bytes) != (id, &frame.bytes) {
                let (was, is) = (start_of(&first.bytes), start_of(&frame.bytes));
                findings
                    .wrong
                    .push(format!("sent again with another id or body: first {was}, then {is}; {message}"));
            }
            continue;
        }
        arrived.insert(message.number, (id, frame));
        if message.number < last {
            findings.wrong.push(format!("arrived after message {last} of the same user: {message}"));
        }
        last = last.max(message.number);
        if json["id"].as_u64() != Some(id) || message.id.is_some_and(|accepted| accepted != id) {
            findings.wrong.push(format!("arrived with id {id} ({}): {message}", json["id"]));
        }
        if let Some(other) = ids.insert(id, message.number) {
            findings.wrong.push(format!("id {id} is that of message {other}, too: {message}"));
        }
    }
    let mut newest_generated = 0;
    for message in sent {
        let id = message.id.or(arrived.get(&message.number).map(|(id, _)| *id));
        match id {
            Some(id) if message.way.id_is_generated() => {
                if id <= newest_generated {
                    findings.wrong.push(format!("id {id} is not greater than {newest_generated}: {message}"));
                }
                newest_generated = id;
            }
            _ => {}
        }
        let has_arrived = arrived.contains_key(&message.number);
        if message.id.is_some() && !has_arrived {
            findings.wrong.push(format!("accepted, but the platform never saw it: {message}"));
        }
        findings.figures.unknown_arrived += usize::from(message.id.is_none() && has_arrived);
    }
}

/// The platform greeted the user once, and not again after each restart.
fn judge_welcomes(user: usize, stage: &Stage, findings: &mut Findings) {
    let name = user_name(user);
    let welcomes = stage.control.history(&name).iter().filter(|item| item.text == WELCOME).count();
    if welcomes > 1 {
        let connects = stage.control.connects(&name);
        findings.wrong.push(format!("{name} was welcomed {welcomes} times in {connects} connects"));
    }
}

/// Each accepted message has one `bridge.message`, which says what the API says; and no message has two.
fn judge_reports(world: &World, entries: &Entries, finals: &Finals, findings: &mut Findings) {
    #[derive(Deserialize)]
    struct Reported {
        data: Value,
    }
    let mut reports: HashMap<(String, u64), (String, Value)> = HashMap::new();
    for event in world.reports.events() {
        let Reported { data } = serde_json::from_slice(&event.body).expect("an envelope has data");
        let id = data["clientMessageId"].as_u64().unwrap_or_default();
        let known = reports.entry((event.user.clone(), id)).or_insert_with(|| (event.id.clone(), data));
        if known.0 != event.id {
            let known = &known.0;
            findings.wrong.push(format!("the end of message {id} is event {known}, too: {}", shown(&event)));
        }
    }
    findings.figures.reports = reports.len();
    for (index, status) in &finals.again {
        let message = &entries.messages[*index];
        let key = (user_name(message.user), message.id.unwrap_or_default());
        let (Ok(status), told) = (status, reports.get(&key).map(|(_, data)| data)) else { continue };
        // Answers may have come since.
        let same = |key: &str| told.is_some_and(|told| told[key] == status[key]);
        let keys = ["status", "reason", "delivery", "attempts", "createdAt", "sentAt", "ackedAt", "ack"];
        if !keys.into_iter().all(same) {
            findings.wrong.push(format!("its end is {status}, and was reported as {told:?}: {message}"));
        }
    }
}

// ---- Events.

/// The keys of all events that the bridge confirmed to have.
fn delivery_acks(stage: &Stage, user: usize) -> HashSet<String> {
    let frames = stage.control.frames(&user_name(user));
    let acks = frames.iter().filter(|frame| frame.kind == FrameKind::Ack);
    acks.map(|ack| ack.json()["key"].as_str().expect("every answer has a key").to_owned()).collect()
}

/// After an orderly end nothing is delivered again.
fn judge_restart(webhook: &str, attempts: &[Arc<ReceivedEvent>], known_before: usize) -> Option<String> {
    let (before, after) = attempts.split_at(known_before);
    let known: HashSet<&str> = before.iter().map(|event| &*event.id).collect();
    let again = after.iter().find(|event| known.contains(&*event.id))?;
    Some(format!("{webhook} got an event again after an orderly end and a restart: {}", shown(again)))
}

/// An envelope, as far as it is looked at.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Where an event came from, and by what the history knows it.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    data: TellsApart<'a>,
}

#[derive(Deserialize)]
struct TellsApart<'a> {
    #[serde(borrow, rename = "messageId")]
    message_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Keyed {
    key: Option<String>,
}

/// An envelope's `source`, of what came through the history.
const RECOVERED: &str = "history";

fn is_recovered(event: &ReceivedEvent) -> bool {
    serde_json::from_slice::<Told<'_>>(&event.body).is_ok_and(|told| told.source == RECOVERED)
}

fn frame_of(event: &ReceivedEvent) -> &str {
    let envelope: Envelope<'_> = serde_json::from_slice(&event.body).expect("an envelope has data");
    envelope.data.get()
}

fn key_of(event: &ReceivedEvent) -> Option<String> {
    serde_json::from_str::<Keyed>(frame_of(event)).expect("a frame is an object").key
}

/// What was answered with a 2xx.
struct Lanes {
    ids: HashSet<String>,
    keys: HashMap<String, HashSet<String>>,
}

impl Lanes {
    fn of(events: &[Arc<ReceivedEvent>]) -> Self {
        let mut lanes = Self { ids: HashSet::new(), keys: HashMap::new() };
        for event in events {
            if lanes.ids.insert(event.id.clone())
                && let Some(key) = key_of(event)
            {
                lanes.keys.entry(event.user.clone()).or_default().insert(key);
            }
        }
        lanes
    }
}

/// One user's events at one webhook.
struct Lane<'a> {
    webhook: &'a str,
    user: usize,
    findings: &'a mut Findings,
}

impl Lane<'_> {
    fn own<'e>(
        &self,
        attempts: &'e [Arc<ReceivedEvent>],
    ) -> impl Iterator<Item = &'e Arc<ReceivedEvent>> + use<'e> {
        let name = user_name(self.user);
        attempts.iter().filter(move |event| event.user == name)
    }

    fn wrong(&mut self, what: &str) {
        let (webhook, user) = (self.webhook, user_name(self.user));
        self.findings.wrong.push(format!("{webhook}, {user}: {what}"));
    }

    /// 1, 2, 3 ...: no number before the one before it was taken; one number, one id, one body.
    fn judge_order(&mut self, attempts: &[Arc<ReceivedEvent>]) {
        let mut first: HashMap<&str, &Arc<ReceivedEvent>> = HashMap::new();
        let (mut newest, mut newest_was_taken) = (0, true);
        for event in self.own(attempts) {
            let sequence = event.sequence.unwrap_or_default();
            let was_taken = (200..300).contains(&event.answered);
            match first.get(&*event.id) {
                Some(known) if known.body != event.body => {
                    let (was, is) = (start_of(&known.body), start_of(&event.body));
                    self.wrong(&format!("{} came with another body: first {was}, then {is}", event.id));
                }
                Some(_) => newest_was_taken |= was_taken && sequence == newest,
                None => {
                    first.insert(&event.id, event);
                    if sequence != newest + 1 || !newest_was_taken {
                        let taken = if newest_was_taken { "taken" } else { "not taken" };
                        self.wrong(&format!("after sequence {newest} ({taken}) came {}", shown(event)));
                    }
                    (newest, newest_was_taken) = (sequence, was_taken);
                }
            }
        }
    }

    /// Each pushed frame is one event, at all webhooks, byte for byte, in the platform's order.
    fn judge_pushes(
        &mut self,
        attempts: &[Arc<ReceivedEvent>],
        entries: &Entries,
        ids_of_keys: &mut HashMap<String, String>,
    ) {
        let pushes: HashMap<&str, &Pushed> =
            entries.pushes.iter().filter(|p| p.user == self.user).map(|p| (&*p.key, p)).collect();
        let (mut seen, mut last) = (HashSet::new(), 0);
        for event in self.own(attempts) {
            if !seen.insert(&*event.id) {
                continue;
            }
            let Some(key) = key_of(event) else { continue };
            let known = ids_of_keys.entry(key.clone()).or_insert_with(|| event.id.clone());
            if *known != event.id {
                let known = known.clone();
                self.wrong(&format!("the frame with key {key} is event {known}, too: {}", shown(event)));
            }
            let Some(pushed) = pushes.get(&*key) else { continue };
            if frame_of(event) != pushed.frame {
                self.wrong(&format!("not the frame that was pushed: {}; {pushed}", shown(event)));
            }
            if pushed.number <= last {
                self.wrong(&format!("came after push {last}: {}; {pushed}", shown(event)));
            }
            last = last.max(pushed.number);
        }
    }

    /// Everything that the bot said since the user's first connect is one event, live or recovered.
    fn judge_history(&mut self, attempts: &[Arc<ReceivedEvent>], stage: &Stage) {
        let mut ids: HashMap<String, HashSet<&str>> = HashMap::new();
        let mut recovered = HashSet::new();
        for event in self.own(attempts) {
            let told: Told<'_> = serde_json::from_slice(&event.body).expect("an envelope has a source");
            if let Some(message) = told.data.message_id {
                ids.entry(message.into_owned()).or_default().insert(&event.id);
            }
            if told.source == RECOVERED {
                recovered.insert(&*event.id);
            }
        }
        if self.webhook == "audit" {
            self.findings.figures.recovered += recovered.len();
        }
        for item in stage.control.history(&user_name(self.user)) {
            let events = ids.get(&item.id).map_or(0, HashSet::len);
            if item.direction == Direction::Outgoing && events != 1 {
                let (id, text) = (&item.id, start_of(item.text.as_bytes()));
                self.wrong(&format!("what the bot said is {events} events: {id}, {}, {text}", item.created));
            }
        }
    }

    /// Every confirmed event was delivered, and so was everything that was tried.
    fn judge_deliveries(
        &mut self,
        attempts: &[Arc<ReceivedEvent>],
        delivered: &Lanes,
        confirmed: &HashSet<String>,
        entries: &Entries,
    ) {
        let mut told = HashSet::new();
        for event in self.own(attempts) {
            if !delivered.ids.contains(&event.id) && told.insert(&*event.id) {
                self.wrong(&format!("tried, but never taken: {}", shown(event)));
            }
        }
        let none = HashSet::new();
        let keys = delivered.keys.get(&user_name(self.user)).unwrap_or(&none);
        // A frame that came behind its own recovery is confirmed as well; its event is the record's, which has
        // no key. That none of those is missing, the history shows.
        let missing: Vec<_> = confirmed.difference(keys).collect();
        let came_twice = self.own(attempts).filter(|event| is_recovered(event)).map(|event| &event.id);
        if missing.len() <= came_twice.collect::<HashSet<_>>().len() {
            return;
        }
        for key in missing {
            let pushed = entries.pushes.iter().find(|pushed| pushed.key == *key);
            let pushed =
                pushed.map_or_else(|| format!("the bot's answer with key {key}"), ToString::to_string);
            self.wrong(&format!("confirmed to the platform, but never delivered: {pushed}"));
        }
    }
}

fn shown(event: &ReceivedEvent) -> String {
    let ReceivedEvent { id, sequence, attempt, answered, body, .. } = event;
    format!(
        "event {id} (sequence {sequence:?}, attempt {attempt:?}, answered {answered}, {})",
        start_of(body)
    )
}

fn start_of(bytes: &[u8]) -> String {
    const SHOWN: usize = 240;
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
    format!("{} bytes: {start:?}", bytes.len())
}
