//! The metrics: what they count, that they keep to the rules of their kind, and that the dashboard and the alerts
//! speak of metrics that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rtm_bridge::{
    config::Config,
    sandbox::{Endpoint, Fault, FaultKind, Push},
};
use serde_json::Value;

use crate::support::{ALICE, BOB, World, add_user, add_webhook, delivered, eventually, within};

const DASHBOARD: &str = include_str!("../../docs/monitoring/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../docs/monitoring/prometheus-alerts.yml");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// A metric family as Prometheus sees it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    unit: Option<String>,
    /// Each sample: its name, its labels, its value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads the text format, strictly: families in one piece, each described before its samples.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    for line in body.lines() {
        if let Some(described) = line.strip_prefix("# ") {
            let (what, rest) = described.split_once(' ').unwrap();
            let (name, value) = rest.split_once(' ').unwrap();
            if what == "HELP" {
                assert!(!families.contains_key(name), "{name} comes twice");
                current = name.to_owned();
            }
            assert_eq!(current, name, "{line}");
            let family = families.entry(name.to_owned()).or_default();
            match what {
                "HELP" => family.help = value.to_owned(),
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => family.unit = Some(value.to_owned()),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}').unwrap();
        let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), value.trim_matches('"').to_owned())
        });
        assert!(name.starts_with(&current), "{line} is not of {current}");
        let sample = (name.to_owned(), labels.collect(), value.parse().unwrap());
        families.get_mut(&current).unwrap().samples.push(sample);
    }
    families
}

impl World {
    async fn metrics(&self) -> BTreeMap<String, Family> {
        let url = format!("http://{}/metrics", self.daemon().ops_address());
        let response = within("the metrics", self.http.get(url).send()).await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        parse(&response.text().await.unwrap())
    }

    /// The value of a series, or the sum of those with these labels.
    async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.metrics().await;
        let of = |sample: &&(String, BTreeMap<String, String>, f64)| {
            let has = |(key, value): &(&str, &str)| sample.1.get(*key).is_some_and(|of| of == value);
            sample.0 == name && labels.iter().all(has)
        };
        families.values().flat_map(|family| &family.samples).filter(of).map(|(.., value)| value).sum()
    }

    async fn until_metric(&self, name: &str, labels: &[(&str, &str)], wanted: f64) {
        let what = format!("{name}{labels:?} to be {wanted}");
        eventually(&what, || async {
            let value = self.metric(name, labels).await;
            (value == wanted).then_some(())
        })
        .await;
    }
}

/// Some of everything happened.
async fn busy_world(change: impl FnOnce(&mut Config)) -> World {
    let world = World::start_silent(|config| {
        add_user(config, BOB);
        add_webhook(config, "erp", |webhook| webhook.max_age = Duration::ZERO);
        change(config);
    })
    .await;
    for text in ["one", "two"] {
        let id = world.send(ALICE, text).await;
        assert_eq!(world.final_status(ALICE, id).await["status"], "acked");
    }
    world.control().inject(Fault::once(FaultKind::NegativeAck));
    let id = world.send(ALICE, "refused").await;
    assert_eq!(world.final_status(ALICE, id).await["status"], "rejected");
    world.receiver.rule(|attempt| (crate::support::webhook_of(attempt) == "erp").then_some(503.into()));
    world.control().push(ALICE, Push::text("an event"));
    world.control().push(BOB, Push::frame(r#"{"type":"invented","from":"bot"}"#));
    world.control().push_raw(BOB, "[]");
    delivered(&world, 1).await;
    world.until_metric("rtm_bridge_deliveries_total", &[("webhook", "erp"), ("outcome", "dead")], 1.0).await;
    world
}

#[tokio::test]
async fn everything_is_counted() {
    let world = busy_world(|_| {}).await;
    for (name, labels, value) in [
        ("messages_accepted_total", &[][..], 3.0),
        ("messages_final_total", &[("status", "acked")], 2.0),
        ("messages_final_total", &[("status", "rejected")], 1.0),
        ("messages_final_total", &[("status", "expired")], 0.0),
        ("messages_queued", &[], 0.0),
        ("events_received_total", &[("type", "bot_response")], 1.0),
        ("events_received_total", &[("type", "other")], 1.0),
        ("deliveries_total", &[("webhook", "crm"), ("outcome", "delivered")], 1.0),
        ("deliveries_total", &[("webhook", "erp"), ("outcome", "delivered")], 0.0),
        ("dead_letters", &[("webhook", "erp")], 1.0),
        ("dead_letters", &[("webhook", "crm")], 0.0),
        ("backlog", &[("webhook", "crm")], 0.0),
        ("backlog_oldest_seconds", &[("webhook", "crm")], 0.0),
        ("users", &[("state", "connected")], 2.0),
        ("users", &[("state", "backing_off")], 0.0),
        ("connects_total", &[("outcome", "opened")], 2.0),
        ("frames_rejected_total", &[("reason", "not_an_object")], 1.0),
        ("ack_seconds_count", &[], 2.0),
        ("delivery_seconds_count", &[("webhook", "crm")], 1.0),
        ("delivery_seconds_bucket", &[("webhook", "crm"), ("le", "+Inf")], 1.0),
        ("ready", &[], 1.0),
    ] {
        world.until_metric(&format!("rtm_bridge_{name}"), labels, value).await;
    }
    assert!(world.metric("rtm_bridge_store_bytes", &[]).await > 0.0);
    assert!(world.metric("rtm_bridge_commit_seconds_count", &[]).await > 3.0);

    world.control().inject(Fault::always(FaultKind::Refuse {
        at: Endpoint::RtmStart,
        status: 500,
        retry_after: None,
    }));
    world.reconnect(BOB).await;
    world.until_metric("rtm_bridge_users", &[("state", "connected")], 1.0).await;
    eventually("a failed connect", || async {
        (world.metric("rtm_bridge_connects_total", &[("outcome", "failed")]).await > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_shown_with_its_age_also_after_a_restart() {
    let mut world = World::start_silent(|_| {}).await;
    world.receiver.answer(410);
    world.control().push(ALICE, Push::text("one"));
    world.control().push(ALICE, Push::text("two"));
    let crm = [("webhook", "crm")];
    world.until_metric("rtm_bridge_backlog", &crm, 2.0).await;
    let older_than = |age: f64| {
        let world = &world;
        async move {
            eventually("the age", || async move {
                let seen = world.metric("rtm_bridge_backlog_oldest_seconds", &crm).await;
                (seen > age).then_some(seen)
            })
            .await
        }
    };
    let age = older_than(0.1).await;
    let age = older_than(age).await;
    world.restart().await;
    world.until_metric("rtm_bridge_backlog", &crm, 2.0).await;
    assert!(world.metric("rtm_bridge_backlog_oldest_seconds", &crm).await > age, "it goes on");
}

#[tokio::test]
async fn metrics_keep_to_the_rules_of_their_kind() {
    let world = busy_world(|config| (0..50).for_each(|n| add_user(config, &format!("user-{n}")))).await;
    let families = world.metrics().await;
    let mut series = 0;
    for (name, family) in &families {
        let Family { kind, help, unit, samples } = family;
        assert!(name.starts_with("rtm_bridge_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}: snake_case");
        assert!(help.len() > 10 && help.ends_with('.'), "{name}: {help}");
        assert!(!samples.is_empty(), "{name} has no series");
        for reserved in ["_total", "_count", "_sum", "_bucket", "_info"] {
            assert!(!name.ends_with(reserved), "{name}: the suffix is the kind's");
        }
        for wrong in ["milliseconds", "minutes", "hours", "kilobytes", "megabytes"] {
            assert!(!name.contains(wrong), "{name}: base units");
        }
        for (suffix, of) in [("_seconds", "seconds"), ("_bytes", "bytes")] {
            assert_eq!(name.ends_with(suffix), unit.as_deref() == Some(of), "{name}: {unit:?}");
        }
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_sum", "_count", "_bucket"],
            _ => panic!("{name}: {kind}"),
        };
        let mut seen = BTreeSet::new();
        for (sample, labels, value) in samples {
            assert!(suffixes.contains(&&sample[name.len()..]), "{sample} of a {kind}");
            assert!(seen.insert((sample, labels)), "{sample}{labels:?} comes twice");
            assert!(value.is_finite() && *value >= 0.0, "{sample}{labels:?} {value}");
            for label in labels.keys() {
                let known = ["status", "type", "webhook", "outcome", "state", "reason", "le"];
                assert!(known.contains(&label.as_str()), "{sample}: {label}");
            }
            let is_bound = |le: &String| le == "+Inf" || le.parse::<f64>().is_ok_and(|le| le < 1e6);
            assert!(labels.get("le").is_none_or(is_bound), "{sample}{labels:?}");
            assert_eq!(labels.contains_key("le"), sample.ends_with("_bucket"), "{sample}");
            assert!(!labels.values().any(|value| value.starts_with("user-")), "{sample}: a series per user");
        }
        series += samples.len();
    }
    assert!(series < 250, "{series} series for two webhooks");
    // For promtool, which reads the older format only: there, a counter's name has its suffix.
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("metrics.txt");
    std::fs::write(file, in_the_older_format(&families)).unwrap();
}

fn in_the_older_format(families: &BTreeMap<String, Family>) -> String {
    let mut text = String::new();
    for (name, Family { kind, help, samples, .. }) in families {
        let suffix = if kind == "counter" { "_total" } else { "" };
        text += &format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n");
        for (sample, labels, value) in samples {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
            text += &format!("{sample}{{{}}} {value}\n", labels.join(","));
        }
    }
    text
}

/// The names of our metrics in a text.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_name(c)).filter(|word| word.starts_with("rtm_bridge_")).map(str::to_owned).collect()
}

#[tokio::test]
async fn dashboard_alerts_and_docs_speak_of_what_exists() {
    let world = busy_world(|_| {}).await;
    let families = world.metrics().await;
    let samples: BTreeSet<_> =
        families.values().flat_map(|family| &family.samples).map(|(name, ..)| name.clone()).collect();
    for (what, text) in [("the dashboard", DASHBOARD), ("the alerts", ALERTS)] {
        let named = named_in(text);
        assert!(named.len() > 5, "{what} names {named:?}");
        let unknown: Vec<_> = named.difference(&samples).collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
    // Every metric is explained, and nothing else is.
    let explained = named_in(OPERATIONS);
    let of = |name: &String| {
        let family = name.trim_end_matches("_total");
        families.keys().find(|known| *known == family).cloned()
    };
    for name in &explained {
        assert!(of(name).is_some(), "docs/operations.md explains {name}, which does not exist");
    }
    let explained: BTreeSet<_> = explained.iter().filter_map(of).collect();
    let missing: Vec<_> = families.keys().filter(|name| !explained.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/operations.md says nothing of {missing:?}");
    // Labels and their values are as they are asked for.
    for (label, value) in label_matchers(&format!("{DASHBOARD}{ALERTS}")) {
        let exists = families
            .values()
            .flat_map(|family| &family.samples)
            .any(|(_, labels, _)| labels.get(&label).is_some_and(|of| of == &value));
        assert!(exists, "nothing has {label}={value:?}");
    }
}

/// `label="value"` in expressions, as YAML and JSON write them.
fn label_matchers(text: &str) -> BTreeSet<(String, String)> {
    let text = text.replace("\\\"", "\"");
    // Prometheus' own; the letters come from the end.
    let boj = "boj";
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("=\"") {
        let label: String =
            text[..at].chars().rev().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let value: String = text[at + 2..].chars().take_while(|c| *c != '"').collect();
        let before = text[..at - label.len()].chars().next_back();
        if matches!(before, Some('{' | ',' | ' '))
            && !label.is_empty()
            && !value.contains('$')
            && label != boj
        {
            found.insert((label.chars().rev().collect(), value));
        }
    }
    found
}

#[test]
fn the_dashboard_is_whole_and_every_alert_says_what_to_do() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 8);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{}", panel["title"]);
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
    let alerts: Vec<_> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8, "{alerts:?}");
    for alert in alerts {
        assert!(alert.starts_with("RtmBridge"), "{alert}");
        assert!(
            OPERATIONS.contains(&format!("### {alert}\n")),
            "docs/operations.md has no section on {alert}"
        );
    }
}
