// A bridge as one writes it by hand: signs users in, posts their events to a webhook, and sends what
// is posted here to their bot. It reconnects, keeps each user's order and tries a POST six times.
import { createHmac, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Pool, request } from "undici";
import WebSocket from "ws";

const { platform, bot, webhook, users } = JSON.parse(process.env.BRIDGE);
const hook = new URL(webhook);
const pool = new Pool(hook.origin, { connections: 32 });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const botInfo = { chatBot: bot.name, taskBotId: bot.id };

function jwt(identity) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { iat: now, exp: now + 300, aud: "https://idproxy.kore.com/authorize", jti: randomUUID() };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ ...claims, iss: bot.clientId, sub: identity })}`;
  return `${text}.${createHmac("sha256", bot.clientSecret).update(text).digest("base64url")}`;
}

async function ask(path, body, headers = {}) {
  const answer = await request(`${platform}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  if (answer.statusCode !== 200) throw new Error(`${path}: ${answer.statusCode} ${await answer.body.text()}`);
  return answer.body.json();
}

class User {
  queue = [];
  isPosting = false;

  constructor(name) {
    this.name = name;
  }

  async run() {
    for (let failures = 0; ; failures++) {
      try {
        const { authorization } = await ask("/api/oAuth/token/jwtgrant", { assertion: jwt(this.name), botInfo });
        const bearer = { authorization: `bearer ${authorization.accessToken}` };
        await this.listen((await ask("/api/rtm/start", { botInfo }, bearer)).url, () => (failures = 0));
      } catch (error) {
        console.error(this.name, error.message);
      }
      await sleep(Math.random() * Math.min(500 * 2 ** failures, 30_000));
    }
  }

  listen(url, opened) {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, { perMessageDeflate: false });
      let isAlive = true;
      const pings = setInterval(() => {
        if (!isAlive) return socket.terminate();
        isAlive = false;
        socket.ping();
      }, 15_000);
      socket.on("open", () => {
        this.socket = socket;
        opened();
      });
      socket.on("pong", () => (isAlive = true));
      socket.on("message", (data) => this.receive(data));
      socket.on("error", reject);
      socket.on("close", () => {
        clearInterval(pings);
        resolve();
      });
    });
  }

  receive(data) {
    if (JSON.parse(data).type !== "bot_response") return;
    this.queue.push(data);
    if (!this.isPosting) this.postAll();
  }

  async postAll() {
    this.isPosting = true;
    while (this.queue.length > 0) await this.post(this.queue.shift());
    this.isPosting = false;
  }

  async post(body) {
    const headers = { "content-type": "application/json", "x-user": this.name };
    for (let attempt = 0; attempt < 6; attempt++) {
      if (attempt > 0) await sleep(125 * 2 ** attempt);
      try {
        const answer = await pool.request({ path: hook.pathname, method: "POST", headers, body });
        await answer.body.dump();
        if (answer.statusCode < 300) return;
      } catch (error) {
        console.error(this.name, error.message);
      }
    }
    console.error(this.name, "gave an event up");
  }
}

const byName = new Map(users.map((name) => [name, new User(name)]));
let lastId = Date.now();

const server = createServer((req, res) => {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    const socket = byName.get(req.url.split("/")[3])?.socket;
    let status = 503;
    const id = ++lastId;
    try {
      const { text } = JSON.parse(Buffer.concat(chunks));
      const frame = { clientMessageId: id, message: { body: text }, resourceid: "/bot.message", botInfo, id, client: "sdk" };
      if (socket?.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify(frame));
        status = 202;
      }
    } catch {
      status = 400;
    }
    res.statusCode = status;
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify({ clientMessageId: id }));
  });
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
for (const user of byName.values()) user.run();
