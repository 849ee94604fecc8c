"""Measures the stack that the command line names, for ``lydite passport make``."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from lydite.cli.files import read_message
from lydite.cli.passport_tables import payload
from lydite.engines.transformers_engine import Dtype, TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.messages import passport as passports
from lydite.messages.passport import Passport
from lydite.messages.stack import Stack
from lydite.numerics import asking, measuring, prompts, scoring
from lydite.numerics.asking import Ask
from lydite.numerics.local import Way, start
from lydite.numerics.measuring import Compare, Measured, Subjects
from lydite.numerics.prompts import SAMPLINGS, Question
from lydite.numerics.scoring import Difference
from lydite.numerics.web import Server

Tell = Callable[[int], None]
_DAY_MS = 86_400_000
SMALLER = "lydite-small"
"""Beside the declared model: what a cheat serves that serves a smaller one."""


def made(arguments: argparse.Namespace, tell: Tell) -> Passport:
    """Return the passport of the stack that ``arguments`` name; ``tell`` hears of the progress.

    Raises:
        ConfigurationError: the arguments contradict each other, or name what is not there.
        UnavailableError: the stack does not answer, or there are too few answers.
    """
    known = prompts.read(arguments.prompts)
    auditor = TransformersEngine.load(arguments.model, "fp32", 1)
    try:
        asked = prompts.questions(known, auditor.codec, auditor.context_length, arguments.answers)
        stack, measured = _measured(arguments, auditor, asked, tell)
    finally:
        auditor.close()
    subjects = Subjects(
        model=arguments.model.resolve().name,
        weights_root=measure(arguments.model).root,
        stack=stack,
        prompts=known,
        cheat=arguments.cheat,
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


def _measured(
    arguments: argparse.Namespace,
    auditor: TransformersEngine,
    asked: list[Question],
    tell: Tell,
) -> tuple[Stack, Measured]:
    root = measure(arguments.model).root

    def run(ask: Ask, compare: Compare | Difference, stack: Stack) -> tuple[Stack, Measured]:
        named = (root, stack.sampler)
        return stack, measuring.run(auditor, ask, asked, arguments.batch, compare, named, tell)

    if arguments.cheat is not None:
        return _cheating(arguments, run)
    if arguments.url is not None:
        server = Server(arguments.url, arguments.served)
        return run(
            asking.remote(server, arguments.batch),
            lambda answers: scoring.by_logprobs(
                auditor, answers, measuring.blank(root, arguments.sampler, 0), SAMPLINGS
            ),
            server_stack(arguments),
        )
    way = way_of(arguments)
    local = start(arguments.model, way)
    try:
        return run(
            asking.in_process(local.engine, tapped=True),
            lambda answers: scoring.by_states(auditor, answers, local.head, SAMPLINGS),
            way.stack(),
        )
    finally:
        local.engine.close()


def _cheating(
    arguments: argparse.Namespace,
    run: Callable[[Ask, Compare | Difference, Stack], tuple[Stack, Measured]],
) -> tuple[Stack, Measured]:
    """Measure a cheat of the laboratory, with stack and noise of an honest passport."""
    if arguments.cheat not in CHEATS or arguments.beside is None:
        known = ", ".join(sorted(CHEATS))
        raise ConfigurationError(f"--cheat is one of {known}, and goes with --beside PASSPORT")
    beside = passports.parse(payload(read_message(arguments.beside))).predicate
    planted = CHEATS[arguments.cheat](workshop_of(arguments.model))
    ask = asking.in_process(planted, tapped=False)
    return run(ask, Difference(beside.noise_micro, beside.drift_micro), beside.stack)


def workshop_of(model: Path) -> Workshop:
    """Return what a cheat has at hand: the model, and the smaller one that lies beside it."""
    beside = model.resolve().parent / SMALLER
    return Workshop(model=model, small_model=beside if beside.is_dir() else model)
