// Asks the bot, waits for its answer, and prints it. Usage: node ask.mjs USER TEXT
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const { BRIDGE_URL = "http://127.0.0.1:8080", BRIDGE_TOKEN } = process.env;

async function ask(user, text) {
  const headers = { "content-type": "application/json", "idempotency-key": randomUUID() };
  if (BRIDGE_TOKEN) headers.authorization = `Bearer ${BRIDGE_TOKEN}`;
  const url = `${BRIDGE_URL}/v1/users/${user}/messages?wait=reply&timeout=30s`;
  for (let attempt = 0; attempt < 5; attempt++) {
    let answer;
    try {
      answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ text }) });
      const body = await answer.json();
      if (answer.ok) return body;
      // 504: the bot did not answer in time.
      if (![429, 503].includes(answer.status)) throw new Error(`${body.code}: ${body.detail}`);
    } catch (error) {
      if (answer) throw error;
    }
    // The same key: however often it is asked, it is sent once.
    await sleep(1000 * Number(answer?.headers.get("retry-after") ?? 1));
  }
  throw new Error("the bridge can't be reached");
}

const { replies } = await ask(process.argv[2], process.argv[3]);
for (const reply of replies) console.log(reply.message[0].cInfo.body);
