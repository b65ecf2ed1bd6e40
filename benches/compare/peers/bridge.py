"""A bridge as one writes it by hand: signs users in, posts their events to a webhook, and sends what
is posted here to their bot. It reconnects, keeps each user's order and tries a POST six times."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import random
import sys
import time
import uuid

import aiohttp
from aiohttp import web

CONFIG = json.loads(os.environ["BRIDGE"])
PLATFORM, BOT, WEBHOOK = CONFIG["platform"], CONFIG["bot"], CONFIG["webhook"]
BOT_INFO = {"chatBot": BOT["name"], "taskBotId": BOT["id"]}
IDS = itertools.count(int(time.time() * 1000))


def jwt(identity):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"iat": now, "exp": now + 300, "aud": "https://idproxy.kore.com/authorize", "jti": str(uuid.uuid4())}
    claims |= {"iss": BOT["clientId"], "sub": identity}
    head = {"alg": "HS256", "typ": "JWT"}
    text = b".".join(part(json.dumps(value).encode()) for value in (head, claims))
    mac = hmac.new(BOT["clientSecret"].encode(), text, hashlib.sha256).digest()
    return (text + b"." + part(mac)).decode()


class User:
    def __init__(self, name, platform, hook):
        self.name, self.platform, self.hook = name, platform, hook
        self.queue = asyncio.Queue()
        self.socket = None

    async def ask(self, path, body, headers=None):
        async with self.platform.post(PLATFORM + path, json=body, headers=headers, raise_for_status=True) as answer:
            return await answer.json()

    async def run(self):
        failures = 0
        while True:
            try:
                body = {"assertion": jwt(self.name), "botInfo": BOT_INFO}
                grant = await self.ask("/api/oAuth/token/jwtgrant", body)
                bearer = {"authorization": "bearer " + grant["authorization"]["accessToken"]}
                start = await self.ask("/api/rtm/start", {"botInfo": BOT_INFO}, bearer)
                async with self.platform.ws_connect(start["url"], heartbeat=15) as self.socket:
                    failures = 0
                    async for message in self.socket:
                        if message.type == aiohttp.WSMsgType.TEXT:
                            if json.loads(message.data)["type"] == "bot_response":
                                self.queue.put_nowait(message.data)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                print(self.name, repr(error), file=sys.stderr)
            await asyncio.sleep(random.random() * min(0.5 * 2**failures, 30))
            failures += 1

    async def deliver(self):
        while True:
            await self.post((await self.queue.get()).encode())

    async def post(self, body):
        headers = {"content-type": "application/json", "x-user": self.name}
        for attempt in range(6):
            if attempt > 0:
                await asyncio.sleep(0.125 * 2**attempt)
            try:
                async with self.hook.post(WEBHOOK, data=body, headers=headers) as answer:
                    await answer.read()
                    if answer.status < 300:
                        return
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                print(self.name, repr(error), file=sys.stderr)
        print(self.name, "gave an event up", file=sys.stderr)


def api(users):
    async def send(request):
        user, body = users.get(request.match_info["user"]), await request.json()
        if user is None or user.socket is None or user.socket.closed:
            return web.json_response({"error": "not connected"}, status=503)
        number = next(IDS)
        frame = {"clientMessageId": number, "message": {"body": body["text"]}, "resourceid": "/bot.message"}
        await user.socket.send_str(json.dumps(frame | {"botInfo": BOT_INFO, "id": number, "client": "sdk"}))
        return web.json_response({"clientMessageId": number}, status=202)

    app = web.Application()
    app.router.add_post("/v1/users/{user}/messages", send)
    return app


async def main():
    # A socket keeps its connection: they are limited for the webhook alone.
    unlimited, limited = aiohttp.TCPConnector(limit=0), aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(connector=unlimited) as platform, aiohttp.ClientSession(connector=limited) as hook:
        users = {name: User(name, platform, hook) for name in CONFIG["users"]}
        runner = web.AppRunner(api(users), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
        await asyncio.gather(*(task for user in users.values() for task in (user.run(), user.deliver())))


asyncio.run(main())
