"""Record what a running vLLM answers, byte for byte, for tests that run without it.

python -m tests.outside.record_vllm starts vLLM as the tests do and writes tests/vectors/vllm.
"""

import json
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from tests.outside.engines import DECLARED, ROOT, vllm

VECTORS = ROOT / "tests" / "vectors" / "vllm"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Write a function."}]}
BEGIN: dict[str, Any] = {"prompt": "def read(self):\n    "}
IDS: dict[str, Any] = {"return_token_ids": True}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what is asked, by the name of its record."""
    drawn = {"max_tokens": 12, "seed": 7}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    scored = {"logprobs": 1, "prompt_logprobs": 0}
    return {
        "chat": (CHAT, {**ASK, **drawn, **IDS}),
        "chat-stream": (CHAT, {**ASK, **drawn, **IDS, **usage}),
        "completion-stream": (TEXT, {**BEGIN, **drawn, **IDS, "stream": True}),
        "completion-stop": (TEXT, {**BEGIN, **IDS, "max_tokens": 48, "seed": 7, "stop": ["\n"]}),
        "completion-scored": (TEXT, {**BEGIN, **drawn, **IDS, **scored}),
        "completion-without-ids": (TEXT, {**BEGIN, **drawn}),
        # without a seed, so that no answer is like another
        "drawn-chat": (CHAT, {**ASK, "max_tokens": 12, **IDS}),
        "drawn-stream": (TEXT, {**BEGIN, "max_tokens": 12, **IDS, "stream": True}),
        "drawn-cut": (TEXT, {"prompt": "\xe9" * 20, "max_tokens": 1, "temperature": 2, **IDS}),
    }


def post(url: str, path: str, body: bytes) -> bytes:
    """Send one request and return the exact body of its answer."""
    fields = {"Content-Type": "application/json", "X-Request-Id": "0" * 32}
    request = urllib.request.Request(url + path, body, fields)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return bytes(answer.read())


def main() -> None:
    with tempfile.TemporaryDirectory() as logs, vllm("vllm", DECLARED, Path(logs)) as engine:
        engine.ready()
        VECTORS.mkdir(parents=True, exist_ok=True)
        for name, (path, asked) in cases().items():
            request = json.dumps({"model": DECLARED, **asked})
            answer = post(engine.url, path, request.encode()).decode()
            while name.endswith("cut") and json.loads(answer)["choices"][0]["text"]:
                answer = post(engine.url, path, request.encode()).decode()
            record = {"path": path, "request": request, "response": answer}
            text = json.dumps(record, indent=1, ensure_ascii=True)
            (VECTORS / f"{name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
