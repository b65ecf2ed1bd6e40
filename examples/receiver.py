#!/usr/bin/env python3
"""A webhook receiver: checks signatures, skips repeats. Standard library only.
WEBHOOK_SECRET=whsec_... PORT=9000 python3 receiver.py"""
import base64, hashlib, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["WEBHOOK_SECRET"].removeprefix("whsec_")
KEY = base64.b64decode(SECRET + "=" * (-len(SECRET) % 4))
done = set()  # In production: your database, in the transaction that handles the event.


def verified(headers, body):
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (at.isascii() and at.isdigit()) or abs(time.time() - int(at)) > 300:
        return False
    signed = f"{event_id}.{at}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    given = headers.get("webhook-signature", "").encode("latin-1", "replace").split()
    return any(hmac.compare_digest(one, expected) for one in given)


def handle(event):
    print(event["sequence"], event["user"], event["type"], repr(event["text"]), flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Keeps connections open.

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not verified(self.headers, body):
            return self.answer(401)
        if self.headers["webhook-id"] not in done:
            handle(json.loads(body))  # If this fails, no answer goes out, and the event comes again.
            done.add(self.headers["webhook-id"])
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Receiver)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
