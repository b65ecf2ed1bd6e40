//! The daemon under a service manager: what it tells it, signals, sockets that it is given.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::fd::AsRawFd as _,
};

use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;
use tokio::{net::UnixDatagram, process::Command};

use crate::support::{Running, World, command, line_with, within};

/// A service manager's end of the notify protocol.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    /// A command that is told of this manager, which waits so long for a sign of life.
    fn of(&self, mut command: Command, watchdog_usec: &str) -> Command {
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog_usec);
        command
    }

    /// The next notification that has a line that begins so; its lines.
    async fn told(&self, wanted: &str) -> Vec<String> {
        let mut buffer = vec![0; 8192];
        let receiving = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.unwrap();
                let lines: Vec<_> =
                    std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned).collect();
                if lines.iter().any(|line| line.starts_with(wanted)) {
                    return lines;
                }
            }
        };
        within(wanted, receiving).await
    }
}

fn value_of<'a>(lines: &'a [String], name: &str) -> &'a str {
    let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {lines:?}"))
}

const BOB: &str = "[users.bob]\nbot = \"support\"\nidentity = \"bob\"\nwebhooks = []\n";

#[tokio::test]
async fn the_service_manager_is_told_how_things_are_from_the_start_to_the_end() {
    let manager = Manager::new();
    let mut world = World::start_as("", |daemon| manager.of(daemon, "1000000")).await;
    let ready = manager.told("READY=1").await;
    assert!(value_of(&ready, "STATUS").contains("/1 users connected, 0 queued, 0 dead letters"), "{ready:?}");
    // Ready means that whoever calls now is answered.
    assert_eq!(world.run(&["status"]).await.code, 0);
    let alive = manager.told("WATCHDOG=1").await;
    assert!(value_of(&alive, "STATUS").contains("users connected"), "{alive:?}");
    manager.told("STATUS=1/1 users connected").await;

    world.rewrite(BOB);
    world.daemon.signal("HUP").await;
    let reloading = manager.told("RELOADING=1").await;
    assert!(value_of(&reloading, "MONOTONIC_USEC").parse::<u64>().unwrap() > 0);
    let ready = manager.told("READY=1").await;
    assert!(value_of(&ready, "STATUS").contains("/2 users connected"), "{ready:?}");
    line_with(&mut world.daemon.stderr, "reloaded: 1 user added").await;
    within("bob's connection", world.sandbox.control().wait_connected("bob", 1)).await;

    world.rewrite("[users.carol]\nbot = \"suport\"\nidentity = \"carol\"\nwebhooks = []\n");
    world.daemon.signal("HUP").await;
    manager.told("RELOADING=1").await;
    let ready = manager.told("READY=1").await;
    let status = value_of(&ready, "STATUS");
    assert!(status.starts_with("2/2") && status.contains("was not reloaded: see the log"), "{status}");
    let why = line_with(&mut world.daemon.stderr, "[users.carol] bot").await;
    assert!(why.contains("daemon.toml") && why.contains("suport"), "{why}");
    line_with(&mut world.daemon.stderr, "the configuration was not reloaded, and nothing changed").await;
    assert_eq!(world.sandbox.control().connects("alice"), 1);

    world.rewrite(BOB);
    world.daemon.signal("HUP").await;
    line_with(&mut world.daemon.stderr, "reloaded: nothing changed").await;
    manager.told("RELOADING=1").await;
    assert!(!value_of(&manager.told("READY=1").await, "STATUS").contains("not reloaded"));

    world.daemon.signal("TERM").await;
    manager.told("STOPPING=1").await;
    let more = manager.told("EXTEND_TIMEOUT_USEC=").await;
    assert!(value_of(&more, "EXTEND_TIMEOUT_USEC").parse::<u64>().unwrap() >= 10_000_000);
    assert_eq!(world.daemon.end().await, Some(0));
}

#[tokio::test]
async fn a_reload_reads_secrets_from_files_again_and_the_logs_level() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "the-first-token-of-the-crm\n").unwrap();
    let client =
        format!("[clients.crm]\ntoken = {{ file = \"{}\" }}\nusers = [\"*\"]\n", secret.path().display());
    let mut world = World::start_with(&client).await;
    let status = |token: &str| {
        let mut command = world.command(&["status"]);
        command.env("RTM_BRIDGE_TOKEN", token);
        crate::support::ended(command)
    };
    assert_eq!(status("the-first-token-of-the-crm").await.code, 0);
    std::fs::write(secret.path(), "the-second-token-of-the-crm\n").unwrap();
    world.rewrite(&format!("{client}[log]\nlevel = \"debug\"\n"));
    world.daemon.signal("HUP").await;
    line_with(&mut world.daemon.stderr, "reloaded: 1 client changed, [log] changed").await;
    let status = |token: &str| {
        let mut command = world.command(&["status"]);
        command.env("RTM_BRIDGE_TOKEN", token);
        crate::support::ended(command)
    };
    assert_eq!(status("the-first-token-of-the-crm").await.code, 1);
    assert_eq!(status("the-second-token-of-the-crm").await.code, 0);
    world.sandbox.control().end_sockets("alice", &rtm_bridge::sandbox::SocketEnd::Drop);
    line_with(&mut world.daemon.stderr, "DEBUG").await;
}

#[tokio::test]
async fn credentials_come_from_the_service_manager() {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("crm-token"), "the-token-of-the-crm\n").unwrap();
    let client = "[clients.crm]\ntoken = { credential = \"crm-token\" }\nusers = [\"*\"]\n";
    let with_credentials = |mut daemon: Command| {
        daemon.env("CREDENTIALS_DIRECTORY", credentials.path());
        daemon
    };
    let world = World::start_as(client, with_credentials).await;
    for (token, code) in [("the-token-of-the-crm", 0), ("another-token-of-the-crm", 1)] {
        let mut status = world.command(&["status"]);
        status.env("RTM_BRIDGE_TOKEN", token);
        assert_eq!(crate::support::ended(status).await.code, code, "{token}");
    }
    // A command that is not run by the service manager says what it lacks.
    let check = world.run(&["check"]).await;
    assert_eq!(check.code, 2, "{}", check.stdout);
    assert!(
        check.stderr.contains("[clients.crm] token") && check.stderr.contains("$CREDENTIALS_DIRECTORY"),
        "{}",
        check.stderr
    );
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_system_allows() {
    let with_limit = |daemon: Command| in_shell("ulimit -Sn 256 && ulimit -Hn 4096 && exec \"$@\"", &daemon);
    let world = World::start_as("", with_limit).await;
    let id = world.daemon.child.id().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>(), ["4096", "4096", "files"]);
}

/// The daemon with these listeners as the service manager passes them, under these names.
fn with_sockets(config: &str, sockets: &[&TcpListener], names: &str) -> Command {
    use std::fmt::Write as _;
    let mut script = String::new();
    for (index, socket) in sockets.iter().enumerate() {
        // By way of numbers that nothing else has.
        write!(script, "exec {high}<&{}; ", socket.as_raw_fd(), high = 200 + index).unwrap();
        // The child inherits it.
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
    }
    for index in 0..sockets.len() {
        write!(script, "exec {}<&{high} {high}<&-; ", 3 + index, high = 200 + index).unwrap();
    }
    script.push_str("LISTEN_PID=$$ exec \"$@\"");
    let mut shell = in_shell(&script, &command(&["--config", config]));
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    shell
}

/// A shell's script that gets this command as its arguments, with its environment.
fn in_shell(script: &str, inner: &Command) -> Command {
    let inner = inner.as_std();
    let mut shell = Command::new("bash");
    shell.args(["-c", script, "bash"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(std::process::Stdio::null());
    shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    shell
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

#[tokio::test]
async fn no_request_is_refused_during_a_restart_on_given_sockets() {
    // Only its configuration and its platform are needed.
    let world = World::start().await;
    let file = world.config.clone();
    assert_eq!(world.daemon.interrupt().await, Some(0));
    let (api, ops) = (listener(), listener());
    let url = |socket: &TcpListener, path: &str| format!("http://{}{path}", socket.local_addr().unwrap());
    let start = || Running::start(with_sockets(&file, &[&ops, &api], "ops:api"));
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let post = || http.post(url(&api, "/v1/users/alice/messages?wait=ack")).form(&[("text", "Hi")]).send();

    let mut first = start();
    line_with(&mut first.stderr, "ready api=").await;
    assert_eq!(http.get(url(&ops, "/readyz")).send().await.unwrap().status(), 200);
    assert_eq!(within("the first answer", post()).await.unwrap().status(), 200);
    first.signal("TERM").await;
    // Nobody listens now, and nobody is refused.
    assert_eq!(first.end().await, Some(0));
    let (second, answer) = tokio::join!(async { start() }, within("an answer over the restart", post()));
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(second.interrupt().await, Some(0));
}

#[tokio::test]
async fn callers_under_load_are_all_answered_over_a_restart_on_given_sockets() {
    let world = World::start().await;
    let file = world.config.clone();
    assert_eq!(world.daemon.interrupt().await, Some(0));
    let (api, ops) = (listener(), listener());
    let url = format!("http://{}/v1/users/alice/messages", api.local_addr().unwrap());
    let start = || Running::start(with_sockets(&file, &[&ops, &api], "ops:api"));
    let mut first = start();
    line_with(&mut first.stderr, "ready api=").await;
    let (enough, stop) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (url, stop) = (url.clone(), stop.clone());
            // A connection for each request: one that is kept may be closed under a request, as ever.
            let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0);
            let http = http.build().unwrap();
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                while !*stop.borrow() {
                    let text = format!("{caller}: {}", accepted.len());
                    let answer = within("an answer", http.post(&url).form(&[("text", text)]).send()).await;
                    let answer = answer.unwrap_or_else(|error| panic!("after {}: {error:?}", accepted.len()));
                    assert_eq!(answer.status(), 202);
                    let body: serde_json::Value = answer.json().await.unwrap();
                    accepted.push(body["clientMessageId"].as_u64().unwrap());
                    // Not all of what may be queued.
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                accepted
            })
        })
        .collect();
    let control = world.sandbox.control();
    within("some messages", control.wait_messages("alice", 8)).await;
    first.signal("TERM").await;
    assert_eq!(first.end().await, Some(0));
    let mut second = start();
    line_with(&mut second.stderr, "ready api=").await;
    let before = control.messages("alice").len() as u64;
    within("more messages", control.wait_messages("alice", before + 8)).await;
    enough.send(true).unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    for caller in callers {
        for id in within("a caller's end", caller).await.unwrap() {
            let ended = http.get(format!("{url}/{id}?wait=ack")).send();
            let ended: serde_json::Value = within("its end", ended).await.unwrap().json().await.unwrap();
            assert_eq!(ended["status"], "acked", "{ended}");
        }
    }
    assert_eq!(second.interrupt().await, Some(0));
}

#[tokio::test]
async fn a_socket_that_is_of_no_use_is_refused_with_its_name() {
    let world = World::start().await;
    let socket = listener();
    let ended = crate::support::ended(with_sockets(&world.config, &[&socket], "http")).await;
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("\"http\"") && ended.stderr.contains("FileDescriptorName="),
        "{}",
        ended.stderr
    );
    let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let ended = crate::support::ended(with_sockets(&world.config, &[&everywhere], "api")).await;
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("not on loopback"), "{}", ended.stderr);
}
