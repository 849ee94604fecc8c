"""The client library of LiteLLM against a gateway, as it is."""

import json
import sys
from importlib import metadata

import litellm

url, model = sys.argv[1:3]
ask = {
    "model": f"openai/{model}",
    "api_base": url,
    "api_key": "k",
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "import"}],
}
whole = litellm.completion(**ask)
streamed = "".join(
    chunk.choices[0].delta.content or "" for chunk in litellm.completion(**ask, stream=True)
)
headers = whole._hidden_params["additional_headers"]
said = {
    "version": metadata.version("litellm"),
    "texts": [whole.choices[0].message.content, streamed],
    "receipt": headers.get("llm_provider-x-lydite-receipt"),
}
sys.stdout.write(json.dumps(said) + "\n")
