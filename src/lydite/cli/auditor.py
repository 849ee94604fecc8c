"""``lydite auditor``: draws, recomputes, publishes, and writes a bundle for each provider."""

import argparse
import json
import sys
import time
from pathlib import Path

from lydite import config
from lydite.appraisal import policy, references, trust
from lydite.appraisal.trust import Trust
from lydite.auditor.bench import Bench
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.service import Auditor
from lydite.auditor.settings import Gateway, Settings
from lydite.cli.files import read_message
from lydite.cli.patience import before_hashing
from lydite.engines.weights import check_root
from lydite.errors import ConfigurationError, FormatError, LyditeError, VerificationError
from lydite.messages.audit import Verdict
from lydite.messages.canonical import encode
from lydite.messages.plain import plain
from lydite.signing import keys


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite auditor``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    init = steps.add_parser("init", help="make the auditor's key and print the public one")
    init.add_argument("key", type=Path, metavar="KEY", help="a new file")
    work = steps.add_parser("run", help="audit until told to stop")
    work.add_argument("config", type=Path, metavar="FILE", help="settings, TOML or JSON")
    work.add_argument("--once", action="store_true", help="one epoch for each gateway, then end")
    init.add_argument("--json", action="store_true", help="print one JSON object with the key")
    work.add_argument("--json", action="store_true", help="print one JSON object a verdict")


def run(arguments: argparse.Namespace) -> int:
    """Audit until told to stop; with ``--once`` the exit code is that of the worst verdict."""
    if arguments.step == "init":
        public = keys.create(arguments.key).public.hex()
        print(json.dumps({"public_key": public}) if arguments.json else public)
        return 0
    settings = config.load(arguments.config, Settings)
    auditors = _auditors(settings)
    while True:
        started = time.monotonic()
        codes = [_round(a, g, settings, as_json=arguments.json) for g, a in auditors]
        if arguments.once:
            return max(codes, key=(0, 4, 3, 2, 1).index)
        time.sleep(max(0.0, settings.period_s - (time.monotonic() - started)))


def _auditors(settings: Settings) -> list[tuple[Gateway, Auditor]]:
    # torch takes seconds to import: not for --help, nor for making a key
    from lydite.engines.transformers_engine import TransformersEngine

    anchors = trust.parse(read_message(Path(settings.trust)))
    rules = policy.DEFAULT
    if settings.policy is not None:
        rules = policy.parse(read_message(Path(settings.policy)))
    known = tuple(references.parse(read_message(Path(path))) for path in settings.references)
    references.check_set(known)
    before_hashing(Path(settings.model))
    check_root(Path(settings.model), known[0].weights_root)
    signer = keys.load(Path(settings.key))
    exact = TransformersEngine.load(Path(settings.model), "fp32")
    bench = Bench(exact, known, TransformersEngine.load(Path(settings.model), "bf16"))
    auditors = []
    for gateway in settings.gateways:
        anchor = _anchor(anchors, gateway.provider)
        client = GatewayClient(gateway.url, gateway.token)
        auditor = Auditor(client, anchors, anchor, rules, bench, signer)
        auditors.append((gateway, auditor))
    if not auditors:
        raise ConfigurationError("the settings name no gateway")
    return auditors


def _anchor(anchors: Trust, name: str) -> trust.Anchor:
    for anchor in anchors.providers:
        if anchor.name == name:
            return anchor
    raise ConfigurationError(f"the trust file has no provider called {name!r}")


def _round(auditor: Auditor, gateway: Gateway, settings: Settings, *, as_json: bool) -> int:
    """Run one epoch on one gateway; a gateway that fails does not stop the others."""
    try:
        auditor.open_epoch(settings.rate_ppm)
        auditor.audit_pending(_progress)
        verdict = auditor.judge()
        name = gateway.provider.replace("/", "_")
        path = Path(settings.bundles) / f"{name}.bundle.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(auditor.bundle()))
    except (FormatError, VerificationError) as error:  # a fork, a bad draw: evidence, and bad
        _complain(gateway, error)
        return 1
    except LyditeError as error:
        _complain(gateway, error)
        return 4
    _say(gateway.provider, verdict, path, as_json=as_json)
    return verdict.tier.exit_code


def _complain(gateway: Gateway, error: LyditeError) -> None:
    said = f"lydite: error: {gateway.provider}: {error} ({error.reason})"
    print(plain(said), file=sys.stderr)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(
            f"\rrecomputed {done} of {total} drawn receipts", end=end, file=sys.stderr, flush=True
        )
    elif done == total:
        print(f"recomputed {total} drawn receipts", file=sys.stderr, flush=True)


def _say(name: str, verdict: Verdict, path: Path, *, as_json: bool) -> None:
    if as_json:
        fields = {"provider": name, "bundle": str(path), "verdict": json.loads(encode(verdict))}
        print(json.dumps(fields), flush=True)
        return
    words = verdict.tier.words
    why = "" if verdict.reason == words else f" ({verdict.reason})"
    print(
        f"{name}: {words}{why}, log10 E "
        f"{verdict.log10_e_milli / 1000:.3f}, {verdict.scored} of {verdict.audited} receipts "
        f"scored, {verdict.tokens} tokens, {verdict.tokens_needed} needed; {path}",
        flush=True,
    )
