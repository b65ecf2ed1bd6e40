"""What openapi.json says in words only: which values go together, and what a test has no time for."""
import json
import re
import uuid

import schemathesis

DURATION = re.compile(r"\d+(ms|s|m)")
MANY = {("DELETE", "/v1/dead-letters"), ("POST", "/v1/dead-letters/replay")}
JSON_FIELDS = {"attachments": list, "customData": dict, "metaTags": dict}


def is_json(text, kind):
    try:
        return isinstance(json.loads(text), kind)
    except (TypeError, ValueError):
        return False


@schemathesis.hook
def filter_case(context, case):
    query = case.query or {}
    if "collect" in query and query.get("wait") != "reply":
        return False
    if "timeout" in query and "wait" not in query:
        return False
    if (case.method.upper(), case.operation.path) in MANY and not query:
        return False
    # 7.0 counts as an integer in schemas, and is none here.
    if isinstance(case.body, dict) and isinstance(case.body.get("clientMessageId"), float):
        return False
    is_form = case.media_type in ("application/x-www-form-urlencoded", "multipart/form-data")
    # A body that is the file itself has its name beside it, and files have bytes.
    if case.operation.path.endswith("/attachments") and not is_form:
        return bool(query.get("name", "").strip() and case.body)
    if is_form and isinstance(case.body, dict):
        files = case.body.get("file", [])
        if not all(files if isinstance(files, list) else [files]):
            return False
        if "attachments" in case.body and case.body["attachments"] in ("[]", "") and "text" not in case.body and not files:
            return False
        return all(is_json(case.body[name], kind) for name, kind in JSON_FIELDS.items() if name in case.body)
    return True


@schemathesis.hook
def before_call(context, case, kwargs):
    for name in ("wait", "timeout", "collect"):
        value = (case.query or {}).get(name)
        # Nobody waits for two minutes here.
        if isinstance(value, str) and DURATION.fullmatch(value):
            case.query[name] = "0200ms"
    headers = case.headers or {}
    # A key of another message is refused: each message has one of its own.
    if 0 < len(headers.get("Idempotency-Key", "")) <= 255:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
