"""A client asks what became of its own request, and may have it examined; it believes nothing."""

import base64
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.appraisal import choice, outcome
from lydite.appraisal.policy import DEFAULT
from lydite.appraisal.receipts import Exchange
from lydite.appraisal.report import Report
from lydite.cli.main import main
from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.gateway import wire
from lydite.messages import examination
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.signing.dsse import open_envelope
from tests.recomputer.bigram_recomputer import REFERENCE
from tests.recomputer.conftest import Answer, Stage, complete

PATH = "/v1/completions"


class Own(NamedTuple):
    """A request of one's own: its id, and the bytes that went and came."""

    id: str
    salt: str
    exchange: Exchange


def serve(stage: Stage, name: str, text: str, max_tokens: int = 64) -> Own:
    sent = json.dumps(complete(text, max_tokens)).encode()
    answer = stage.ask("POST", PATH, sent, stage.gateway_port(name))
    assert answer.status == 200
    compact = wire.from_header(answer.headers["x-lydite-receipt"].encode())
    salt = Salt(bytes.fromhex(compact.salt))
    return Own(compact.id, compact.salt, exchange(salt, sent, answer.body))


def exchange(salt: Salt, request: bytes, response: bytes) -> Exchange:
    return Exchange(salt=salt, path=PATH.encode(), request=request, response=response)


def result(stage: Stage, own: Own) -> Answer:
    return stage.ask("GET", f"/v1/receipts/{own.id}/result")


def examine(stage: Stage, own: Own, salt: str | None = None) -> Answer:
    return stage.ask("POST", f"/v1/receipts/{own.id}/examine", {"salt": salt or own.salt})


def read(stage: Stage, own: Own) -> Report:
    payload = result(stage, own).body
    return outcome.check(payload, stage.deployment.trust, own.exchange, own.id)


@pytest.fixture(scope="module")
def owned(stage: Stage) -> list[Own]:
    made = [serve(stage, "honest", f"honest {number}") for number in range(16)]
    stage.until(lambda: settled(stage, made[-1]))
    return made


@pytest.fixture(scope="module")
def honest(stage: Stage, owned: list[Own]) -> Own:
    return next(own for own in owned if stage_of(stage, own) == "audited")


@pytest.fixture(scope="module")
def undrawn(stage: Stage, owned: list[Own]) -> Own:
    return next(own for own in owned if stage_of(stage, own) == "undrawn")


@pytest.fixture(scope="module")
def cheated(stage: Stage) -> Own:
    made = [serve(stage, "cheat", f"cheat {number}") for number in range(12)]
    stage.until(lambda: settled(stage, made[-1]))
    return next(own for own in made if stage_of(stage, own) == "audited")


def stage_of(stage: Stage, own: Own) -> str:
    return str(result(stage, own).json()["stage"])


def settled(stage: Stage, own: Own) -> bool:
    """Whether a verdict covers a request, drawn or not."""
    done = stage_of(stage, own) in {"undrawn", "audited"}
    return done and "its provider is" in read(stage, own).headline


def test_a_client_of_an_honest_server_is_told_so(stage: Stage, honest: Own) -> None:
    report = read(stage, honest)
    assert (report.tier, report.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)
    assert report.headline.startswith("your request was drawn and recomputed")
    assert report.tokens == 64


def test_a_client_of_a_cheat_is_told_so(stage: Stage, cheated: Own) -> None:
    report = read(stage, cheated)
    assert (report.tier, report.reason) == (Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS)


def test_a_client_whose_request_was_not_drawn_recounts_that(stage: Stage, undrawn: Own) -> None:
    report = read(stage, undrawn)
    assert report.tier is Tier.AFFIRMING
    assert report.headline == "your request was not drawn; its provider is consistent"
    assert report.tokens == 0


def test_an_audit_of_what_nobody_drew_is_refused(stage: Stage, undrawn: Own, honest: Own) -> None:
    fields = {**result(stage, undrawn).json(), "audit": result(stage, honest).json()["audit"]}
    with pytest.raises(VerificationError) as refused:
        outcome.check(spelt(fields), stage.deployment.trust, undrawn.exchange)
    assert refused.value.reason is Reason.UNDRAWN_AUDIT


def test_what_was_not_drawn_is_gone_once_the_draw_is_over(stage: Stage, undrawn: Own) -> None:
    answer = examine(stage, undrawn)
    assert (answer.status, answer.json()["error"]["code"]) == (410, "destroyed")


def test_who_asks_before_the_draw_is_answered(stage: Stage) -> None:
    own = serve(stage, "honest", "asked at once")
    stage.until(lambda: examine(stage, own).status != 404)  # until a checkpoint covers it
    report = choice.check(examine(stage, own).body, stage.deployment.trust, own.exchange, own.id)
    assert (report.tier, report.tokens) == (Tier.NONE, 64)


def test_without_the_clients_bytes_nothing_is_affirmed(stage: Stage, honest: Own) -> None:
    report = outcome.check(result(stage, honest).body, stage.deployment.trust, None, honest.id)
    assert (report.tier, report.reason) == (Tier.NONE, Reason.NOT_COMPARED)


def test_other_bytes_than_the_clients_are_refused(stage: Stage, honest: Own) -> None:
    own = exchange(honest.exchange.salt, honest.exchange.request, b"{}")
    with pytest.raises(VerificationError) as refused:
        outcome.check(result(stage, honest).body, stage.deployment.trust, own)
    assert refused.value.reason is Reason.BAD_COMMITMENT


def test_a_request_that_was_just_answered_is_waiting(stage: Stage, honest: Own) -> None:
    own = serve(stage, "honest", "the very last")
    answer = result(stage, own)
    assert answer.json()["stage"] in {"unlogged", "waiting"}
    report = outcome.check(answer.body, stage.deployment.trust, own.exchange, own.id)
    assert (report.tier, report.reason) in {
        (Tier.NONE, Reason.NOT_IN_LOG),
        (Tier.NONE, Reason.PENDING),
    }


def test_a_verdict_from_before_the_age_that_was_asked_for_is_refused(
    stage: Stage, honest: Own
) -> None:
    payload = result(stage, honest).body
    now_ms = int(time.time() * 1000)
    given = (payload, stage.deployment.trust, honest.exchange, honest.id)
    assert outcome.check(*given, now_ms - 3_600_000).tier is Tier.AFFIRMING
    with pytest.raises(VerificationError) as refused:
        outcome.check(*given, now_ms + 1000)
    assert refused.value.reason is Reason.STALE


def test_a_receipt_that_nobody_gave_is_not_found(stage: Stage) -> None:
    assert stage.ask("GET", f"/v1/receipts/{'0' * 32}/result").status == 404
    assert stage.ask("GET", "/v1/receipts/no/result").status == 400


def test_parts_of_another_outcome_are_refused(
    stage: Stage, owned: list[Own], honest: Own, cheated: Own
) -> None:
    good, bad = result(stage, honest).json(), result(stage, cheated).json()
    audited = [own for own in owned if stage_of(stage, own) == "audited"]
    other = result(stage, audited[1]).json()
    for part, source in (("epoch", bad), ("audit", bad), ("result", bad), ("audit", other)):
        assert source[part] is not None
        mixed = spelt({**good, part: source[part]})
        with pytest.raises(LyditeError):
            outcome.check(mixed, stage.deployment.trust, honest.exchange, honest.id)


@pytest.mark.parametrize("part", ["epoch", "audit", "result", "policy"])
def test_a_part_that_is_left_out_affirms_nothing(stage: Stage, honest: Own, part: str) -> None:
    fields = {**result(stage, honest).json(), part: None}
    try:
        report = outcome.check(spelt(fields), stage.deployment.trust, honest.exchange)
    except (FormatError, VerificationError):
        return
    assert report.tier is Tier.NONE


@pytest.mark.parametrize("said", ["unlogged", "waiting", "undrawn", "drawn"])
def test_another_stage_than_the_parts_show_is_refused(stage: Stage, honest: Own, said: str) -> None:
    fields = {**result(stage, honest).json(), "stage": said}
    with pytest.raises(VerificationError) as refused:
        outcome.check(spelt(fields), stage.deployment.trust, honest.exchange)
    assert refused.value.reason is Reason.VERDICT_MISMATCH


def spelt(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_command_asks_and_checks(stage: Stage, honest: Own, tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(honest.exchange.request)
    (tmp_path / "response").write_bytes(honest.exchange.response)
    base = f"http://127.0.0.1:{stage.port}/v1"
    words = ["receipt", "result", honest.id, "--from", base, "--path", PATH]
    words += ["--trust", str(stage.directory / "trust.json")]
    assert main(words) == 4
    own = ["--salt", honest.salt, "--request", str(tmp_path / "request")]
    own += ["--response", str(tmp_path / "response")]
    assert main(words + own) == 0
    words[1] = "examine"
    assert main(words) == 2
    assert main(words + own) == 4
    assert main(["receipt", "result", "no id", "--from", base]) == 2
    assert main(["receipt", "result", honest.id]) == 2


def test_a_chosen_answer_is_examined_for_its_client_and_counts_for_nobody(
    stage: Stage, honest: Own
) -> None:
    before = stage.standing("honest")["drawn"]
    answer = examine(stage, honest)
    trust = stage.deployment.trust
    report = choice.check(answer.body, trust, honest.exchange, honest.id)
    assert (report.tier, report.reason) == (Tier.NONE, Reason.UNDERPOWERED)
    assert report.tokens == 64
    said = examination.parse(
        open_envelope(encode_part(answer, "examination"), trust.auditor_keys(), ())
    ).predicate
    assert said.selected_by == "client"
    assert stage.standing("honest")["drawn"] == before
    assert examine(stage, honest).body == answer.body, "asked twice, signed once"


def encode_part(answer: Answer, name: str) -> bytes:
    return spelt(answer.json()[name])


def test_a_gross_cheat_shows_in_the_one_answer_that_its_client_chose(
    stage: Stage, cheated: Own
) -> None:
    report = choice.check(examine(stage, cheated).body, stage.deployment.trust, cheated.exchange)
    assert (report.tier, report.reason) == (Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS)


def test_only_who_knows_the_salt_may_ask(stage: Stage, honest: Own, cheated: Own) -> None:
    for salt in (cheated.salt, "0" * 64):
        assert examine(stage, honest, salt).status == 503
    for body in (b"", b"{}", b'{"salt": 7}', b'{"salt": "ab"}', b"x" * 10_000):
        answer = stage.ask("POST", f"/v1/receipts/{honest.id}/examine", body)
        assert answer.status in {400, 413}


def test_the_gateway_opens_no_pair_for_the_salt_alone(stage: Stage, honest: Own) -> None:
    path = f"/v1/receipts/{honest.id}/opening"
    answer = stage.ask("POST", path, {"salt": honest.salt}, stage.gateway_port("honest"))
    assert answer.status == 401


def test_an_examination_that_does_not_follow_from_its_findings_is_refused(
    stage: Stage, honest: Own, cheated: Own
) -> None:
    good = examine(stage, honest).json()
    trust = stage.deployment.trust
    other = examine(stage, cheated).json()
    with pytest.raises(VerificationError):
        choice.check(spelt({**good, "examination": other["examination"]}), trust)
    payload = json.loads(base64.b64decode(good["examination"]["payload"]))
    payload["predicate"]["tier"] = "affirming"
    good["examination"]["payload"] = base64.b64encode(spelt(payload)).decode()
    with pytest.raises(VerificationError) as refused:
        choice.check(spelt(good), trust)
    assert refused.value.reason is Reason.BAD_SIGNATURE


@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40))
def test_the_price_of_a_choice_grows_with_the_log(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert choice.price_milli(low) <= choice.price_milli(high)


def test_the_shares_of_all_entries_fit_into_one_error_budget() -> None:
    shares = (10 ** (-choice.price_milli(entry) / 1000) for entry in range(1, 100_000))
    assert sum(shares) <= 1


def test_no_entry_is_counted_from_zero() -> None:
    with pytest.raises(FormatError):
        choice.price_milli(0)


def test_the_strangest_of_many_honest_answers_is_not_accused() -> None:
    """A finding as strange as one honest answer in 10^5 is: chosen from a log of a thousand."""
    odd = REFERENCE.margin.edges[-1]
    measures = [{"name": "margin", "unit": "micro-logit", "values": [odd] * 8 + [0] * 56}]
    fields = {
        "kind": "tokens",
        "tier": "none",
        "reason": "recorded",
        "reference": choice.yardsticks.digest(REFERENCE),
        "measures": [*measures, {"name": "surprisal", "unit": "micro-nat/6", "values": [0] * 64}],
    }
    finding = choice.decode(spelt(fields), Finding)
    verdict, _, _ = choice.judge(DEFAULT, (REFERENCE,), [finding], 1)
    assert verdict.log10_e_milli >= 4000
    _, tier, reason = choice.judge(DEFAULT, (REFERENCE,), [finding], 10**9)
    assert (tier, reason) == (Tier.NONE, Reason.SUSPECTED)
    assert encode(finding)
