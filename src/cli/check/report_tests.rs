//! What people see of `check --online`.

use std::fs;

use super::*;
use crate::{
    config::{Environment, ReconnectQuery},
    names::{BotName, UserName, WebhookName},
    rtm::{
        failure::{Failure, FailureKind, Step},
        probe::{Spared, Trouble, Walk},
        session::CloseCause,
        token::Skew,
    },
    unreachable::{TlsTrouble, Unreachable},
    webhook::{self, AttemptResult, RetryCause, Unreached},
};

const CONFIG: &str = r#"
[platform]
url = "https://bots.example.com"
[bots.support]
name = "Support"
id = "st-1"
client_id = "cs-1"
client_secret = { env = "SECRET" }
[webhooks.crm]
url = "https://crm.example.com/a-secret-path"
bearer = { env = "SECRET" }
[webhooks.plain]
url = "http://10.0.0.7:8080/"
[users.alice]
bot = "support"
identity = "alice"
webhooks = ["crm", "plain"]
"#;

struct Secrets;

impl Environment for Secrets {
    fn var(&self, name: &str) -> Option<std::ffi::OsString> {
        (name == "SECRET").then(|| "nobody-may-see-this-secret".into())
    }
}

fn config() -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bridge.toml");
    fs::write(&file, CONFIG).unwrap();
    Config::load(&file, &Secrets).unwrap().0
}

fn shown(findings: &Findings, post: bool) -> String {
    let styled = report(&config(), findings, post);
    let plain = anstream::adapter::strip_str(&styled).to_string();
    for line in plain.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    assert!(!plain.contains("nobody-may-see") && !plain.contains("a-secret-path"), "{plain}");
    plain
}

fn only_users(users: Vec<UserFinding>) -> Findings {
    Findings { skew: Some(Skew(800)), users, webhooks: Vec::new() }
}

fn user(name: &str, took: &[(Stage, u64)], end: End) -> UserFinding {
    let took = took.iter().map(|(stage, millis)| (*stage, Duration::from_millis(*millis))).collect();
    let (name, bot) = (UserName::new(name).unwrap(), BotName::new("support").unwrap());
    UserFinding { name, bot, walk: Some(Walk { took, end }) }
}

fn failed(stage: Stage, step: Step, kind: FailureKind, words: &str) -> End {
    End::Failed(stage, Trouble::Request(Failure::new(step, kind, words)))
}

const ALL: [(Stage, u64); 3] = [(Stage::Grant, 0), (Stage::Start, 85), (Stage::Socket, 1_250)];

fn hook(name: &str, way: Way) -> WebhookFinding {
    WebhookFinding { name: WebhookName::new(name).unwrap(), is_encrypted: name == "crm", way: Some(way) }
}

fn unreached(leg: Leg, kind: webhook::FailureKind, text: &str, cause: Unreachable) -> Way {
    Way::Unreached(Unreached { leg, failure: webhook::Failure { kind, text: text.to_owned() }, cause })
}

fn answered(outcome: Outcome, status: u16) -> Way {
    let took = Duration::from_millis(3);
    Way::Reached(Some(AttemptResult {
        outcome,
        status: Some(status),
        failure: None,
        answer: Vec::new(),
        took,
    }))
}

#[test]
fn all_is_well() {
    let findings = Findings {
        webhooks: vec![hook("crm", answered(Outcome::Delivered, 204)), hook("plain", Way::Reached(None))],
        ..only_users(vec![user("alice", &ALL, End::Well)])
    };
    assert!(findings.is_well());
    insta::assert_snapshot!(shown(&findings, true), @"
    Signing in at https://bots.example.com/

    USER   CLOCK  JWT  JWTGRANT  RTM/START  WEBSOCKET
    alice  ok     ok   ok <1 ms  ok 85 ms   ok 1.2 s

    Webhooks

    WEBHOOK  DNS  TCP  TLS   POST
    crm      ok   ok   ok    ok 204
    plain    ok   ok   none  -

    Everything works.
    ");
    assert!(!shown(&findings, false).contains("POST"));
}

#[test]
fn each_failed_step_has_its_place_and_its_advice() {
    let refused = |name: &str| {
        user(
            name,
            &[],
            failed(Stage::Grant, Step::SignIn, FailureKind::Unauthorized, "Invalid\u{1b}[2J token"),
        )
    };
    let users = vec![
        user("alice", &ALL, End::Well),
        refused("bob"),
        refused("carol"),
        user(
            &"a-very-long-name".repeat(4),
            &ALL[..1],
            failed(Stage::Start, Step::Start, FailureKind::Refused { status: 404 }, "bot not found"),
        ),
        user(
            "dave",
            &ALL[..2],
            End::Failed(Stage::Socket, Trouble::Closed(CloseCause::Code(1008, "suspended\r\nok".into()))),
        ),
        user("erin", &[], End::Spared(Spared::RateLimited)),
        UserFinding { walk: None, ..user("frank", &[], End::Well) },
    ];
    let findings = Findings { skew: Some(Skew(-95_000)), ..only_users(users) };
    assert!(!findings.is_well());
    insta::assert_snapshot!(shown(&findings, false), @r"
    Signing in at https://bots.example.com/

    USER                        CLOCK   JWT  JWTGRANT  RTM/START  WEBSOCKET
    alice                       FAILED  ok   ok <1 ms  ok 85 ms   ok 1.2 s
    bob                         FAILED  ok   FAILED    -          -
    carol                       FAILED  ok   FAILED    -          -
    a-very-long-namea-very-lo…  FAILED  ok   ok <1 ms  FAILED     -
    dave                        FAILED  ok   ok <1 ms  ok 85 ms   FAILED
    erin                        FAILED  -    -         -          -
    frank                       FAILED  -    -         -          -

    What to do

    Clock: this machine
      this machine's clock is 95 s ahead of the platform's
      -> Set it, and keep it set (timedatectl set-ntp true). The bridge makes up for
         it when it signs in, but receivers refuse webhook signatures of another
         time, and certificates are judged by it.

    jwtgrant: bob, carol
      sign-in (jwtgrant): the platform refused the credentials (check the bot's
      client_id, client_secret, private_key or sts, its name and id, and this
      machine's clock): Invalid\u{1b}[2J token
      -> Set this machine's clock first. Compare with the bot's app in the platform:
         [bots.support] client_id, client_secret (it must be that client's), name
         (letter case counts), id and algorithm. Is the app enabled for the bot? Is
         platform.audience as the platform wants it?

    rtm/start: a-very-long-namea-very-long-namea-very-long-namea-very-long-name
      asking for a socket (rtm/start): the platform refused the request (404): bot
      not found
      -> Compare [bots.support] name (letter case counts) and id with the platform.
         Is the bot published, and its Web/Mobile channel enabled? Is platform.url
         the right host, with the right base path?

    WebSocket: dave
      the socket opened, then the platform closed the connection (1008, rate limit,
      suspended bot or blocked user): suspended\r\nok
      -> The platform allows this user no connection: look in the platform whether
         the bot is suspended, the user blocked, or a limit of the account reached.

    Not tried: erin
      the platform asked for fewer requests before it was these users' turn
      -> Do as above, then check them with --user NAME.
    ");
}

#[test]
fn each_webhook_too() {
    let tls = Unreachable::Tls(TlsTrouble::Expired);
    let findings = |plain: Way| Findings {
        skew: None,
        users: Vec::new(),
        webhooks: vec![
            hook(
                "crm",
                unreached(
                    Leg::Tls,
                    webhook::FailureKind::Tls,
                    "no TLS connection with crm.example.com:443: invalid peer certificate: Expired",
                    tls,
                ),
            ),
            hook("plain", plain),
        ],
    };
    let denied = Outcome::Retry { cause: RetryCause::Denied, hold: None };
    insta::assert_snapshot!(shown(&findings(answered(denied, 401)), true), @"
    Webhooks

    WEBHOOK  DNS  TCP  TLS     POST
    crm      ok   ok   FAILED  -
    plain    ok   ok   none    FAILED

    What to do

    TLS: crm
      no TLS connection with crm.example.com:443: invalid peer certificate: Expired
      -> The certificate of crm.example.com has expired: whoever runs it must renew
         it, and load the new one. If it has not, this machine's clock is wrong.

    POST: plain
      it denies access (401)
      -> The receiver may want a signature ([webhooks.plain] secret). If it wants
         credentials: bearer, basic_auth or headers.
    ");
    let nobody = unreached(
        Leg::Tcp,
        webhook::FailureKind::Connect,
        "10.0.0.7:8080 refuses connections: is the receiver running?",
        Unreachable::Refused,
    );
    let shown = shown(&findings(nobody), true);
    assert!(shown.contains("plain    ok   FAILED  -       -"), "{shown}");
}

#[test]
fn whatever_goes_wrong_there_is_something_to_do() {
    let config = config();
    let bot = BotName::new("support").unwrap();
    let kinds = [
        FailureKind::Unauthorized,
        FailureKind::TokenRefused,
        FailureKind::RateLimited,
        FailureKind::Refused { status: 302 },
        FailureKind::Refused { status: 404 },
        FailureKind::Server { status: 503 },
        FailureKind::Network,
        FailureKind::Timeout,
        FailureKind::Malformed,
    ];
    let tls = [
        TlsTrouble::Expired,
        TlsTrouble::NotYetValid,
        TlsTrouble::UnknownAuthority,
        TlsTrouble::WrongName,
        TlsTrouble::NotTls,
        TlsTrouble::Refused,
        TlsTrouble::Other,
    ];
    let causes: Vec<_> = tls
        .map(Unreachable::Tls)
        .into_iter()
        .chain([Unreachable::Name, Unreachable::Refused, Unreachable::Silent, Unreachable::Other])
        .collect();
    let mut all = Vec::new();
    for step in [Step::Jwt, Step::SignIn, Step::Start, Step::Open] {
        for kind in kinds {
            all.push(Failure::new(step, kind, ""));
        }
        for cause in &causes {
            all.push(Failure::new(step, FailureKind::Network, "").unreachable(Some(*cause)));
        }
    }
    for failure in all {
        let advice = advice::sign_in(&config, &bot, &Trouble::Request(failure.clone()), None);
        assert!(
            advice.len() > 40 && advice.ends_with(|c: char| c.is_ascii_graphic()),
            "{failure:?}: {advice}"
        );
        // Continued lines must not bring their indentation along.
        assert!(!advice.contains("  "), "{failure:?}: {advice}");
    }
    let name = WebhookName::new("crm").unwrap();
    for cause in causes {
        let failure = webhook::Failure { kind: webhook::FailureKind::Connect, text: String::new() };
        let advice = advice::webhook(&config, &name, &Unreached { leg: Leg::Tcp, failure, cause });
        assert!(advice.contains("crm") && !advice.contains("a-secret-path"), "{cause:?}: {advice}");
    }
    assert_eq!(config.platform.reconnect_query, ReconnectQuery::IsReconnect);
}

#[test]
fn many_with_the_same_trouble_are_counted() {
    let names: Vec<_> = (0..9).map(|n| format!("u{n}")).collect();
    assert_eq!(named(&names[..6]), "u0, u1, u2, u3, u4, u5");
    assert_eq!(named(&names), "u0, u1, u2, u3, u4, u5 and 3 more");
}
