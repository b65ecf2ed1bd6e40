//! A real browser, driven over the DevTools protocol through its pipe.
//!
//! The pipe is the browser's life line: when a test ends, or dies, the browser ends by itself.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::support::{LIMIT, within};

/// What it may be called. `CHROMIUM` names another.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// A running browser. All tests of the moment share one; each has a context (cookies, storage) of its own.
pub struct Browser {
    pipe: Arc<Pipe>,
    process: Mutex<Child>,
    _profile: TempDir,
}

/// Commands out, answers and events in.
struct Pipe {
    commands: Mutex<Option<ChildStdin>>,
    next: AtomicU64,
    answers: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    events: Mutex<HashMap<String, mpsc::UnboundedSender<Value>>>,
}

/// The browser, unless there is none on this machine: then a note says so, and the test is skipped.
pub fn find(test: &str) -> Option<Arc<Browser>> {
    static RUNNING: Mutex<Weak<Browser>> = Mutex::new(Weak::new());
    let Some(program) = program() else {
        // Past the test runner, which keeps what passing tests print to itself.
        let note = format!("SKIPPED: {test}: no chromium (install one, or name it in CHROMIUM)\n");
        io::stderr().write_all(note.as_bytes()).unwrap();
        return None;
    };
    let mut running = lock(&RUNNING);
    if let Some(browser) = running.upgrade() {
        return Some(browser);
    }
    let browser = Arc::new(Browser::start(&program));
    *running = Arc::downgrade(&browser);
    Some(browser)
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let known = NAMES.iter().flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    named.or_else(|| known.into_iter().find(|program| program.is_file()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Browser {
    fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        // Its ends of the pipe are the descriptors 3 and 4.
        shell.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "browser"]);
        shell.arg(program).arg(format!("--user-data-dir={}", profile.path().display()));
        shell.args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--no-default-browser-check",
            "--no-proxy-server",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--force-color-profile=srgb",
            "--lang=en",
        ]);
        if rustix::process::geteuid().is_root() {
            shell.arg("--no-sandbox");
        }
        let started = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.expect("the browser starts");
        let pipe = Arc::new(Pipe {
            commands: Mutex::new(process.stdin.take()),
            next: AtomicU64::new(1),
            answers: Mutex::default(),
            events: Mutex::default(),
        });
        let output = process.stdout.take().unwrap();
        let reader = pipe.clone();
        thread::spawn(move || reader.read(output));
        Self { pipe, process: Mutex::new(process), _profile: profile }
    }

    /// A new tab with storage of its own. Its pages don't wait as long as they mean to: what they do every
    /// two seconds they do every 400 ms.
    pub async fn tab(self: &Arc<Self>) -> Tab {
        let tab = self.unhurried_tab().await;
        tab.hurry().await;
        tab
    }

    /// A new tab with storage of its own.
    pub async fn unhurried_tab(self: &Arc<Self>) -> Tab {
        let context =
            self.pipe.call(None, "Target.createBrowserContext", json!({ "disposeOnDetach": true })).await;
        self.tab_in(text(&context["browserContextId"])).await
    }

    async fn tab_in(self: &Arc<Self>, context: String) -> Tab {
        let call = async |method, params| self.pipe.call(None, method, params).await;
        let blank = json!({ "url": "about:blank", "browserContextId": context });
        let target = text(&call("Target.createTarget", blank).await["targetId"]);
        let attached = call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        let session = text(&attached["sessionId"]);
        let (sender, events) = mpsc::unbounded_channel();
        lock(&self.pipe.events).insert(session.clone(), sender);
        let tab = Tab { browser: self.clone(), context, target, session, events, done: Deeds::default() };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without its pipe it ends.
        lock(&self.pipe.commands).take();
        let _ = lock(&self.process).wait();
    }
}

impl Pipe {
    /// Messages end with a NUL.
    fn read(&self, output: ChildStdout) {
        let mut output = BufReader::new(output);
        let mut message = Vec::new();
        while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
            message.pop();
            self.take(serde_json::from_slice(&message).unwrap());
            message.clear();
        }
        // Whoever waits for an answer hears that none will come.
        lock(&self.answers).clear();
    }

    fn take(&self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(waiting) = lock(&self.answers).remove(&id) {
                let _ = waiting.send(message);
            }
        } else if let Some(session) = message["sessionId"].as_str()
            && let Some(events) = lock(&self.events).get(session)
        {
            let _ = events.send(message);
        }
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.answers).insert(id, sender);
        let mut command = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = json!(session);
        }
        let line = format!("{command}\0");
        lock(&self.commands).as_mut().unwrap().write_all(line.as_bytes()).expect("the browser listens");
        let mut answer = within(method, answer).await.expect("the browser lives");
        assert_eq!(answer["error"], Value::Null, "{method}: {params}");
        answer["result"].take()
    }
}

/// Keys that people use instead of a mouse.
#[derive(Debug, Clone, Copy)]
pub enum Key {
    Tab,
    Enter,
    Escape,
}

/// What a page did.
#[derive(Debug, Default)]
pub struct Deeds {
    /// What it asked for: methods and URLs.
    pub requests: Vec<String>,
    /// Errors of its script, and violations of its policy.
    pub faults: Vec<String>,
}

impl Deeds {
    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let request = &params["request"];
                self.requests.push(format!("{} {}", text(&request["method"]), text(&request["url"])));
            }
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled") => {
                self.faults.push(params.to_string());
            }
            // An answer other than a 2xx, or none, is the bridge's affair; all else is the page's.
            Some("Log.entryAdded") if params["entry"]["source"] != "network" => {
                self.faults.push(params["entry"].to_string());
            }
            _ => {}
        }
    }
}

/// A tab of the browser.
pub struct Tab {
    browser: Arc<Browser>,
    context: String,
    target: String,
    session: String,
    events: mpsc::UnboundedReceiver<Value>,
    done: Deeds,
}

impl Tab {
    /// Another tab, which has this one's storage but for what belongs to a tab.
    pub async fn another(&self) -> Self {
        let tab = self.browser.tab_in(self.context.clone()).await;
        tab.hurry().await;
        tab
    }

    async fn hurry(&self) {
        const HURRY: &str = "const wait = setTimeout;
            window.setTimeout = (then, ms, ...rest) => wait(then, ms / 5, ...rest);";
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": HURRY })).await;
    }

    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.pipe.call(Some(&self.session), method, params).await
    }

    /// Goes to a page, and waits until it is there.
    pub async fn open(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({ "url": url })).await;
        assert_eq!(gone["errorText"], Value::Null, "{url}");
        loop {
            let event = within("the page to be there", self.events.recv()).await.unwrap();
            self.done.note(&event);
            if event["method"] == "Page.loadEventFired" {
                break;
            }
        }
    }

    /// What the script's expression is, or becomes.
    pub async fn eval(&self, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", params).await;
        assert_eq!(answer["exceptionDetails"], Value::Null, "{script}");
        answer["result"]["value"].take()
    }

    /// Waits until a condition holds, a script's expression; gives what it is then. In vain: tells what the
    /// page shows instead.
    pub async fn until(&self, condition: &str) -> Value {
        let limit = (LIMIT - Duration::from_secs(2)).as_millis();
        let script = format!(
            "new Promise((done) => {{
                const until = Date.now() + {limit};
                const look = () => {{
                    const seen = (() => {{ try {{ return {condition}; }} catch {{ return false; }} }})();
                    if (seen) return done({{ seen }});
                    if (Date.now() < until) return setTimeout(look, 50);
                    done({{ instead: `hidden: ${{document.hidden}}\n${{document.body.innerText}}` }});
                }};
                look();
            }})"
        );
        let mut answer = self.eval(&script).await;
        assert_eq!(answer["instead"], Value::Null, "waited {limit} ms in vain for: {condition}");
        answer["seen"].take()
    }

    /// Clicks on an element as a person does: it must be there, visible, enabled, and not covered by another.
    /// One that moved away just then is clicked again.
    pub async fn click(&self, element: &str) {
        let aim = format!(
            "(() => {{
                const element = {element};
                if (element.disabled) return false;
                element.scrollIntoView({{ block: 'center' }});
                const {{ x, y, width, height }} = element.getBoundingClientRect();
                const [left, top] = [x + width / 2, y + height / 2];
                const hit = document.elementFromPoint(left, top);
                if (width === 0 || !(hit === element || element.contains(hit))) return false;
                window.clicked = false;
                element.addEventListener('click', () => (window.clicked = true), {{ once: true, capture: true }});
                return {{ x: left, y: top }};
            }})()"
        );
        let clicking = async {
            loop {
                let place = self.until(&aim).await;
                for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
                    let mut event = json!({ "type": kind, "button": "left", "clickCount": 1 });
                    (event["x"], event["y"]) = (place["x"].clone(), place["y"].clone());
                    self.call("Input.dispatchMouseEvent", event).await;
                }
                if self.eval("window.clicked").await == true {
                    return;
                }
            }
        };
        within(element, clicking).await;
    }

    /// Clicks into a field and types.
    pub async fn type_into(&self, field: &str, text: &str) {
        self.click(field).await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key.
    pub async fn press(&self, key: Key) {
        let (name, code, text) = match key {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
            Key::Escape => ("Escape", 27, ""),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// What the page did since the last time.
    pub async fn deeds(&mut self) -> Deeds {
        // Events come in order with answers: what happened before this one is known after it.
        self.eval("0").await;
        while let Ok(event) = self.events.try_recv() {
            self.done.note(&event);
        }
        std::mem::take(&mut self.done)
    }

    /// Shows the page as on a screen of this size and colour scheme.
    pub async fn look_like(&self, width: u32, height: u32, scheme: &str) {
        let mobile = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme).await;
    }

    /// A picture of what is to be seen, or of the whole page.
    pub async fn picture(&self, whole: bool, file: &Path) {
        use base64::Engine as _;
        let picture = self
            .call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": whole }))
            .await;
        let png = base64::engine::general_purpose::STANDARD.decode(text(&picture["data"])).unwrap();
        std::fs::write(file, png).unwrap();
    }

    /// Brings the tab to the front: the others are hidden.
    pub async fn to_front(&self) {
        self.browser.pipe.call(None, "Target.activateTarget", json!({ "targetId": self.target })).await;
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        lock(&self.browser.pipe.events).remove(&self.session);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
