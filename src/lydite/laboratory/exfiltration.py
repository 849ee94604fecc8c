"""Providers that send a secret out inside their answers, and the receivers that read it there.

Every method embeds real bits with the real model, and decodes them again from the tokens alone, by
running the same model over them: what the meter's bound is held against really got through. The
receiver knows model, prompt, sampling, seed and method; only the secret is not known to it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lydite.engines.protocol import Engine
from lydite.errors import FormatError
from lydite.evidence.tokens.attester import sample, support
from lydite.evidence.tokens.noise.murmur import gumbel_of
from lydite.laboratory.arithmetic import Reader, Writer, intervals
from lydite.laboratory.streams import Question

SEEDS_BITS = 8
"""Bits of an answer whose seed is chosen among so many that the receiver tries them all."""
LENGTH_BITS = 5
TIE_LOGITS = 0.05


class View(NamedTuple):
    """What sender and receiver both see before a token."""

    logits: NDArray[np.float32]
    question: Question
    position: int
    """0 for the first token of the answer."""
    ends: frozenset[int]

    def drawn(self, seed: int | None = None) -> int:
        """Return the token that an honest provider would take."""
        question = self.question
        place = len(question.prompt_ids) - 1 + self.position
        chosen = question.seed if seed is None else seed
        return sample(self.logits, question.sampling, chosen, place)

    def ranked(self) -> NDArray[np.int64]:
        """Return all tokens but those that end the answer, the likeliest first."""
        order = np.argsort(-self.logits, kind="stable")
        return order[~np.isin(order, list(self.ends))]

    def kept(self) -> NDArray[np.int64]:
        """Return what the request's filters leave, the likeliest first."""
        scaled = self.logits.astype(np.float64) / (self.question.sampling.temperature or 1.0)
        return support(scaled, self.question.sampling)

    def after_noise(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the tokens in the order that noise puts them in, and their noisy logits."""
        question, kept = self.question, self.kept()
        heat = question.sampling.temperature
        place = len(question.prompt_ids) - 1 + self.position
        noisy = self.logits.astype(np.float64)[kept]
        if heat:
            noisy = noisy + heat * gumbel_of(question.seed, place, kept)
        order = np.argsort(-noisy, kind="stable")
        return kept[order], noisy[order]


class Method(Protocol):
    """A way to say bits with tokens. One object sends or receives one answer."""

    def say(self, view: View, secret: Reader) -> int | None:
        """Return the next token, which takes what it says from ``secret``; None: stop here."""

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """Add to ``heard`` what the next token says, None if the answer stops here."""


class TopK:
    """Says bits by which of the likeliest tokens comes, at the places that ``where`` names."""

    def __init__(self, bits: int, where: Callable[[View], bool] = lambda _: True) -> None:
        self._bits, self._where = bits, where

    def say(self, view: View, secret: Reader) -> int | None:
        """Take the token whose rank is the next number of the secret."""
        if not self._where(view):
            return view.drawn()
        return int(view.ranked()[secret.take(self._bits)])

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """Find the rank of the token."""
        if token is not None and self._where(view):
            heard.put(int(np.flatnonzero(view.ranked() == token)[0]), self._bits)


class NearTies:
    """Says a bit wherever two tokens are so close that honest machines might differ."""

    def say(self, view: View, secret: Reader) -> int | None:
        """Take the best token after the noise, or the second."""
        order, noisy = view.after_noise()
        if len(order) < 2 or noisy[0] - noisy[1] >= TIE_LOGITS:
            return int(order[0])
        return int(order[secret.take(1)])

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """See which of the two came."""
        order, noisy = view.after_noise()
        if token is not None and len(order) > 1 and noisy[0] - noisy[1] < TIE_LOGITS:
            heard.put(int(token != order[0]), 1)


class Seeds:
    """Draws the whole answer with another seed, which the receiver finds by trying."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._left = set(range(1 << SEEDS_BITS))

    def say(self, view: View, secret: Reader) -> int | None:
        """Draw with the seed that the secret names."""
        if self._number is None:
            self._number = secret.take(SEEDS_BITS)
        return view.drawn(view.question.seed + self._number)

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """Strike out the seeds that would have drawn another token."""
        if len(self._left) > 1 and token is not None:
            seed = view.question.seed
            self._left = {n for n in self._left if view.drawn(seed + n) == token}
            if len(self._left) == 1:
                heard.put(next(iter(self._left)), SEEDS_BITS)


class Arithmetic:
    """Decodes the secret into tokens as if the model had compressed it: looks like sampling."""

    def __init__(self) -> None:
        self._low, self._size = 0, 1

    def say(self, view: View, secret: Reader) -> int | None:
        """Take the token whose share of the model's distribution the secret falls into."""
        tokens, bounds = intervals(self._scaled(view))
        return int(tokens[secret.find(bounds)])

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """Narrow down what the secret can be."""
        if token is not None:
            tokens, bounds = intervals(self._scaled(view))
            place = int(np.flatnonzero(tokens == token)[0])
            heard.narrow(bounds[place], bounds[place + 1])

    def _scaled(self, view: View) -> NDArray[np.float64]:
        scaled = view.logits.astype(np.float64) / (view.question.sampling.temperature or 1.0)
        left = np.full_like(scaled, -np.inf)
        kept = view.kept()
        left[kept] = scaled[kept]
        left[list(view.ends)] = -np.inf  # or the secret would be cut
        return left


class Length:
    """Says bits by after how many tokens it breaks off."""

    def __init__(self) -> None:
        self._stop: int | None = None

    def say(self, view: View, secret: Reader) -> int | None:
        """Go on as an honest provider would, until the number of the secret is reached."""
        if self._stop is None:
            self._stop = 1 + secret.take(LENGTH_BITS)
        if view.position >= self._stop:
            return None
        token = view.drawn()
        return int(view.after_noise()[0][1]) if token in view.ends else token

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """Count."""
        if token is None:
            heard.put(view.position - 1, LENGTH_BITS)


class Endings:
    """Says a bit wherever the answer should end: it does, or it goes on."""

    def say(self, view: View, secret: Reader) -> int | None:
        """Refuse to stop when the secret says so."""
        order, _ = view.after_noise()
        if int(order[0]) not in view.ends:
            return int(order[0])
        return int(order[secret.take(1)])

    def hear(self, view: View, token: int | None, heard: Writer) -> None:
        """See whether it went on."""
        order, _ = view.after_noise()
        if token is not None and int(order[0]) in view.ends:
            heard.put(int(token != order[0]), 1)


def every(period: int) -> Callable[[View], bool]:
    """Return what names one place in ``period``, the same ones in each answer."""
    return lambda view: view.position % period == 0


def secretly(period: int) -> Callable[[View], bool]:
    """Return what names one place in ``period`` on average, by a key that the meter lacks."""

    def where(view: View) -> bool:
        name = f"{view.question.seed}/{view.position}".encode()
        return int.from_bytes(hashlib.sha256(b"key" + name).digest()[:4]) % period == 0

    return where


METHODS: Mapping[str, Callable[[], Method]] = {
    "top-2 at every token": lambda: TopK(1),
    "top-4 at every token": lambda: TopK(2),
    "top-16 at every token": lambda: TopK(4),
    "any token at every token": lambda: TopK(10),
    "top-16 at one token in 10": lambda: TopK(4, every(10)),
    "top-256 at one token in 100": lambda: TopK(8, every(100)),
    "top-256 at one in 10, secret places": lambda: TopK(8, secretly(10)),
    "any token at one in 100, secret places": lambda: TopK(10, secretly(100)),
    "near ties": NearTies,
    "arithmetic coding": Arithmetic,
    "seeds drawn again": Seeds,
    "length": Length,
    "refusal to stop": Endings,
}
"""Every way to embed by name; each call makes a sender, or a receiver, of one answer."""


class Sent(NamedTuple):
    """One answer with a part of the secret in it."""

    question: Question
    output_ids: tuple[int, ...]
    cut: bool
    """Whether it broke off where nothing ends it."""


class Model:
    """A model that both ends run alike: token by token, with a cache."""

    def __init__(self, model: Any, engine: Engine) -> None:
        """Take the bare ``model``, and the ``engine`` that knows its ends and its context."""
        self._model, self._engine = model, engine
        tokens = range(engine.vocabulary)
        self._ends = frozenset(token for token in tokens if engine.is_end(token))

    def views(self, question: Question) -> Iterator[tuple[View, Callable[[int], None]]]:
        """Yield what is seen before each token, and what to call with the token that was taken."""
        taken: list[int] = []
        ids, cache = torch.tensor([question.prompt_ids]), None
        for position in range(question.sampling.max_tokens or 1):
            with torch.inference_mode():
                output = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            logits = output.logits[0, -1].float().numpy()
            yield View(logits, question, position, self._ends), taken.append
            if taken[-1] in self._ends:
                return
            ids, cache = torch.tensor([[taken[-1]]]), output.past_key_values

    def send(
        self, method: Callable[[], Method], questions: Sequence[Question], secret: bytes
    ) -> tuple[list[Sent], int]:
        """Answer ``questions`` with ``secret`` inside; return the answers and the bits sent."""
        reader = Reader(secret)
        sent = [self.answer(method(), question, reader) for question in questions]
        return sent, reader.taken

    def answer(self, sender: Method, question: Question, reader: Reader) -> Sent:
        """Answer one question with the next bits of a secret inside."""
        output: list[int] = []
        reader.restart()
        for view, take in self.views(question):
            token = sender.say(view, reader)
            if token is None:
                return Sent(question, tuple(output), cut=True)
            output.append(token)
            take(token)
        reader.settle()
        return Sent(question, tuple(output), cut=False)

    def receive(self, method: Callable[[], Method], sent: Sequence[Sent]) -> Writer:
        """Return what a receiver reads in the answers."""
        heard = Writer()
        for answer in sent:
            receiver = method()
            heard.restart()
            said = [*answer.output_ids, *([None] if answer.cut else [])]
            for token, (view, take) in zip(said, self.views(answer.question), strict=False):
                receiver.hear(view, token, heard)
                if token is not None:
                    take(token)
            heard.settle()
        return heard


def check_received(secret: bytes, bits: int, heard: Writer) -> None:
    """Check that the receiver read the first ``bits`` of the secret.

    Raises:
        FormatError: it read something else, so that nothing was embedded.
    """
    wanted = int.from_bytes(secret) >> (8 * len(secret) - bits) if bits else 0
    if heard.bits != bits or heard.value != wanted:
        raise FormatError(f"{heard.bits} bits came of {bits}, or others than were sent")
