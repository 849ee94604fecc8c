"""One version of openai-python against a gateway: as it is, then verified, sync and async."""

import asyncio
import json
import sys

import openai

from lydite.errors import LyditeError
from lydite.openai import verified_async_client, verified_client

url, model, key = sys.argv[1:4]
ask = {"model": model, "max_tokens": 12, "messages": [{"role": "user", "content": "import"}]}


def text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def sync(**more):
    with openai.OpenAI(base_url=url, api_key="k", **more) as client:
        whole = client.chat.completions.create(**ask).choices[0].message.content
        return whole, text(client.chat.completions.create(**ask, stream=True))


async def asynchronous(**more):
    async with openai.AsyncOpenAI(base_url=url, api_key="k", **more) as client:
        whole = (await client.chat.completions.create(**ask)).choices[0].message.content
        stream = await client.chat.completions.create(**ask, stream=True)
        return whole, text([chunk async for chunk in stream])


http, later, stranger = verified_client(key), verified_async_client(key), verified_client("5f" * 32)
refused = ""
try:
    sync(http_client=stranger, max_retries=0)
except (openai.OpenAIError, LyditeError) as error:
    refused = str(getattr(error, "reason", None) or getattr(error.__cause__, "reason", ""))
said = {
    "version": openai.__version__,
    "texts": [*sync(), *sync(http_client=http), *asyncio.run(asynchronous(http_client=later))],
    "kept": len(http.receipts.kept) + len(later.receipts.kept),
    "refused": refused,
}
sys.stdout.write(json.dumps(said) + "\n")
