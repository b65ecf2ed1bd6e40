//! The shipped `bridge.toml`: it loads, and the defaults that it tells are the defaults.

use std::fs;

use super::{Dir, Fake, fixture};
use crate::config::{Config, load::knobs_of};

const SHIPPED: &str = include_str!("../../../bridge.toml");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// Where the shipped file's certificates are said to be.
const CERTIFICATES: &str = "/etc/rtm-bridge/";

/// A directory with what the shipped file needs.
fn dir() -> Dir {
    let dir = Dir::new();
    let certificate = fs::read(fixture("client.pem")).unwrap();
    for name in ["client", "api"] {
        dir.write(&format!("{name}.pem"), &certificate);
        dir.write(&format!("{name}.key"), fs::read(fixture("client.key")).unwrap());
    }
    dir.write("ca.pem", &certificate);
    dir.write("users.d/none.toml", "");
    dir
}

fn loaded(dir: &Dir, text: &str) -> Config {
    dir.write("bridge.toml", text.replace(CERTIFICATES, &format!("{}/", dir.0.path().display())));
    dir.load_with(&Fake::usual()).unwrap_or_else(|errors| panic!("{errors}")).0
}

/// A line without this prefix, if a knob follows it.
fn knob_after<'l>(prefix: &str, line: &'l str) -> Option<&'l str> {
    let knob = line.strip_prefix(prefix)?;
    let (key, _) = knob.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(knob)
}

#[test]
fn it_loads_and_raises_no_warning() {
    let dir = dir();
    loaded(&dir, SHIPPED);
    assert_eq!(dir.load().unwrap().1, []);
}

#[test]
fn the_defaults_that_it_tells_are_the_defaults() {
    let uncommented: Vec<_> = SHIPPED.lines().map(|line| knob_after("# ", line).unwrap_or(line)).collect();
    let dir = dir();
    let knobs = SHIPPED.lines().filter(|line| knob_after("# ", line).is_some()).count();
    assert!(knobs > 50, "only {knobs} knobs");
    assert_eq!(loaded(&dir, SHIPPED), loaded(&dir, &uncommented.join("\n")));
    assert_eq!(dir.load().unwrap().1, []);
}

#[test]
fn each_of_its_examples_loads_and_changes_something() {
    let dir = dir();
    let plain = loaded(&dir, SHIPPED);
    let examples: Vec<_> = SHIPPED.lines().filter_map(|line| knob_after("# example: ", line)).collect();
    assert!(examples.len() > 10, "only {examples:?}");
    for example in examples {
        let config = loaded(&dir, &SHIPPED.replace(&format!("# example: {example}"), example));
        assert_eq!(config == plain, example.starts_with("include"), "{example}");
    }
}

/// Every knob there is, such as `webhooks.*.url`.
fn knobs() -> Vec<String> {
    let dir = dir();
    let with_tables = SHIPPED
        .replace("# example: tls", "tls")
        .replace("# example: client_certificate", "client_certificate");
    let with_tables = with_tables.replace("# example: basic_auth", "basic_auth");
    loaded(&dir, &with_tables);
    knobs_of(&dir.path("bridge.toml"), &Fake::usual()).into_iter().collect()
}

/// The part of a text that starts with the first of `headings` and ends before the next heading.
fn section<'t>(text: &'t str, heading: &str, any_heading: &str) -> &'t str {
    let start = text.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no {heading}")) + 1;
    let end = text[start + 1..].find(&format!("\n{any_heading}")).map_or(text.len(), |end| start + 1 + end);
    &text[start..end]
}

#[test]
fn every_knob_is_in_it_and_in_the_reference() {
    for knob in knobs() {
        let (table, _) = knob.split_once('.').unwrap();
        let name = knob.rsplit('.').next().unwrap();
        let shipped = section(SHIPPED, &format!("[{table}"), "[");
        assert!(shipped.contains(&format!("{name} = ")), "{knob} is not in bridge.toml");
        let reference = section(REFERENCE, &format!("## `[{table}"), "## ");
        assert!(reference.contains(&format!("`{name}`")), "{knob} is not in docs/configuration.md");
    }
}
