//! Whatever is wrong with a file: nothing that is said about it holds a secret, and nothing panics.

use proptest::prelude::*;

use super::{Dir, Fake};

/// What must never be shown: each secret holds it.
const SECRET: &str = "hunter2";

/// A file with a secret wherever there can be one.
const FULL_OF_SECRETS: &str = r#"[bots.support]
name = "Support"  # was hunter2
id = "st-1"
client_id = "cs-1"
client_secret = "hunter2-one"
[webhooks.crm]
url = "https://crm.example.com/events?token=hunter2"
secret = ["whsec_hunter2AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
  "whsec_hunter2BBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
]
bearer = 'hunter2-two'
headers = { x-key = "hunter2-three", x-other = """
hunter2-four""" }
[webhooks.old]
url = "https://u:hunter2@crm.example.com"
basic_auth = { user = "u", password = "hunter2-five" }
[webhooks.old.headers]
x-api-key = "hunter2-six"
[webhooks.older]
url = "https://crm.example.com"
basic_auth = "u:hunter2"
[webhooks.oldest]
url = "https://crm.example.com"
basic_auth = { user = "u:hunter2", password = "hunter2" }
[clients.crm]
token = "hunter2-seven hunter2-eight"
users = ["*"]
[users.alice]
bot = "support"
identity = "alice"
webhooks = ["crm"]
client_secret = "hunter2-nine"
[platform]
url = "https://u:hunter2@a.example"
"#;

/// Everything that is said about a file.
fn said_about(text: &[u8]) -> String {
    let dir = Dir::new();
    dir.write("bridge.toml", text);
    match dir.load_with(&Fake::usual()) {
        Ok((config, warnings)) => {
            let explained = crate::config::explain(&config, &warnings);
            format!("{explained}\n{warnings:?}")
        }
        Err(errors) => format!("{errors}\n{errors:?}"),
    }
}

#[test]
fn a_file_full_of_secrets_keeps_them() {
    let said = said_about(FULL_OF_SECRETS.as_bytes());
    assert!(said.contains("must not hold a user or a password"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

#[test]
fn debug_and_explanation_of_a_good_file_keep_them() {
    let text = FULL_OF_SECRETS
        .replace("basic_auth = \"u:hunter2\"\n", "")
        .replace("user = \"u:hunter2\"", "user = \"u\"")
        .replace("https://u:hunter2@", "https://")
        .replace("seven hunter2-eight", "seven")
        .replace("hunter2AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "hunter2AAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        .replace("hunter2BBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", "hunter2BBBBBBBBBBBBBBBBBBBBBBBBBBBBB")
        .replace("client_secret = \"hunter2-nine\"\n", "")
        .replace("\"\"\"\nhunter2-four\"\"\"", "\"hunter2-four\"")
        .replace("?token=hunter2", "");
    let dir = Dir::new();
    dir.write("bridge.toml", &text);
    let (config, _) = dir.load().unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(!said_about(text.as_bytes()).contains(SECRET));
}

#[test]
fn each_line_alone_out_of_place_keeps_its_secret() {
    let lines: Vec<_> = FULL_OF_SECRETS.lines().collect();
    for line in &lines {
        // In every table, unquoted, and cut off before its end.
        for table in
            ["", "[bots.b]\n", "[users.b]\n", "[webhooks.b]\n", "[clients.b]\n", "[platform]\n", "[x]\n"]
        {
            for line in
                [line.to_string(), line.replace(['"', '\''], ""), format!("{line}\""), format!("x\n{line}")]
            {
                let said = said_about(format!("{table}{line}\n").as_bytes());
                // A bare line is a key to the parser, and a key may be shown: no secret is one.
                let is_key = line.starts_with("  whsec") || line.starts_with(SECRET);
                assert!(is_key || !said.contains(SECRET), "{table}{line}\n\n{said}");
            }
        }
    }
}

/// A way to spoil a file.
#[derive(Debug, Clone)]
enum Spoil {
    Insert(prop::sample::Index, String),
    Remove(prop::sample::Index, usize),
    Overwrite(prop::sample::Index, u8),
    SwapLines(prop::sample::Index, prop::sample::Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let inserted = prop_oneof![
        "[\\[\\]{}=\"'#\\n.,\\\\a-z0-9-]{1,4}",
        Just("\"\"\"".to_owned()),
        Just("'''".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("日本".to_owned()),
        "\\PC{1,3}",
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), inserted).prop_map(|(at, text)| Spoil::Insert(at, text)),
        // Longer ones would put a secret where something else belongs.
        (any::<prop::sample::Index>(), 1usize..6).prop_map(|(at, count)| Spoil::Remove(at, count)),
        any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Spoil::Overwrite(at, byte)),
        any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(a, b)| Spoil::SwapLines(a, b)),
    ]
}

fn spoiled(text: &str, spoils: &[Spoil]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for spoil in spoils {
        match spoil {
            Spoil::Insert(at, text) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, text.bytes());
            }
            Spoil::Remove(at, count) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Spoil::Overwrite(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Spoil::SwapLines(a, b) => {
                let mut lines: Vec<_> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
                bytes = lines.join(&b'\n');
            }
            Spoil::Remove(..) | Spoil::Overwrite(..) => {}
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

    #[test]
    fn no_spoiled_file_panics_or_leaks(spoils in prop::collection::vec(spoil(), 1..5)) {
        let said = said_about(&spoiled(FULL_OF_SECRETS, &spoils));
        prop_assert!(!said.contains(SECRET), "{said}");
    }

    #[test]
    fn no_spoiled_shipped_file_panics(spoils in prop::collection::vec(spoil(), 1..8)) {
        let _ = said_about(&spoiled(include_str!("../../../bridge.toml"), &spoils));
    }
}
