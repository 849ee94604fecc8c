"""Traffic as it looks from outside: chats, and training that hides behind the same interface.

Chats are made of real prompts and of text in place of answers. Training exchanges gradients of one
bit a parameter, as chat messages in base64, hex or words, on a beat or with jitter. Deterministic:
every generator takes its dice.
"""

import base64
import itertools
import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from lydite.evidence.egress.profile import blob_bytes
from lydite.messages.egress import Flow

_CHARACTERS_A_TOKEN = 3.5
_WORDS = tuple("".join(parts) for parts in itertools.product("bdfgklmn", "aeio", ("rin", "st")))


def chats(dice: random.Random, texts: Sequence[str], streamed: float = 0.5) -> Iterator[Flow]:
    """Yield exchanges of people: prompts with a history, answers of text, now and then."""
    at = 0.0
    while True:
        at += dice.expovariate(1 / 4000)
        history = dice.choices(texts, k=dice.randint(1, 4))
        answer = dice.choice(texts)[: dice.randint(40, 2000)]
        yield _flow(round(at), history, answer, streams=dice.random() < streamed)


def batches(dice: random.Random, texts: Sequence[str]) -> Iterator[Flow]:
    """Yield exchanges of a program that classifies documents: long prompts, short answers."""
    at = 0.0
    while True:
        at += dice.gauss(900, 200)
        document = "\n".join(dice.choices(texts, k=12))
        yield _flow(round(at), [document], dice.choice(("yes", "no", "unclear")), streams=False)


def gradients(
    dice: random.Random, size: int, spell: Callable[[bytes, random.Random], str], jitter: float
) -> Iterator[Flow]:
    """Yield exchanges of ``size`` bytes of a gradient each way, a round every two seconds."""
    at = 0.0
    while True:
        at += max(1.0, dice.gauss(2000, 2000 * jitter))
        yield _flow(
            round(at),
            [spell(dice.randbytes(size), dice)],
            spell(dice.randbytes(size), dice),
            streams=False,
        )


def as_base64(raw: bytes, _: random.Random) -> str:
    """Spell bytes in base64."""
    return base64.b64encode(raw).decode()


def as_hex(raw: bytes, _: random.Random) -> str:
    """Spell bytes in hexadecimal, a space after each 32."""
    return " ".join(raw[i : i + 32].hex() for i in range(0, len(raw), 32))


def as_words(raw: bytes, _: random.Random) -> str:
    """Spell bytes in short words, nearly six bits each: no long run, and little entropy."""
    text = base64.b64encode(raw)
    return " ".join(_WORDS[letter & 63] for letter in text)


TRAINING: Mapping[str, Callable[[random.Random], Iterator[Flow]]] = {
    "16 KiB in base64, on a beat": lambda dice: gradients(dice, 1 << 14, as_base64, 0.02),
    "16 KiB in base64, jitter": lambda dice: gradients(dice, 1 << 14, as_base64, 0.6),
    "8 KiB in base64, on a beat": lambda dice: gradients(dice, 1 << 13, as_base64, 0.02),
    "8 KiB in base64, jitter": lambda dice: gradients(dice, 1 << 13, as_base64, 0.6),
    "16 KiB in hex, on a beat": lambda dice: gradients(dice, 1 << 14, as_hex, 0.02),
    "8 KiB in words, on a beat": lambda dice: gradients(dice, 1 << 13, as_words, 0.02),
    "1 KiB in words, jitter": lambda dice: gradients(dice, 1 << 10, as_words, 0.6),
}
"""Gradient exchanges by name."""


def _flow(at_ms: int, messages: Sequence[str], answer: str, *, streams: bool) -> Flow:
    asked = [{"role": "user", "content": text} for text in messages]
    request = json.dumps({"model": "m", "messages": asked, "stream": streams}).encode()
    tokens = max(1, round(len(answer) / _CHARACTERS_A_TOKEN))
    response = _stream(answer, tokens) if streams else _whole(answer, tokens)
    return Flow(
        at_ms=at_ms,
        bytes_in=len(request),
        bytes_out=len(response),
        packed_in=len(zlib.compress(request, 1)),
        packed_out=len(zlib.compress(response, 1)),
        tokens=tokens,
        blobs=blob_bytes(request) + blob_bytes(response),
    )


def _whole(answer: str, tokens: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}}
    body = {"id": "c", "choices": [choice], "usage": {"completion_tokens": tokens}}
    return json.dumps(body).encode()


def _stream(answer: str, tokens: int) -> bytes:
    size = max(1, len(answer) // tokens)
    parts = [answer[i : i + size] for i in range(0, len(answer), size)]
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": {"content": part}}]} for part in parts]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
