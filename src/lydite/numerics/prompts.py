"""The fixed prompts that stacks are measured on, and the questions that are made of them.

Every stack is asked the same prompts, each with a seed that follows from the prompts' digest, so
that anyone asks the same again. Knows nothing of who answers.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from lydite.engines.protocol import Codec
from lydite.errors import ConfigurationError
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.passport import TOKENS

SAMPLINGS = (
    Sampling(temperature=1.0, max_tokens=TOKENS, ignore_eos=True),
    Sampling(temperature=0.6, top_p=0.8, max_tokens=TOKENS, ignore_eos=True),
)
"""Drawn in turn, two by two: as the model is, and in the corner that a null is to cover."""
_LIMIT_BYTES = 16 << 20
_PURPOSE = b"lydite/passport-seed/v1\0"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a chat."""

    role: str
    content: str


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A chat or a plain text; exactly one of them."""

    messages: tuple[Message, ...] = ()
    prompt: str = ""

    @property
    def chat(self) -> bool:
        """Whether the model's chat template renders it."""
        return bool(self.messages)


class Prompts(NamedTuple):
    """A set of prompts and the digest of the file that held them."""

    every: tuple[Prompt, ...]
    sha256: str


class Question(NamedTuple):
    """One request: a prompt, how the auditor renders it, how to draw, and with which seed."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int


def read(path: Path) -> Prompts:
    """Read a file of prompts: a JSON list of ``{"messages": [...]}`` or ``{"prompt": "..."}``.

    Raises:
        ConfigurationError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
        if len(content) > _LIMIT_BYTES:
            raise ConfigurationError(f"prompts {path} are longer than {_LIMIT_BYTES} bytes")
        every = msgspec.json.decode(
            content, type=Annotated[tuple[Prompt, ...], msgspec.Meta(min_length=1)]
        )
    except OSError as error:
        raise ConfigurationError(f"cannot read prompts {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"prompts {path}: {error}") from error
    if any(bool(one.messages) == bool(one.prompt) for one in every):
        raise ConfigurationError(f"prompts {path}: each is either messages or a prompt")
    return Prompts(every, hashlib.sha256(content).hexdigest())


def questions(prompts: Prompts, codec: Codec, context: int, count: int) -> list[Question]:
    """Return ``count`` questions: the prompts that leave room for an answer, in turn.

    Raises:
        ConfigurationError: no prompt does.
    """
    rendered = [(prompt, _ids(codec, prompt)) for prompt in prompts.every]
    fitting = [(prompt, ids) for prompt, ids in rendered if 0 < len(ids) <= context - TOKENS]
    if not fitting:
        raise ConfigurationError(f"no prompt leaves room for {TOKENS} tokens of {context}")
    return [
        Question(*fitting[number % len(fitting)], _sampling(number), seed_of(prompts, number))
        for number in range(count)
    ]


def seed_of(prompts: Prompts, number: int) -> int:
    """Return the seed of a question, in [0, 2^63): it follows from the prompts and its number."""
    material = _PURPOSE + bytes.fromhex(prompts.sha256) + number.to_bytes(8, "big")
    return int.from_bytes(hashlib.sha256(material).digest()[:8], "big") >> 1


def coldest(samplings: Sequence[Sampling] = SAMPLINGS) -> tuple[int, int]:
    """Return the lowest temperature, in thousandths, and the lowest top-p, in millionths."""
    cold = min(sampling.temperature for sampling in samplings)
    narrow = min(sampling.top_p for sampling in samplings)
    return round(1000 * cold), round(1_000_000 * narrow)


def _sampling(number: int) -> Sampling:
    return SAMPLINGS[number // 2 % len(SAMPLINGS)]


def _ids(codec: Codec, prompt: Prompt) -> tuple[int, ...]:
    if not prompt.chat:
        return tuple(codec.encode(prompt.prompt))
    turns = [{"role": each.role, "content": each.content} for each in prompt.messages]
    return tuple(codec.render_chat(turns))
