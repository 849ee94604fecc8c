"""Accounts of egress that nobody else can write, take back or put an older copy in place of."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, LyditeError, Reason, StorageError
from lydite.gateway.egress.chain import ORIGIN, Anchor, Chain
from lydite.gateway.egress.passage import BLOCK_BYTES
from lydite.gateway.service import Gateway
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Wire, post
from tests.gateway.scripted_engine import chunked, plain, script
from tests.gateway.test_gateway_egress import (
    KEY,
    MICRO,
    accounts,
    ask,
    limits,
    say,
    settle,
    waiting,
)

FILE = Path("state") / "egress" / "accounts.jsonl"


def spent(bench: Bench, name: str) -> Gateway:
    """A gateway that charged somebody, and went down in order."""
    gateway = bench.gateway(name, egress=limits())
    for _ in range(3):
        assert say(gateway).status == 200
        settle(gateway, 700)
    bench.stop(gateway)
    return gateway


def again(bench: Bench, name: str) -> Gateway:
    return bench.gateway(name, egress=limits())


def forged(path: Path) -> None:
    """Lines as an earlier version wrote them: whoever could write there could write these."""
    path.write_bytes(b'{"k":"newest","entry":9}\n')


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorter(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def without_one(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [forged, one_bit, shorter, without_one, empty, Path.unlink])
def test_accounts_that_were_tampered_with_close_the_gate(
    bench: Bench, harm: Callable[[Path], None]
) -> None:
    name = f"harmed-{getattr(harm, '__name__', 'gone')}"
    spent(bench, name)
    harm(bench.directory / name / FILE)
    gateway = again(bench, name)
    got = say(gateway)
    assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "egress-accounts")


def test_an_older_copy_of_the_accounts_closes_the_gate(bench: Bench, tmp_path: Path) -> None:
    """Every state that was ever on disk at a shutdown, put back after a later one."""
    spent(bench, "older")
    path = bench.directory / "older" / FILE
    shutil.copy(path, tmp_path / "copy")
    gateway = again(bench, "older")
    assert say(gateway).status == 200
    bench.stop(gateway)
    shutil.copy(tmp_path / "copy", path)
    gateway = again(bench, "older")
    assert json.loads(say(gateway).body)["error"]["code"] == "egress-accounts"


def test_another_gateways_accounts_close_the_gate(bench: Bench) -> None:
    spent(bench, "mine")
    spent(bench, "theirs")
    shutil.copy(bench.directory / "theirs" / FILE, bench.directory / "mine" / FILE)
    assert json.loads(say(again(bench, "mine")).body)["error"]["code"] == "egress-accounts"


def test_the_log_is_told_while_the_gateway_runs(bench: Bench) -> None:
    """So that an older copy is seen after a crash as well."""
    gateway = bench.gateway("beats", egress=limits(anchor_s=1))
    assert gateway.egress is not None
    before = gateway.egress._anchor
    assert say(gateway).status == 200
    bench.run(asyncio.sleep(1.3))
    after = gateway.egress._anchor
    assert before is not None
    assert after is not None
    assert after.lines > before.lines


def test_officers_renew_accounts_and_today_stays_charged(bench: Bench) -> None:
    spent(bench, "renewed")
    path = bench.directory / "renewed" / FILE
    path.unlink()
    gateway = again(bench, "renewed")
    assert say(gateway).status == 503
    assert gateway.egress is not None
    assert "anew" in bench.run(gateway.egress.renew())
    assert say(gateway).status == 200
    found = accounts(gateway)
    assert found["chargedMicro"] >= 3 * 8 * MICRO * len(b'{"text": "hello"}')
    with pytest.raises(LyditeError):
        bench.run(gateway.egress.renew())
    bench.stop(gateway)
    assert say(again(bench, "renewed")).status == 200


def test_pseudonyms_and_charges_outlive_a_restart_without_a_file_of_salt(bench: Bench) -> None:
    gateway = spent(bench, "kept")
    second = again(bench, "kept")
    (row,) = accounts(second)["sessions"]
    assert row["chargedMicro"] >= 3 * 700 * MICRO
    assert say(second).status == 200
    assert [each["session"] for each in accounts(second)["sessions"]] == [row["session"]]
    assert not (bench.directory / "kept" / "state" / "egress" / "session.salt").exists()
    assert gateway is not second


def known(*who: str) -> tuple[str, ...]:
    return tuple(hashlib.sha256(b"Bearer " + each.encode()).hexdigest() for each in who)


def test_strangers_share_one_session_whatever_they_call_themselves(bench: Bench) -> None:
    gateway = bench.gateway("strange", egress=limits(clients=known("ada"), budget_bits_day=200_000))
    for number in range(4):
        assert say(gateway, f"stranger {number}").status == 200
    assert [row["session"] for row in accounts(gateway)["sessions"]] == ["anonymous"]
    settle(gateway, 40_000)
    assert say(gateway, "a fifth").status == 429
    assert say(gateway, "ada").status == 200


def test_strangers_cannot_spend_what_is_for_known_clients(bench: Bench) -> None:
    day = {"budget_bits_day": 100_000, "budget_bits_anonymous": 30_000}
    both = limits(clients=known("ada", "bo"), budget_bits_session=60_000, **day)
    gateway = bench.gateway("parts", egress=both)
    assert say(gateway, "stranger").status == 200
    settle(gateway, 90_000)  # far beyond their part, in one go
    assert say(gateway, "stranger").status == 429
    assert say(gateway, "ada").status == 200
    settle(gateway, 50_000)
    assert say(gateway, "bo").status == 200
    settle(gateway, 20_000)
    assert say(gateway, "bo").status == 429  # 70 000 of 70 000
    assert say(gateway, "ada").status == 429


def test_the_day_is_bounded_whatever_the_header(bench: Bench) -> None:
    gateway = bench.gateway("headers", egress=limits(budget_bits_day=30_000))
    answered = 0
    for number in range(10):
        if say(gateway, f"new {number}").status == 200:
            answered += 1
            settle(gateway, 10_000)
    assert answered == 3


def test_a_part_that_leaves_nothing_of_the_day_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigurationError):
        bench.gateway("greedy", egress=limits(clients=known("a"), budget_bits_day=131_072))


def test_one_long_stream_cannot_pass_its_allowance(bench: Bench) -> None:
    """Random bytes, which no compression shortens: cut off when the allowance is used up."""
    noise = hashlib.shake_128(b"noise").hexdigest(100_000)
    events = [b"data: %b\n\n" % noise[i : i + 500].encode() for i in range(0, 200_000, 500)]
    allowance = 8 * 40_000
    gateway = bench.gateway("long", egress=limits(unscored_bits_session=allowance))
    with Wire(gateway.port) as line:
        line.send(post(CHAT, json.dumps(script(chunked(events))).encode()))
        line.socket.settimeout(10)
        read = b""
        while more := line.socket.recv(1 << 16):
            read += more
    assert 20_000 < len(read) < allowance // 4 + BLOCK_BYTES  # hexadecimal: four bits a byte
    assert b"[DONE]" not in read


def test_a_whole_answer_beyond_the_allowance_is_withheld(bench: Bench) -> None:
    noise = hashlib.shake_128(b"noise").digest(20_000)
    gateway = bench.gateway("whole", egress=limits(unscored_bits_session=8 * 10_000))
    got = say(gateway, body=json.dumps(script(plain(noise.hex().encode()))).encode())
    assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "egress-waiting")
    assert waiting(gateway)
    assert ask(gateway, b"/v1/keys").status == 200


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=12))
def test_a_chain_reads_what_was_written_and_no_prefix_before_its_anchor(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("chain") / "file"
    made = Chain(path, KEY)
    assert made.read(None) is None
    made.renew(lines[:2])
    for line in lines[2:]:
        made.append(line)
    made.close()
    assert Chain(path, KEY).read(made.at) == lines
    whole = path.read_bytes()
    for end in [at for at in range(len(whole)) if whole[at : at + 1] == b"\n"][:-1]:
        path.write_bytes(whole[: end + 1])
        assert Chain(path, KEY).read(None) is not None
        with pytest.raises(StorageError) as caught:
            Chain(path, KEY).read(made.at)
        assert caught.value.reason is Reason.EGRESS_ACCOUNTS


@given(st.data())
def test_no_byte_of_a_chain_can_be_changed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("chain") / "file"
    made = Chain(path, KEY)
    made.renew([b"one", b"two"])
    made.append(b"three")
    made.close()
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    with pytest.raises(StorageError):
        Chain(path, KEY).read(made.at)
    path.write_bytes(b"")
    with pytest.raises(StorageError):
        Chain(path, KEY).read(Anchor(1, ORIGIN.code))


def events_of(count: int) -> list[bytes]:
    """A stream with ids, whose tokens are drawn evenly from 4096 words."""
    drawn = hashlib.shake_128(b"tokens").digest(2 * count)
    found = []
    for at in range(count):
        token = int.from_bytes(drawn[2 * at : 2 * at + 2]) % 4096
        word = hashlib.sha256(b"%d" % token).hexdigest()[: 2 + token % 5]
        choice = {"index": 0, "delta": {"content": f" {word}"}, "logprobs": None}
        choice |= {"finish_reason": None, "token_ids": [token]}
        frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_795_000_000}
        event = {**frame, "model": "lydite-small", "choices": [choice]}
        found.append(b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode())
    return [*found, b"data: [DONE]\n\n"]


def test_the_default_allowance_holds_one_long_answer_and_little_more(bench: Bench) -> None:
    """Its reason: 6000 streamed tokens of twelve bits each fit before a score comes; 20 000 do not.

    A token costs some 100 bits by its size, so that an allowance of 2^20 bits is a few such answers
    of a budget's worth; what a session carries before it is stopped is that and the budget.
    """
    gateway = bench.gateway("sized", egress=limits())
    request = json.dumps(script(chunked(events_of(6000)))).encode()
    got = say(gateway, body=request)
    assert b"[DONE]" in got.body
    micro = accounts(gateway)["waitingMicro"]
    assert 100 < micro / MICRO / 6000 < 120  # docs/egress.md says so
    settle(gateway, 1)
    request = json.dumps(script(chunked(events_of(20_000)))).encode()
    assert b"[DONE]" not in say(gateway, "more", body=request).body
