"""Loads what an audit holds an endpoint against: weights, alternatives, bounds. Needs torch."""

import argparse
import time
from pathlib import Path

import torch

from lydite.appraisal.references import covers
from lydite.auditor.probing.weighing import Question
from lydite.cli.files import read_message
from lydite.cli.passport import signed, signers
from lydite.cli.patience import before_hashing
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.engines.weights import check_root
from lydite.errors import ConfigurationError
from lydite.evidence.endpoint.reference import GENERIC, Bounds, Calibrated
from lydite.evidence.tokens import reference as tokens
from lydite.laboratory.cheats.weights import INT4_GROUP, quantise
from lydite.numerics import merging

_LEVELS = {"int8": (127, None), "int4": (7, INT4_GROUP), "int3": (3, INT4_GROUP)}


def question(arguments: argparse.Namespace) -> Question:
    """Return what the options name, loaded.

    Raises:
        ConfigurationError: a directory that holds no such model, or an alternative that is none.
        VerificationError: the Reference Value is for other weights.
    """
    torch.set_num_threads(arguments.threads)
    directory: Path = arguments.model
    bounds = GENERIC
    reference = _reference(arguments)
    if reference is not None:
        bounds = calibrated(reference)
        before_hashing(directory)
        check_root(directory, reference.weights_root)
    engine = TransformersEngine.load(directory, arguments.dtype, 1)
    return Question(
        engine=engine,
        bounds=bounds,
        alternatives={
            name: _alternative(name, arguments, engine) for name in arguments.against or ["int4"]
        },
        alpha=arguments.alpha,
        at_once=arguments.concurrency,
        covered=reference is None or _covers(reference, arguments.stack),
    )


def _covers(reference: tokens.Reference, said: str | None) -> bool:
    """Say whether a reference is of the stack that the endpoint says it runs, or of any.

    Raises:
        ConfigurationError: those words are not an engine and a data type.
    """
    engine, comma, dtype = (said or "").rpartition(",")
    if said is not None and not (comma and engine.strip() and dtype.strip()):
        raise ConfigurationError("--stack is ENGINE,DTYPE as a passport has them: vllm,float32")
    stacks = reference.stacks
    return not stacks or any(covers(one, engine.strip(), dtype.strip()) for one in stacks)


def _reference(arguments: argparse.Namespace) -> tokens.Reference | None:
    """Return the Reference Value that is named, or that the named passports make together."""
    if arguments.passport:
        envelopes = [signed(path) for path in arguments.passport]
        honest = merging.accept(envelopes, signers(arguments.signer), int(time.time() * 1000))
        return merging.merge(honest, (), "passports", arguments.alpha).reference
    if arguments.reference is None:
        return None
    return tokens.parse(read_message(arguments.reference))


def calibrated(reference: tokens.Reference) -> Bounds:
    """Return the bounds that a Reference Value for tokens gives: its drift, and its residuals.

    What it does not know stays as wide as for any model.
    """
    known = reference.residual
    return Bounds(
        name=reference.name,
        drift_micro=reference.drift_micro,
        retokenised_micro=GENERIC.retokenised_micro,
        residual_mean_micro=GENERIC.residual_mean_micro,
        numerics_mean_micro=GENERIC.numerics_mean_micro,
        margin_mean_micro=GENERIC.margin_mean_micro,
        calibrated=None
        if known is None
        else Calibrated(binned=known, error_ppm=reference.error_ppm),
        source=tokens.digest(reference),
    )


def _alternative(name: str, arguments: argparse.Namespace, engine: TransformersEngine) -> Engine:
    if name in _LEVELS:
        model = quantise(load_model(arguments.model, arguments.dtype), *_LEVELS[name])
    elif Path(name).is_dir():
        model = load_model(Path(name), arguments.dtype)
    else:
        raise ConfigurationError(f"--against {name}: neither {', '.join(_LEVELS)} nor a directory")
    other = TransformersEngine(model, DirectoryCodec(arguments.model), 1)
    if other.vocabulary != engine.vocabulary:
        raise ConfigurationError(f"--against {name}: another vocabulary than the declared model's")
    return other
