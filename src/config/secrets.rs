//! Secrets: where they come from, and what they must look like.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_PAD_INDIFFERENT};

use super::{
    Environment, Secret, SigningKey,
    load::read_limited,
    plain::plain,
    reader::{Item, shown},
    suggest::closest,
    tree::{Node, Table, Value},
    values::Invalid,
};

/// No secret is larger.
const LARGEST_SECRET: u64 = 64 << 10;
const EXAMPLE: &str = "`{ env = \"NAME\" }`, `{ file = \"PATH\" }` or `{ credential = \"NAME\" }`";

/// Whether the text of a secret in the file itself deserves a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    /// It is a secret by its nature.
    Warned,
    /// It usually is none: the value of a header.
    Usual,
}

/// Reads a secret from wherever it says. Mistakes are reported, without showing it.
pub(super) fn secret(item: Item<'_>, env: &dyn Environment, literal: Literal) -> Option<Secret> {
    let text = match &item.node.value {
        Value::Text(text) => {
            if literal == Literal::Warned {
                item.report.literal_secret(item.span());
            }
            text.clone()
        }
        Value::Table(table) => referenced(item, table, env)?,
        _ => {
            item.hidden_problem(item.type_mismatch("a secret", EXAMPLE));
            return None;
        }
    };
    if text.is_empty() {
        item.hidden_problem(Invalid::new("the secret is empty").help("give it a value"));
        return None;
    }
    Some(Secret::new(text))
}

/// One secret, or an array of them during a rotation.
pub(super) fn secrets<'r>(item: Item<'r>, env: &dyn Environment) -> Option<Vec<(Item<'r>, Secret)>> {
    let elements: Vec<&'r Node> = match &item.node.value {
        Value::List(list) => list.iter().collect(),
        _ => vec![item.node],
    };
    if elements.is_empty() {
        item.problem(Invalid::new("must not be empty").help("leave the knob out, or give it a secret"));
        return None;
    }
    let read: Vec<_> = elements
        .iter()
        .map(|node| {
            let element = item.element(node);
            secret(element, env, Literal::Warned).map(|secret| (element, secret))
        })
        .collect();
    // One bad secret is enough to refuse, but all bad ones are reported.
    read.into_iter().collect()
}

/// A signing key from its `whsec_` text.
pub(super) fn signing_key(item: Item<'_>, secret: &Secret) -> Option<SigningKey> {
    const MAKE_ONE: &str = "make one with: echo \"whsec_$(openssl rand -base64 32)\"";
    let invalid = match secret.expose().strip_prefix("whsec_").map(|key| STANDARD_PAD_INDIFFERENT.decode(key))
    {
        Some(Ok(key)) if (24..=64).contains(&key.len()) => return Some(SigningKey(key)),
        Some(Ok(key)) => format!("a signing secret has 24 to 64 bytes, not {}", key.len()),
        Some(Err(_)) => "what follows `whsec_` must be base64".into(),
        None => "a signing secret starts with `whsec_`".into(),
    };
    item.hidden_problem(Invalid::new(invalid).help(MAKE_ONE));
    None
}

/// Whether a secret can stand in an `Authorization` header and arrive as it was sent.
pub(super) fn is_token(secret: &Secret) -> bool {
    secret.expose().bytes().all(|b| b.is_ascii_graphic())
}

fn referenced(item: Item<'_>, table: &Table, env: &dyn Environment) -> Option<String> {
    const KINDS: [&str; 3] = ["env", "file", "credential"];
    let [(key, node)] = table.entries.as_slice() else {
        item.hidden_problem(Invalid::new("must name exactly one source").help(format!("write {EXAMPLE}")));
        return None;
    };
    if !KINDS.contains(&key.name.as_str()) {
        let help = match closest(&key.name, KINDS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {EXAMPLE}"),
        };
        item.hidden_problem(
            Invalid::new(format!("`{}` is no source of a secret", plain(&key.name))).help(help),
        );
        return None;
    }
    let source = item.element(node);
    let Value::Text(name) = &node.value else {
        source.hidden_problem(source.type_mismatch("a text", EXAMPLE));
        return None;
    };
    let read = match key.name.as_str() {
        "env" => from_env(name, env),
        "file" => {
            let path = item.report.resolve(&node.span, name);
            warn_if_world_readable(source, &path);
            from_file(&path)
        }
        _ => from_credential(name, env),
    };
    read.map_err(|invalid| {
        // Someone may have put the secret where its name belongs.
        if looks_like_a_secret(name) { source.hidden_problem(invalid) } else { source.problem(invalid) }
    })
    .ok()
}

fn looks_like_a_secret(name: &str) -> bool {
    name.starts_with("whsec_")
}

fn from_env(name: &str, env: &dyn Environment) -> Result<String, Invalid> {
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name || looks_like_a_secret(name) {
        return Err(Invalid::new("is not the name of an environment variable")
            .help("name the variable that holds the secret, such as { env = \"CRM_SECRET\" }"));
    }
    let Some(value) = env.var(name) else {
        return Err(Invalid::new(format!("the environment variable {name} is not set"))
            .help("set it in the environment that rtm-bridge runs in"));
    };
    let value = value
        .into_string()
        .map_err(|_| Invalid::new(format!("the environment variable {name} is not UTF-8 text")))?;
    if value.is_empty() {
        return Err(Invalid::new(format!("the environment variable {name} is empty")).help("give it a value"));
    }
    Ok(value)
}

fn from_file(path: &Path) -> Result<String, Invalid> {
    let name = shown(path);
    let bytes = read_limited(path, LARGEST_SECRET).map_err(|error| {
        let invalid = Invalid::new(format!("can't read {name}: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => invalid.help("create the file, or correct the path"),
            io::ErrorKind::PermissionDenied => invalid.help("let the user that runs rtm-bridge read it"),
            _ => invalid,
        }
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Invalid::new(format!("{name} is not UTF-8 text")))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Invalid::new(format!("{name} is empty")).help("put the secret into it"));
    }
    Ok(secret.to_owned())
}

fn from_credential(name: &str, env: &dyn Environment) -> Result<String, Invalid> {
    let dir: PathBuf = env.credentials_dir().ok_or_else(|| {
        Invalid::new("there are no credentials: $CREDENTIALS_DIRECTORY is not set")
            .help("run it as a systemd service with LoadCredential=, or use { file = ... } or { env = ... }")
    })?;
    let mut components = Path::new(name).components();
    let is_name = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
    if !is_name || name.contains(['/', '\0']) {
        return Err(Invalid::new("is not the name of a credential")
            .help("write the name that LoadCredential= gives it, without a path"));
    }
    from_file(&dir.join(name))
}

/// Warns of a secret that every user of the machine can read.
pub(super) fn warn_if_world_readable(item: Item<'_>, path: &Path) {
    if is_world_readable(path) {
        let path = shown(path);
        item.warn(format!("every user of this machine can read {path}: chmod o= {path}"));
    }
}

pub(super) fn is_world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0)
}
