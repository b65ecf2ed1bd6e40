//! What the journal gets: a socket of the test's own stands where journald's is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::net::UnixDatagram;

use crate::support::{Running, World, command, within};

/// Builds what leads the daemon to the test's socket.
fn library(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/journal.c");
    let built = directory.join("journal.so");
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .args([&built, &source])
        .arg("-ldl")
        .status()
        .expect("Rust links with cc");
    assert!(status.success(), "journal.c can't be compiled");
    built
}

type Entry = BTreeMap<String, String>;

/// Reads an entry of the journal's native protocol: `NAME=value` lines, or a name, a length and a value.
fn parse(mut datagram: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while let Some(end) = datagram.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (std::str::from_utf8(&datagram[..end]).unwrap(), &datagram[end + 1..]);
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => {
                datagram = rest;
                (name, value)
            }
            None => {
                let (length, rest) = rest.split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
                datagram = rest[length..].strip_prefix(b"\n").unwrap();
                (line, std::str::from_utf8(&rest[..length]).unwrap())
            }
        };
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(name.len() <= 64 && name.chars().all(is_name), "journald drops the field {name:?}");
        entry.insert(name.to_owned(), value.to_owned());
    }
    assert!(datagram.is_empty(), "the last field is not whole");
    entry
}

struct Journal(UnixDatagram);

impl Journal {
    async fn next(&self, message: &str) -> Entry {
        let mut buffer = vec![0; 64 * 1024];
        let reading = async {
            loop {
                let length = self.0.recv(&mut buffer).await.unwrap();
                let entry = parse(&buffer[..length]);
                if entry.get("MESSAGE").is_some_and(|words| words == message) {
                    return entry;
                }
            }
        };
        within(message, reading).await
    }
}

#[tokio::test]
async fn under_systemd_lines_go_to_the_journal_with_their_fields() {
    let world = World::start().await;
    let file = world.config.clone();
    assert_eq!(world.daemon.interrupt().await, Some(0));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let journal = Journal(UnixDatagram::bind(&path).unwrap());
    let mut daemon = command(&["--config", &file]);
    // stderr is the journal's, as systemd tells it.
    daemon.env("JOURNAL_STREAM", "8:1").env("JOURNAL_SOCKET", &path);
    daemon.env("LD_PRELOAD", library(directory.path())).env("RUST_LOG", "rtm_bridge=debug");
    let mut daemon = Running::start(daemon);
    let stderr = daemon.collect_stderr();

    let starting = journal.next("starting").await;
    assert_eq!(starting["F_VERSION"], env!("CARGO_PKG_VERSION"));
    let connected = journal.next("connected").await;
    for (name, value) in [
        // notice
        ("PRIORITY", "5"),
        ("SYSLOG_IDENTIFIER", "rtm-bridge"),
        ("TARGET", "rtm_bridge::rtm::connection"),
        ("F_USER", "alice"),
        ("F_BOT", "support"),
        ("F_STATE", "Connected"),
    ] {
        assert_eq!(connected.get(name).map(String::as_str), Some(value), "{name} in {connected:?}");
    }
    world.sandbox.control().end_sockets("alice", &rtm_bridge::sandbox::SocketEnd::Drop);
    let lost = journal.next("not connected; trying again later").await;
    // warning
    assert_eq!((lost["PRIORITY"].as_str(), lost["F_USER"].as_str()), ("4", "alice"));
    assert!(!lost["F_CAUSE"].is_empty(), "{lost:?}");
    // Read to its end, or the daemon would wait for room.
    let rest = tokio::spawn(async move { journal.next("stopped").await });
    assert_eq!(daemon.interrupt().await, Some(0));
    within("the last line", rest).await.unwrap();
    assert_eq!(within("stderr's end", stderr).await.unwrap(), Vec::<String>::new(), "nothing comes twice");
}
