//! `[users.NAME]`

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Names;
use crate::{
    config::{
        Bot, Identity, User,
        plain::plain,
        reader::{Item, TableReader, flag},
        suggest::did_you_mean,
        tree::Value,
        values::Invalid,
    },
    names::{BotName, Kind, Name, UserName, WebhookName},
};

/// The longest identity; it goes into every JWT.
const LONGEST_IDENTITY: usize = 1024;

/// Who is who on which bot: where each identity was first used.
pub(super) struct Identities<'b> {
    bots: &'b BTreeMap<BotName, Bot>,
    first: HashMap<(String, String), String>,
}

impl<'b> Identities<'b> {
    pub(super) fn new(bots: &'b BTreeMap<BotName, Bot>) -> Self {
        Self { bots, first: HashMap::new() }
    }

    /// Notes an identity, or says where it was used before. Two tables may mean one bot of the
    /// platform, so its id counts.
    fn note(&mut self, bot: &BotName, identity: &str, place: String) -> Result<(), String> {
        let bot = self.bots.get(bot).map_or(bot.as_str(), |bot| &bot.id);
        match self.first.entry((bot.to_owned(), identity.to_owned())) {
            std::collections::hash_map::Entry::Occupied(first) => Err(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place);
                Ok(())
            }
        }
    }
}

pub(super) fn read(
    name: Option<&UserName>,
    mut table: TableReader<'_>,
    names: &Names,
    identities: &mut Identities<'_>,
) -> Option<User> {
    let bot = table.required("bot", "\"support\"", |item| {
        let text = item.text("\"support\"")?;
        reference(item, text, &names.bots)
    });
    let anonymous = table.knob("anonymous", false, flag);
    let subject = match anonymous {
        true => table.optional("identity", identity).map(Some).or(Some(None)),
        false => table.required("identity", "\"alice@example.com\"", identity).map(Some),
    };
    let webhooks = table.required("webhooks", "[\"crm\"]", |item| webhooks(item, names));
    if let (Some(bot), Some(Some(identity)), Some(item)) = (&bot, &subject, table.item("identity")) {
        let user = name.map_or("?", |name| name.as_str());
        let place = format!("[users.{user}] at {}", item.place());
        if let Err(first) = identities.note(bot, identity, place) {
            item.problem(
                Invalid::new(format!("the bot `{bot}` has this identity already: {first}"))
                    .help("one connection per identity and bot; add webhooks to the first user instead"),
            );
        }
    }
    table.finish();
    let identity = match (anonymous, subject?) {
        (false, Some(subject)) => Identity::Known(subject),
        (_, subject) => Identity::Anonymous(subject),
    };
    Some(User { bot: bot?, identity, webhooks: webhooks? })
}

fn identity(item: Item<'_>) -> Option<String> {
    let text = item.text("\"alice@example.com\"")?;
    let invalid = if text.is_empty() {
        Invalid::new("must not be empty")
            .help("the user's id as the platform knows it, such as an email address")
    } else if text.len() > LONGEST_IDENTITY {
        Invalid::new(format!("is too long: at most {LONGEST_IDENTITY} bytes"))
    } else {
        return Some(text.to_owned());
    };
    item.problem(invalid);
    None
}

fn webhooks(item: Item<'_>, names: &Names) -> Option<Vec<WebhookName>> {
    let list = match &item.node.value {
        Value::Text(text) => {
            let help = format!("did you mean `[\"{}\"]`?", plain(text));
            item.problem(Invalid::new("must be an array").help(help));
            return None;
        }
        _ => item.list("[\"crm\"]")?,
    };
    let mut webhooks = Vec::new();
    for node in list {
        let element = item.element(node);
        let Some(name) = element.text("\"crm\"").and_then(|text| reference(element, text, &names.webhooks))
        else {
            continue;
        };
        if webhooks.contains(&name) {
            element.problem(Invalid::new(format!("`{name}` is listed twice")).help("remove one of them"));
        }
        webhooks.push(name);
    }
    Some(webhooks)
}

/// A name that must be defined.
fn reference<K: Kind>(item: Item<'_>, text: &str, defined: &BTreeSet<Name<K>>) -> Option<Name<K>> {
    if let Some(name) = defined.get(text) {
        return Some(name.clone());
    }
    let word = K::WORD;
    let help = did_you_mean(text, defined.iter().map(Name::as_str))
        .unwrap_or_else(|| format!("add `[{word}s.{}]`", plain(text)));
    item.problem(Invalid::new(format!("there is no {word} `{}`", plain(text))).help(help));
    None
}
