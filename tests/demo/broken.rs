//! The script where something is not as it must be: the step that sees it fails and says why.

use std::{io::sink, time::Duration};

use rtm_bridge::{
    demo::{Ports, Stage, StageOptions, Step, Timeline, play},
    receiver::Reply,
    sandbox::{Fault, FaultKind, Push},
};

/// Plays on a stage where `sabotage` was done; gives the step that failed, and the error's words.
async fn failing(patience: Duration, sabotage: impl FnOnce(&Stage)) -> (Step, String) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut stage = Stage::start(StageOptions { ports: Ports::Any, patience }).await.unwrap();
    sabotage(&stage);
    let error = play(&mut stage, &mut Timeline::new(sink(), Duration::ZERO)).await.unwrap_err();
    stage.close().await;
    assert_eq!(Step::ALL[error.number - 1], error.step);
    (error.step, error.to_string())
}

#[tokio::test]
async fn a_message_that_the_platform_refuses() {
    let (step, why) = failing(Duration::from_secs(20), |stage| {
        stage.platform().inject(Fault::always(FaultKind::NegativeAck));
    })
    .await;
    assert_eq!(step, Step::Ack);
    assert_eq!(
        why,
        "step 4 failed (The platform acks it): the message ended rejected, reason refused_by_platform"
    );
}

#[tokio::test]
async fn an_answer_that_the_webhook_never_takes() {
    let (step, why) = failing(Duration::from_secs(3), |stage| {
        let refused = |text: &str| (text == "echo: Hello").then(|| Reply::status(500));
        stage.receiver().rule(move |event| refused(event.text.as_deref()?));
    })
    .await;
    assert_eq!(step, Step::Reply);
    assert!(why.ends_with("waited 3000 ms in vain for \"echo: Hello\" at the webhook"), "{why}");
}

#[tokio::test]
async fn a_bot_that_says_welcome_twice() {
    let (step, why) = failing(Duration::from_secs(20), |stage| {
        let welcome = stage.platform().settings().welcome.unwrap();
        stage.platform().push(stage.identity(), Push::text(welcome).history_only());
    })
    .await;
    assert_eq!((step, step.title()), (Step::Reconnect, "The bridge reconnects"));
    assert!(why.ends_with("the bot said welcome 2 times"), "{why}");
}
