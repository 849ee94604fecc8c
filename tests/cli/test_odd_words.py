"""Whatever a command is given, it says what is wrong with that: no traceback, and no waiting."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.appraisal.trust import Anchor
from lydite.cli import plan_inputs
from lydite.cli.main import main
from lydite.errors import ConfigurationError
from lydite.messages.canonical import encode
from lydite.signing import keys, notes
from lydite.signing.keys import Signer

BYTE = "\udcff"
"""How Python hands over an argument that is not UTF-8."""
SETTINGS = {
    "not UTF-8": b"\xff = 1",
    "nested": b"a = " + b"[" * 5000 + b"]" * 5000,
    "nested JSON": b"[" * 100_000,
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "command", [["gateway", "run"], ["auditor", "run"], ["meter", "run"], ["recomputer", "run"]]
)
def test_settings_that_cannot_be_read_are_a_usage_error(
    command: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ("x.json" if "JSON" in name else "x.toml")
    file.write_bytes(SETTINGS[name])
    assert main([*command, str(file)]) == 2
    assert "(configuration)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--valid-s", str(10**30)],
        ["--valid-s", str(10**12)],
        ["--valid-s", str(-(10**14))],
        ["--why", BYTE],
        ["--set", f"a={BYTE}"],
    ],
)
def test_an_order_that_cannot_be_written_is_a_usage_error(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchor, key = tmp_path / "anchor.json", tmp_path / "ada.key"
    keys.create(key)
    made = Anchor(
        name="p",
        provider_key="aa" * 32,
        gateway_key="bb" * 32,
        vrf_key="cc" * 32,
        log_vkey=str(notes.verifier_key("log.example", Signer(b"l" * 32))),
    )
    anchor.write_bytes(encode(made))
    order = ["admin", "order", "cut-power", "--anchor", str(anchor), "--key", str(key)]
    out = ["--out", str(tmp_path / "order.json")]
    assert main([*order, "--why", "y", *out, *options]) == 2
    assert "(configuration)" in capsys.readouterr().err
    assert not (tmp_path / "order.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["receipt", "http://[::1/"],
        ["receipt", "http://\u2100.example/"],
        ["receipt", f"http://{'a' * 70}.x/"],
        ["receipt", "result", "a" * 32, "--from", "http://a..b"],
        ["receipt", "check", os.devnull, "--deadline", "nan"],
        ["receipt", "check", os.devnull, "--deadline", "inf"],
        ["receipt", "check", os.devnull, "--deadline", "1e308"],
        ["receipt", "http://127.0.0.1:1/", "--max-age", "5"],
        ["log", "status", f"http://{'a' * 70}.x"],
        ["log", "status", "http://a..b"],
        ["log", "status", f"http://{BYTE}"],
        ["plan", "rollout", "--teams", "1e400"],
        ["plan", "rollout", "--teams", "1e0_999999999"],
        ["plan", "rollout", "--wage", "1e308"],
        ["plan", "rollout", "--h100e", "9" * 5000],
        ["plan", "rollout", "--vary", "teams=1e999999999"],
        ["plan", "rollout", "--vary", "teams=1e-999999999"],
        ["plan", "upload", "--size", "1e400"],
        ["plan", "upload", "--servers-per-link", "1e308"],
        ["plan", "upload", "--hash-rate", "1e-320"],
    ],
)
def test_words_that_mean_nothing_are_a_usage_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "(configuration)" in said
    assert said.replace("\n", "").isprintable()


def test_a_path_that_no_request_has_is_a_usage_error(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"{}")
    own = ["--salt", "a" * 64, "--request", str(body), "--response", str(body)]
    assert main(["receipt", str(body), *own, "--path", BYTE]) == 2


@given(st.sampled_from(["1", "9", "1e18", "1e-18", "0.5", "1/3", "1_000", "12345.678e3"]))
def test_numbers_that_can_be_meant_are_taken(text: str) -> None:
    plan_inputs.fraction("--link", text)


@given(st.text("0123456789eE+-_./", max_size=80))
def test_every_number_is_taken_or_named(text: str) -> None:
    try:
        number = plan_inputs.fraction("--link", text)
    except ConfigurationError:
        return
    assert number == 0 or 1e-18 <= abs(float(number)) <= 1e18


@pytest.mark.parametrize("results", [b"[" * 100_000, b"\xff", b"{}", b'{"rows":[{"metric":1}]}'])
def test_results_that_are_none_are_named(
    results: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(results)
    for step in ("upload", "coverage"):
        assert main(["plan", step, "--results", str(file)]) == 1
    assert main(["plan", "checklist", "--attested", str(file)]) in (1, 2)
    assert capsys.readouterr().err.count("lydite: error: ") == 3
