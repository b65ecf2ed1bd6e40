//! What the page shows, and what can be done with it.

use reqwest::Method;
use rtm_bridge::{
    clock::Timestamp,
    config::{Client, Config, EventFilter, Scopes, Secret},
    names::ClientName,
    receiver::Reply,
    sandbox::Push,
    users::{ConnectionState, UserStatus},
};
use serde_json::{Value, json};

use crate::{
    browser::{self, Key, Tab},
    crowd,
    support::{ALICE, BOB, World, add_user, answer, crm, delivered, eventually},
};

/// The page's address.
pub fn page_of(world: &World) -> String {
    format!("http://{}/", world.daemon().ops_address())
}

/// How many there are of something.
async fn count(tab: &Tab, selector: &str) -> u64 {
    tab.eval(&format!("document.querySelectorAll({selector:?}).length")).await.as_u64().unwrap()
}

/// Waits until an element has a text in it.
async fn until_text(tab: &Tab, selector: &str, text: &str) {
    tab.until(&format!("document.querySelector({selector:?}).textContent.includes({text:?})")).await;
}

/// A script's expression for the button with this label in the row of a table that has this text.
fn button(table: &str, row: &str, label: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{table} tbody tr')].find((row) => row.textContent.includes({row:?}))
            .querySelectorAll('button').values().find((button) => button.textContent.startsWith({label:?}))"
    )
}

/// What a page did was to ask its own bridge, and nothing else.
async fn assert_well_behaved(tab: &mut Tab, world: &World) -> Vec<String> {
    let done = tab.deeds().await;
    assert_eq!(done.faults, [""; 0]);
    let page = page_of(world);
    for request in &done.requests {
        assert!(request.split_once(' ').unwrap().1.starts_with(&page), "asked of another: {request}");
    }
    done.requests
}

/// Makes dead letters of what the bot says, and waits for them; gives all that there are then.
async fn refused(world: &World, user: &str, texts: &[&str]) -> Vec<Value> {
    let letters = async || {
        let (_, mut body) = world.get("/v1/dead-letters").await;
        std::mem::take(body["deadLetters"].as_array_mut().unwrap())
    };
    let expected = letters().await.len() + texts.len();
    world.receiver.script(texts.iter().map(|_| Reply::status(422).body("<b>no such customer</b>")));
    for text in texts {
        world.control().push(user, Push::text(*text));
    }
    eventually("the dead letters", async || Some(letters().await).filter(|letters| letters.len() == expected))
        .await
}

fn add_client(config: &mut Config, name: &str, scopes: Scopes) {
    let client = Client {
        tokens: vec![Secret::new(format!("{name}-token"))],
        users: vec!["*".into()],
        scopes,
        rate: None,
    };
    config.clients.insert(ClientName::new(name).unwrap(), client);
}

#[tokio::test]
async fn it_shows_how_everything_is_and_follows() {
    let Some(browser) = browser::find("the status page") else { return };
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    refused(&world, ALICE, &["Hi"]).await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#users tbody", "alice support").await;
    until_text(&tab, "#users-states", "Connected 2").await;
    until_text(&tab, "#webhooks tbody", "crm").await;
    until_text(&tab, "#letters tbody", "the receiver refuses this event").await;
    until_text(&tab, "#tile-users", "2 of 2 connected").await;
    until_text(&tab, "#tile-letters", "1 event given up").await;
    until_text(&tab, "#standing", "Ready").await;
    until_text(&tab, "#stream", "Following").await;

    world.control().push(BOB, Push::text("How are you?"));
    until_text(&tab, "#events li", "bob bot_response How are you?").await;
    let id = world.send(ALICE, "Hello").await;
    world.final_status(ALICE, id).await;
    until_text(&tab, "#events li", &format!("Acked: message {id}")).await;
    until_text(&tab, "#tile-messages", "1 acked").await;

    world.cut_off().await;
    until_text(&tab, "#users-states", "Backing off 2").await;
    tab.until("document.querySelector('#users tbody .state').textContent === 'Backing off'").await;
    until_text(&tab, "#users tbody .wide", "can't be reached").await;
    world.bring_back().await;
    until_text(&tab, "#users-states", "Connected 2").await;
    until_text(&tab, "#tile-users", "everybody is connected").await;

    tab.click("document.querySelector('#users tbody .link')").await;
    until_text(&tab, "#sheet", "Acked").await;
    until_text(&tab, "#sheet", &id.to_string()).await;
    tab.press(Key::Escape).await;
    tab.until("!document.querySelector('#sheet').open").await;
    assert_eq!(tab.eval("document.activeElement.textContent").await, "alice", "back where the reader was");
    assert_well_behaved(&mut tab, &world).await;
}

#[tokio::test]
async fn with_clients_it_shows_counts_until_it_has_a_token() {
    let Some(browser) = browser::find("tokens on the status page") else { return };
    let mut world = World::start_silent(|_| {}).await;
    let letter = refused(&world, ALICE, &["Hi"]).await.remove(0);
    world.stop_daemon().await;
    add_client(&mut world.config, "reader", Scopes { send: false, read: true, admin: false });
    add_client(&mut world.config, "operator", Scopes::ALL);
    world.start_daemon().await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    tab.until("!document.querySelector('#entry').hidden").await;
    until_text(&tab, "#tile-letters", "1 event given up").await;
    assert_eq!(tab.eval("document.querySelector('#details').hidden").await, true);
    let text = tab.eval("document.body.textContent").await;
    assert!(!text.as_str().unwrap().contains("alice"));
    let requests = assert_well_behaved(&mut tab, &world).await;
    assert!(requests.iter().all(|request| !request.contains("/v1/")), "{requests:?}");

    let enter = async |token: &str| {
        tab.type_into("document.querySelector('#token')", token).await;
        tab.press(Key::Enter).await;
    };
    enter("no-such-token").await;
    until_text(&tab, "#token-problem", "does not know this token").await;
    enter("two words").await;
    until_text(&tab, "#token-problem", "no spaces").await;
    enter("reader-token").await;
    until_text(&tab, "#users tbody", "alice").await;
    assert_eq!(tab.eval("document.querySelector('#entry').hidden").await, true);
    assert_eq!(tab.eval("document.cookie + JSON.stringify({...localStorage})").await, "{}");
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#users tbody", "alice").await;

    let mut other = tab.another().await;
    other.open(&page_of(&world)).await;
    other.until("!document.querySelector('#entry').hidden").await;
    tab.to_front().await;

    tab.click(&button("letters", "crm", "Replay")).await;
    tab.click("document.querySelector('#confirm .yes')").await;
    until_text(&tab, "#confirm .problem", "the client reader lacks the scope \"admin\"").await;
    tab.click("document.querySelector('#confirm .no')").await;
    tab.click("document.querySelector('#forget')").await;
    tab.until("!document.querySelector('#entry').hidden").await;
    assert_eq!(tab.eval("sessionStorage.length").await, 0);
    assert_eq!(count(&tab, "#users tbody tr, #letters tbody tr, #events li").await, 0);

    let enter = async |token: &str| {
        tab.type_into("document.querySelector('#token')", token).await;
        tab.click("document.querySelector('#token-form button')").await;
    };
    enter("operator-token").await;
    tab.click(&button("letters", "crm", "Replay")).await;
    tab.click("document.querySelector('#confirm .yes')").await;
    until_text(&tab, "#outcome", "was delivered: crm took it").await;
    assert_eq!(delivered(&world, 1).await[0].id.as_str(), letter["webhookId"].as_str().unwrap());
    assert_well_behaved(&mut tab, &world).await;

    // A token that is taken away while the page is open.
    world.config.clients.clear();
    add_client(&mut world.config, "other", Scopes::ALL);
    world.daemon().reload(&world.config).await.unwrap();
    until_text(&tab, "#token-problem", "does not know this token").await;
}

#[tokio::test]
async fn dead_letters_are_replayed_and_purged_by_clicks() {
    let Some(browser) = browser::find("replays on the status page") else { return };
    let world = World::start_silent(|config| add_user(config, BOB)).await;
    refused(&world, ALICE, &["1"]).await;
    refused(&world, BOB, &["2", "3"]).await;
    let letters = refused(&world, BOB, &["4"]).await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 4").await;

    tab.click(&button("letters", ALICE, "bot_response")).await;
    until_text(&tab, "#sheet", "answered 422<b>no such customer</b>").await;
    until_text(&tab, "#sheet .content > pre", "\"text\": \"1\"").await;
    tab.click("document.querySelector('#sheet .actions button')").await;
    tab.press(Key::Escape).await;
    tab.until("!document.querySelector('#confirm').open").await;
    assert_eq!(world.receiver.events().len(), 0, "nothing happens unless it is confirmed");

    tab.click(&button("letters", ALICE, "Replay")).await;
    until_text(&tab, "#confirm", "bot_response of alice is posted to crm again").await;
    tab.click("document.querySelector('#confirm .yes')").await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 3").await;
    until_text(&tab, "#outcome", "was delivered: crm took it").await;
    assert_eq!(delivered(&world, 1).await[0].text.as_deref(), Some("1"));

    world.receiver.script([422_u16]);
    tab.click(&button("letters", BOB, "Replay")).await;
    tab.click("document.querySelector('#confirm .yes')").await;
    until_text(&tab, "#outcome", "is a dead letter again: the receiver refuses this event").await;

    tab.click(&button("letters", BOB, "Purge")).await;
    until_text(&tab, "#confirm", "deleted for good").await;
    // By keyboard: the dialog's first button is the harmless one.
    tab.until("document.activeElement === document.querySelector('#confirm .no')").await;
    tab.press(Key::Tab).await;
    tab.press(Key::Enter).await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 2").await;

    // One that is gone by now: the bridge's answer is told.
    tab.click(&button("letters", BOB, "Replay")).await;
    for letter in &letters {
        let path = format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap());
        let (status, _) = answer(world.request(Method::DELETE, &path)).await;
        assert!([204, 404].contains(&status));
    }
    tab.click("document.querySelector('#confirm .yes')").await;
    until_text(&tab, "#confirm .problem", "Not done: there is no dead letter").await;
    tab.click("document.querySelector('#confirm .no')").await;
    until_text(&tab, "#letters .empty", "None").await;
    tab.until(
        "!document.querySelector('#letters .empty').hidden && document.querySelector('#replay-all').disabled",
    )
    .await;

    refused(&world, ALICE, &["5", "6"]).await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 2").await;
    tab.click("document.querySelector('#replay-all')").await;
    tab.click("document.querySelector('#confirm .yes')").await;
    until_text(&tab, "#outcome", "2 events are being delivered").await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 0").await;
    assert_eq!(delivered(&world, 3).await.len(), 3);
    assert_well_behaved(&mut tab, &world).await;
}

#[tokio::test]
async fn what_comes_from_outside_stays_text() {
    const EVIL: &str = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\u{1b}[2J\u{202e}";
    const SHOWN: &str = r#"<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>\u{1b}[2J\u{202e}"#;
    let Some(browser) = browser::find("hostile texts on the status page") else { return };
    let world = World::start_silent(|config| crm(config).events = EventFilter::All).await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#stream", "Following").await;
    let frame = json!({ "type": EVIL, "message": [{ "type": "text", "cInfo": { "body": EVIL } }], "big": 0 });
    let frame = frame.to_string().replace("\"big\":0", "\"big\":12345678901234567890.10");
    world.receiver.script([Reply::status(422).body(EVIL)]);
    world.control().push(ALICE, Push::frame(frame));
    let status = UserStatus {
        state: ConnectionState::Unauthorized,
        since: Timestamp::now(),
        last_error: Some(EVIL.into()),
        attempts: 1,
    };
    world.daemon().users().get(ALICE).unwrap().set_status(status);
    // A frame that poses as the bridge's own, and one that breaks what such have.
    for data in [
        json!({ "type": "bridge.connection", "state": EVIL }),
        json!({ "type": "bridge.gap", "recovered": {} }),
    ] {
        world.control().push(ALICE, Push::frame(data.to_string()));
    }
    until_text(&tab, "#users tbody", SHOWN).await;
    tab.until("document.querySelectorAll('#events li').length >= 3").await;
    tab.click("[...document.querySelectorAll('#events summary')].at(-1)").await;
    until_text(&tab, "#events li:last-child pre", "\"big\": 12345678901234567890.10").await;
    until_text(&tab, "#events li:last-child pre", "<img src=x").await;
    tab.until("document.querySelectorAll('#letters tbody tr').length === 1").await;
    tab.click("document.querySelector('#letters tbody .link')").await;
    until_text(&tab, "#sheet .attempts pre", SHOWN).await;
    assert_eq!(count(&tab, "img, body script, [onerror], [style]").await, 0);
    assert_eq!(tab.eval("document.title").await, "rtm-bridge");
    assert_well_behaved(&mut tab, &world).await;
}

#[tokio::test]
async fn the_policy_is_enforced() {
    let Some(browser) = browser::find("the status page's policy") else { return };
    let world = World::start().await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    assert_well_behaved(&mut tab, &world).await;
    for forbidden in [
        "document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:1/' }))",
        "document.body.setAttribute('style', 'color: red')",
        "void fetch('http://127.0.0.1:1/').catch(() => {})",
        "document.body.append(Object.assign(document.createElement('iframe'), { src: 'http://127.0.0.1:1/' }))",
        "void (() => { try { document.body.innerHTML = '<b>' } catch {} })()",
    ] {
        let violated = format!(
            "new Promise((done) => {{
                document.addEventListener('securitypolicyviolation', () => done(true), {{ once: true }});
                {forbidden};
            }})"
        );
        assert_eq!(tab.eval(&violated).await, true, "{forbidden}");
        assert!(!tab.deeds().await.faults.is_empty(), "{forbidden}");
    }
}

#[tokio::test]
async fn a_bridge_that_comes_back_is_followed_again() {
    let Some(browser) = browser::find("a restart behind the status page") else { return };
    let mut world = World::start_silent(|_| {}).await;
    world.config.http.ops = world.daemon().ops_address();
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#stream", "Following").await;
    world.control().push(ALICE, Push::text("before"));
    until_text(&tab, "#events", "before").await;
    world.stop_daemon().await;
    until_text(&tab, "#trouble", "the bridge does not answer").await;
    until_text(&tab, "#standing", "No answer").await;
    world.start_daemon().await;
    world.all_connected().await;
    // Also what comes before the page is there again: it goes on from the last event that it saw.
    world.control().push(ALICE, Push::text("after"));
    until_text(&tab, "#events", "after").await;
    tab.until("document.querySelector('#trouble').textContent === ''").await;
    until_text(&tab, "#standing", "Ready").await;
    assert_eq!(tab.eval("[...document.querySelectorAll('#events li')].filter((li) => li.textContent.includes('before')).length").await, 1);
    assert_well_behaved(&mut tab, &world).await;
}

#[tokio::test]
async fn ten_thousand_users_and_many_events_stay_a_small_page() {
    let Some(browser) = browser::find("10,000 users on the status page") else { return };
    let world = World::start_silent(|_| {}).await;
    crowd::join(&world, 9_999);
    let mut tab = browser.unhurried_tab().await;
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#users-states", "All 10,000").await;
    until_text(&tab, "#users-states", "Unauthorized 10").await;
    until_text(&tab, "#users-pager", "1–25 of 10,000").await;
    assert_eq!(count(&tab, "#users tbody tr").await, 25);
    until_text(&tab, "#users tbody tr", "Unauthorized").await;
    tab.click("document.querySelector('#users-pager .on')").await;
    until_text(&tab, "#users-pager", "26–50 of 10,000").await;
    tab.type_into("document.querySelector('#users-filter')", "USER-0777").await;
    until_text(&tab, "#users-pager", "").await;
    tab.until("document.querySelectorAll('#users tbody tr').length === 10").await;
    tab.type_into("document.querySelector('#users-filter')", "x").await;
    until_text(&tab, "#users .empty", "No user is like that").await;

    until_text(&tab, "#stream", "Following").await;
    for n in 0..500 {
        world.control().push(ALICE, Push::text(format!("event {n}")));
    }
    tab.until("document.querySelectorAll('#events li').length >= 100").await;
    world.control().push(ALICE, Push::text("the last"));
    // It may leave some out, but goes on with those that come then.
    let last = async || {
        world.control().push(ALICE, Push::text("the last"));
        let seen = tab.eval("document.querySelector('#events').textContent.includes('the last')").await;
        tab.eval("new Promise((drawn) => setTimeout(drawn, 300))").await;
        (seen == true).then_some(())
    };
    eventually("the last event", last).await;
    assert!(count(&tab, "#events li").await <= 200);
    assert!(count(&tab, "*").await < 3_000);
    let requests = assert_well_behaved(&mut tab, &world).await;
    let lists = requests.iter().filter(|request| request.ends_with("/v1/users")).count();
    assert!(lists <= 2, "the whole list was asked for {lists} times");
}

#[tokio::test]
async fn a_hidden_page_asks_for_nothing() {
    let Some(browser) = browser::find("a hidden status page") else { return };
    let world = World::start_silent(|_| {}).await;
    let mut tab = browser.tab().await;
    tab.open(&page_of(&world)).await;
    until_text(&tab, "#stream", "Following").await;
    let mut other = tab.another().await;
    other.to_front().await;
    tab.until("document.hidden").await;
    other.open(&page_of(&world)).await;
    until_text(&other, "#stream", "Following").await;
    tab.deeds().await;
    // As long as another needs to see two changes.
    for text in ["one", "two"] {
        let id = world.send(ALICE, text).await;
        world.final_status(ALICE, id).await;
        let acked = if text == "one" { "1 acked" } else { "2 acked" };
        until_text(&other, "#tile-messages", acked).await;
    }
    let requests = tab.deeds().await.requests;
    assert!(requests.is_empty(), "{requests:?}");
    tab.to_front().await;
    until_text(&tab, "#tile-messages", "2 acked").await;
    tab.until("document.querySelector('#events').textContent.includes('Acked')").await;
    assert_well_behaved(&mut tab, &world).await;
}
