//! How users sign in: what each way of saying it means.

use super::{BASE, valid, warnings};
use crate::config::{
    Bot, Credentials, HistorySource, HmacAlgorithm, Identity, PrivateKey, RsaAlgorithm, TokenServiceBody,
    explain,
};

/// The bot of [`BASE`] with other knobs in the place of its client secret.
fn bot_with(knobs: &str) -> Bot {
    let text = BASE.replace("client_secret = { env = \"BOT_SECRET\" }", knobs);
    valid(&text).bots.into_values().next().unwrap()
}

#[test]
fn a_client_secret_signs_in_one_of_two_ways() {
    for (knobs, expected) in [("", HmacAlgorithm::Hs256), ("algorithm = \"HS512\"", HmacAlgorithm::Hs512)] {
        let bot = bot_with(&format!("client_secret = {{ env = \"BOT_SECRET\" }}\n{knobs}"));
        let Credentials::ClientSecret { secret, algorithm } = bot.credentials else { panic!("{bot:?}") };
        assert_eq!((secret.expose(), algorithm), ("a-quite-secret-text", expected));
    }
}

#[test]
fn a_private_key_signs_in_one_of_two_ways_whatever_form_it_has() {
    let pkcs1 = include_str!("../fixtures/signing-pkcs1.pem");
    for (knobs, expected) in [("", RsaAlgorithm::Rs256), ("algorithm = \"RS512\"", RsaAlgorithm::Rs512)] {
        let bot = bot_with(&format!("private_key = {{ env = \"RSA_KEY\" }}\n{knobs}"));
        let Credentials::PrivateKey { key, algorithm } = bot.credentials else { panic!("{bot:?}") };
        assert_eq!((key.bits(), algorithm), (2048, expected));
        assert_eq!(key, PrivateKey::from_pem(pkcs1).unwrap());
        assert_eq!(format!("{key:?}"), "[private key]");
    }
}

#[test]
fn a_token_service_is_asked_as_it_says() {
    let bot = bot_with("sts = { url = \"https://sts.example/jwt?tenant=1\" }");
    let Credentials::TokenService(service) = bot.credentials else { panic!("{bot:?}") };
    assert_eq!((service.body, &*service.jwt_field), (TokenServiceBody::Json, "jwt"));
    assert!(service.bearer.is_none() && service.headers.is_empty() && service.fields.is_empty());
    let all = "[bots.support.sts]\nurl = \"http://127.0.0.1:1/\"\nbearer = { env = \"CRM_BEARER\" }\n\
        body = \"form\"\njwt_field = \"token\"\nheaders = { X-Tenant = \"a\" }\nfields = { clientSecret = \"s\" }\n";
    let bot = bot_with(all);
    let Credentials::TokenService(service) = bot.credentials else { panic!("{bot:?}") };
    assert_eq!((service.body, &*service.jwt_field), (TokenServiceBody::Form, "token"));
    assert_eq!(service.bearer.unwrap().expose(), "a-quite-secret-text");
    let names = |pairs: &[(String, crate::config::Secret)]| pairs[0].0.clone();
    assert_eq!((names(&service.headers), names(&service.fields)), ("x-tenant".into(), "clientSecret".into()));
}

#[test]
fn a_token_service_without_tls_takes_an_insecure_platform() {
    let sts = "sts = { url = \"http://sts.example/\" }";
    let text = BASE.replace("client_secret = { env = \"BOT_SECRET\" }", sts);
    assert!(super::load(&text).is_err());
    valid(&format!("[platform]\ninsecure = true\n{text}"));
}

#[test]
fn an_anonymous_user_needs_no_identity() {
    let nobody = "[users.b]\nbot = \"support\"\nanonymous = true\nwebhooks = []\n";
    let text = format!("{BASE}{nobody}{}", nobody.replace("users.b", "users.c"));
    let users = valid(&text).users;
    for name in ["b", "c"] {
        assert_eq!(users.get(name).unwrap().identity, Identity::Anonymous(None), "no two have the same");
    }
    let named = valid(&format!("{BASE}{nobody}identity = \"visitor\"\n"));
    assert_eq!(named.users.get("b").unwrap().identity, Identity::Anonymous(Some("visitor".into())));
    let known = valid(&format!("{BASE}{}identity = \"bob\"\n", nobody.replace("true", "false")));
    assert_eq!(known.users.get("b").unwrap().identity, "bob".into());
    assert_eq!(warnings(&text), []);
}

#[test]
fn check_says_what_is_out_of_the_ordinary_and_no_secrets() {
    let key = "private_key = { env = \"RSA_KEY\" }\n";
    let sts = "sts = { url = \"https://sts.example/jwt?key=hush\", bearer = { env = \"CRM_BEARER\" } }\n";
    let secret =
        "client_secret = { env = \"BOT_SECRET\" }\nalgorithm = \"HS512\"\nhistory = \"conversations\"\n";
    let bot = |name: &str, knobs: &str| {
        format!("[bots.{name}]\nname = \"B\"\nid = \"st-{name}\"\nclient_id = \"cs-{name}\"\n{knobs}")
    };
    let user = |name: &str, more: &str| format!("[users.{name}]\nbot = \"{name}\"\nwebhooks = []\n{more}\n");
    let text = [
        "[platform]\nsecure_handshake = true\n".to_owned(),
        bot("a", key),
        bot("b", sts),
        bot("c", secret),
        user("a", "anonymous = true"),
        user("b", "anonymous = true\nidentity = \"visitor\""),
        user("c", "identity = \"carol\""),
    ];
    let config = valid(&text.concat());
    assert_eq!(config.bots.get("c").unwrap().history, HistorySource::Conversations);
    let said = explain(&config, &[]).to_string();
    let said = said.lines().filter(|line| !line.starts_with(['A', 'O', 'S', 'M', 'C', '0']));
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @r#"
    Platform:  https://bots.kore.ai/, with the secure handshake, at most 4.5 requests a second and bot (bursts of 60)
    3 bots:
      a: "B", id st-a, client cs-a
        JWTs signed with its private key (RS256, 2048 bits)
      b: "B", id st-b, client cs-b
        JWTs from https://sts.example/jwt?... (asked with JSON)
      c: "B", id st-c, client cs-c
        JWTs signed with its client secret (HS512)
        what was missed is read with the Conversation History API
    3 users:
      a: anonymous (the bridge makes its identity) on a, events to no webhook (inbox and live tail only)
      b: "visitor" (anonymous) on b, events to no webhook (inbox and live tail only)
      c: "carol" on c, events to no webhook (inbox and live tail only)
    "#);
}
