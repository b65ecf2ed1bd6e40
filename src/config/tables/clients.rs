//! `[clients.NAME]`

use wildmatch::WildMatch;

use super::Names;
use crate::{
    config::{
        Client, Environment, Scopes, Secret,
        plain::plain,
        reader::{self, Item, TableReader, unknown_word},
        secrets::{is_token, secrets},
        values::Invalid,
    },
    names::ClientName,
};

/// A token of this many characters can't be guessed.
const SAFE_TOKEN: usize = 16;

/// The tokens of all clients: one that two clients share would not say who calls.
#[derive(Default)]
pub(super) struct Tokens(Vec<(String, Secret)>);

impl Tokens {
    /// Notes a client's token, or says whose it is already.
    fn note(&mut self, client: &str, token: &Secret) -> Result<(), &str> {
        if let Some(at) = self.0.iter().position(|(other, known)| known == token && other != client) {
            return Err(&self.0[at].0);
        }
        self.0.push((client.to_owned(), token.clone()));
        Ok(())
    }
}

pub(super) fn read(
    name: Option<&ClientName>,
    mut table: TableReader<'_>,
    names: &Names,
    env: &dyn Environment,
    tokens: &mut Tokens,
) -> Option<Client> {
    let name = name.map_or("?", |name| name.as_str());
    let token = table.required("token", "{ env = \"API_TOKEN\" }", |item| {
        let secrets = secrets(item, env)?;
        let checked: Vec<_> =
            secrets.into_iter().map(|(element, secret)| token(element, secret, name, tokens)).collect();
        checked.into_iter().collect::<Option<Vec<_>>>()
    });
    let users = table.required("users", "[\"*\"]", |item| users(item, names));
    let scopes = table.knob("scopes", Scopes::default(), scopes);
    let rate = table.optional("rate", reader::rate);
    table.finish();
    Some(Client { tokens: token?, users: users?, scopes, rate })
}

fn token(item: Item<'_>, token: Secret, client: &str, tokens: &mut Tokens) -> Option<Secret> {
    if !is_token(&token) {
        item.hidden_problem(
            Invalid::new("a token consists of visible ASCII characters, without spaces")
                .help("make one with: openssl rand -hex 32"),
        );
        return None;
    }
    if let Err(other) = tokens.note(client, &token) {
        let invalid = Invalid::new(format!("the client `{other}` has the same token"));
        item.hidden_problem(invalid.help("give each client a token of its own"));
        return None;
    }
    if token.expose().len() < SAFE_TOKEN {
        item.warn("the token is short enough to be guessed; make one with: openssl rand -hex 32");
    }
    Some(token)
}

fn users(item: Item<'_>, names: &Names) -> Option<Vec<String>> {
    let list = item.list("[\"*\"]")?;
    if list.is_empty() {
        item.problem(Invalid::new("must not be empty").help("name users or globs; `[\"*\"]` for every user"));
        return None;
    }
    let mut globs = Vec::new();
    for node in list {
        let element = item.element(node);
        let Some(glob) = element.text("\"sales-*\"") else { continue };
        let is_glob = !glob.is_empty()
            && glob.len() <= 128
            && glob.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-*?".contains(&b));
        if !is_glob {
            element.problem(
                Invalid::new(format!("`{}` can't match any user", plain(glob)))
                    .help("a user's name, or a glob such as \"sales-*\""),
            );
            continue;
        }
        let pattern = WildMatch::new(glob);
        if !names.users.is_empty() && !names.users.iter().any(|user| pattern.matches(user.as_str())) {
            element.warn(format!("no user matches `{glob}`"));
        }
        globs.push(glob.to_owned());
    }
    Some(globs)
}

fn scopes(item: Item<'_>) -> Option<Scopes> {
    let list = item.list("[\"send\", \"read\"]")?;
    if list.is_empty() {
        item.problem(Invalid::new("must not be empty").help("one or more of \"send\", \"read\", \"admin\""));
        return None;
    }
    let mut scopes = Scopes { send: false, read: false, admin: false };
    for node in list {
        let element = item.element(node);
        match element.text("\"read\"") {
            Some("send") => scopes.send = true,
            Some("read") => scopes.read = true,
            Some("admin") => scopes.admin = true,
            Some(other) => element.problem(unknown_word(other, ["send", "read", "admin"].into_iter())),
            None => {}
        }
    }
    Some(scopes)
}
