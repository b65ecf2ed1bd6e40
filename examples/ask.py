"""Asks the bot, waits for its answer, and prints it. Usage: python3 ask.py USER TEXT"""
import json, os, sys, time, urllib.error, urllib.request, uuid

URL = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("BRIDGE_TOKEN")


def ask(user, text):
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    request = urllib.request.Request(
        f"{URL}/v1/users/{user}/messages?wait=reply&timeout=30s",
        data=json.dumps({"text": text}).encode(),
        headers=headers,
    )
    for _ in range(5):
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            problem = json.load(error)
            if error.code not in (429, 503):  # 504: the bot did not answer in time
                sys.exit(f"{problem['code']}: {problem['detail']}")
            time.sleep(int(error.headers.get("Retry-After", "1")))
        except OSError:  # The same key: however often it is asked, it is sent once.
            time.sleep(1)
    sys.exit("the bridge can't be reached")


for reply in ask(sys.argv[1], sys.argv[2])["replies"]:
    print(reply["message"][0]["cInfo"]["body"])
