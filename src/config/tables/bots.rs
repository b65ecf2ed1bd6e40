//! `[bots.NAME]`

use super::{
    urls::{self, Purpose},
    webhooks,
};
use crate::config::{
    Bot, Credentials, Environment, HistorySource, HmacAlgorithm, Platform, PrivateKey, RsaAlgorithm, Secret,
    TokenService, TokenServiceBody,
    reader::{Item, TableReader},
    secrets::{Literal, secret},
    tree::Value,
    values::Invalid,
};

/// The knobs of which a bot has exactly one.
const SOURCES: [&str; 3] = ["client_secret", "private_key", "sts"];
/// What the bridge itself tells a token service.
const OWN_FIELDS: [&str; 4] = ["clientId", "identity", "aud", "isAnonymous"];

/// A name of `algorithm`, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Hmac(HmacAlgorithm),
    Rsa(RsaAlgorithm),
}

pub(super) fn read(mut table: TableReader<'_>, env: &dyn Environment, platform: &Platform) -> Option<Bot> {
    let name = table.required("name", "\"Support\"", |item| Some(item.nonempty("\"Support\"")?.to_owned()));
    let id = table.required("id", "\"st-...\"", |item| Some(item.nonempty("\"st-...\"")?.to_owned()));
    let client_id =
        table.required("client_id", "\"cs-...\"", |item| Some(item.nonempty("\"cs-...\"")?.to_owned()));
    let credentials = credentials(&mut table, env, platform);
    let history = table.knob("history", HistorySource::default(), |item| {
        item.choice(&[
            ("rtm", HistorySource::Rtm),
            ("botkit", HistorySource::Botkit),
            ("conversations", HistorySource::Conversations),
        ])
    });
    check_history(&table, history);
    warn_of_unusual_ids(&table, id.as_deref(), client_id.as_deref());
    table.finish();
    Some(Bot { name: name?, id: id?, client_id: client_id?, credentials: credentials?, history })
}

/// Where JWTs come from: one of three, each of which takes its own algorithms.
fn credentials(
    table: &mut TableReader<'_>,
    env: &dyn Environment,
    platform: &Platform,
) -> Option<Credentials> {
    let algorithm = table.optional("algorithm", |item| {
        item.choice(&[
            ("HS256", Algorithm::Hmac(HmacAlgorithm::Hs256)),
            ("HS512", Algorithm::Hmac(HmacAlgorithm::Hs512)),
            ("RS256", Algorithm::Rsa(RsaAlgorithm::Rs256)),
            ("RS512", Algorithm::Rsa(RsaAlgorithm::Rs512)),
        ])
    });
    let key = table.optional("private_key", |item| private_key(item, env));
    let service = table.optional("sts", |item| token_service(item, env, platform));
    let present: Vec<&str> = SOURCES.into_iter().filter(|key| table.has(key)).collect();
    let secret = match present.is_empty() || table.has("client_secret") {
        true => table.required("client_secret", "{ env = \"BOT_CLIENT_SECRET\" }", |item| {
            secret(item, env, Literal::Warned)
        }),
        false => table.optional("client_secret", |_| None),
    };
    if let [first, .., last] = present[..] {
        if let Some(item) = table.item(last) {
            item.hidden_problem(
                Invalid::new(format!("`{first}` and `{last}` both say where this bot's JWTs come from"))
                    .help("keep one of `client_secret`, `private_key` and `sts`"),
            );
        }
        return None;
    }
    check_algorithm(table, algorithm, present.first().copied());
    let credentials = match (secret, key, service) {
        (Some(secret), _, _) => {
            let algorithm = match algorithm {
                Some(Algorithm::Hmac(algorithm)) => algorithm,
                _ => HmacAlgorithm::default(),
            };
            Credentials::ClientSecret { secret, algorithm }
        }
        (_, Some(key), _) => {
            let algorithm = match algorithm {
                Some(Algorithm::Rsa(algorithm)) => algorithm,
                _ => RsaAlgorithm::default(),
            };
            Credentials::PrivateKey { key, algorithm }
        }
        (_, _, Some(service)) => Credentials::TokenService(service),
        (None, None, None) => return None,
    };
    Some(credentials)
}

fn check_algorithm(table: &TableReader<'_>, algorithm: Option<Algorithm>, source: Option<&str>) {
    let (Some(algorithm), Some(item)) = (algorithm, table.item("algorithm")) else { return };
    let invalid = match (algorithm, source) {
        (Algorithm::Hmac(_), Some("private_key")) => {
            Invalid::new("a private key signs with \"RS256\" or \"RS512\"")
                .help("change it, or give `client_secret` in the place of `private_key`")
        }
        (Algorithm::Rsa(_), Some("client_secret")) => {
            Invalid::new("a client secret signs with \"HS256\" or \"HS512\"")
                .help("change it, or give `private_key` in the place of `client_secret`")
        }
        (_, Some("sts")) => {
            Invalid::new("the token service signs, and so decides how").help("remove `algorithm`")
        }
        _ => return,
    };
    item.problem(invalid);
}

/// Both of the app's own histories want a JWT that is signed with the client secret.
fn check_history(table: &TableReader<'_>, history: HistorySource) {
    if history == HistorySource::Rtm || table.has("client_secret") {
        return;
    }
    let source = SOURCES.into_iter().find(|key| table.has(key));
    if let (Some(source), Some(item)) = (source, table.item("history")) {
        item.problem(
            Invalid::new(format!(
                "this API takes JWTs that are signed with the app's client secret, and this bot has `{source}`"
            ))
            .help("leave it at \"rtm\", or give `client_secret`"),
        );
    }
}

fn private_key(item: Item<'_>, env: &dyn Environment) -> Option<PrivateKey> {
    let pem = secret(item, env, Literal::Warned)?;
    PrivateKey::from_pem(pem.expose())
        .map_err(|why| {
            item.hidden_problem(Invalid::new(format!("can't sign with this: {why}")).help(
                "make one with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem, \
                 and give the platform its public half",
            ));
        })
        .ok()
}

fn token_service(item: Item<'_>, env: &dyn Environment, platform: &Platform) -> Option<TokenService> {
    const EXAMPLE: &str = "`{ url = \"https://sts.example.com/jwt\", bearer = { env = \"STS_TOKEN\" } }`";
    let mut table = TableReader::inline(item, "bots.*.sts", EXAMPLE)?;
    let url = table
        .required("url", "\"https://sts.example.com/jwt\"", |item| urls::url(item, Purpose::TokenService));
    let bearer = table.optional("bearer", |item| webhooks::bearer(item, env));
    let sets_authorization = table.has("bearer");
    let headers = table
        .optional("headers", |item| webhooks::headers(item, env, sets_authorization))
        .unwrap_or_default();
    let body = table.knob("body", TokenServiceBody::default(), |item| {
        item.choice(&[("json", TokenServiceBody::Json), ("form", TokenServiceBody::Form)])
    });
    let fields = table.optional("fields", |item| fields(item, env)).unwrap_or_default();
    let jwt_field =
        table.knob("jwt_field", "jwt".to_owned(), |item| Some(item.nonempty("\"jwt\"")?.to_owned()));
    if let (Some(url), Some(item)) = (&url, table.item("url"))
        && urls::is_exposed(url)
        && !platform.insecure
    {
        item.problem(
            Invalid::new("http:// would send credentials and JWTs unencrypted")
                .help("use https://, or set `insecure = true` under [platform] for a test"),
        );
    }
    table.finish();
    Some(TokenService { url: url?, bearer, headers, body, fields, jwt_field })
}

/// What a token service wants to be told beside what the bridge tells it.
fn fields(item: Item<'_>, env: &dyn Environment) -> Option<Vec<(String, Secret)>> {
    let Value::Table(table) = &item.node.value else {
        item.hidden_problem(item.type_mismatch("a table", "`{ clientSecret = { env = \"STS_SECRET\" } }`"));
        return None;
    };
    let mut fields = Vec::new();
    for (key, node) in &table.entries {
        let path = item.path.join(&key.name);
        let item = Item { node, path: &path, ..item };
        if OWN_FIELDS.contains(&key.name.as_str()) {
            item.hidden_problem(
                Invalid::new("the bridge sets this field itself").help("choose another name"),
            );
            continue;
        }
        if let Some(value) = secret(item, env, Literal::Usual) {
            fields.push((key.name.clone(), value));
        }
    }
    Some(fields)
}

/// The two ids look alike and are easily swapped.
fn warn_of_unusual_ids(table: &TableReader<'_>, id: Option<&str>, client_id: Option<&str>) {
    for (key, value, prefix) in [("id", id, "st-"), ("client_id", client_id, "cs-")] {
        if let (Some(value), Some(item)) = (value, table.item(key))
            && !value.starts_with(prefix)
        {
            item.warn(format!("usually starts with `{prefix}`: is it the right id?"));
        }
    }
}
