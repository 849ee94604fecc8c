"""``lydite audit URL``: whether a server that need not co-operate serves what it names."""

import argparse
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lydite.appraisal.report import Report
from lydite.auditor.probing import prompts
from lydite.auditor.probing.asking import Asker, Style
from lydite.auditor.probing.budget import Budget, Limits
from lydite.auditor.probing.line import Manners, Server
from lydite.cli import audit_pairs, audit_report, audit_target
from lydite.cli.files import new, read, write
from lydite.cli.patience import Bar
from lydite.cli.reports import EXIT_CODES, render
from lydite.errors import ConfigurationError, FormatError, UnavailableError

_MODELS = ("int8", "int4", "int3")
"""Quantisations of the declared weights that ``--against`` makes by itself."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite audit``."""
    parser.epilog = EXIT_CODES
    parser.add_argument("url", metavar="URL", help="the server, with or without /v1")
    _add_yardsticks(parser)
    _add_questions(parser)
    _add_budget(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="a new file for the whole record")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_yardsticks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it is held against")
    one = group.add_mutually_exclusive_group(required=True)
    one.add_argument(
        "--model",
        metavar="DIR|PASSPORT|URL",
        help="the declared open weights, a passport of them, or a second server",
    )
    one.add_argument("--second", metavar="URL", help="another server, asked the same at once")
    one.add_argument("--baseline", type=Path, metavar="FILE", help="what it said before")
    one.add_argument("--save-baseline", type=Path, metavar="FILE", help="keep that, in a new file")
    group.add_argument(
        "--weights", type=Path, metavar="DIR", help="of a passport that is given as --model"
    )
    group.add_argument("--second-name", metavar="NAME", help="the model to ask the other for")
    group.add_argument(
        "--second-key-env", metavar="NAME", help="variable that holds the other's key; else none"
    )
    group.add_argument(
        "--second-header", action="append", default=[], metavar="NAME=TEXT", help="for the other"
    )
    group.add_argument("--probes", type=int, default=8, help="prompts that are compared by")
    group.add_argument(
        "--passport", type=Path, action="append", metavar="FILE", help="of an honest stack"
    )
    group.add_argument(
        "--signer", action="append", default=[], metavar="KEY", help="whose passports count, in hex"
    )
    group.add_argument(
        "--stack",
        metavar="ENGINE,DTYPE",
        help="what the endpoint says that it runs; without it passports only warn",
    )
    group.add_argument(
        "--reference", type=Path, metavar="FILE", help="a tokens Reference Value for these weights"
    )
    group.add_argument(
        "--against",
        action="append",
        metavar="NAME|DIR",
        help=f"what must be excluded: {', '.join(_MODELS)}, or a model directory (default: int4)",
    )
    group.add_argument("--alpha", type=float, default=0.001, help="chance of a false accusation")
    group.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="to compute in")
    group.add_argument("--threads", type=int, default=1, help="processor threads for the model")


def _add_questions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked, and how")
    group.add_argument("--name", help="the model to ask for; the first that the server lists")
    group.add_argument("--prompts", type=Path, metavar="FILE", help="JSON list; else our own")
    group.add_argument("--temperature", type=float, default=1.0, help="0 weighs margins alone")
    group.add_argument("--answer-tokens", type=int, default=64, help="longest answer")
    group.add_argument("--plain", action="store_true", help="ask for text alone, as others do")
    group.add_argument(
        "--extra", action="append", default=[], metavar="KEY=JSON", help="one more field to send"
    )
    group.add_argument("--header", action="append", default=[], metavar="NAME=TEXT", help="to send")
    group.add_argument(
        "--key-env", default="OPENAI_API_KEY", metavar="NAME", help="variable that holds the key"
    )
    group.add_argument("--concurrency", type=int, default=4, help="questions at a time")
    group.add_argument("--timeout-s", type=float, default=120.0, help="for one answer, in seconds")
    group.add_argument("--patience-s", type=float, default=120.0, help="for a busy server, in all")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it may spend")
    group.add_argument("--max-requests", type=int, default=100, help="questions")
    group.add_argument("--max-tokens", type=int, default=200_000, help="of prompts and answers")
    group.add_argument("--max-cost", type=float, help="money; needs --price-per-million")
    group.add_argument("--price-per-million", type=float, help="what a million tokens cost")


def run(arguments: argparse.Namespace) -> int:
    """Audit one endpoint, print the report, and return its tier's exit code."""
    audit_target.settle(arguments)
    _check(arguments)
    salt = secrets.token_bytes(32)
    server = Server(arguments.url, manners(arguments))
    budget = Budget(limits(arguments))
    kept: dict[str, Any] = {"url": server.url, "salt": salt.hex()}
    try:
        report, record = _audited(arguments, server, budget, salt)
        kept |= record
    except (UnavailableError, FormatError) as error:
        report = audit_report.unlearnt(error)
    kept["spent"] = {"requests": budget.requests, "tokens": budget.tokens, "cost": budget.cost()}
    report = audit_report.with_spent(report, kept["spent"])
    kept["report"] = audit_report.record(report, kept["spent"])
    print(json.dumps(kept["report"]) if arguments.json else render(report), flush=True)
    if arguments.out is not None:  # after the verdict, which a full disk must not hide
        write(arguments.out, json.dumps(kept, sort_keys=True).encode() + b"\n")
    return report.tier.exit_code


def limits(arguments: argparse.Namespace) -> Limits:
    """Return the budget that the options give."""
    return Limits(
        requests=arguments.max_requests,
        tokens=arguments.max_tokens,
        cost=arguments.max_cost,
        price_per_million=arguments.price_per_million,
    )


def manners(arguments: argparse.Namespace) -> Manners:
    """Return how the options say that the audited server is asked.

    Raises:
        ConfigurationError: a header without a name.
    """
    return _manners(arguments, _pairs(arguments.header, "--header"), arguments.key_env)


def second_manners(arguments: argparse.Namespace) -> Manners:
    """Return how the second server is asked: by others, so never with the first one's key.

    Raises:
        ConfigurationError: a header without a name, or no key where one is named.
    """
    named = arguments.second_key_env
    if named is not None and not os.environ.get(named):
        raise ConfigurationError(f"--second-key-env {named}: there is no such variable")
    return _manners(arguments, _pairs(arguments.second_header, "--second-header"), named)


def _manners(
    arguments: argparse.Namespace, headers: list[tuple[str, str]], key_env: str | None
) -> Manners:
    given = dict(headers)
    key = None if key_env is None else os.environ.get(key_env)
    if key:
        given.setdefault("Authorization", f"Bearer {key}")
    return Manners(headers=given, timeout_s=arguments.timeout_s, patience_s=arguments.patience_s)


def questions(arguments: argparse.Namespace, salt: bytes) -> Iterator[dict[str, Any]]:
    """Return the prompts that the options name, in an order that ``salt`` fixes."""
    if arguments.prompts is None:
        return prompts.fresh(salt)
    return prompts.stored(read(arguments.prompts), salt)


def _audited(
    arguments: argparse.Namespace, server: Server, budget: Budget, salt: bytes
) -> tuple[Report, Mapping[str, Any]]:
    """Return the report and the record that it rests on."""
    name, extra = arguments.name or _first(server), _extra(arguments)
    if arguments.model is not None:
        style = _style(arguments, name, extra)
        return _weighed(arguments, Asker(server, style, budget), questions(arguments, salt))
    style = msgspec.structs.replace(audit_pairs.style(arguments, name), extra=extra)
    asker = Asker(server, style, budget)
    if arguments.save_baseline is not None:
        return audit_pairs.save(arguments, asker, salt)
    if arguments.baseline is not None:
        return audit_pairs.against_past(arguments, asker)
    second = Server(arguments.second, second_manners(arguments))
    other = arguments.second_name or _first(second)
    style = msgspec.structs.replace(style, model=other)
    return audit_pairs.against_second(arguments, asker, Asker(second, style, budget), salt)


def _weighed(
    arguments: argparse.Namespace, asker: Asker, asked: Iterator[dict[str, Any]]
) -> tuple[Report, Mapping[str, Any]]:
    # torch takes seconds to import: not for --help, nor where no weights are at hand
    from lydite.auditor.probing import weighing
    from lydite.cli.audit_models import question

    held = question(arguments)
    bar = Bar(arguments.max_requests)

    def told(answers: int, tokens: int, log10_e_milli: int) -> None:
        words = f"{tokens:,} tokens, log10 E {log10_e_milli / 1000:.2f}"
        bar.show(answers, f"{answers} of at most {arguments.max_requests} answers, {words}")

    try:
        outcome = weighing.weigh(asker, asked, held, told)
    finally:
        bar.end()
    record = msgspec.to_builtins(outcome)
    return audit_report.of_weights(outcome, arguments), record


def _extra(arguments: argparse.Namespace) -> dict[str, Any]:
    extra = {}
    for name, text in _pairs(arguments.extra, "--extra"):
        try:
            extra[name] = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"--extra {name}: {error}") from error
    return extra


def _style(arguments: argparse.Namespace, name: str, extra: Mapping[str, Any]) -> Style:
    return Style(
        model=name,
        temperature=arguments.temperature,
        answer_tokens=arguments.answer_tokens,
        plain=arguments.plain,
        extra=extra,
    )


def _first(server: Server) -> str:
    listed = server.models()
    if not listed:
        raise UnavailableError("the server lists no model; name one with --name")
    return listed[0]


def _pairs(given: list[str], option: str) -> list[tuple[str, str]]:
    pairs = [tuple(one.partition("=")[::2]) for one in given]
    if not all(name for name, _ in pairs):
        raise ConfigurationError(f"{option} takes NAME=VALUE")
    return [(name, value) for name, value in pairs]


def _check(arguments: argparse.Namespace) -> None:
    for path in (arguments.out, arguments.save_baseline):
        if path is not None:
            new(path)
    if not 1e-9 <= arguments.alpha <= 0.5:
        raise ConfigurationError("--alpha lies between 1e-9 and 0.5")
    if not (arguments.temperature == 0.0 or 0.1 <= arguments.temperature <= 2.0):
        raise ConfigurationError("--temperature is 0, or between 0.1 and 2")
    if arguments.passport and (arguments.reference or not arguments.signer):
        raise ConfigurationError("--passport takes --signer, and no --reference beside it")
    if arguments.concurrency < 1 or arguments.answer_tokens < 1 or arguments.timeout_s <= 0:
        raise ConfigurationError("--concurrency, --answer-tokens and --timeout-s are above 0")
