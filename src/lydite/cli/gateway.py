"""``lydite gateway``: makes the keys and settings of a gateway, and runs it."""

import argparse
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lydite import config
from lydite.appraisal.trust import Anchor
from lydite.cli import gateway_weights, sealing
from lydite.cli.files import new_directory, read, read_message, write
from lydite.cli.patience import before_hashing
from lydite.engines.weights import ALGORITHMS, measure
from lydite.errors import ConfigurationError, FormatError
from lydite.gateway import running, settings
from lydite.messages.canonical import decode, encode
from lydite.messages.declaration import SAMPLERS, Declaration, Predicate
from lydite.messages.statement import Sha256, Subject
from lydite.sampling import vrf
from lydite.sampling.beacon import Chain
from lydite.signing import keys, notes
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import policy as policies

_ROLES = ("provider", "gateway", "log", "vrf")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite gateway``."""
    commands = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "init": "make a directory with keys, declaration, settings and anchor",
        "run": "run the gateway until told to stop",
        "seal": "seal keys and state to the TPM that the settings name",
        "measure": "print the digest of this program and these settings, as a TPM is told it",
    }
    init, start, *others = (
        commands.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    _configure_init(init)
    for each in (start, *others):
        each.add_argument("config", type=Path, metavar="FILE", help="settings, TOML or JSON")
    for each in (init, start, *others):
        each.add_argument("--json", action="store_true", help="print one JSON object")
    gateway_weights.add_steps(commands)
    text = "a governed gateway, attacked before your eyes"
    shown = commands.add_parser("demo", help=text, description=text)
    shown.add_argument("--out", type=Path, default=Path("out/gateway-demo"), help="where files go")
    shown.add_argument("--budget-bits", type=int, default=1500, help="what a session may carry out")
    shown.add_argument("--json", action="store_true", help="print one JSON object")


def _configure_init(init: argparse.ArgumentParser) -> None:
    init.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    init.add_argument(
        "--upstream",
        action="append",
        required=True,
        help="the model server, http(s)://HOST:PORT; several may be named",
    )
    init.add_argument("--model", type=Path, required=True, help="directory of the declared model")
    init.add_argument(
        "--hash", default="sha256", choices=ALGORITHMS, help="what the weights root is made with"
    )
    init.add_argument("--name", required=True, help="the provider's name, also its log's origin")
    init.add_argument("--dtype", default="bfloat16", help="declared data type")
    init.add_argument("--engine", default="lydite transformers", help="declared engine")
    init.add_argument("--sampler", default=SAMPLERS[0], choices=SAMPLERS, help="declared sampler")
    init.add_argument(
        "--speculative", action="store_true", help="declare that a cheaper model drafts"
    )
    init.add_argument(
        "--no-token-ids",
        dest="token_ids",
        action="store_false",
        help="declare that answers need not carry the ids of their tokens",
    )
    init.add_argument("--witnesses", type=Path, help="tlog-policy without log line, with URLs")
    init.add_argument("--beacon", type=Path, help="file with the beacon chain")
    init.add_argument("--beacon-url", help="where the beacon's rounds are had")
    init.add_argument("--auditor", action="append", default=[], help="an auditor's key in hex")
    init.add_argument("--port", type=int, default=8088, help="where to listen")


def run(arguments: argparse.Namespace) -> int:
    """Make a gateway's files, sign or upload a model, seal keys, or serve until told to stop."""
    steps = {
        "init": _init,
        "measure": sealing.measure,
        "seal": sealing.seal,
        "demo": _demo,
        "sign": gateway_weights.sign,
        "upload": gateway_weights.upload,
    }
    if arguments.step in steps:
        return steps[arguments.step](arguments)

    def read_settings() -> settings.Settings:
        return config.load(arguments.config, settings.Settings)

    return running.serve(read_settings(), read_settings)


def _demo(arguments: argparse.Namespace) -> int:
    from lydite.cli import gateway_demo  # what it shows needs more than a gateway does

    return gateway_demo.run(arguments)


def _init(arguments: argparse.Namespace) -> int:
    """Make a gateway's directory, whole or not at all: whatever can be wrong is looked at first."""
    directory: Path = arguments.directory
    made = _settings(arguments)
    before_hashing(arguments.model)
    root = measure(arguments.model, arguments.hash).root
    with new_directory(directory) as place:
        signers = {role: keys.create(place / f"{role}.key") for role in _ROLES}
        declaration = _declaration(arguments, root, signers["provider"])
        write(place / "declaration.json", declaration)
        text = msgspec.json.format(msgspec.json.encode(made))
        write(place / "gateway.json", text + b"\n", secret=True)
        anchor = _anchor(arguments.name, signers)
        write(place / "anchor.json", encode(anchor) + b"\n")
    if arguments.json:
        print(encode(anchor).decode())
    else:
        print(f"made {directory}/; give anchor.json to those who are to rely on your receipts, and")
        print("audit_token in gateway.json to your auditor; start it with")
        print(f"  lydite gateway run {directory}/gateway.json")
    return 0


def _anchor(name: str, signers: dict[str, Signer]) -> Anchor:
    try:
        made = Anchor(
            name=name,
            provider_key=signers["provider"].public.hex(),
            gateway_key=signers["gateway"].public.hex(),
            vrf_key=vrf.public_key(signers["vrf"].seed()).hex(),
            log_vkey=str(notes.verifier_key(name, signers["log"])),
        )
        return decode(encode(made), Anchor)
    except FormatError as error:
        raise ConfigurationError(f"--name {name!r}: {error}") from error


def _settings(arguments: argparse.Namespace) -> settings.Settings:
    directory: Path = arguments.directory
    quorum, witnesses = _witnesses(arguments.witnesses)
    made = settings.Settings(
        **_upstreams([_url(each, "--upstream", bare=True) for each in arguments.upstream]),
        state=str(directory / "state"),
        keys=settings.Keys(**{role: str(directory / f"{role}.key") for role in _ROLES}),
        declaration=str(directory / "declaration.json"),
        origin=arguments.name,
        port=arguments.port,
        witnesses=witnesses,
        policy=quorum,
        auditors=tuple(_public_key(key) for key in arguments.auditor),
        audit_token=secrets.token_urlsafe(24),
        beacon=_beacon(arguments),
    )
    try:
        return msgspec.json.decode(msgspec.json.encode(made), type=settings.Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(str(error)) from error


def _upstreams(urls: list[str]) -> dict[str, Any]:
    """Return the settings that name one model server, or several."""
    if len(urls) == 1:
        return {"upstream": urls[0]}
    if len(set(urls)) < len(urls):
        raise ConfigurationError("--upstream: one address is named twice")
    return {"upstreams": tuple(settings.Upstream(url=url) for url in urls)}


def _url(text: str, option: str, *, bare: bool = False) -> str:
    """Return an address that can be asked; ``bare`` if no path may follow the host."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{option} {text!r}: {error}") from error
    wrong = parts.scheme not in {"http", "https"} or not parts.hostname or port == 0
    if wrong or (bare and (parts.path.rstrip("/") or parts.query or parts.fragment)):
        shape = "http(s)://HOST[:PORT]"
        raise ConfigurationError(f"{option} {text!r} is not {shape}{'' if bare else '[/PATH]'}")
    return text


def _public_key(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ConfigurationError(
            f"--auditor {text!r} is not 32 bytes in lowercase hexadecimal, as `lydite auditor "
            "init` prints them"
        )
    return text


def _beacon(arguments: argparse.Namespace) -> settings.Beacon | None:
    if (arguments.beacon is None) != (arguments.beacon_url is None):
        raise ConfigurationError("--beacon and --beacon-url go together")
    if arguments.beacon is None:
        return None
    try:
        chain = decode(read_message(arguments.beacon), Chain)
    except FormatError as error:
        raise ConfigurationError(f"beacon chain {arguments.beacon}: {error}") from error
    return settings.Beacon(chain=chain, url=_url(arguments.beacon_url, "--beacon-url"))


def _witnesses(path: Path | None) -> tuple[str, tuple[settings.Witness, ...]]:
    """Return the tlog-policy in a file, and the witnesses that it gives URLs for."""
    if path is None:
        return "quorum none\n", ()
    try:
        text = read(path)
        named = policies.parse(text).witnesses.values()
        policy = text.decode()
    except (FormatError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"witnesses {path}: {error}") from error
    found = [
        settings.Witness(url=_url(each.url, f"witnesses {path}:"), vkey=str(each.key))
        for each in named
        if each.url
    ]
    return policy, tuple(found)


def _declaration(arguments: argparse.Namespace, root: str, provider: Signer) -> bytes:
    name = arguments.model.resolve().name
    if arguments.speculative and arguments.sampler != "none":
        raise ConfigurationError("no seed repeats speculative decoding: declare --sampler none")
    statement = Declaration(
        subject=(Subject(name=name, digest=Sha256(sha256=root)),),
        predicate=Predicate(
            model=name,
            weights_root=root,
            dtype=arguments.dtype,
            engine=arguments.engine,
            sampler=arguments.sampler,
            token_ids=arguments.token_ids,
            provider=provider.keyid,
            decoding="speculative" if arguments.speculative else "sequential",
        ),
    )
    return sign_envelope(encode(statement), provider)
