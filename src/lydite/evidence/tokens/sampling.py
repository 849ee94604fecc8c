"""How a request asks its tokens to be drawn: the parameters that an auditor must repeat.

Parsed from the body of an OpenAI-style request, by the provider that serves it and by the
auditor that recomputes it, so that both read it alike. Knows nothing of models or noise, and
refuses what the teacher-forced pass cannot recompute rather than ignoring it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from lydite.errors import FormatError, Reason

COMPLETION_MAX_TOKENS = 16
"""What OpenAI's completions (not chat) give to a request that names no limit."""
LOWEST_TEMPERATURE = 1e-3
"""Below this, but above zero, dividing the logits says nothing that greedy choice does not."""

_Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=10.0)]
_Share = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
_Rank = Annotated[int, msgspec.Meta(ge=-1, le=1 << 31)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
_Seed = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Stops = Annotated[tuple[_Stop, ...], msgspec.Meta(max_length=16)]

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "add_generation_prompt": (True,),
    "add_special_tokens": (),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "custom_logit_processor": (),
    "documents": ([],),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "ebnf": (),
    "ec_transfer_params": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "functions": ([],),
    "grammar": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "include_stop_str_in_output": (False,),
    "json_schema": (),
    "kv_transfer_params": (),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logits_processors": ([],),
    "lora_path": (),
    "min_p": (0,),
    "min_tokens": (0,),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "no_stop_trim": (False,),
    "presence_penalty": (0,),
    "prompt_embeds": (),
    "reasoning_effort": (),
    "regex": (),
    "repetition_detection": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "samplers": (),
    "skip_special_tokens": (True,),
    "stop_regex": (),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "suffix": ("",),
    "tfs_z": (1,),
    "thinking_token_budget": (),
    "tools": ([],),
    "top_a": (0,),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
    "vllm_xargs": ({},),
    "watermarking": (),
    "xtc_probability": (0,),
}
"""Fields that change the prompt, the draw or the end, on one server or another, in ways that we do
not recompute, and the values that do nothing. An auditor that passed over one would accuse a
provider of doing what its client asked for."""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How to draw each token from the logits l.

    Tokens are ranked by l / temperature, the lower id first among equals; ``top_k`` keeps the
    first of them; ``top_p`` then keeps, of what is left and renormalised, the shortest run of
    first tokens whose mass reaches it. One of the kept tokens is drawn.
    """

    temperature: float = 1.0
    """Divides the logits; 0 takes the greatest."""
    top_p: float = 1.0
    """Keep the most probable tokens that reach this mass together; 1 keeps all."""
    top_k: int = 0
    """Keep this many of the most probable tokens; 0 keeps all."""
    max_tokens: int | None = None
    """Stop after this many tokens; None goes on until the context is full."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer and are not part of it."""
    seed: int | None = None
    """Of the noise; None leaves it to whoever carries the request."""
    ignore_eos: bool = False
    """Go on after the end token, which is drawn like any other."""


class _Body(msgspec.Struct):
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    top_k: _Rank | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stop: _Stop | _Stops | None = None
    seed: _Seed | None = None
    ignore_eos: bool | None = None


UNDERSTOOD = frozenset(_NEUTRAL).union(_Body.__struct_fields__)
"""Fields that ``from_request`` repeats, or refuses where they would change anything."""


def from_request(body: Mapping[str, Any]) -> Sampling:
    """Return the sampling that the JSON object ``body`` of a request asks for.

    A field that is absent or null takes OpenAI's default: temperature 1, no filter, no seed.

    Raises:
        FormatError: a field has the wrong type or lies out of range (``Reason.MALFORMED``), or
            asks for what cannot be recomputed: penalties, biases, several choices, constrained
            decoding (``Reason.UNSUPPORTED``).
    """
    _refuse_unsupported(body)
    try:
        asked = msgspec.convert({k: body[k] for k in _Body.__struct_fields__ if k in body}, _Body)
    except msgspec.ValidationError as error:
        raise FormatError(f"request: {error}") from error
    temperature = 1.0 if asked.temperature is None else asked.temperature
    if 0.0 < temperature < LOWEST_TEMPERATURE:
        raise FormatError(
            f"request: temperature {temperature} is neither 0 nor at least {LOWEST_TEMPERATURE}",
            Reason.UNSUPPORTED,
        )
    limit = asked.max_completion_tokens or asked.max_tokens
    if limit is None and "messages" not in body:
        limit = COMPLETION_MAX_TOKENS
    return Sampling(
        temperature=temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        top_k=max(asked.top_k or 0, 0),
        max_tokens=limit,
        stop=(asked.stop,) if isinstance(asked.stop, str) else asked.stop or (),
        seed=asked.seed,
        ignore_eos=bool(asked.ignore_eos),
    )


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in neutral:
            raise FormatError(
                f"request: {name} = {value!r} cannot be recomputed", Reason.UNSUPPORTED
            )
