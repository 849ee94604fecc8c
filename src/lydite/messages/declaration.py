"""What a provider declares that it serves: the model by its weights, and how it samples.

Signed by the provider, logged once, named by digest in every receipt.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Hex32, Message, Word, decode
from lydite.messages.statement import Subject

SAMPLERS = (
    "lydite/v1",
    "sglang-murmur3",
    "vllm-cpu",
    "vllm-mrv2-murmur3",
    "vllm-mrv2-murmur3-fp64",
    "vllm-mrv2-philox",
    "vllm-mrv2-philox-fp64",
    "vllm-v1-torch-cpu",
    "none",
)
"""The samplers whose noise an auditor can repeat, and ``none``; ``docs/engines.md`` has them all.
A declaration may name another one, and nobody will be able to score its tokens."""

Sampler = Annotated[
    str, msgspec.Meta(pattern=r"^[a-z0-9]+([/.-][a-z0-9]+)*\Z", min_length=1, max_length=64)
]
"""What a sampler is called."""


class Predicate(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The declared model and execution.

    ``sampler`` names a noise adapter, one of ``SAMPLERS``, or ``none`` where the answer cannot be
    reproduced from a seed. ``token_ids`` says that answers carry the ids of their tokens.
    """

    model: Word
    weights_root: Hex32
    dtype: Word
    engine: Word
    sampler: Sampler
    token_ids: bool
    provider: Word
    decoding: Literal["sequential", "speculative"] = "sequential"
    """Whether a cheaper model drafts, whose tokens are kept or replaced by draws of their own: then
    no seed repeats an answer. Left out of the spelling where it is ``sequential``."""


class Declaration(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the root digest of the weights."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/model-declaration/v1"] = (
        "https://lydite.dev/attestations/model-declaration/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Declaration:
    """Parse a declaration's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Declaration, limit=1 << 16)
