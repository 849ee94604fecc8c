"""Deployments of engines that are not ours: a gateway before each, an auditor with our model."""

import json
import time
import urllib.request
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import openai

from lydite.appraisal import receipts
from lydite.appraisal.policy import Policy
from lydite.appraisal.policy import parse as parse_policy
from lydite.appraisal.receipts import Exchange
from lydite.appraisal.report import Report
from lydite.appraisal.verification import verify
from lydite.auditor.bench import Bench
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.service import Auditor
from lydite.engines.transformers_engine import TransformersEngine
from lydite.evidence.tokens import reference as references
from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.deployment import Deployment, Execution, Provider, deploy
from lydite.laboratory.processes import Processes
from lydite.laboratory.traffic import Ask, asks
from lydite.messages.audit import Verdict
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt
from tests.outside.engines import DECLARED, MODELS, ROOT, OutsideEngine

UNSEEDED = ROOT / "data" / "reference" / "tokens" / f"{DECLARED}.unseeded.json"
POLICY = ROOT / "data" / "policies" / "surprisal-1.json"
MAX_TOKENS = 64


class Site(NamedTuple):
    """What is up: engines by name, a deployment around them, and what the auditor judges by."""

    engines: dict[str, OutsideEngine]
    deployment: Deployment
    policy: Policy
    reference: Reference

    def provider(self, name: str) -> Provider:
        return next(each for each in self.deployment.providers if each.name == name)

    def auditor(self, name: str, model: TransformersEngine) -> Auditor:
        provider = self.provider(name)
        return Auditor(
            GatewayClient(provider.url, provider.token),
            self.deployment.trust,
            provider.anchor,
            self.policy,
            Bench(model, (self.reference,)),
            self.deployment.auditor,
        )

    def judged(self, name: str) -> tuple[Verdict, Report]:
        """Audit everything that a provider answered; also return what its bundle says offline."""
        model = TransformersEngine.load(MODELS / DECLARED, "fp32", 1)
        auditor = self.auditor(name, model)
        auditor.open_epoch(1_000_000)
        auditor.audit_pending()
        verdict = auditor.judge()
        model.close()
        return verdict, verify(encode(auditor.bundle()), self.deployment.trust)

    def receipt(self, name: str, fields: Any, own: tuple[bytes, bytes, bytes]) -> Report:
        """Fetch a receipt, wait for its proof, and check it against path, request and answer."""
        path, request, response = own
        salt = Salt(bytes.fromhex(fields["x-lydite-salt"]))
        url = f"{self.provider(name).url}/v1/receipts/{fields['x-lydite-receipt-id']}"
        exchange = Exchange(salt=salt, path=path, request=request, response=response)
        deadline = time.monotonic() + 20
        while True:
            with urllib.request.urlopen(url, timeout=10) as answer:
                served = answer.read()
            if json.loads(served)["proof"] is not None or time.monotonic() > deadline:
                return receipts.check(served, self.deployment.trust, exchange)
            time.sleep(0.1)


def set_up(
    processes: Processes,
    directory: Path,
    engines: dict[str, OutsideEngine],
    execution: Execution,
    policy: Policy | None = None,
    reference: Reference | None = None,
) -> Site:
    """Put everything around engines that are starting; they have no seeds unless told otherwise."""
    reference = reference or references.parse(UNSEEDED.read_bytes())
    policy = policy or parse_policy(POLICY.read_bytes())
    deployment = deploy(processes, directory, engines, policy, reference, execution)
    return Site(engines, deployment, policy, reference)


def sdk(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


def traffic(url: str, count: int, samplings: Sequence[dict[str, Any]], extra: Any) -> None:
    """Send unlike requests through the SDK; none has a seed, with which it would choose tokens."""
    with sdk(url) as client:
        for number, ask in enumerate(islice(asks(), count)):
            fields = {"extra_body": extra, **samplings[number % len(samplings)]}
            say(client, ask, max_tokens=MAX_TOKENS, **fields)


def say(client: openai.OpenAI, ask: Ask, **fields: Any) -> str:
    """Send one request and return the text of its answer."""
    if ask.chat:
        turn: Any = [{"role": "user", "content": ask.text}]
        made: Any = client.chat.completions.create(
            model=DECLARED, messages=turn, stream=ask.streamed, **fields
        )
        if not ask.streamed:
            return str(made.choices[0].message.content)
        return "".join(part.choices[0].delta.content or "" for part in made if part.choices)
    made = client.completions.create(model=DECLARED, prompt=ask.text, stream=ask.streamed, **fields)
    if not ask.streamed:
        return str(made.choices[0].text)
    return "".join(part.choices[0].text for part in made if part.choices)
