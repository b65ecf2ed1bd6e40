//! Replacing the open socket in time.

use super::*;

/// How long the tokens of these tests live.
const LIFE: Duration = secs(3600);
const EVENT: &str = r#"{"type":"bot_response"}"#;
const ASKED: u64 = 120;

/// Connected with a token of [`LIFE`].
fn open() -> Rig {
    open_as(|_| {}, LIFE)
}

fn open_as(change: impl FnOnce(&mut SessionSettings), life: Duration) -> Rig {
    let mut rig = Rig::with(|settings, _| change(settings));
    rig.feed(Input::Start);
    rig.grant_for(life);
    rig.url_issued();
    rig.feed(Input::Opened(Skew::default()));
    rig.wait(secs(30));
    rig.feed(Input::Heard(Line::Main));
    rig.feed(Input::TimePassed);
    rig
}

/// With the second socket being opened.
fn opening() -> Rig {
    opening_as(|_| {})
}

fn opening_as(change: impl FnOnce(&mut SessionSettings)) -> Rig {
    let mut rig = open_as(change, LIFE);
    rig.until_renewal();
    rig.grant_for(LIFE);
    rig.url_issued();
    rig
}

/// With two sockets, and a message that is unacked on the old one.
fn draining() -> Rig {
    let mut rig = opening();
    rig.post(1);
    rig.sent(1);
    assert_eq!(deeds(rig.opened()), []);
    rig
}

/// With the new socket in charge, and the old one told goodbye.
fn parting() -> Rig {
    let mut rig = opening();
    assert_eq!(deeds(rig.opened()), [promote()]);
    rig
}

fn promote() -> Action {
    Action::Promote { code: 1000 }
}

fn goodbye() -> Input<'static> {
    Input::Closed(Line::Beside, CloseCause::Code(1000, String::new()))
}

fn broken(line: Line) -> Input<'static> {
    Input::Closed(line, CloseCause::Lost(String::new()))
}

fn stored() -> Action {
    Action::StoreEvent { in_reply_to: None, answer: Answer::Yes }
}

fn held() -> Action {
    Action::HoldEvent { in_reply_to: None, answer: Answer::Yes }
}

fn is_recovery(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::FetchHistory(FetchPlan { purpose: Purpose::Recovery(_), .. })))
}

impl Rig {
    /// The second socket is open, and answers its ping.
    fn opened(&mut self) -> Vec<Action> {
        assert_eq!(self.feed(Input::Opened(Skew::default())), [Action::SendWsPing(Line::Beside)]);
        self.feed(Input::Heard(Line::Beside))
    }

    fn url_issued(&mut self) -> Vec<Action> {
        let at = self.now.mono;
        self.feed(Input::UrlIssued { url: url("s2"), at })
    }

    fn grant_for(&mut self, life: Duration) -> Vec<Action> {
        let access = access(self.now.wall.plus(life));
        self.feed(Input::TokenGranted(Grant { access, platform_user_id: None }))
    }

    /// Lets time pass on a quiet, healthy connection until the session asks the platform for something.
    fn until_asked(&mut self) -> Action {
        for _ in 0..10_000 {
            let ticked = self.tick();
            self.feed(Input::Heard(Line::Main));
            let asks = |action: &Action| matches!(action, Action::RequestToken | Action::RequestUrl { .. });
            if let Some(asked) = ticked.into_iter().find(asks) {
                return asked;
            }
        }
        panic!("nothing was asked for")
    }

    fn until_renewal(&mut self) {
        assert_eq!(self.until_asked(), Action::RequestToken);
    }

    fn is_connected(&self) -> bool {
        self.session.status().state == ConnectionState::Connected
    }
}

// ---- When.

#[test]
fn a_connection_is_renewed_in_the_last_quarter_of_its_tokens_life_but_not_at_its_very_end() {
    let month = secs(30 * 86_400);
    for (life, earliest, latest) in [
        (LIFE, secs(2700), secs(3300)),
        (secs(600), secs(450), secs(550)),
        (month, month - secs(1800), month - secs(600)),
    ] {
        let mut moments = Vec::new();
        for seed in 0..20 {
            let mut rig = Rig::with(|_, beginnings| {
                beginnings.seed = seed;
                beginnings.memory.access = Some(access(START.plus(life)));
            });
            let began = rig.now.mono;
            rig.feed(Input::Start);
            rig.finish_connecting();
            let due = rig.session.renewal_deadline().unwrap() - began;
            assert!((earliest..=latest).contains(&due), "{life:?}: {due:?}");
            moments.push(due);
        }
        moments.sort();
        let spread = moments[19] - moments[0];
        assert!(spread > (latest - earliest) / 2, "not all at once: {spread:?}");
    }
}

#[test]
fn a_token_that_hardly_lives_is_no_reason_to_connect_without_end() {
    for life in [Duration::ZERO, secs(1), secs(20)] {
        let mut rig = open_as(|_| {}, life);
        let began = rig.now.mono - secs(30);
        rig.until_renewal();
        assert!(rig.now.mono - began >= secs(30), "{life:?}: as if the platform were away");
    }
}

#[test]
fn a_renewal_costs_no_timer_until_it_is_due() {
    let mut rig = open();
    rig.feed(Input::Heard(Line::Main));
    assert_eq!(rig.session.deadline(), Some(rig.now.mono + secs(15)), "the next ping");
}

#[test]
fn a_renewal_waits_for_a_recovery() {
    let mut rig = Rig::open_with(|settings, _| settings.history_timeout = secs(86_400));
    rig.drop_connection();
    rig.reconnect_only();
    assert_eq!(rig.session.renewal_deadline(), None);
    rig.nothing_found();
    assert!(rig.session.renewal_deadline().is_some());
}

// ---- Make before break.

#[test]
fn a_renewal_opens_a_second_socket_and_only_then_closes_the_first() {
    let mut rig = open();
    rig.until_renewal();
    assert_eq!(rig.grant_for(LIFE), [Action::Remember, token()]);
    let opening = rig.url_issued();
    let query = Some(ReconnectQuery::IsReconnect);
    let by = rig.now.mono + secs(25);
    assert_eq!(opening, [Action::Open { line: Line::Beside, url: url("s2"), query, by }]);
    assert_eq!(rig.frame(EVENT), [stored()]);
    assert_eq!(rig.feed(Input::Opened(Skew::default())), [Action::SendWsPing(Line::Beside)]);
    assert_eq!(rig.frame(EVENT), [stored()]);
    assert_eq!(rig.feed(Input::Heard(Line::Beside)), [Action::Remember, promote()]);
    assert_eq!(rig.feed(goodbye()), [Action::Release]);
    assert_eq!(rig.tick(), [Action::Release, Action::EndOverlap]);
    assert!(rig.is_connected());
    // And the next one.
    rig.until_renewal();
}

#[test]
fn nobody_is_told_of_a_renewal() {
    let mut rig = open();
    let before = rig.session.status().clone();
    rig.until_renewal();
    let mut out = rig.grant_for(LIFE);
    out.extend(rig.url_issued());
    out.extend(rig.opened());
    out.extend(rig.feed(goodbye()));
    assert!(!out.iter().any(|action| matches!(action, Action::StatusChanged(_))), "{out:?}");
    assert_eq!(*rig.session.status(), before);
}

#[test]
fn what_is_unacked_waits_on_the_old_socket_and_what_is_new_goes_out_on_the_next() {
    let mut rig = draining();
    assert_eq!(rig.post(2), []);
    let acked = finished(1, Verdict::Acked(ack(1)));
    assert_eq!(deeds(rig.ack(1)), [acked, promote()]);
    assert_eq!(rig.post(3), [], "the old socket may still have something to say");
    assert_eq!(deeds(rig.feed(goodbye())), [Action::Release, send(2)]);
}

#[test]
fn an_ack_on_the_new_socket_counts_as_well() {
    let mut rig = draining();
    let acked = finished(1, Verdict::Acked(ack(1)));
    assert_eq!(deeds(rig.frame_on(Line::Beside, &ack(1))), [acked, promote()]);
}

#[test]
fn an_ack_that_does_not_come_holds_a_renewal_up_no_longer_than_its_time() {
    let mut rig = draining();
    rig.wait(secs(10));
    rig.feed(Input::Heard(Line::Main));
    assert!(deeds(rig.feed(Input::TimePassed)).contains(&promote()));
    let looks = deeds(rig.feed(goodbye()));
    assert!(matches!(looks[..], [Action::Release, Action::FetchHistory(_)]), "{looks:?}");
    assert_eq!(rig.nothing_found(), [send(1)]);
}

#[test]
fn what_waits_for_its_turn_by_rate_is_not_due_meanwhile() {
    let mut rig = opening_as(|settings| {
        settings.message_rate = Some(crate::config::Rate { count: 1, per: secs(86_400) });
    });
    rig.post(1);
    rig.sent(1);
    rig.ack(1);
    rig.post(2);
    assert!(rig.session.outbox.open_deadline().is_some());
    rig.opened();
    assert_eq!(rig.session.outbox.open_deadline(), None);
    rig.feed(goodbye());
    assert!(rig.session.outbox.open_deadline().is_some());
}

// ---- Events.

#[test]
fn events_of_the_new_socket_wait_until_the_old_one_is_done() {
    let mut rig = draining();
    assert_eq!(
        rig.frame_on(Line::Beside, EVENT),
        [Action::HoldEvent { in_reply_to: ClientMessageId::new(1001).ok(), answer: Answer::Yes }]
    );
    let mut rig = parting();
    assert_eq!(rig.frame_on(Line::Main, EVENT), [held()]);
    assert_eq!(rig.frame_on(Line::Beside, EVENT), [stored()], "behind its goodbye");
    rig.feed(goodbye());
    assert_eq!(rig.frame(EVENT), [stored()]);
}

#[test]
fn an_old_socket_that_does_not_answer_its_goodbye_may_have_had_more_to_say() {
    let mut rig = parting();
    let due = rig.tick();
    assert_eq!(due[0], Action::LetGo { by: rig.now.mono });
    assert!(is_recovery(&due), "{due:?}");
    assert!(!due.contains(&Action::Release));
    assert_eq!(rig.frame(EVENT), [held()]);
    assert_eq!(deeds(rig.tick()), [Action::EndOverlap], "what is held waits for the history");
    assert_eq!(rig.nothing_found(), [Action::Release]);
}

#[test]
fn an_old_socket_that_breaks_behind_its_goodbye_may_have_had_more_to_say() {
    let mut rig = parting();
    let closed = rig.feed(broken(Line::Beside));
    assert!(is_recovery(&closed), "{closed:?}");
    assert!(rig.is_connected());
}

#[test]
fn without_recovery_what_was_held_is_let_go_at_once() {
    let mut rig = opening_as(|settings| settings.recover = false);
    rig.opened();
    assert_eq!(rig.feed(broken(Line::Beside)), [Action::Release]);
}

// ---- What breaks.

#[test]
fn any_step_that_fails_leaves_the_old_socket_and_is_tried_again() {
    let failed = |step: usize| {
        let kind = FailureKind::Server { status: 503 };
        [
            Input::GrantFailed(failure(Step::SignIn, kind)),
            Input::StartFailed(failure(Step::Start, kind)),
            Input::OpenFailed(failure(Step::Open, kind)),
        ]
        .into_iter()
        .nth(step)
        .unwrap()
    };
    for step in 0..3 {
        let mut rig = open();
        rig.until_renewal();
        if step > 0 {
            rig.grant_for(LIFE);
        }
        if step > 1 {
            rig.url_issued();
        }
        assert_eq!(deeds(rig.feed(failed(step))), [Action::EndOverlap]);
        assert!(rig.is_connected());
        let error = rig.session.status().last_error.clone().unwrap();
        assert!(error.contains("could not be renewed") && error.contains("503"), "{error}");
        assert_eq!(rig.post(1), [send(1)]);
        rig.sent(1);
        rig.ack(1);
        let began = rig.now.mono;
        // A token that was granted for it is used.
        let again = if step == 0 { Action::RequestToken } else { token() };
        assert_eq!(rig.until_asked(), again);
        let waited = rig.now.mono - began;
        assert!((secs(1)..secs(3)).contains(&waited), "{waited:?}");
    }
}

#[test]
fn tries_that_go_on_failing_become_rare_and_refused_credentials_are_tried_at_their_own_pace() {
    for (kind, at_least) in
        [(FailureKind::Network, 15), (FailureKind::Unauthorized, 60), (FailureKind::RateLimited, 5)]
    {
        let mut rig = open();
        rig.until_renewal();
        let mut waits = Vec::new();
        for _ in 0..40 {
            rig.feed(Input::GrantFailed(failure(Step::SignIn, kind)));
            let began = rig.now.mono;
            rig.until_renewal();
            waits.push(rig.now.mono - began);
            assert!(rig.is_connected());
        }
        let longest = waits.iter().max().unwrap();
        assert!(*longest >= secs(at_least) && *longest <= secs(66), "{kind:?}: {waits:?}");
    }
}

#[test]
fn a_retry_after_is_kept_whatever_happens_meanwhile() {
    let told = || failure(Step::SignIn, FailureKind::RateLimited).retry_after(Some(secs(ASKED)));
    let refused = || {
        let mut rig = open();
        rig.until_renewal();
        rig.feed(Input::GrantFailed(told()));
        rig
    };
    let mut rig = refused();
    let began = rig.now.mono;
    rig.until_renewal();
    assert!(rig.now.mono - began >= secs(ASKED));
    // The connection drops.
    let mut rig = refused();
    rig.drop_connection();
    assert!(rig.backoff() >= secs(ASKED));
    assert_eq!(deeds(rig.feed(Input::ReconnectRequested)), []);
    // Someone wants another one.
    let mut rig = refused();
    assert_eq!(rig.feed(Input::ReconnectRequested), [], "none is to be had");
    assert!(rig.is_connected());
}

#[test]
fn a_refused_token_is_replaced_once() {
    let mut rig = open();
    // It came with a look into the history.
    rig.session.memory.access = Some(access(START.plus(2 * LIFE)));
    assert_eq!(rig.until_asked(), token());
    let refusal = || failure(Step::Start, FailureKind::TokenRefused);
    assert_eq!(rig.feed(Input::StartFailed(refusal())), [Action::Remember, Action::RequestToken]);
    rig.grant_for(LIFE);
    assert_eq!(deeds(rig.feed(Input::StartFailed(refusal()))), [Action::EndOverlap]);
    assert!(rig.is_connected());
}

#[test]
fn an_old_socket_that_breaks_before_the_new_one_is_open_is_an_ordinary_drop() {
    let mut rig = opening();
    assert_eq!(deeds(rig.drop_connection()), [Action::DropRequest, Action::EndOverlap]);
    assert_eq!(rig.feed(Input::Opened(Skew::default())), [], "nobody waits for it");
    assert!(is_recovery(&rig.reconnect_only()));
}

#[test]
fn an_old_socket_that_breaks_during_the_overlap_is_replaced_at_once_and_no_message_is_blamed() {
    for _ in 0..10 {
        let mut rig = draining();
        let closed = deeds(rig.drop_connection());
        let let_go = Action::LetGo { by: rig.now.mono };
        assert_eq!(closed[..2], [promote(), let_go]);
        assert!(is_recovery(&closed));
        assert!(rig.is_connected());
        assert_eq!(rig.nothing_found(), [Action::Release, send(1)]);
    }
}

#[test]
fn a_goodbye_of_the_platforms_during_the_overlap_leaves_no_gap() {
    let mut rig = draining();
    let closed = deeds(rig.close(1001));
    assert!(!is_recovery(&closed), "{closed:?}");
    let Some(Action::FetchHistory(plan)) = closed.last() else { panic!("{closed:?}") };
    assert_eq!(plan.look_up, [ClientMessageId::new(1001).unwrap()]);
    assert!(closed.contains(&Action::Release));
    assert_eq!(rig.found(&[1]), [finished(1, Verdict::Found)]);
}

#[test]
fn a_message_that_the_old_socket_was_closed_for_ends_and_what_was_not_sent_goes_on() {
    let mut rig = draining();
    rig.post_unacked(2);
    let closed = deeds(rig.close(1009));
    assert_eq!(closed[0], finished(1, Verdict::Rejected(FinalReason::TooLarge, None)));
    assert_eq!(closed.last(), Some(&send(2)));
}

#[test]
fn a_dead_old_socket_is_replaced_by_the_new_one() {
    let mut rig = draining();
    rig.session.outbox.stalled(secs(600));
    rig.wait(secs(15));
    assert!(rig.feed(Input::TimePassed).contains(&Action::SendWsPing(Line::Main)));
    rig.feed(Input::Heard(Line::Beside));
    rig.wait(secs(10));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(due.contains(&promote()) && is_recovery(&due), "{due:?}");
    assert!(rig.is_connected());
}

#[test]
fn a_new_socket_that_breaks_at_once_is_a_failed_try() {
    let mut rig = draining();
    rig.frame_on(Line::Beside, EVENT);
    rig.post(2);
    let policy = CloseCause::Code(1008, "suspended".into());
    assert_eq!(deeds(rig.feed(Input::Closed(Line::Beside, policy))), []);
    assert!(rig.is_connected());
    assert!(rig.session.status().last_error.as_deref().unwrap().contains("suspended"));
    assert_eq!(deeds(rig.ack(1))[1], send(2), "on the old socket");
    // What it brought and the old one never did is an event all the same.
    assert_eq!(rig.tick(), [Action::Release, Action::EndOverlap]);
    let began = rig.now.mono;
    rig.until_asked();
    assert!(rig.now.mono - began >= secs(58));
}

#[test]
fn a_new_socket_that_shows_no_life_never_takes_over() {
    let mut rig = opening();
    rig.feed(Input::Opened(Skew::default()));
    assert_eq!(rig.frame_on(Line::Main, EVENT), [stored()]);
    rig.wait(secs(10));
    rig.feed(Input::Heard(Line::Main));
    let due = deeds(rig.feed(Input::TimePassed));
    assert!(due.contains(&Action::LetGo { by: rig.now.mono }) && !due.contains(&promote()), "{due:?}");
    assert!(rig.is_connected());
    assert_eq!(rig.post(1), [send(1)]);
    assert!(rig.session.status().last_error.as_deref().unwrap().contains("dead"));
}

#[test]
fn what_proves_the_new_socket_may_be_an_event_and_is_still_its_own() {
    let mut rig = opening();
    rig.feed(Input::Opened(Skew::default()));
    let proven = deeds(rig.frame_on(Line::Beside, EVENT));
    assert_eq!(proven, [held(), promote()], "it came before the lines changed");
}

#[test]
fn a_new_socket_that_breaks_later_is_an_ordinary_drop() {
    let mut rig = parting();
    let until = rig.now.mono + secs(2);
    let closed = deeds(rig.drop_connection());
    assert_eq!(closed, [Action::LetGo { by: until }, Action::Release, Action::EndOverlap]);
    assert!(is_recovery(&rig.reconnect_only()));
}

// ---- The end.

#[test]
fn a_stop_closes_both_sockets_whatever_stands_between_them() {
    let close = Action::Close { code: 1001 };
    let now = |rig: &Rig| Action::LetGo { by: rig.now.mono };
    let end = Action::EndOverlap;
    let mut rig = opening();
    assert_eq!(deeds(rig.feed(Input::Stop)), [Action::DropRequest, close.clone(), end.clone()]);
    let mut rig = draining();
    let stopped = deeds(rig.feed(Input::Stop));
    assert_eq!(stopped, [close.clone(), now(&rig), Action::Release, end.clone()]);
    let mut rig = parting();
    let until = Action::LetGo { by: rig.now.mono + secs(2) };
    assert_eq!(deeds(rig.feed(Input::Stop)), [until, Action::Release, close, end]);
    assert_eq!(rig.session.deadline(), None);
}

#[test]
fn someone_who_asks_for_another_connection_gets_rid_of_the_one_at_hand_first() {
    let mut rig = draining();
    let asked = deeds(rig.feed(Input::ReconnectRequested));
    assert_eq!(asked[0], Action::Close { code: 1000 });
    assert_eq!(asked.last(), Some(&token()));
    assert!(!rig.is_connected());
}
