"""Sends a file with a text, and prints what became of the message. Usage: python3 send_file.py USER TEXT FILE"""
import json, os, sys, urllib.error, urllib.request, uuid

URL = os.environ.get("BRIDGE_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("BRIDGE_TOKEN")


def form(fields, path):
    """The parts of the form, one after the other: the file is never held whole."""
    for name, value in fields.items():
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    name = os.path.basename(path).replace('"', "%22")
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    with open(path, "rb") as file:
        while piece := file.read(65536):
            yield piece
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


BOUNDARY = uuid.uuid4().hex
user, text, path = sys.argv[1:]
headers = {
    "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
    "Idempotency-Key": str(uuid.uuid4()),  # With the same one, a repeat would be the same message.
}
if TOKEN:
    headers["Authorization"] = f"Bearer {TOKEN}"
url = f"{URL}/v1/users/{user}/messages?wait=ack"
request = urllib.request.Request(url, data=form({"text": text}, path), headers=headers)
try:
    with urllib.request.urlopen(request, timeout=600) as response:
        print(json.load(response)["status"])
except urllib.error.HTTPError as error:
    problem = json.load(error)
    sys.exit(f"{problem['code']}: {problem['detail']}")
