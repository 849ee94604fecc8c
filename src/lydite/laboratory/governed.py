"""The governed gateway's demonstration: what it refuses, what it survives, what its log says.

    officers -> gateway, sealed to a TPM -> machine with a power switch
                   |                        ^ exactly the listed weights, through the gateway
                   +-> log -> witnesses     meter weighs every answer

Real processes on loopback, a real model, a real software TPM. Each step says what was tried, what
came of it and whether that is what should have; the story at the end is read from the log alone.
"""

import contextlib
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from openai import APIError, APIStatusError, OpenAI

from lydite.appraisal import story
from lydite.appraisal.story import Line, Reader
from lydite.auditor.mirror import Mirror
from lydite.errors import LyditeError, UnavailableError, VerificationError
from lydite.gateway.modes.sending import Outcome, send
from lydite.laboratory import machine, received
from lydite.laboratory.estate import Estate
from lydite.laboratory.places import fresh, point
from lydite.laboratory.processes import Processes
from lydite.messages.instruction import Arguments, OutcomePredicate
from lydite.openai.client import verified_client

_TOKENS: Final = 48
_TRIES: Final = 200
_KILL_S: Final = 1.0
_PACE_S: Final = 0.3
_SETTLE_S: Final = 60.0
_POLL_S: Final = 0.1
_RATE_PPM: Final = 250_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Where files go, which model is served, and how many bits a session may carry out."""

    directory: Path
    model: Path = Path("models/lydite-small")
    reference: Path = Path("data/reference/egress/lydite-small.json")
    budget_bits: int = 1500


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried: what came of it, and whether that is right."""

    name: str
    right: bool
    detail: str


class Demonstration(msgspec.Struct, kw_only=True):
    """Everything that a view shows."""

    steps: list[Step] = []
    story: list[Line] = []
    answers: int = 0
    entries: int = 0
    doing: str = ""
    directory: str = ""
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether every step went as it should, and the log told a story at all."""
        return bool(self.story) and all(step.right for step in self.steps)


Show = Callable[[Demonstration], None]


def run(options: Options, show: Show) -> Demonstration:
    """Run the demonstration and return what came of it.

    Raises:
        ConfigurationError: a program, the model or the reference is missing.
        UnavailableError: a process did not start or did not answer.
    """
    started = time.monotonic()
    directory = fresh(options.directory)
    state = Demonstration(directory=str(directory))
    with Processes(directory / "logs") as processes:
        estate = Estate.prepare(
            processes, directory, options.model, options.reference, options.budget_bits
        )
        try:
            for name, step in _script(options, estate, processes):
                state.doing = name
                show(state)
                right, detail = step()
                state.steps.append(Step(name=name, right=right, detail=detail))
            state.doing = "reading the log"
            show(state)
            state.story, state.answers, state.entries = _story(estate, estate.last_entry)
        finally:
            estate.end()
    state.seconds = round(time.monotonic() - started, 1)
    state.doing = "done"
    point(options.directory / "latest", directory)
    show(state)
    return state


Tried = tuple[bool, str]
Script = Iterator[tuple[str, Callable[[], Tried]]]


def _script(options: Options, estate: Estate, processes: Processes) -> Script:
    play = _Play(options, estate, processes)
    yield "seal the gateway's keys to the TPM and start it", play.start
    yield "one officer alone orders a model onto the whitelist", play.one_officer
    yield "two officers order it", play.two_officers
    yield "upload the model with one bit changed", play.tampered
    yield "upload the model itself", play.genuine
    yield "ask it, with a client that checks its receipts", play.ask
    yield "kill -9 the gateway while it answers, and start it again", play.kill
    yield "put back an old copy of its state", play.roll_back
    yield "upload again, since nobody knows what the machine held", play.genuine
    yield "let the machine carry a secret out in its answers", play.leak
    yield "open an epoch: keep what is drawn, destroy the rest", play.retain
    yield "an officer's order is given a second time", play.replay
    yield "two officers cut the power", play.cut


class _Play:
    """The steps, in the order of the script."""

    def __init__(self, options: Options, estate: Estate, processes: Processes) -> None:
        self._options = options
        self._estate = estate
        self._processes = processes
        self._verified: Any = None
        self._copy = estate.directory / "old-state"

    def start(self) -> Tried:
        """Seal, start the gateway, and begin in the dark."""
        estate = self._estate
        estate.seal()
        plain = [name for name, path in estate.key_files() if _is_plain(path)]
        estate.start()
        self._await_mode("upload")
        return not plain, "the four key files are encrypted; the power is off; waiting for weights"

    def one_officer(self) -> Tried:
        """Try to list a model with too few signatures."""
        try:
            self._estate.order("whitelist-add", ("ada",), self._estate.bundle())
        except UnavailableError as error:
            return error.reason == "too-few-officers", f"refused: {error.reason}"
        return False, "obeyed one officer"

    def two_officers(self) -> Tried:
        """List the model."""
        said = self._order("whitelist-add", self._estate.bundle())
        return said.ending == "done", f"entry {said.entry}: {said.detail[:30]}..."

    def tampered(self) -> Tried:
        """Upload a copy with one bit changed, under the root of the listed model."""
        estate = self._estate
        model = shutil.copytree(estate.model, estate.directory / "tampered")
        weights = model / "model.safetensors"
        body = bytearray(weights.read_bytes())
        body[random.Random(7).randrange(len(body) // 2, len(body))] ^= 1
        weights.write_bytes(body)
        outcome = self._upload(model, estate.root)
        dark = not machine.is_on(estate.machine)
        self._await_mode("upload")
        detail = f"{outcome.reason} after {outcome.sent} of {outcome.size} bytes; the power is off"
        return not outcome.serving and outcome.reason == "wrong-weights" and dark, detail

    def genuine(self) -> Tried:
        """Upload the listed model; it is switched on and served."""
        estate = self._estate
        self._await_mode("upload")
        outcome = self._upload(estate.model, estate.root)
        on = machine.is_on(estate.machine)
        return outcome.serving and on, f"{outcome.size} bytes, {outcome.mode}; the power is on"

    def ask(self) -> Tried:
        """Ask through a verified client, and hold the receipts to the log."""
        for number in range(3):
            self._answer(f"def parse_{number}(text):\n    ", streamed=number % 2 == 1)
        return True, f"{self._settled()} answers, each with a receipt that its client verified"

    def kill(self) -> Tried:
        """Kill the gateway in the middle of answers; whatever was promised has to be in the log."""
        estate = self._estate
        process = estate.gateway.process
        threading.Timer(_KILL_S, process.send_signal, (signal.SIGKILL,)).start()
        with contextlib.suppress(APIError, LyditeError):  # the one under way breaks off
            for number in range(_TRIES):
                self._answer(f"class Reader{number}:\n    ", streamed=number % 2 == 0)
        process.wait()
        shutil.copytree(estate.state, self._copy)
        estate.start()
        self._await_mode("upload")
        off = not machine.is_on(estate.machine)
        detail = f"all {self._settled()} receipts of its client are in the log; the power is off"
        return off, detail

    def roll_back(self) -> Tried:
        """Stop in order, put the state of before back, and see that it does not start."""
        estate = self._estate
        estate.gateway.stop(20.0)
        newest = estate.directory / "newest-state"
        estate.state.rename(newest)
        shutil.copytree(self._copy, estate.state)
        try:
            estate.start()
            return False, "started on an old state"
        except UnavailableError as error:
            refused = "rolled-back" in str(error) or "state-changed" in str(error)
            why = "rolled-back" if "rolled-back" in str(error) else "state-changed"
        finally:
            shutil.rmtree(estate.state)
            newest.rename(estate.state)
        estate.start()
        return refused, f"did not start: {why}; with the newest state it does"

    def leak(self) -> Tried:
        """Have the machine say a secret until the meter's scores stop it."""
        estate = self._estate
        estate.meter()
        estate.sign.touch()
        answers, stopped = [], ""
        for number in range(_TRIES):
            try:
                answers.append(self._exchange(f"    def _write_{number}(self):\n        "))
            except APIStatusError as error:
                stopped = _code(error)
                break
            time.sleep(_PACE_S)
        estate.sign.unlink()
        got = received.bits(estate.model, answers)
        bound = min(each["chargedMicro"] for each in estate.stopped()) // 1_000_000
        detail = (
            f"{got} bits were read back by their receiver from {len(answers)} answers; at most "
            f"{bound} bits, said the meter; budget {self._options.budget_bits}; then: {stopped}"
        )
        return stopped == "egress-budget" and 0 < got <= bound, detail

    def retain(self) -> Tried:
        """Open an epoch, and see that what it did not draw cannot be opened by anybody."""
        client = self._estate.client
        client.open_epoch(_RATE_PPM)
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            lines, _, _ = _story(self._estate, 0)
            found = [line.text for line in lines if line.kind == "retention"]
            if found:
                return True, found[-1]
            time.sleep(_POLL_S)
        return False, "the log says nothing of what was destroyed"

    def replay(self) -> Tried:
        """Give an order twice."""
        estate = self._estate
        envelope = estate.instruction("stop-serving", ("ada", "bo"))
        first = estate.give(envelope)
        try:
            estate.give(envelope)
        except UnavailableError as error:
            return first.ending == "done" and error.reason == "replayed", f"refused: {error.reason}"
        return False, "obeyed twice"

    def cut(self) -> Tried:
        """Cut the power by order."""
        said = self._order("cut-power")
        off = not machine.is_on(self._estate.machine)
        return off and said.ending == "done", f"entry {said.entry}: {said.detail}; the power is off"

    def _order(self, action: str, arguments: Arguments | None = None) -> OutcomePredicate:
        return self._estate.order(action, ("ada", "cy"), arguments)

    def _upload(self, model: Path, root: str) -> Outcome:
        return send(model, self._estate.upload_url, root=root)

    def _await_mode(self, mode: str) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while self._estate.mode() != mode:
            if time.monotonic() > deadline:
                raise UnavailableError(f"the gateway stays {self._estate.mode()}, not {mode}")
            time.sleep(_POLL_S)

    def _sdk(self, who: str = "demonstration") -> OpenAI:
        """Return the SDK of ``who``, over a client that lets no unverified answer through."""
        if self._verified is None:
            self._verified = verified_client(self._estate.trust)
        return OpenAI(
            base_url=f"{self._estate.url}/v1",
            api_key=who,
            http_client=self._verified,
            max_retries=0,
        )

    def _settled(self) -> int:
        """Hold every receipt of the client to the log; return how many hold.

        Raises:
            UnavailableError: one is not in the log in time.
            VerificationError: one is not what was promised.
        """
        receipts = self._verified.receipts
        deadline = time.monotonic() + _SETTLE_S
        while receipts.pending:
            if time.monotonic() > deadline:
                raise UnavailableError(f"{len(receipts.pending)} receipts are not in the log")
            receipts.settle()
            time.sleep(_POLL_S)
        if receipts.faults:
            raise VerificationError(receipts.faults[0].reason, receipts.faults[0].detail)
        return len(receipts.kept)

    def _answer(self, prompt: str, *, streamed: bool) -> None:
        """Let one answer come, whole."""
        model = self._estate.model.name
        sdk = self._sdk()
        if streamed:
            for _ in sdk.completions.create(
                model=model, prompt=prompt, max_tokens=_TOKENS, stream=True
            ):
                pass
        else:
            sdk.completions.create(model=model, prompt=prompt, max_tokens=_TOKENS)

    def _exchange(self, prompt: str) -> received.Answer:
        """Let one answer come, and return what its receiver needs to read it."""
        raw = self._sdk("a curious client").completions.with_raw_response.create(
            model=self._estate.model.name, prompt=prompt, max_tokens=_TOKENS
        )
        return received.Answer(
            bytes.fromhex(raw.headers["x-lydite-salt"]), raw.http_request.content, raw.content
        )


def _story(estate: Estate, last: int) -> tuple[list[Line], int, int]:
    """Return what the log says but for answers, how many of these, and how many entries.

    Waits until witnesses have seen the entry ``last`` and what followed it at once.
    """
    reader = Reader(estate.anchor, estate.trust, estate.authority)
    mirror = Mirror(estate.client, estate.trust.log_policy(estate.anchor))
    mirror.sync()
    deadline = time.monotonic() + _SETTLE_S
    while mirror.size <= last and last and time.monotonic() < deadline:
        time.sleep(_PACE_S)
        mirror.sync()
    lines, answers = [], 0
    for number in range(1, mirror.size + 1):
        leaf = mirror.entry(number)
        if leaf.kind == "receipt":
            answers += 1
        else:
            lines.append(story.tell(number, leaf, estate.client.envelope(number), reader))
    return lines, answers, mirror.size


def _is_plain(path: Path) -> bool:
    try:
        return len(bytes.fromhex(path.read_text().strip())) == 32
    except (ValueError, UnicodeDecodeError):
        return False


def _code(error: APIStatusError) -> str:
    return str(error.body["code"]) if isinstance(error.body, dict) else str(error.status_code)
