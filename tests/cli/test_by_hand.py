"""A deployment put together by hand, command by command, as the quickstart tells it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from lydite.laboratory.processes import Processes

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "lydite-small"
REQUESTS = 24
"""Of about sixteen tokens each; 194 tell the declared model."""
REFERENCE = ROOT / "data" / "reference" / "tokens" / "lydite-small.json"


class Hand:
    """Runs commands in one directory, services beside them."""

    def __init__(self, place: Path, processes: Processes) -> None:
        self.place = place
        self.processes = processes

    def run(self, *words: str | Path, code: int = 0) -> str:
        command = [sys.executable, "-m", "lydite.cli.main", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.place, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def start(self, *words: str | Path) -> None:
        os.chdir(self.place)
        self.processes.start(str(words[0]), "lydite.cli.main", *words).ready()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    place = tmp_path_factory.mktemp("by-hand")
    before = Path.cwd()
    with Processes(place / "logs") as processes:
        yield Hand(place, processes)
    os.chdir(before)


@pytest.fixture(scope="module")
def port(hand: Hand) -> int:
    """Put everything up and return the gateway's port."""
    engine, beacon, witness, gateway = (free_port() for _ in range(4))
    hand.run("beacon", "init", "beacon", "--period", "1")
    hand.run("witness", "init", "w1", "--name", "w1.example", "--port", str(witness))
    auditor = hand.run("auditor", "init", "auditor.key").strip()
    made = ["gateway", "init", "mine", "--name", "mine.example/log", "--model", MODEL]
    made += ["--upstream", f"http://127.0.0.1:{engine}", "--port", str(gateway)]
    made += ["--beacon", "beacon/chain.json", "--beacon-url", f"http://127.0.0.1:{beacon}"]
    hand.run(*made, "--witnesses", "w1/witness.policy", "--auditor", auditor)
    hand.start("beacon", "run", "beacon", "--port", str(beacon))
    hand.start("witness", "run", "w1", "--anchor", "mine/anchor.json")
    hand.start("engine", "--model", MODEL, "--port", str(engine))
    hand.start("gateway", "run", "mine/gateway.json")
    relied = ["--reference", REFERENCE, "--witnesses", "w1/witness.policy"]
    trusted = ["trust", "mine/anchor.json", "--auditor", auditor, "--beacon", "beacon/chain.json"]
    hand.run(*trusted, *relied, "--out", "trust.json")
    token = json.loads((hand.place / "mine" / "gateway.json").read_text())["audit_token"]
    url = f"http://127.0.0.1:{gateway}"
    (hand.place / "auditor.toml").write_text(
        f"""
        trust = "trust.json"
        key = "auditor.key"
        model = "{MODEL}"
        references = ["{REFERENCE}"]
        rate_ppm = 1000000
        gateways = [{{ provider = "mine.example/log", url = "{url}", token = "{token}" }}]
        """
    )
    return gateway


@pytest.fixture(scope="module")
def receipt_id(hand: Hand, port: int) -> str:
    """Send traffic, keep one exchange to the byte, and return its receipt's id."""
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
        for number in range(REQUESTS - 1):
            client.completions.create(
                model="lydite-small", prompt=f"def read_{number}(", max_tokens=48
            )
        raw = client.completions.with_raw_response.create(
            model="lydite-small", prompt="import os\n", max_tokens=48
        )
    (hand.place / "request").write_bytes(raw.http_request.content)
    (hand.place / "response").write_bytes(raw.content)
    (hand.place / "salt").write_text(raw.headers["x-lydite-salt"])
    return raw.headers["x-lydite-receipt-id"]


@pytest.fixture(scope="module")
def audited(hand: Hand, receipt_id: str) -> Path:
    """Audit everything once and return the bundle's path."""
    said = json.loads(hand.run("auditor", "run", "auditor.toml", "--once", "--json"))
    assert said["verdict"]["tier"] == "affirming"
    return hand.place / said["bundle"]


def test_the_auditors_bundle_is_consistent_for_whoever_trusts_the_same(
    hand: Hand, audited: Path
) -> None:
    report = json.loads(hand.run("verify", audited, "--trust", "trust.json", "--json"))
    assert (report["tier"], report["audited"]) == ("affirming", REQUESTS)
    assert "consistent" in hand.run("verify", audited, "--trust", "trust.json")


def test_an_auditor_with_other_weights_does_not_begin(hand: Hand, audited: Path) -> None:
    settings = (hand.place / "auditor.toml").read_text()
    other = settings.replace("models/lydite-small", "models/lydite-base")
    assert other != settings
    (hand.place / "other.toml").write_text(other)
    hand.run("auditor", "run", "other.toml", "--once", code=2)


def test_without_a_trust_file_nothing_is_affirmed(hand: Hand, audited: Path) -> None:
    report = json.loads(hand.run("verify", audited, "--json", code=4))
    assert report["reason"] == "no-trust-anchors"


def test_a_client_checks_its_own_receipt_against_its_own_bytes(
    hand: Hand, port: int, receipt_id: str, audited: Path
) -> None:
    url = f"http://127.0.0.1:{port}/v1/receipts/{receipt_id}"
    own = ["--salt", (hand.place / "salt").read_text(), "--path", "/v1/completions"]
    own += ["--request", "request", "--response", "response"]
    report = json.loads(hand.run("receipt", url, "--trust", "trust.json", "--json", *own))
    assert report["tier"] == "affirming"
    own[-1] = "request"
    report = json.loads(hand.run("receipt", url, "--trust", "trust.json", "--json", *own, code=1))
    assert report["reason"] == "bad-commitment"


def test_from_an_unknown_receipt_nothing_is_learnt(hand: Hand, port: int) -> None:
    hand.run("receipt", f"http://127.0.0.1:{port}/v1/receipts/{'0' * 32}", code=4)


def test_the_log_is_read_mirrored_proved_and_checked(hand: Hand, port: int, audited: Path) -> None:
    url, trusted = f"http://127.0.0.1:{port}", ["--trust", "trust.json"]
    status = json.loads(hand.run("log", "status", url, "--json"))
    mirrored = json.loads(hand.run("log", "mirror", url, *trusted, "--json"))
    assert mirrored["receipt"] == REQUESTS
    assert mirrored["root"] == status["root"]
    proved = json.loads(hand.run("log", "prove", url, "2", *trusted, "--json"))
    (hand.place / "2.tlog-proof").write_text(proved["proof"])
    (hand.place / "2.leaf").write_text(proved["leaf"])
    checked = json.loads(hand.run("log", "check", "2.tlog-proof", "2.leaf", *trusted, "--json"))
    assert checked["entry"] == 2
    (hand.place / "2.leaf").write_text(proved["leaf"].replace("receipt", "result"))
    hand.run("log", "check", "2.tlog-proof", "2.leaf", *trusted, code=1)


def test_a_second_epoch_adds_to_the_same_case(hand: Hand, port: int, audited: Path) -> None:
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client:
        client.completions.create(model="lydite-small", prompt="class A", max_tokens=16)
    said = json.loads(hand.run("auditor", "run", "auditor.toml", "--once", "--json"))
    assert said["verdict"]["audited"] == REQUESTS + 1
    report = json.loads(hand.run("verify", audited, "--trust", "trust.json", "--json"))
    assert report["audited"] == REQUESTS + 1


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "no-such-file", "--trust", "trust.json"],
        ["verify", "trust.json", "--trust", "no-such-file"],
        ["gateway", "run", "no-such-file.json"],
        ["gateway", "run", "trust.json"],
        ["gateway", "init", "mine", "--name", "x", "--upstream", "http://h", "--model", "."],
        ["auditor", "run", "trust.json"],
        ["beacon", "init", "beacon"],
        ["witness", "init", "w1", "--name", "n", "--port", "1"],
        ["auditor", "init", "auditor.key"],
    ],
)
def test_what_cannot_be_used_is_exit_code_two_and_one_line(
    hand: Hand, port: int, words: list[str]
) -> None:
    command = [sys.executable, "-m", "lydite.cli.main", *words]
    done = subprocess.run(command, cwd=hand.place, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("lydite: error: ")
    assert "Traceback" not in done.stderr
