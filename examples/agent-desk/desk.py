#!/usr/bin/env python3
"""A small agent desk on top of rtm-bridge: the user's side of a conversation that a human agent took over.
Standard library only. README.md beside it says how to try it out.

WEBHOOK_SECRET=whsec_... [BRIDGE_URL=http://127.0.0.1:8080] [BRIDGE_TOKEN=...] [DESK_DB=desk.db] [PORT=9000]
python3 desk.py

The bridge POSTs its events to /events. A clerk opens http://127.0.0.1:9000/, sees the conversations with the
bot's words before the agent took over, and writes, reads, fetches files and hangs up in the user's place.
"""
import base64, hashlib, hmac, html, json, os, queue, sqlite3, threading, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import error, parse, request

SECRET = os.environ["WEBHOOK_SECRET"].removeprefix("whsec_")
KEY = base64.b64decode(SECRET + "=" * (-len(SECRET) % 4))
BRIDGE = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080").rstrip("/")
TOKEN = os.environ.get("BRIDGE_TOKEN")
opener = request.build_opener(request.ProxyHandler({}))  # The bridge is on this machine: no proxy.

db = sqlite3.connect(os.environ.get("DESK_DB", ":memory:"), check_same_thread=False)
db.row_factory = sqlite3.Row
db.executescript("""
    create table if not exists done (id text primary key);
    create table if not exists cases (user text primary key, open int, agent text, doing text);
    create table if not exists lines (user text, id text, at text, who text, text text, files text,
                                      message_id text, is_read int, primary key (user, id));
""")
lock = threading.Lock()
errands = queue.Queue()  # Receipts: said after the webhook was answered, never while it waits.


# ---- What comes from the bridge.

def verified(headers, body):
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at)) > 300:
        return False
    signed = f"{event_id}.{at}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").encode("latin-1", "replace").split()
    return any(hmac.compare_digest(one, expected) for one in given)


def take(event_id, event):
    """Takes an event once: what it changes and that it came are one transaction."""
    with lock, db:
        if db.execute("insert or ignore into done values (?)", (event_id,)).rowcount == 0:
            return
        user, agent = event["user"], event.get("agent")
        db.execute("insert or ignore into cases values (?, 0, null, null)", (user,))
        if event["type"] == "bridge.agent_session":
            session(user, event["data"])
        elif event["type"] in ("bot_response", "user_message"):
            words(user, event_id, event)
        if event["from"] == "agent":
            # An agent is there, whether or not we were told of the beginning yet.
            if agent and agent["name"]:
                db.execute("update cases set agent = ? where user = ?", (agent["name"], user))
            # Words end what was signalled before.
            db.execute("update cases set doing = ? where user = ?", (event.get("signal"), user))


def session(user, data):
    is_open = data["state"] == "started"
    name = (data["agent"] or {}).get("name")
    db.execute("update cases set open = ?, agent = coalesce(?, agent), doing = null where user = ?",
               (is_open, name, user))
    for said in data.get("transcript", []):
        # What a clerk wrote is here already, under the id that the bridge gave it.
        ours = said["raw"].get("userMsgId")
        if said["text"]:
            line(user, f"ours-{ours}" if ours else said["id"], said["createdOn"], said["from"], said["text"])


def words(user, event_id, event):
    message_id = event["data"].get("messageId")
    files = [one for one in event.get("attachments") or [] if one.get("url")]
    if event["text"] or files:
        # By the platform's id: what the transcript has already is not shown twice.
        line(user, message_id or event_id, event["timestamp"], event["from"], event["text"], files, message_id)
    if event["from"] == "agent" and message_id:
        errands.put((user, "receipts", {"state": "delivered", "messageId": message_id}))


def line(user, line_id, at, who, text, files=(), message_id=None):
    is_read = 0 if who == "agent" and message_id else 1
    db.execute("insert or ignore into lines values (?, ?, ?, ?, ?, ?, ?, ?)",
               (user, line_id, at, who, text, json.dumps(list(files)), message_id, is_read))


# ---- What goes to the bridge.

def call(user, route, body, key=None):
    """POSTs for a user, and gives the status and the answer."""
    headers = {"content-type": "application/json"}
    if TOKEN:
        headers["authorization"] = f"Bearer {TOKEN}"
    if key:
        headers["idempotency-key"] = key  # A form that is sent twice is one message.
    url = f"{BRIDGE}/v1/users/{parse.quote(user, safe='')}/{route}"
    try:
        with opener.open(request.Request(url, json.dumps(body).encode(), headers), timeout=20) as answer:
            return answer.status, json.load(answer)
    except error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")
    except OSError as unreachable:
        return 502, {"detail": f"the bridge can't be reached: {unreachable}"}


def run_errands():
    while True:
        user, route, body = errands.get()
        status, answer = call(user, route, body)
        if status >= 300:
            print(f"{route} for {user}: {status} {answer.get('detail')}", flush=True)


def say(user, text, key):
    status, answer = call(user, "messages", {"text": text}, key)
    if status < 300:
        with lock, db:
            db.execute("insert or ignore into cases values (?, 0, null, null)", (user,))
            line(user, f"ours-{answer['clientMessageId']}", answer["createdAt"], "user", text)
    return status, answer


def has_read(user):
    """The clerk has seen everything: the agent is told."""
    with lock, db:
        unread = db.execute("select message_id from lines where user = ? and is_read = 0 order by at", (user,))
        for row in unread.fetchall():
            errands.put((user, "receipts", {"state": "read", "messageId": row["message_id"]}))
        db.execute("update lines set is_read = 1 where user = ?", (user,))


# ---- The clerk's pages.

def case_of(user):
    with lock:
        case = db.execute("select * from cases where user = ?", (user,)).fetchone()
        rows = db.execute("select * from lines where user = ? order by at, rowid", (user,)).fetchall()
    if case is None:
        return None
    lines = [{"who": row["who"], "text": row["text"], "at": row["at"], "files": json.loads(row["files"])}
             for row in rows]
    return {"user": user, "open": bool(case["open"]), "agent": case["agent"], "doing": case["doing"],
            "lines": lines}


def home():
    with lock:
        users = db.execute("select user, open, agent from cases order by open desc, user").fetchall()
    rows = "".join(f"<li><a href='/cases/{parse.quote(row['user'], safe='')}'>{html.escape(row['user'])}</a> "
                   f"{'with ' + html.escape(row['agent'] or 'an agent') if row['open'] else 'with the bot'}"
                   for row in users)
    return page("Conversations", f"<ul>{rows}</ul>" if rows else "<p>None yet.")


def shown(case):
    user, number, rows = parse.quote(case["user"], safe=""), 0, []
    for one in case["lines"]:
        files = ""
        for file in one["files"]:
            name = html.escape(file.get("name") or "file")
            files += f" <a href='/cases/{user}/files/{number}'>{name}</a>"
            number += 1
        rows.append(f"<p><b>{html.escape(one['who'])}</b> {html.escape(one['text'] or '')}{files}")
    partner = f"with {html.escape(case['agent'] or 'an agent')}" if case["open"] else "with the bot"
    doing = f"<p><i>{html.escape(case['doing'])}</i>" if case["open"] and case["doing"] else ""
    forms = (f"<form method=post action='/cases/{user}/say'><input type=hidden name=key value={uuid.uuid4()}>"
             "<input name=text autofocus> <button>Send</button></form>")
    if case["open"]:
        forms += f"<form method=post action='/cases/{user}/close'><button>Hand back to the bot</button></form>"
    return page(f"{html.escape(case['user'])} {partner}", "".join(rows) + doing + forms)


def page(title, body):
    return ("<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5>"
            f"<title>{title}</title><h1>{title}</h1>{body}").encode()


class Desk(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        match self.path.split("?")[0].strip("/").split("/"):
            case [""]:
                self.answer(200, home(), "text/html")
            case ["cases", name] if name.endswith(".json"):
                found = case_of(parse.unquote(name.removesuffix(".json")))
                self.answer(200 if found else 404, json.dumps(found).encode(), "application/json")
            case ["cases", name]:
                found = case_of(parse.unquote(name))
                if found is None:
                    return self.answer(404)
                self.answer(200, shown(found), "text/html")
                has_read(found["user"])
            case ["cases", name, "files", number] if number.isascii() and number.isdigit():
                self.file(case_of(parse.unquote(name)), int(number))
            case _:
                self.answer(404)

    def file(self, found, number):
        """Fetches an agent's file for the clerk: where it lies may ask for this machine, not for a browser."""
        files = [file for one in (found or {"lines": []})["lines"] for file in one["files"]]
        if number >= len(files) or not files[number]["url"].startswith(("http://", "https://")):
            return self.answer(404)
        try:
            with opener.open(files[number]["url"], timeout=20) as answer:
                content = answer.read(25 * 1024 * 1024)  # No file of the platform's is larger.
        except OSError as failed:
            return self.answer(502, str(failed).encode(), "text/plain")
        name = parse.quote(files[number].get("name") or "file")
        self.answer(200, content, "application/octet-stream",
                    {"content-disposition": f"attachment; filename*=UTF-8''{name}"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.strip("/").split("/")
        if path == ["events"]:
            if not verified(self.headers, body):
                return self.answer(401)
            take(self.headers["webhook-id"], json.loads(body))  # If this fails, the event comes again.
            return self.answer(204)
        form = dict(parse.parse_qsl(body.decode("utf-8", "replace")))
        match path:
            case ["cases", name, "say"]:
                result = say(parse.unquote(name), form.get("text", ""), form.get("key"))
            case ["cases", name, "typing"]:
                result = call(parse.unquote(name), "typing", {"state": form.get("state", "start")})
            case ["cases", name, "close"]:
                result = call(parse.unquote(name), "agent-session/close", {})
            case _:
                return self.answer(404)
        status, answer = result
        if status < 300:
            return self.answer(303, headers={"location": f"/cases/{name}"})
        self.answer(status, f"{answer.get('detail', status)}\n".encode(), "text/plain")

    def answer(self, status, body=b"", content_type=None, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        if content_type:
            self.send_header("content-type", f"{content_type}; charset=utf-8")
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


threading.Thread(target=run_errands, daemon=True).start()
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Desk)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
