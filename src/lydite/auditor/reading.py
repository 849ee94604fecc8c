"""Reads an exchange with the declared model's tokenizer: what was asked, and what was answered.

Shared by those who recompute answers. Knows nothing of logs, receipts or verdicts.
"""

from lydite.engines.protocol import Engine
from lydite.evidence.tokens import claims as tokens
from lydite.messages.commitment import RequestCommitment, sampling_seed
from lydite.messages.opening import Opening

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def prompt_ids(engine: Engine, asked: tokens.Asked) -> list[int]:
    """Return the tokens of a prompt, rendered as the declared model's template says.

    Raises:
        FormatError: the chat template refuses the messages.
    """
    prompt = asked.prompt
    if isinstance(prompt, str):
        return engine.codec.encode(prompt)
    turns = [turn for turn in prompt if isinstance(turn, tokens.Turn)]
    if turns:
        return engine.codec.render_chat(
            [{"role": turn.role, "content": turn.content} for turn in turns]
        )
    return [token for token in prompt if isinstance(token, int)]


def spells(engine: Engine, exchange: tokens.Exchange) -> bool:
    """Say whether the ids spell the text; a broken stream may shorten it.

    Some servers write out a character that the last token leaves unfinished, others do not.
    """
    spelt = engine.codec.decode(exchange.output_ids)
    text = exchange.text.rstrip(_UNFINISHED)
    if not exchange.complete or _stopped(exchange, spelt):
        return spelt.startswith(text)
    return spelt.rstrip(_UNFINISHED) == text


def ended(engine: Engine, exchange: tokens.Exchange, prompt: int) -> bool:
    """Say whether something ended an answer after a prompt of ``prompt`` tokens.

    The model's end token, the request's limit or stop string, or the context.
    """
    count, limit = len(exchange.output_ids), exchange.sampling.max_tokens
    if exchange.finish_reason == "length":
        full = prompt + count >= engine.context_length
        return full or (limit is not None and count >= limit)
    spelt = engine.codec.decode(exchange.output_ids)
    return engine.is_end(exchange.output_ids[-1]) or _stopped(exchange, spelt)


def finish(engine: Engine, exchange: tokens.Exchange, prompt: int) -> str | None:
    """Return how an honest server says that an answer ended, None if nothing ended it.

    Follows from the tokens, the text and the request, whatever the answer says of it.
    """
    ids, sampling = exchange.output_ids, exchange.sampling
    stopped = _stopped(exchange, engine.codec.decode(ids))
    if stopped or (ids and engine.is_end(ids[-1]) and not sampling.ignore_eos):
        return "stop"
    full = prompt + len(ids) >= engine.context_length
    return "length" if full or len(ids) == sampling.max_tokens else None


def seed(opening: Opening, commitment: str) -> int:
    """Return the seed that the provider was given; ``commitment`` is the request's, in hex."""
    asked = RequestCommitment(bytes.fromhex(commitment))
    return sampling_seed(opening.salt_bytes(), asked)


def _stopped(exchange: tokens.Exchange, spelt: str) -> bool:
    """Say whether one of the request's stop strings stands where the text ends."""
    return spelt.startswith(tuple(exchange.text + stop for stop in exchange.sampling.stop))
