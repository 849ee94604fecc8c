// openai-node against a gateway, as it is.
import OpenAI from "openai";
import { VERSION } from "openai/version";
import { capture, report } from "./capture.mjs";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "k", fetch: capture });
const ask = { model, max_tokens: 12, messages: [{ role: "user", content: "import" }] };
const whole = await client.chat.completions.create(ask);
let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
await report(VERSION, [whole.choices[0].message.content, streamed]);
