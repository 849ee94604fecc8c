"""Everything around one governed gateway on one machine: officers, TPM, machine, meter, witnesses.

Prepares files and starts processes; plays no part in what is shown with them.
"""

import hashlib
import http.client
import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from lydite.appraisal.authority import Authority, Grant
from lydite.appraisal.policy import DEFAULT
from lydite.appraisal.policy import digest as policy_digest
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor import settings as auditing
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.refusals import timestamp
from lydite.engines.weights import measure
from lydite.errors import ConfigurationError
from lydite.gateway import settings
from lydite.gateway.modes import bundles
from lydite.laboratory import deployment, machine
from lydite.laboratory.processes import Processes, Service
from lydite.messages import instruction
from lydite.messages.canonical import encode
from lydite.messages.declaration import Declaration, Predicate
from lydite.messages.instruction import (
    Arguments,
    Instruction,
    InstructionPredicate,
    OutcomePredicate,
)
from lydite.messages.statement import subject
from lydite.sampling import vrf
from lydite.signing import keys, notes
from lydite.signing.dsse import key_id, open_envelope
from lydite.signing.keys import Signer, sign_envelope
from lydite.tpm.software import SoftwareTpm

ORIGIN: Final = "lydite.demo/governed"
OFFICERS: Final = ("ada", "bo", "cy")
_ACTIONS: Final = (
    "cut-power",
    "resume-serving",
    "set-egress-budget",
    "stop-serving",
    "whitelist-add",
    "whitelist-remove",
)
_VALID_S: Final = 600
_START_S: Final = 60.0


class Estate:
    """The files, keys and processes of one governed gateway."""

    @classmethod
    def prepare(
        cls, processes: Processes, directory: Path, model: Path, reference: Path, budget: int
    ) -> Self:
        """Make keys and settings, start TPM, beacon and witnesses, sign the model.

        Raises:
            ConfigurationError: swtpm, the model or the reference is missing.
            UnavailableError: a process did not start.
        """
        if not reference.is_file() or not model.is_dir():
            raise ConfigurationError(f"{model} or {reference} is missing; run this from a clone")
        return cls(processes, directory, model, reference, budget)

    def __init__(
        self, processes: Processes, directory: Path, model: Path, reference: Path, budget: int
    ) -> None:
        self.directory, self.model, self._reference = directory, model, reference
        self._processes = processes
        self._starts = 0
        self.last_entry = 0
        """Where the outcome of the last order stands, if nothing came between."""
        self.state = directory / "gateway" / "state"
        self.machine = directory / "machine"
        self.sign = directory / "carry-a-secret-out"
        """While this file is there, the machine leaks."""
        self.root = measure(model).root
        self._store = Path(tempfile.mkdtemp(prefix="lydite-store-", dir=_in_memory()))
        self._tpm_place = tempfile.mkdtemp(prefix="lydite-tpm-")
        self._tpm = SoftwareTpm(Path(self._tpm_place)).start()
        (directory / "gateway").mkdir()
        self._signers = {role: keys.create(path) for role, path in self.key_files()}
        self._officers = {name: _signer(directory / f"{name}.key") for name in OFFICERS}
        self._auditor = _signer(directory / "auditor.key")
        self._meter_key = _signer(directory / "meter.key")
        self._token, self._egress_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._ports = {name: _free_port() for name in ("client", "control", "upload", "engine")}
        self._signed = self._sign_model()
        chain, beacon = deployment.start_beacon(processes, directory)
        witnesses = deployment.start_witnesses(processes, directory, [self.anchor.log_vkey])
        self.trust = Trust(
            policy=policy_digest(DEFAULT),
            references=(),
            auditors=(self._auditor.public.hex(), self._meter_key.public.hex()),
            beacon=chain,
            witnesses=deployment.all_of(witnesses),
            providers=(self.anchor,),
        )
        self._config = self._write_settings(
            budget,
            settings.Beacon(chain=chain, url=beacon, margin_s=1, lead_s=2),
            witnesses,
        )

    def key_files(self) -> list[tuple[str, Path]]:
        """Return the four private keys of the gateway, by role."""
        return [(role, self.directory / "gateway" / f"{role}.key") for role in deployment.ROLES]

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self._ports['client']}"

    @property
    def upload_url(self) -> str:
        """Where weights go."""
        return f"http://127.0.0.1:{self._ports['upload']}"

    @property
    def anchor(self) -> Anchor:
        """What relying parties know of the gateway."""
        return Anchor(
            name="governed",
            provider_key=self._signers["provider"].public.hex(),
            gateway_key=self._signers["gateway"].public.hex(),
            vrf_key=vrf.public_key(self._signers["vrf"].seed()).hex(),
            log_vkey=str(notes.verifier_key(ORIGIN, self._signers["log"])),
        )

    @property
    def authority(self) -> Authority:
        """Two of three officers may do everything that is granted."""
        known = {name: each.public.hex() for name, each in self._officers.items()}
        return Authority(
            officers=known, grants=(Grant(actions=_ACTIONS, officers=OFFICERS, threshold=2),)
        )

    @property
    def client(self) -> GatewayClient:
        """An auditor's way to the gateway."""
        return GatewayClient(self.url, self._token)

    def seal(self) -> None:
        """Seal keys and state to the TPM, by the command that an operator runs.

        Raises:
            ConfigurationError: it failed; with its words.
        """
        command = [sys.executable, "-m", "lydite.cli.main", "gateway", "seal", str(self._config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigurationError(f"sealing failed: {done.stderr.strip()}")

    def start(self) -> Service:
        """Start the gateway, and return once it answers.

        Raises:
            UnavailableError: it does not start; with its last words.
        """
        self._starts += 1
        name = f"gateway-{self._starts}"
        self.gateway = self._processes.start(
            name, "lydite.cli.main", "gateway", "run", self._config
        )
        self.gateway.ready(_START_S)
        return self.gateway

    def meter(self) -> None:
        """Start the meter that weighs every answer."""
        gateway = auditing.Gateway(
            url=self.url, token=self._egress_token, provider=self.anchor.name
        )
        made = auditing.Meter(
            gateways=(gateway,),
            key=str(self.directory / "meter.key"),
            model=str(self.model),
            reference=str(self._reference),
            poll_ms=100,
        )
        path = self._secret("meter.json", msgspec.json.encode(made))
        self._processes.start("meter", "lydite.cli.main", "meter", "run", path)

    def mode(self) -> str:
        """Return the mode that the gateway is in."""
        return str(self._get(self._ports["upload"], "/v1/mode")["mode"])

    def accounts(self) -> dict[str, Any]:
        """Return how the egress accounts stand."""
        return self._get(self._ports["client"], "/v1/egress/accounts", self._egress_token)

    def stopped(self) -> list[dict[str, Any]]:
        """Return the accounts of the sessions that were stopped; one that stands for none."""
        found = [each for each in self.accounts()["sessions"] if each["stopped"]]
        return found or [{"chargedMicro": 0}]

    def bundle(self) -> Arguments:
        """Return the signed model as an instruction takes it."""
        return {
            "signature": (self._signed / bundles.SIGNATURE).read_text(),
            "layout": (self._signed / bundles.LAYOUT).read_text(),
        }

    def order(
        self, action: str, officers: tuple[str, ...], arguments: Arguments | None = None
    ) -> OutcomePredicate:
        """Have officers order something, and return what came of it.

        Raises:
            UnavailableError: the gateway refuses; with its reason.
        """
        return self.give(self.instruction(action, officers, arguments))

    def instruction(
        self, action: str, officers: tuple[str, ...], arguments: Arguments | None = None
    ) -> bytes:
        """Return an instruction, signed by these officers."""
        now_s = time.time()
        statement = Instruction(
            subject=subject("log", hashlib.sha256(ORIGIN.encode()).digest()),
            predicate=InstructionPredicate(
                action=action,
                arguments=arguments or {},
                dry_run=False,
                expires=timestamp(now_s + _VALID_S),
                gateway=key_id(self.anchor.gateway_public),
                issued=timestamp(now_s),
                nonce=secrets.token_hex(32),
                why="the demonstration",
            ),
        )
        return sign_envelope(encode(statement), *(self._officers[name] for name in officers))

    def give(self, envelope: bytes) -> OutcomePredicate:
        """Give the gateway an instruction, and return its signed outcome."""
        control = GatewayClient(f"http://127.0.0.1:{self._ports['control']}", "")
        answer = control.instruct(envelope)
        gateway = key_id(self.anchor.gateway_public)
        keys_of = {gateway: self.anchor.gateway_public}
        outcome = instruction.parse_outcome(open_envelope(answer, keys_of, [gateway])).predicate
        self.last_entry = outcome.entry + 1
        return outcome

    def end(self) -> None:
        """End what the processes' owner does not: the machine, the TPM, what lies in memory."""
        machine.off(self.machine)
        self._tpm.stop()
        shutil.rmtree(self._store, ignore_errors=True)
        shutil.rmtree(self._tpm_place, ignore_errors=True)

    def _sign_model(self) -> Path:
        key, out = self.directory / "model-signer.pem", self.directory / "signed"
        out.mkdir()
        bundles.create_key(key)
        bundles.sign(self.model, key, out)
        return out

    def _write_settings(
        self, budget: int, beacon: settings.Beacon, witnesses: tuple[settings.Witness, ...]
    ) -> Path:
        python = (sys.executable, "-m")
        engine = [*python, "lydite.laboratory.leak", "--model", str(self._store / "model")]
        engine += ["--port", str(self._ports["engine"]), "--name", self.model.name]
        engine += ["--secret", str(self.sign)]
        switch = (*python, "lydite.laboratory.machine")
        made = settings.Settings(
            upstream=f"http://127.0.0.1:{self._ports['engine']}",
            state=str(self.state),
            keys=settings.Keys(**{role: str(path) for role, path in self.key_files()}),
            declaration=str(self._declare()),
            origin=ORIGIN,
            port=self._ports["client"],
            control_port=self._ports["control"],
            witnesses=witnesses,
            policy=self.trust.witnesses,
            auditors=self.trust.auditors,
            audit_token=self._token,
            beacon=beacon,
            checkpoint_ms=250,
            admin=self.authority,
            device=settings.Device(kind="tpm", address=self._tpm.address, seal_every_s=1),
            modes=settings.Modes(
                store=str(self._store),
                power=settings.CommandPower(
                    on=(*switch, "on", str(self.machine), *engine),
                    off=(*switch, "off", str(self.machine)),
                ),
                signing_keys=(str(self._signed / "signer.pem"),),
                upload_port=self._ports["upload"],
                retry_ms=500,
            ),
            egress=settings.Egress(
                meters=(self._meter_key.public.hex(),),
                token=self._egress_token,
                budget_bits_session=budget,
            ),
        )
        return self._secret("gateway/gateway.json", msgspec.json.encode(made))

    def _declare(self) -> Path:
        provider = self._signers["provider"]
        statement = Declaration(
            subject=subject(self.model.name, bytes.fromhex(self.root)),
            predicate=Predicate(
                model=self.model.name,
                weights_root=self.root,
                dtype="bfloat16",
                engine="lydite transformers",
                sampler="lydite/v1",
                token_ids=True,
                provider=provider.keyid,
            ),
        )
        path = self.directory / "gateway" / "declaration.json"
        path.write_bytes(sign_envelope(encode(statement), provider))
        return path

    def _secret(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.format(content))
        return path

    def _get(self, port: int, path: str, token: str = "") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            said: dict[str, Any] = json.loads(connection.getresponse().read())
            return said
        finally:
            connection.close()


def _signer(path: Path) -> Signer:
    return keys.create(path)


def _in_memory() -> str | None:
    """Return where files lie in memory, the system's default place if that is not there."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
