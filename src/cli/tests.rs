//! What people are told about the commands.

use clap::CommandFactory as _;

use super::Arguments;

/// The help of a command, as wide as a terminal.
fn help(command: Option<&str>) -> String {
    help_at(command.as_slice())
}

/// The same of a command's command.
fn help_at(path: &[&str]) -> String {
    let mut arguments = Arguments::command().term_width(80);
    arguments.build();
    let mut command = &mut arguments;
    for name in path {
        command = command.find_subcommand_mut(name).unwrap();
    }
    command.render_help().to_string()
}

#[test]
fn the_commands_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn help_lists_commands_and_exit_codes() {
    insta::assert_snapshot!(help(None), @r#"
    Connects Kore.ai bots to plain HTTP: POST a message in, get the bot's events as
    webhooks, lose nothing

    Usage: rtm-bridge [OPTIONS] [COMMAND]

    Commands:
      run           Run the daemon (the default)
      demo          Watch it all at work: a short conversation, with mishaps
      check         Check the configuration and say what it means
      sandbox       Run the stand-in platform alone, for trying things out
      receive       Run a webhook receiver for development: checks signatures,
                    prints events
      send          Send a message through a running bridge
      status        Show the users and webhooks of a running bridge
      tail          Show the events of a running bridge as they come
      reconnect     Drop a user's connection and make it anew at once
      enable        Put a webhook back to work that said it is gone, or is held
      dead-letters  Look at events that webhooks did not get; replay or delete them
      store         Check, save, restore or shrink the store of a stopped bridge
      completions   Print what a shell completes with
      man           Print the manual page, or write all of them
      help          Print this message or the help of the given subcommand(s)

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
      -h, --help           Print help
      -V, --version        Print version

    Examples:
      rtm-bridge demo                           see it all at work
      rtm-bridge check                          what does bridge.toml mean?
      rtm-bridge                                run the daemon
      rtm-bridge send alice "Hi" --wait reply   talk to alice's bot
      rtm-bridge status                         how the users and webhooks are
      rtm-bridge tail                           what happens, as it happens

    Exit codes:
      0  fine
      1  failed
      2  usage, configuration, or a store that needs a person
    "#);
}

#[test]
fn help_of_check() {
    insta::assert_snapshot!(help(Some("check")), @"
    Check the configuration and say what it means

    Usage: rtm-bridge check [OPTIONS]

    Options:
      -c, --config <FILE>      The configuration file [env: RTM_BRIDGE_CONFIG]
                               [default: bridge.toml]
          --online             Also sign every user in, and connect to every webhook
          --post               Also post an event to every webhook that is connected
                               to
          --user <USER>        Only this user; several times for several
          --webhook <WEBHOOK>  Only this webhook; several times for several
      -h, --help               Print help

    --online walks each user's sign-in: clock, JWT, jwtgrant, rtm/start, WebSocket,
    and the way to each webhook: DNS, TCP, TLS. For each step that fails it says
    what to do. A running bridge is not disturbed: the check has sockets of its own,
    says goodbye on them, tells the platform that each is a reconnect (so that it
    greets nobody), and keeps to platform.request_rate, which it takes once more.
    Without --post no webhook gets anything; with it, each gets one signed event of
    the type bridge.test.

    Exit codes:
      0  the configuration is right; with --online: and everything works
      1  with --online: a step failed
      2  the configuration has errors

    Examples:
      rtm-bridge check
      rtm-bridge check --online
      rtm-bridge check --online --user alice --webhook crm --post
    ");
}

#[test]
fn help_of_sandbox() {
    insta::assert_snapshot!(help(Some("sandbox")), @r#"
    Run the stand-in platform alone, for trying things out

    Usage: rtm-bridge sandbox [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --listen <ADDR>  Where to listen [default: 127.0.0.1:9080]
          --allow-remote   Allow an address that other machines can reach
      -h, --help           Print help

    Prints what bridge.toml needs to use it, then logs each sign-in, connection and
    frame to stderr until Ctrl-C. It checks what the platform checks; everything it
    knows is gone when it ends.

    Examples:
      rtm-bridge sandbox
      curl -H 'Content-Type: application/json' -d '{"text": "Hello"}' \
          http://127.0.0.1:9080/sandbox/users/alice@example.com/push
    "#);
}

#[test]
fn help_of_receive() {
    insta::assert_snapshot!(help(Some("receive")), @r#"
    Run a webhook receiver for development: checks signatures, prints events

    Usage: rtm-bridge receive [OPTIONS]

    Options:
      -c, --config <FILE>       The configuration file [env: RTM_BRIDGE_CONFIG]
                                [default: bridge.toml]
          --listen <ADDR>       Where to listen [default: 127.0.0.1:9090]
          --secret <whsec_...>  Check signatures with this secret; several times
                                during a rotation [env: RTM_BRIDGE_WEBHOOK_SECRET]
          --fail <PLAN>         Answer with this error, to this share of the events:
                                503@10%, or 503 for all
          --allow-remote        Allow an address that other machines can reach
      -h, --help                Print help

    Answers 204 to every event; with --secret 401 to one whose signature is wrong.
    Prints a line for each: time, user, type, text, attempt, signature, answer.
    RTM_BRIDGE_WEBHOOK_SECRET keeps the secret out of the process list; several
    are separated by commas.

    Examples:
      rtm-bridge receive
      rtm-bridge receive --secret whsec_... --fail 503@10%

    In bridge.toml, with webhooks = ["dev"] at the user:
      [webhooks.dev]
      url = "http://127.0.0.1:9090/"
    "#);
}

#[test]
fn help_of_send() {
    insta::assert_snapshot!(help(Some("send")), @r#"
    Send a message through a running bridge

    Usage: rtm-bridge send [OPTIONS] <USER> <TEXT>

    Arguments:
      <USER>  The user, as bridge.toml names it
      <TEXT>  What the user says to the bot

    Options:
      -c, --config <FILE>   The configuration file [env: RTM_BRIDGE_CONFIG]
                            [default: bridge.toml]
          --wait <WHAT>     Wait for the platform's ack, or for the bot's reply
                            [possible values: ack, reply]
          --timeout <TIME>  How long to wait, such as 500ms, 10s or 2m; at most 120s
                            [default: 30s]
          --url <URL>       The running bridge's API [default: http.api of the
                            configuration] [env: RTM_BRIDGE_URL]
      -h, --help            Print help (see more with '--help')

    Prints the message's clientMessageId and its status, and with --wait reply the
    bot's answer below. Without --wait the message is on the bridge's disk when
    this returns, and is sent as soon as it can be.

    Exit code 1: the bridge refused it, or it ended rejected or expired, or what
    was waited for did not come in time (the message goes on then).
    Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
    the scope send.

    Examples:
      rtm-bridge send alice "I'd like to order"
      rtm-bridge send alice "Hi" --wait reply --timeout 10s
      rtm-bridge send alice --wait ack -- "-5 degrees"
    "#);
}

#[test]
fn help_of_status() {
    insta::assert_snapshot!(help(Some("status")), @r#"
    Show the users and webhooks of a running bridge

    Usage: rtm-bridge status [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --json           Print JSON, as the API answers it
          --watch          Show it anew every two seconds, until Ctrl-C
          --url <URL>      The running bridge's API [default: http.api of the
                           configuration] [env: RTM_BRIDGE_URL]
      -h, --help           Print help

    Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
    the scope read; the users that it may act for are shown.

    Examples:
      rtm-bridge status
      rtm-bridge status --watch
      rtm-bridge status --json | jq '.users[] | select(.state != "connected")'
    "#);
}

#[test]
fn help_of_reconnect() {
    insta::assert_snapshot!(help(Some("reconnect")), @"
    Drop a user's connection and make it anew at once

    Usage: rtm-bridge reconnect [OPTIONS] <USER>

    Arguments:
      <USER>  The user, as bridge.toml names it

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --url <URL>      The running bridge's API [default: http.api of the
                           configuration] [env: RTM_BRIDGE_URL]
      -h, --help           Print help

    A user whose credentials were refused, or who waits after a failure, is tried
    again at once. Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token
    of one with the scope admin.

    Example:
      rtm-bridge reconnect alice
    ");
}

#[test]
fn help_of_demo() {
    insta::assert_snapshot!(help(Some("demo")), @"
    Watch it all at work: a short conversation, with mishaps

    Usage: rtm-bridge demo [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --once           End after the script: with 0 if every step was fine, with
                           1 if one failed
      -h, --help           Print help

    A stand-in for the platform, the bridge and a webhook receiver talk to each
    other: sign-in, a message and its ack, the reply at the webhook, a dropped
    connection, a webhook that fails, a restart. Every line shows what really
    happened. Then it stays up for curl until Ctrl-C. It needs no configuration
    and leaves nothing behind. RUST_LOG=info shows the logs, too.

    Examples:
      rtm-bridge demo
      rtm-bridge demo --once
    ");
}

#[test]
fn help_of_dead_letters() {
    insta::assert_snapshot!(help_at(&["dead-letters"]), @"
    Look at events that webhooks did not get; replay or delete them

    Usage: rtm-bridge dead-letters [OPTIONS] <COMMAND>

    Commands:
      list    List them, the newest event first
      show    Show one with its attempts, the last answer and its body
      replay  Deliver one, or many, after all
      purge   Delete one, or many
      help    Print this message or the help of the given subcommand(s)

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
      -h, --help           Print help

    A dead letter is an event that a webhook refused, or that nobody took in time.
    It is kept until store.dead_letter_retention is over. Where [clients] are
    configured, RTM_BRIDGE_TOKEN holds the token of one with the scope read, or
    admin to replay and purge; only users that it may act for are concerned.

    Examples:
      rtm-bridge dead-letters list --webhook crm
      rtm-bridge dead-letters show dl_000000002a000001
      rtm-bridge dead-letters replay --all --webhook crm
      rtm-bridge dead-letters purge dl_000000002a000001
    ");
}

#[test]
fn help_of_dead_letters_list() {
    insta::assert_snapshot!(help_at(&["dead-letters", "list"]), @"
    List them, the newest event first

    Usage: rtm-bridge dead-letters list [OPTIONS]

    Options:
      -c, --config <FILE>      The configuration file [env: RTM_BRIDGE_CONFIG]
                               [default: bridge.toml]
          --webhook <WEBHOOK>  Only those of this webhook
          --user <USER>        Only those of this user
          --limit <N>          How many, at most [default: 100]
          --json               Print JSON, as the API answers it
          --url <URL>          The running bridge's API [default: http.api of the
                               configuration] [env: RTM_BRIDGE_URL]
      -h, --help               Print help

    Examples:
      rtm-bridge dead-letters list
      rtm-bridge dead-letters list --user alice --limit 1000
      rtm-bridge dead-letters list --json | jq -r '.deadLetters[].id'
    ");
}

#[test]
fn help_of_dead_letters_replay() {
    insta::assert_snapshot!(help_at(&["dead-letters", "replay"]), @"
    Deliver one, or many, after all

    Usage: rtm-bridge dead-letters replay [OPTIONS] [ID]

    Arguments:
      [ID]  Which one, as list tells it

    Options:
          --all                All of them, or all of --webhook and --user
      -c, --config <FILE>      The configuration file [env: RTM_BRIDGE_CONFIG]
                               [default: bridge.toml]
          --webhook <WEBHOOK>  Only those of this webhook
          --user <USER>        Only those of this user
          --url <URL>          The running bridge's API [default: http.api of the
                               configuration] [env: RTM_BRIDGE_URL]
          --wait               Wait until each of them is delivered, or a dead
                               letter again; exit with 1 if any is
      -h, --help               Print help

    The event is delivered with the same webhook-id, body and sequence, retried as
    any other, and goes from the list when its webhook took it. If it isn't taken
    within the webhook's max_age from now, or is refused, it is a dead letter again.
    With --wait, Ctrl-C ends the waiting; the replay goes on.

    Examples:
      rtm-bridge dead-letters replay dl_000000002a000001
      rtm-bridge dead-letters replay --all --webhook crm --wait
    ");
}

#[test]
fn help_of_store() {
    insta::assert_snapshot!(help(Some("store")), @"
    Check, save, restore or shrink the store of a stopped bridge

    Usage: rtm-bridge store [OPTIONS] <COMMAND>

    Commands:
      verify   Read everything, count it, and tell what is damaged
      export   Save everything but access tokens as lines of JSON; of a damaged
               store, what can be read
      import   Make a store from an export, where there is none yet
      compact  Give back the disk space that a backlog once took
      help     Print this message or the help of the given subcommand(s)

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --path <DIR>     The store's directory [default: store.path of the
                           configuration]
      -h, --help           Print help

    The bridge must be stopped: the store is locked while it runs.

    Exit codes:
      0  fine
      1  failed: the store is in use, the disk is full, a file can't be written
      2  the store is damaged, or isn't what the command needs

    Examples:
      rtm-bridge store verify
      rtm-bridge store export backup.jsonl
      rtm-bridge store import backup.jsonl --path /var/lib/rtm-bridge
      rtm-bridge store export - | gzip > backup.jsonl.gz
    ");
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!(help(Some("run")), @"
    Run the daemon (the default)

    Usage: rtm-bridge run [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
      -h, --help           Print help

    Logs to stderr, or to the journal under systemd. SIGTERM or Ctrl-C ends it in
    order, within 10 seconds; SIGHUP reads the configuration again. What it listens
    on and where its store is stands in the configuration.

    Exit codes:
      0  it was told to end
      1  it can't go on: an address is taken, the store is in use, the disk fails
      2  the configuration has errors, or the store needs a person

    Examples:
      rtm-bridge
      rtm-bridge run --config /etc/rtm-bridge/bridge.toml
      RUST_LOG=debug rtm-bridge
    ");
}

#[test]
fn help_of_tail() {
    insta::assert_snapshot!(help(Some("tail")), @r#"
    Show the events of a running bridge as they come

    Usage: rtm-bridge tail [OPTIONS] [USER]

    Arguments:
      [USER]  Only this user's events

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --json           Print each event as a line of JSON: its id, and the
                           envelope that webhooks get
          --url <URL>      The running bridge's API [default: http.api of the
                           configuration] [env: RTM_BRIDGE_URL]
      -h, --help           Print help

    Prints a line for each event from now on: time, user, type, who speaks, text;
    where there is no text, the data. A connection that breaks is made anew, and
    goes on behind the last event that was shown. Ctrl-C ends it.
    Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one with
    the scope read; the events of the users that it may act for are shown.

    Examples:
      rtm-bridge tail
      rtm-bridge tail alice
      rtm-bridge tail --json | jq 'select(.type == "bot_response") | .text'
    "#);
}

#[test]
fn help_of_enable() {
    insta::assert_snapshot!(help(Some("enable")), @"
    Put a webhook back to work that said it is gone, or is held

    Usage: rtm-bridge enable [OPTIONS] <WEBHOOK>

    Arguments:
      <WEBHOOK>  The webhook, as bridge.toml names it

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --url <URL>      The running bridge's API [default: http.api of the
                           configuration] [env: RTM_BRIDGE_URL]
      -h, --help           Print help

    A webhook that answered 410 gets nothing until it is enabled; one that sent
    Retry-After, nothing until then. This lifts both: what waits goes out now, in
    order. Where [clients] are configured, RTM_BRIDGE_TOKEN holds the token of one
    with the scope admin.

    Example:
      rtm-bridge enable crm
    ");
}

#[test]
fn help_of_completions() {
    insta::assert_snapshot!(help(Some("completions")), @"
    Print what a shell completes with

    Usage: rtm-bridge completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
      -h, --help           Print help

    Examples:
      cd ~/.local/share/bash-completion/completions
      rtm-bridge completions bash > rtm-bridge

      rtm-bridge completions zsh > ~/.zfunc/_rtm-bridge     (~/.zfunc in fpath)
      rtm-bridge completions fish > ~/.config/fish/completions/rtm-bridge.fish
    ");
}

#[test]
fn help_of_man() {
    insta::assert_snapshot!(help(Some("man")), @"
    Print the manual page, or write all of them

    Usage: rtm-bridge man [OPTIONS]

    Options:
          --all <DIR>      Write a page for each command into this directory, in
                           place of printing the first
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
      -h, --help           Print help

    Examples:
      rtm-bridge man | man -l -                        read the first page
      rtm-bridge man --all /usr/local/share/man/man1   install all pages
    ");
}

#[test]
fn help_of_dead_letters_show() {
    insta::assert_snapshot!(help_at(&["dead-letters", "show"]), @"
    Show one with its attempts, the last answer and its body

    Usage: rtm-bridge dead-letters show [OPTIONS] <ID>

    Arguments:
      <ID>  Which one, as list tells it

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --json           Print JSON, as the API answers it
          --url <URL>      The running bridge's API [default: http.api of the
                           configuration] [env: RTM_BRIDGE_URL]
      -h, --help           Print help

    Examples:
      rtm-bridge dead-letters show dl_000000002a000001
      rtm-bridge dead-letters show dl_000000002a000001 --json | jq -r .body
    ");
}

#[test]
fn help_of_dead_letters_purge() {
    insta::assert_snapshot!(help_at(&["dead-letters", "purge"]), @"
    Delete one, or many

    Usage: rtm-bridge dead-letters purge [OPTIONS] [ID]

    Arguments:
      [ID]  Which one, as list tells it

    Options:
          --all                All of them, or all of --webhook and --user
      -c, --config <FILE>      The configuration file [env: RTM_BRIDGE_CONFIG]
                               [default: bridge.toml]
          --webhook <WEBHOOK>  Only those of this webhook
          --user <USER>        Only those of this user
          --url <URL>          The running bridge's API [default: http.api of the
                               configuration] [env: RTM_BRIDGE_URL]
      -h, --help               Print help

    What is purged is gone for good.

    Examples:
      rtm-bridge dead-letters purge dl_000000002a000001
      rtm-bridge dead-letters purge --all --user alice
    ");
}

#[test]
fn help_of_store_verify() {
    insta::assert_snapshot!(help_at(&["store", "verify"]), @"
    Read everything, count it, and tell what is damaged

    Usage: rtm-bridge store verify [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --path <DIR>     The store's directory [default: store.path of the
                           configuration]
      -h, --help           Print help

    Nothing is changed. What is damaged is told with its place; store export saves
    the rest.

    Examples:
      rtm-bridge store verify
      rtm-bridge store verify --path /var/lib/rtm-bridge
    ");
}

#[test]
fn help_of_store_export() {
    insta::assert_snapshot!(help_at(&["store", "export"]), @"
    Save everything but access tokens as lines of JSON; of a damaged store, what can
    be read

    Usage: rtm-bridge store export [OPTIONS] <FILE>

    Arguments:
      <FILE>  The file to write, readable for its owner only; - for stdout

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --path <DIR>     The store's directory [default: store.path of the
                           configuration]
      -h, --help           Print help

    The file holds the contents of messages and events: keep it as private as the
    store. It appears under its name when it is whole.

    Examples:
      rtm-bridge store export backup.jsonl
      rtm-bridge store export - | gzip > backup.jsonl.gz
    ");
}

#[test]
fn help_of_store_import() {
    insta::assert_snapshot!(help_at(&["store", "import"]), @"
    Make a store from an export, where there is none yet

    Usage: rtm-bridge store import [OPTIONS] <FILE>

    Arguments:
      <FILE>  The file to read; - for stdin

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --path <DIR>     The store's directory [default: store.path of the
                           configuration]
      -h, --help           Print help

    Access tokens are not in an export: each user signs in anew. All or nothing is
    imported.

    Examples:
      rtm-bridge store import backup.jsonl
      gunzip -c backup.jsonl.gz | rtm-bridge store import - --path /srv/bridge
    ");
}

#[test]
fn help_of_store_compact() {
    insta::assert_snapshot!(help_at(&["store", "compact"]), @"
    Give back the disk space that a backlog once took

    Usage: rtm-bridge store compact [OPTIONS]

    Options:
      -c, --config <FILE>  The configuration file [env: RTM_BRIDGE_CONFIG] [default:
                           bridge.toml]
          --path <DIR>     The store's directory [default: store.path of the
                           configuration]
      -h, --help           Print help

    Needs as much free space as the store's records take. Cut short, it leaves the
    store as it was.

    Example:
      rtm-bridge store compact
    ");
}

#[test]
fn every_command_has_an_example_that_it_takes() {
    fn look(path: &str, command: &clap::Command, examples: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("\nExample") || help.starts_with("Example"), "{path} has no example");
        let lines = help.lines().map(str::trim_start);
        examples.extend(lines.filter(|line| line.starts_with("rtm-bridge ")).map(str::to_owned));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            look(&format!("{path} {}", sub.get_name()), sub, examples);
        }
    }
    let mut examples = Vec::new();
    look("rtm-bridge", &Arguments::command(), &mut examples);
    for example in examples {
        // Behind two spaces stands what it is for, behind a pipe another program.
        let line = example.split(['|', '>']).next().unwrap().split("   ").next().unwrap();
        let words = line.replace("whsec_...", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let words = shell_words(&words);
        let taken = Arguments::command().try_get_matches_from(&words);
        assert!(taken.is_ok(), "{example}: {}", taken.unwrap_err());
    }
}

/// Splits as a shell does, as far as the examples need it.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.trim().chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
