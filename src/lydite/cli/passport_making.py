"""Measures the stack that the command line names, for ``lydite passport make``."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

from lydite.cli.files import read_message
from lydite.cli.passport_tables import payload
from lydite.engines import sketching
from lydite.engines.sketching import Sketcher
from lydite.engines.transformers_engine import Dtype, TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError, Reason
from lydite.evidence.activations.reference import Reference as Sketches
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.messages import passport as passports
from lydite.messages.passport import Passport
from lydite.messages.stack import Stack
from lydite.numerics import asking, measuring, prompts, scoring, sketches
from lydite.numerics.asking import Ask
from lydite.numerics.local import Way, start
from lydite.numerics.measuring import Compare, Measured, Subjects
from lydite.numerics.prompts import SAMPLINGS, Question
from lydite.numerics.scoring import Difference
from lydite.numerics.watching import LEAST_ANSWERS
from lydite.numerics.web import Server
from lydite.statistics.conformal import pool_needed

Tell = Callable[[int], None]
_DAY_MS = 86_400_000
_LEVEL, _STRICT = 1e-3, 1e-4
SMALLER = "lydite-small"
"""Beside the declared model: what a cheat serves that serves a smaller one."""


def made(arguments: argparse.Namespace, tell: Tell) -> Passport:
    """Return the passport of the stack that ``arguments`` name; ``tell`` hears of the progress.

    Raises:
        ConfigurationError: the arguments contradict each other, or name what is not there.
        UnavailableError: the stack does not answer, or there are too few answers.
    """
    if arguments.cheat is None and arguments.answers < LEAST_ANSWERS:
        raise ConfigurationError(
            f"--answers {arguments.answers}: a passport takes {LEAST_ANSWERS} at least; merging "
            f"takes {pool_needed(_LEVEL)} for {_LEVEL:g}, {pool_needed(_STRICT)} for {_STRICT:g}",
            Reason.POOL_TOO_SMALL,
        )
    known, root = prompts.read(arguments.prompts), measure(arguments.model).root
    sketcher = _sketcher(arguments, root)
    inner = sketcher is not None and bool(sketcher.spec.inner_deltas)
    auditor = TransformersEngine.load(arguments.model, "fp32", 1, inner=inner)
    sketched = None if sketcher is None else sketches.blank(sketcher, auditor.width)
    try:
        asked = prompts.questions(known, auditor.codec, auditor.context_length, arguments.answers)
        work = _Work(arguments, root, auditor, sketcher, sketched, tell)
        stack, measured = work.measured(asked)
    finally:
        auditor.close()
    subjects = Subjects(
        model=arguments.model.resolve().name,
        weights_root=root,
        stack=stack,
        prompts=known,
        cheat=arguments.cheat,
        sketch=None if sketched is None else sketches.described(sketched, measured.scored),
    )
    now_ms = int(time.time() * 1000)
    valid = (timestamp(now_ms), timestamp(now_ms + arguments.days * _DAY_MS))
    return measuring.passport(measuring.predicate(subjects, measured, valid))


def server_stack(arguments: argparse.Namespace) -> Stack:
    """Return the stack behind a URL, as far as the command line says it in words."""
    return Stack(
        engine=arguments.engine,
        version=arguments.version,
        dtype=arguments.dtype,
        cache_dtype=arguments.cache_dtype,
        kernels=arguments.kernels,
        architecture=arguments.architecture,
        parallelism=arguments.parallelism,
        batch=f"batch {arguments.batch}",
        shape="decode",
        decoding=arguments.decoding,
        sampler=arguments.sampler,
    )


def way_of(arguments: argparse.Namespace) -> Way:
    """Return how the model is to be run in this process.

    Raises:
        ConfigurationError: in no way that we know.
    """
    if arguments.dtype not in get_args(Dtype) or arguments.batch < 1 or arguments.threads < 1:
        raise ConfigurationError("in this process: --dtype bf16 or fp32, one thread and batch 1 up")
    return Way(arguments.dtype, arguments.batch, arguments.threads, arguments.attention)


def timestamp(unix_ms: int) -> str:
    """Return milliseconds since 1970 as statements write them."""
    seconds, millis = divmod(unix_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{millis:03}Z"


def _sketcher(arguments: argparse.Namespace, root: str) -> Sketcher | None:
    """Return how the options say to sketch, None for not at all.

    Raises:
        ConfigurationError: they make no spec, or one for other weights.
    """
    sketcher = sketching.load(
        measured=root,
        bytes_per_token=arguments.sketch,
        delta=arguments.sketch_delta,
        reference=arguments.sketch_reference,
    )
    if sketcher is not None and sketcher.weights_root != root:
        raise ConfigurationError(f"{arguments.sketch_reference} is for other weights than --model")
    return sketcher


class _Work(NamedTuple):
    """What it takes to measure one stack."""

    arguments: argparse.Namespace
    root: str
    auditor: TransformersEngine
    sketcher: Sketcher | None
    sketched: Sketches | None
    tell: Tell

    def measured(self, asked: list[Question]) -> tuple[Stack, Measured]:
        """Return the stack that the options name, and what was measured of it."""
        if self.arguments.cheat is not None:
            return self._cheating(asked)
        if self.arguments.url is not None:
            return self._served(asked)
        way = way_of(self.arguments)
        inner = self.sketcher is not None and bool(self.sketcher.spec.inner_deltas)
        local = start(self.arguments.model, way, inner=inner)
        try:
            ask = asking.in_process(local.engine, tapped=True, sketcher=self.sketcher)
            return self._run(
                asked,
                ask,
                lambda answers: scoring.by_states(self.auditor, answers, local.head, SAMPLINGS),
                way.stack(),
            )
        finally:
            local.engine.close()

    def _run(
        self, asked: list[Question], ask: Ask, compare: Compare | Difference, stack: Stack
    ) -> tuple[Stack, Measured]:
        named, batch = (self.root, stack.sampler), self.arguments.batch
        return stack, measuring.run(
            self.auditor, ask, asked, batch, compare, named, self.tell, self.sketched
        )

    def _served(self, asked: list[Question]) -> tuple[Stack, Measured]:
        """Measure a server, by what it tells of log-probabilities and sketches."""
        server = Server(self.arguments.url, self.arguments.served)
        blank = measuring.blank(self.root, self.arguments.sampler, 0)
        return self._run(
            asked,
            asking.remote(server, self.arguments.batch),
            lambda answers: scoring.by_logprobs(self.auditor, answers, blank, SAMPLINGS),
            server_stack(self.arguments),
        )

    def _cheating(self, asked: list[Question]) -> tuple[Stack, Measured]:
        """Measure a cheat of the laboratory, with stack and noise of an honest passport."""
        arguments = self.arguments
        if arguments.cheat not in CHEATS or arguments.beside is None:
            known = ", ".join(sorted(CHEATS))
            raise ConfigurationError(f"--cheat is one of {known}, and goes with --beside PASSPORT")
        beside = passports.parse(payload(read_message(arguments.beside))).predicate
        planted = CHEATS[arguments.cheat](workshop_of(arguments.model))
        tapped = self.sketcher is not None
        ask = asking.in_process(planted, tapped=tapped, sketcher=self.sketcher)
        difference = Difference(beside.noise_micro, beside.drift_micro)
        return self._run(asked, ask, difference, beside.stack)


def workshop_of(model: Path) -> Workshop:
    """Return what a cheat has at hand: the model, and the smaller one that lies beside it."""
    beside = model.resolve().parent / SMALLER
    return Workshop(model=model, small_model=beside if beside.is_dir() else model)
