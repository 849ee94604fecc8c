"""A passport is made by running real models: in this process, or a server behind a URL."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lydite.cli.main import main
from lydite.cli.passport_tables import payload
from lydite.errors import ConfigurationError, UnavailableError
from lydite.messages import passport as passports
from lydite.messages.passport import Passport
from lydite.numerics import prompts
from lydite.numerics.web import Server
from lydite.signing import keys
from lydite.signing.dsse import open_envelope

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "lydite-small"
PROMPTS = ROOT / "data" / "reference" / "tokens" / "prompts.json"


def make(tmp_path: Path, *more: str) -> Passport:
    """Run the command, and return what it signed, opened with the key that it was given."""
    key, out = tmp_path / "verifier.key", tmp_path / "made.json"
    signer = keys.load(key) if key.exists() else keys.create(key)
    words = ("passport", "make", "--model", str(MODEL), "--prompts", str(PROMPTS))
    more = ("--answers", "40", "--key", str(key), "--out", str(out), *more)
    assert main([*words, *more]) == 0
    envelope = out.read_bytes().removesuffix(b"\n")
    return passports.parse(open_envelope(envelope, {signer.keyid: signer.public}, ()))


def test_an_engine_in_this_process_gets_a_passport(tmp_path: Path) -> None:
    said = make(tmp_path, "--dtype", "fp32").predicate
    assert (said.stack.dtype, said.stack.engine) == ("float32", "lydite transformers")
    assert [channel.name.partition("/")[2] for channel in said.channels] == [
        "margin",
        "surprisal",
        "residual",
    ]
    assert {row.tokens for channel in said.channels for row in channel.rows} == {128}
    assert said.streams.false_alarms == 0
    assert 0 < said.noise_micro < 1000  # fp32 against fp32: the last digits


def test_a_passport_has_one_colour_in_every_panel_and_in_the_legend() -> None:
    stored = ROOT / "data" / "reference" / "passports" / "lydite-small"
    known = [
        passports.parse(_payload(stored / f"{name}.passport.json"))
        for name in ("bf16", "fp32", "int4")
    ]
    figure = pytest.importorskip("lydite.cli.passport_plot").draw(known)
    (legend,) = figure.legends
    looks = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()]
    assert len(set(looks)) == 3
    margin, *others = [
        [(line.get_color(), line.get_linestyle()) for line in axes.get_lines()]
        for axes in figure.axes
    ]
    assert margin == [looks[0], looks[2]]  # fp32 has no token beyond: its look is not handed on
    assert all(panel == looks for panel in others)


def test_merge_show_and_endorse_are_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ROOT / "data" / "reference" / "passports" / "lydite-small"
    signer = (stored / "signer.pub").read_text().strip()
    files = [str(stored / f"{name}.passport.json") for name in ("bf16", "fp32")]
    out, picture = tmp_path / "reference.json", tmp_path / "stacks.svg"
    words = ["passport", "merge", *files, "--against", str(stored / "int4.passport.json")]
    words += ["--signer", signer, "--name", "small", "--level", "0.001", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["steps"]
    assert first["tollNats"]["tokens/residual"] < second["tollNats"]["tokens/residual"]
    assert main(["passport", "show", *files, "--signer", signer, "--plot", str(picture)]) == 0
    assert "0 of 40 honest ones accused" in capsys.readouterr().out
    assert picture.stat().st_size > 1000
    assert main(["passport", "show", files[0], "--signer", "00" * 32]) == 1
    strict = [*words[: words.index("--level")], "--level", "1e-6", "--out", str(tmp_path / "x")]
    assert main([*strict]) == 4
    assert "pool-too-small" in capsys.readouterr().err
    candidate = tmp_path / "candidate.json"
    candidate.write_bytes(_payload(Path(files[0])))
    key = tmp_path / "verifier.key"
    keys.create(key)
    endorsed = tmp_path / "endorsed.json"
    words = ["passport", "endorse", str(candidate), "--key", str(key), "--out", str(endorsed)]
    assert main(words) == 2, "nobody says how its self-check ended"
    assert main([*words, "--although", "unknown"]) == 0
    assert main(["passport", "show", str(endorsed), "--signer", keys.load(key).public.hex()]) == 0


def test_a_candidate_is_endorsed_against_its_self_check_only_by_saying_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ROOT / "data" / "reference" / "passports" / "lydite-small" / "bf16.passport.json"
    candidate, key, out = tmp_path / "candidate.json", tmp_path / "a.key", tmp_path / "signed.json"
    candidate.write_bytes(_payload(stored))
    keys.create(key)
    words = ["passport", "endorse", str(candidate), "--key", str(key), "--out", str(out)]
    digest = passports.digest(passports.parse(_payload(stored)))

    def ended(outcome: str, of: str = digest) -> None:
        report = {"outcome": outcome, "candidate": of, "tier": "warning"}
        (tmp_path / "report.json").write_text(json.dumps(report))

    ended("outside")
    assert main(words) == 2
    assert "is outside" in capsys.readouterr().err
    assert main([*words, "--although", "underpowered"]) == 2
    ended("inside", of="another")
    assert main(words) == 2, "that report is of another candidate"
    assert not out.exists()
    ended("outside")
    assert main([*words, "--although", "outside"]) == 0
    out.unlink()
    ended("inside")
    assert main(words) == 0


def test_a_candidate_that_nobody_signed_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = ROOT / "data" / "reference" / "passports" / "lydite-small"
    candidate, signer = tmp_path / "candidate.json", (stored / "signer.pub").read_text().strip()
    candidate.write_bytes(_payload(stored / "bf16.passport.json"))
    out = str(tmp_path / "reference.json")
    merge = ["passport", "merge", str(candidate), "--name", "x", "--out", out]
    for words in (merge, ["passport", "show", str(candidate)]):
        assert main([*words, "--signer", signer]) == 1
        assert "not signed yet; see `lydite passport endorse`" in capsys.readouterr().err


def test_too_few_answers_for_any_passport_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["passport", "make", "--model", str(tmp_path), "--prompts", "none", "--key", "none"]
    assert main([*words, "--out", str(tmp_path / "x"), "--answers", "20"]) == 2
    said = capsys.readouterr().err
    assert "pool-too-small" in said
    assert "40 at least" in said


def _payload(path: Path) -> bytes:
    return payload(path.read_bytes().removesuffix(b"\n"))


@pytest.fixture
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "lydite.cli.main", "engine", "--model", str(MODEL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"]
        server.terminate()


@pytest.mark.slow
def test_a_server_gets_one_that_agrees_with_that_of_its_engine(tmp_path: Path, url: str) -> None:
    words = ("--engine", "lydite transformers", "--version", "x", "--dtype", "bfloat16")
    said = make(tmp_path, "--url", url, *words).predicate
    known = passports.parse(
        _payload(ROOT / "data" / "reference" / "passports" / "lydite-small" / "bf16.passport.json")
    ).predicate
    assert said.stack.version == "x"
    assert 0.5 < said.noise_micro / known.noise_micro < 2
    assert said.streams.false_alarms == 0


class _Odd(BaseHTTPRequestHandler):
    """Answers every request with what its path names."""

    def do_GET(self) -> None:
        body = {"/several": b'{"data":[{"id":"a"},{"id":"b"}]}', "/none": b"[]"}
        self._answer(200, body.get(self.path.removesuffix("/v1/models"), b"{"))

    def do_POST(self) -> None:
        status = 500 if self.path == "/error" else 200
        self._answer(status, b"x" * (9 << 20) if self.path == "/long" else b"oops")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_servers_that_cannot_be_measured_say_why(odd: str) -> None:
    with pytest.raises(ConfigurationError, match="2 models"):
        Server(f"{odd}/several")
    for url in ("ftp://x", "http://", "http://x:y"):
        with pytest.raises(ConfigurationError):
            Server(url, "m")
    server = Server(odd, "m")
    for path in ("/error", "/long"):
        with pytest.raises(UnavailableError):
            server.post(path, b"{}")
    with pytest.raises(UnavailableError):
        Server("http://127.0.0.1:1", "m").post("/", b"")
    with pytest.raises(UnavailableError, match="no time is left"):
        Server(odd, "m", until_s=0.0).post("/error", b"{}")


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"prompt": ""}]', "[1]", '[{"p": "x"}]'])
def test_files_without_prompts_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError):
        prompts.read(path)
    with pytest.raises(ConfigurationError):
        prompts.read(tmp_path / "absent.json")


def test_seeds_follow_from_the_prompts_alone() -> None:
    known = prompts.read(PROMPTS)
    seeds = [prompts.seed_of(known, number) for number in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert seeds[7] == prompts.seed_of(prompts.read(PROMPTS), 7)
