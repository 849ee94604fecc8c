"""The client of the example: sends through the balancer, keeps its receipts, and asks about them.

Knows two addresses and a trust file. What it is told of its own requests it checks by itself.
"""

import contextlib
import http.client
import json
import time
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from openai import OpenAI

from lydite.appraisal import choice, outcome
from lydite.appraisal.receipts import Exchange
from lydite.errors import LyditeError, UnavailableError
from lydite.laboratory.deployment import Deployment
from lydite.messages import alarm, cannot
from lydite.messages.commitment import Salt
from lydite.messages.tier import Tier
from lydite.openai import verified_client
from lydite.signing.dsse import open_envelope

PATH: Final = "/v1/completions"
_PROMPTS: Final = (
    "def read_lines(path):\n    ",
    "class ParseError(Exception):\n    ",
    "import socket\nfrom threading import ",
    "    def _write_header(self, stream):\n        ",
)
_TIMEOUT_S: Final = 60
_POLL_S: Final = 0.1


class Own(msgspec.Struct, frozen=True):
    """A request of the client's own: its id, and what went and came."""

    receipt_id: str
    salt: str
    exchange: Exchange


class Question(msgspec.Struct, kw_only=True):
    """What became of one request of the client's, and what it looks like alone."""

    receipt_id: str
    server: str
    stage: str
    tier: str
    reason: str
    alone: str
    """What the answer says alone, examined because its client asked."""

    def right(self, honest: set[str]) -> bool:
        """Whether the answer is what it should be for a request to that server."""
        expected = Tier.AFFIRMING if self.server in honest else Tier.CONTRAINDICATED
        return self.tier == expected.value


class Client:
    """One client of one provider."""

    def __init__(self, base: str, recomputer: str, model: str, deployment: Deployment) -> None:
        self.own: list[Own] = []
        self._base = base
        self._recomputer = recomputer
        self._model = model
        self._trust = deployment.trust
        self._alone: dict[str, str] = {}

    def ask_own(self, max_tokens: int) -> None:
        """Send a few requests and keep their receipts."""
        http_client = verified_client(self._trust)  # an answer without its receipt raises
        base = f"{self._base}/v1"
        with OpenAI(base_url=base, api_key="none", max_retries=0, http_client=http_client) as sdk:
            for prompt in _PROMPTS:
                raw = sdk.completions.with_raw_response.create(
                    model=self._model, prompt=prompt, max_tokens=max_tokens
                )
                salt = raw.headers["x-lydite-salt"]
                exchange = Exchange(
                    salt=Salt(bytes.fromhex(salt)),
                    path=PATH.encode(),
                    request=raw.http_request.content,
                    response=raw.content,
                )
                self.own.append(Own(raw.headers["x-lydite-receipt-id"], salt, exchange))

    def examine_own(self, timeout_s: float = 20.0) -> None:
        """Have each request of one's own examined, before a draw lets go of those it leaves.

        Raises:
            LyditeError: an answer does not stand.
        """
        deadline = time.monotonic() + timeout_s
        for own in self.own:
            body = json.dumps({"salt": own.salt}).encode()
            path = f"/v1/receipts/{own.receipt_id}/examine"
            status, content = self._ask("POST", path, body)
            while status == http.client.NOT_FOUND and time.monotonic() < deadline:
                time.sleep(_POLL_S)  # until a checkpoint covers it
                status, content = self._ask("POST", path, body)
            self._alone[own.receipt_id] = f"HTTP {status}"
            if status == http.client.GONE:
                self._alone[own.receipt_id] = "gone: it was not drawn"
            elif status == http.client.OK:
                report = choice.check(content, self._trust, own.exchange, own.receipt_id)
                words = f"{report.tier.words}, {report.tokens} tokens"
                self._alone[own.receipt_id] = words

    def questions(self) -> list[Question]:
        """Ask about each request of one's own, and check the answers.

        Raises:
            LyditeError: an answer does not stand.
        """
        return [self._question(own) for own in self.own]

    def ask_for(self, model: str) -> str:
        """Ask the recomputer to route to a model that nobody has, and return what it signs.

        Raises:
            LyditeError: it signs nothing of that kind.
        """
        body = json.dumps({"model": model, "prompt": "x"}).encode()
        status, content = self._ask("POST", PATH, body)
        if status != http.client.SERVICE_UNAVAILABLE:
            raise UnavailableError(f"{model}: HTTP {status}")
        envelope = msgspec.json.encode(json.loads(content)["lydite"]["envelope"], order="sorted")
        said = cannot.parse(open_envelope(envelope, self._trust.auditor_keys(), ())).predicate
        why = ", ".join(sorted({each.why for each in said.asked}))
        return f"{status}, signed and logged: nobody serves {said.model} ({why})"

    def standings(self) -> list[dict[str, Any]]:
        """Return how every gateway stands."""
        found: list[dict[str, Any]] = self._get("/v1/recomputer")["gateways"]
        return found

    def models(self) -> set[str]:
        """Return the models that can be routed to."""
        return {each["id"] for each in self._get("/v1/models")["data"]}

    def settled(self, sent: int) -> bool:
        """Say whether ``sent`` requests were drawn from, and what was drawn is judged."""
        standings = self.standings()
        done = all(each["drawn"] == each["audited"] > 0 for each in standings)
        return done and sum(each["covered"] for each in standings) >= sent

    def alarms(self) -> dict[str, str]:
        """Return the last alarm about each provider, as it stands in the recomputer's log."""
        found: dict[str, str] = {}
        for number in range(1, 1000):
            status, envelope = self._ask("GET", f"/v1/log/envelopes/{number}")
            if status != http.client.OK:
                break
            payload = open_envelope(envelope, self._trust.auditor_keys(), ())
            with contextlib.suppress(LyditeError):  # an examination, or a refusal
                said = alarm.parse(payload).predicate
                found[said.provider] = _acted(said)
        return found

    def _question(self, own: Own) -> Question:
        payload = self._read("GET", f"/v1/receipts/{own.receipt_id}/result")
        report = outcome.check(payload, self._trust, own.exchange, own.receipt_id)
        return Question(
            receipt_id=own.receipt_id,
            server=report.provider,
            stage=json.loads(payload)["stage"],
            tier=report.tier.value,
            reason=report.reason.value,
            alone=self._alone.get(own.receipt_id, ""),
        )

    def _get(self, path: str) -> Any:
        return json.loads(self._read("GET", path))

    def _read(self, method: str, path: str, body: bytes | None = None) -> bytes:
        status, content = self._ask(method, path, body)
        if status != http.client.OK:
            raise UnavailableError(f"{path}: HTTP {status}: {content[:300]!r}")
        return content

    def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        place = urlsplit(self._recomputer)
        assert place.hostname is not None
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{self._recomputer}{path}: {error}") from error
        finally:
            connection.close()


def _acted(said: alarm.Predicate) -> str:
    if said.mode == "shadow":
        return f"would {said.action}"
    return {"raised": f"to {said.action}", "done": "shut down", "failed": "not shut down"}[
        said.stage
    ]
