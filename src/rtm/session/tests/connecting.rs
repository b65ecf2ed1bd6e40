//! Signing in, tokens, URLs; backoff; the end.

use super::*;

#[test]
fn the_first_connect_signs_in_and_says_nothing_of_a_reconnect() {
    let mut rig = Rig::new();
    assert_eq!(deeds(rig.feed(Input::Start)), [Action::RequestToken]);
    let grant = rig.grant();
    assert_eq!(rig.feed(Input::TokenGranted(grant)), [Action::Remember, token()]);
    assert_eq!(rig.session.memory().platform_user_id.as_deref(), Some("u-1"));
    let at = rig.now.mono;
    let opening = rig.feed(Input::UrlIssued { url: url("s1"), at });
    assert_eq!(opening, [Action::Open { line: Line::Main, url: url("s1"), query: None, by: at + secs(25) }]);
    assert!(rig.feed(Input::Opened(Skew::default())).contains(&Action::Remember));
    assert_eq!(rig.session.memory().history, ConnectHistory::Before);
    assert_eq!(rig.session.status().state, ConnectionState::Connected);
}

#[test]
fn every_later_connect_is_a_reconnect_and_uses_the_token_while_it_is_good() {
    let mut rig = Rig::open();
    rig.drop_connection();
    rig.wait(secs(1));
    assert_eq!(deeds(rig.feed(Input::TimePassed)), [token()]);
    let at = rig.now.mono;
    let opening = rig.feed(Input::UrlIssued { url: url("s2"), at });
    let query = Some(ReconnectQuery::IsReconnect);
    assert_eq!(opening, [Action::Open { line: Line::Main, url: url("s2"), query, by: at + secs(25) }]);
    let opened = deeds(rig.feed(Input::Opened(Skew::default())));
    assert!(matches!(opened[..], [Action::FetchHistory(_)]), "{opened:?}");
}

#[test]
fn a_restart_needs_no_sign_in_and_is_a_reconnect() {
    let mut rig = Rig::with(|_, beginnings| {
        beginnings.memory.access = Some(access(START.plus(secs(3600))));
        beginnings.memory.history = ConnectHistory::Before;
    });
    assert_eq!(deeds(rig.feed(Input::Start)), [token()]);
    let at = rig.now.mono;
    assert!(matches!(
        rig.feed(Input::UrlIssued { url: url("s"), at })[..],
        [Action::Open { query: Some(ReconnectQuery::IsReconnect), .. }]
    ));
}

#[test]
fn a_token_for_other_credentials_or_about_to_expire_is_not_used() {
    for (granted_for, lifetime) in [([0; 16], secs(3600)), (CREDENTIALS, secs(59)), (CREDENTIALS, secs(0))] {
        let mut rig = Rig::with(|_, beginnings| {
            let access = Access { granted_for, ..access(START.plus(lifetime)) };
            beginnings.memory.access = Some(access);
        });
        assert_eq!(deeds(rig.feed(Input::Start)), [Action::RequestToken]);
    }
}

#[test]
fn a_short_lived_token_is_used_at_least_once() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let grant = Grant { access: access(START), platform_user_id: None };
    assert_eq!(rig.feed(Input::TokenGranted(grant)), [Action::Remember, token()]);
}

#[test]
fn a_refused_token_is_replaced_at_once_but_only_once() {
    let mut rig = Rig::open();
    rig.drop_connection();
    rig.wait(secs(1));
    rig.feed(Input::TimePassed);
    let refusal = || failure(Step::Start, FailureKind::TokenRefused);
    assert_eq!(rig.feed(Input::StartFailed(refusal())), [Action::Remember, Action::RequestToken]);
    assert_eq!(rig.session.memory().access, None);
    let grant = rig.grant();
    rig.feed(Input::TokenGranted(grant));
    assert_eq!(deeds(rig.feed(Input::StartFailed(refusal()))), []);
    assert_eq!(rig.session.memory().access, None);
    assert_eq!(rig.session.status().state, ConnectionState::Unauthorized);
    assert!(rig.backoff() >= secs(60));
}

#[test]
fn an_old_url_is_not_opened_but_replaced() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let grant = rig.grant();
    rig.feed(Input::TokenGranted(grant));
    let at = rig.now.mono;
    rig.wait(secs(25));
    assert_eq!(rig.feed(Input::UrlIssued { url: url("old"), at }), [token()]);
    // Twice in a row: something is wrong, and no reason to hammer.
    let again = deeds(rig.feed(Input::UrlIssued { url: url("old2"), at }));
    assert_eq!(again, []);
    assert!(rig.backoff() >= secs(1));
}

#[test]
fn each_failure_waits_as_its_class_says() {
    let cases = [
        (FailureKind::Server { status: 503 }, 1, ConnectionState::BackingOff),
        (FailureKind::Refused { status: 404 }, 1, ConnectionState::BackingOff),
        (FailureKind::Network, 1, ConnectionState::BackingOff),
        (FailureKind::Timeout, 1, ConnectionState::BackingOff),
        (FailureKind::Malformed, 1, ConnectionState::BackingOff),
        (FailureKind::RateLimited, 5, ConnectionState::BackingOff),
        (FailureKind::Unauthorized, 60, ConnectionState::Unauthorized),
    ];
    for (kind, at_least, state) in cases {
        let mut rig = Rig::new();
        rig.feed(Input::Start);
        rig.feed(Input::GrantFailed(failure(Step::SignIn, kind)));
        assert!(rig.backoff() >= secs(at_least), "{kind:?}: {:?}", rig.backoff());
        assert_eq!(rig.session.status().state, state);
        assert!(rig.session.status().last_error.as_deref().unwrap().starts_with("sign-in"));
    }
}

#[test]
fn retry_after_is_kept_even_when_someone_asks_for_a_reconnect() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    let told = failure(Step::SignIn, FailureKind::RateLimited).retry_after(Some(secs(120)));
    rig.feed(Input::GrantFailed(told));
    assert!(rig.backoff() >= secs(120));
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), []);
    assert_eq!(rig.backoff(), secs(120));
    assert_eq!(deeds(rig.tick()), [Action::RequestToken]);
}

#[test]
fn a_reconnect_request_ends_any_other_wait_at_once() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    rig.feed(Input::GrantFailed(failure(Step::SignIn, FailureKind::Unauthorized)));
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [Action::RequestToken]);
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [], "it is under way already");
}

#[test]
fn a_reconnect_request_replaces_an_open_connection_and_blames_no_message() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    for _ in 0..10 {
        assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), [Action::Close { code: 1000 }, token()]);
        rig.finish_connecting();
        assert!(rig.nothing_found().contains(&send(1)));
        rig.sent(1);
    }
}

#[test]
fn a_backoff_is_over_only_when_a_connection_has_lived_for_30_seconds() {
    let mut rig = Rig::open();
    for _ in 0..8 {
        rig.drop_connection();
        rig.reconnect();
        rig.wait(secs(10));
    }
    assert_eq!(rig.session.status().attempts, 9);
    for _ in 0..3 {
        rig.feed(Input::Heard(Line::Main));
        rig.wait(secs(10));
    }
    rig.feed(Input::TimePassed);
    assert_eq!(rig.session.status().attempts, 0);
    rig.drop_connection();
    assert!(rig.backoff() <= Duration::from_millis(500));
}

#[test]
fn close_codes_decide_how_soon() {
    for (code, at_least, at_most) in [
        (1005, Duration::ZERO, Duration::from_millis(500)),
        (1006, Duration::ZERO, Duration::from_millis(500)),
        (1001, Duration::ZERO, Duration::from_millis(500)),
        (1002, Duration::ZERO, Duration::from_millis(500)),
        (1011, secs(1), secs(30)),
        (1013, secs(1), secs(30)),
        (1008, secs(60), secs(300)),
    ] {
        let mut rig = Rig::open();
        rig.close(code);
        let backoff = rig.backoff();
        assert!(backoff >= at_least && backoff <= at_most, "{code}: {backoff:?}");
        assert!(rig.session.status().last_error.as_deref().unwrap().contains(&code.to_string()));
    }
}

#[test]
fn a_frame_too_large_costs_the_connection_and_backs_off() {
    let mut rig = Rig::open();
    rig.feed(Input::Closed(Line::Main, CloseCause::FrameTooLarge));
    assert!(rig.backoff() > Duration::ZERO);
    assert!(rig.session.status().last_error.as_deref().unwrap().contains("max_frame"));
}

fn reconfigured(credentials: [u8; 16]) -> Input<'static> {
    Input::Reconfigured { settings: Arc::new(settings()), credentials }
}

#[test]
fn a_reload_leaves_an_open_connection_and_forgets_the_token_of_other_credentials() {
    let mut rig = Rig::open();
    assert_eq!(rig.feed(reconfigured(CREDENTIALS)), []);
    assert_eq!(rig.feed(reconfigured([9; 16])), [Action::Remember]);
    assert_eq!(rig.session.memory().access, None);
    assert_eq!(rig.session.status().state, ConnectionState::Connected);
    rig.feed(Input::Closed(Line::Main, CloseCause::Lost("gone".into())));
    assert!(deeds(rig.tick()).contains(&Action::RequestToken));
}

#[test]
fn a_reload_lets_a_refused_user_try_at_once_and_nobody_else() {
    let refused = |kind| {
        let mut rig = Rig::new();
        rig.feed(Input::Start);
        rig.feed(Input::GrantFailed(failure(Step::SignIn, kind)));
        rig
    };
    let mut rig = refused(FailureKind::Unauthorized);
    assert_eq!(deeds(rig.feed(reconfigured(CREDENTIALS))), [Action::RequestToken]);
    let mut rig = refused(FailureKind::Network);
    assert_eq!(deeds(rig.feed(reconfigured(CREDENTIALS))), []);
    assert_eq!(deeds(rig.feed(reconfigured([9; 16]))), [Action::RequestToken]);
}

#[test]
fn a_try_with_credentials_that_were_replaced_begins_anew() {
    let mut rig = Rig::new();
    rig.feed(Input::Start);
    assert_eq!(deeds(rig.feed(reconfigured(CREDENTIALS))), [], "nothing new");
    assert_eq!(deeds(rig.feed(reconfigured([9; 16]))), [Action::DropRequest, Action::RequestToken]);
}

#[test]
fn a_stopped_session_says_goodbye_and_nothing_more() {
    let mut rig = Rig::open();
    rig.post(1);
    rig.sent(1);
    rig.post(2);
    assert_eq!(deeds(rig.feed(Input::Stop)), [Action::Close { code: 1001 }]);
    assert_ne!(rig.session.status().state, ConnectionState::Connected);
    assert_eq!(rig.ack(1), []);
    assert_eq!(rig.post(3), []);
    assert_eq!(rig.feed(Input::ReconnectRequested), []);
    assert_eq!(rig.session.deadline(), None);
}

#[test]
fn an_url_does_not_show_itself() {
    assert!(!format!("{:?}", url("top-secret")).contains("top-secret"));
}
