// The Vercel AI SDK against a gateway, as it is, by both of its providers.
import { readFile } from "node:fs/promises";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { capture, report } from "./capture.mjs";

const [url, model] = process.argv.slice(2);
const settings = { baseURL: url, apiKey: "k", fetch: capture };
const models = [
  createOpenAI(settings).chat(model),
  createOpenAICompatible({ name: "lydite", ...settings }).chatModel(model),
];
const texts = [];
for (const each of models) {
  const ask = { model: each, prompt: "import", maxOutputTokens: 12, maxRetries: 0 };
  texts.push((await generateText(ask)).text);
  let streamed = "";
  const result = streamText({ ...ask, onError: ({ error }) => { throw error; } });
  for await (const part of result.textStream) streamed += part;
  texts.push(streamed);
}
const found = JSON.parse(await readFile("node_modules/ai/package.json", "utf8"));
await report(found.version, texts);
