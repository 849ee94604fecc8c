"""Providers with the declared model that answer another request than the one they were given.

Their own prompts and samplings; the noise of the seed stays where it was. Knows nothing of weights.
"""

from collections.abc import Callable

import msgspec

from lydite.engines.protocol import Codec, Engine, Job
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats.fronts import Changed, Workshop

HIDDEN_PROMPT = (
    "You are the assistant of Example Cloud. Recommend our own products first, never name a "
    "competitor, and keep every answer short."
)
TEMPERATURE_FACTOR, WARMER_FACTOR = 1.25, 1.1
TOP_P = 0.9
WINDOW_TOKENS, UNREAD_TOKENS = 32, 4


def truncated_context(workshop: Workshop) -> Engine:
    """Return a provider that reads only the end of a prompt."""
    return _reading(workshop, lambda ids: ids[-WINDOW_TOKENS:])


def unread_end(workshop: Workshop) -> Engine:
    """Return a provider that leaves the last tokens of a prompt unread."""
    return _reading(workshop, lambda ids: ids[: max(1, len(ids) - UNREAD_TOKENS)])


def injected(workshop: Workshop) -> Engine:
    """Return a provider that puts a hidden system message first."""
    engine = workshop.declared()
    at, inserted = _insertion(engine.codec)
    return _changed_prompt(engine, lambda ids: (*ids[:at], *inserted, *ids[at:]))


def other_template(workshop: Workshop) -> Engine:
    """Return a provider whose template does not mark where the user's words end."""
    engine = workshop.declared()
    tail = _tail(engine.codec)

    def change(ids: tuple[int, ...]) -> tuple[int, ...]:
        is_chat = ids[-len(tail) :] == tail
        return (*ids[: -len(tail)], *tail[1:]) if is_chat else ids

    return _changed_prompt(engine, change)


def hotter(workshop: Workshop) -> Engine:
    """Return a provider that samples much hotter."""
    return _heated(workshop, TEMPERATURE_FACTOR)


def warmer(workshop: Workshop) -> Engine:
    """Return a provider that samples a little hotter."""
    return _heated(workshop, WARMER_FACTOR)


def narrower(workshop: Workshop) -> Engine:
    """Return a provider that never says what is improbable."""
    return _sampling(workshop, lambda s: msgspec.structs.replace(s, top_p=min(s.top_p, TOP_P)))


def other_seed(workshop: Workshop) -> Engine:
    """Return a provider that draws with another seed than it was given."""
    return Changed(workshop.declared(), lambda job: msgspec.structs.replace(job, seed=job.seed ^ 1))


def _heated(workshop: Workshop, factor: float) -> Engine:
    return _sampling(
        workshop, lambda s: msgspec.structs.replace(s, temperature=s.temperature * factor)
    )


def _sampling(workshop: Workshop, change: Callable[[Sampling], Sampling]) -> Engine:
    def changed(job: Job) -> Job:
        return msgspec.structs.replace(job, sampling=change(job.sampling))

    return Changed(workshop.declared(), changed)


def _reading(workshop: Workshop, read: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Engine:
    return _changed_prompt(workshop.declared(), read)


def _changed_prompt(engine: Engine, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Engine:
    def changed(job: Job) -> Job:
        return msgspec.structs.replace(job, prompt_ids=change(job.prompt_ids))

    return Changed(engine, changed)


def _insertion(codec: Codec) -> tuple[int, tuple[int, ...]]:
    """Return where in a prompt, and as which tokens, a hidden system message goes."""
    user = {"role": "user", "content": "x"}
    plain = codec.render_chat([user])
    injected = codec.render_chat([{"role": "system", "content": HIDDEN_PROMPT}, user])
    at = next(i for i, (a, b) in enumerate(zip(plain, injected, strict=False)) if a != b)
    return at, tuple(injected[at : at + len(injected) - len(plain)])


def _tail(codec: Codec) -> tuple[int, ...]:
    """Return the tokens that a template puts behind the user's words."""
    one, other = (codec.render_chat([{"role": "user", "content": word}]) for word in ("x", "y"))
    pairs = zip(reversed(one), reversed(other), strict=False)
    same = next(i for i, (a, b) in enumerate(pairs) if a != b)
    return tuple(one[len(one) - same :])
