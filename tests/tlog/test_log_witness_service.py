"""A real witness behind real HTTP: forks, truncations, races, restarts and bad requests."""

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lydite.errors import (
    ConfigurationError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
    VerificationError,
)
from lydite.signing import keys, notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import witness, witness_server
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness
from lydite.tlog.witness_client import WitnessClient
from lydite.tlog.witness_server import Keeper, WitnessServer

ORIGIN = "log.example/one"


@pytest.fixture
def server(tmp_path: Path, identity: Witness, clock: Callable[[], int]) -> Iterator[WitnessServer]:
    with WitnessServer(Keeper(identity, tmp_path / "witness", clock)) as running:
        yield running


@pytest.fixture
def client(server: WitnessServer, identity: Witness) -> Iterator[WitnessClient]:
    made = WitnessClient(server.url, identity.key)
    yield made
    made.close()


def grow(log: LogStore, by: int) -> bytes:
    log.append_durable([b"%d" % number for number in range(by)])
    return log.publish()


def post(url: str, body: bytes, path: str = "/add-checkpoint") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    connection.request("POST", path, body)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def test_a_growing_log_is_cosigned_each_time(
    log: LogStore, client: WitnessClient, identity: Witness
) -> None:
    for by in (0, 1, 300, 5, 0, 1000):
        checkpoint = grow(log, by)
        signature = client.cosign(checkpoint, log.consistency_proof)
        attached = log.attach_cosignatures(checkpoint, [signature])
        verified = notes.verify(notes.parse(attached), [log.key, identity.key])
        assert len(verified.signed) == 2


def test_a_client_that_knows_nothing_learns_the_size_and_proves_again(
    log: LogStore, client: WitnessClient, server: WitnessServer, identity: Witness
) -> None:
    client.cosign(grow(log, 7), log.consistency_proof)
    asked: list[tuple[int, int]] = []

    def prove(old: int, new: int) -> list[bytes]:
        asked.append((old, new))
        return log.consistency_proof(old, new)

    fresh = WitnessClient(server.url, identity.key)
    fresh.cosign(grow(log, 3), prove)
    fresh.close()
    assert asked == [(0, 10), (7, 10)]


def test_what_was_cosigned_is_served_to_monitors(
    log: LogStore, client: WitnessClient, server: WitnessServer, identity: Witness
) -> None:
    client.cosign(grow(log, 7), log.consistency_proof)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=5)
    for name, status in (
        (sha256(ORIGIN.encode()).hexdigest(), 200),
        ("0" * 64, 404),
        ("lock", 404),
    ):
        connection.request("GET", f"/{name}/checkpoint")
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        if status == 200:
            opened = checkpoints.open_note(notes.parse(body), [log.key], [identity.key])
            assert opened.checkpoint.size == 7
            assert len(opened.verified.signed) == 2
    connection.close()


def test_a_forked_log_is_found_out(
    log: LogStore, client: WitnessClient, tmp_path: Path, signer: Signer
) -> None:
    """Attack 11: the same key shows another history."""
    client.cosign(grow(log, 7), log.consistency_proof)
    with LogStore.open(tmp_path / "fork", ORIGIN, signer) as fork:
        fork.append_durable([b"other"] * 7)
        forked = fork.publish()
        for _ in range(2):
            with pytest.raises(VerificationError) as caught:
                client.cosign(forked, fork.consistency_proof)
            assert caught.value.reason is Reason.INCONSISTENT_LOG
            forked = grow(fork, 5)
    evidence = sorted((tmp_path / "witness" / "evidence").iterdir())
    heads = [
        checkpoints.open_note(notes.parse(each.read_bytes()), [log.key]).checkpoint
        for each in evidence
    ]
    assert len(heads) == 2
    assert heads[0].size == heads[1].size
    assert heads[0].root != heads[1].root


def test_a_truncated_log_is_found_out(
    log: LogStore, client: WitnessClient, tmp_path: Path, signer: Signer
) -> None:
    """Attack 10: the log forgets its newest entries, then goes on."""
    client.cosign(grow(log, 7), log.consistency_proof)
    with LogStore.open(tmp_path / "short", ORIGIN, signer) as short:
        with pytest.raises(UnavailableError) as caught:
            client.cosign(grow(short, 5), short.consistency_proof)
        assert caught.value.reason is Reason.CONFLICT
        short.append_durable([b"another 6th", b"another 7th", b"8th"])
        with pytest.raises(VerificationError) as refused:
            client.cosign(short.publish(), short.consistency_proof)
        assert refused.value.reason is Reason.INCONSISTENT_LOG


def test_racing_clients_never_roll_a_witness_back(
    log: LogStore, server: WitnessServer, identity: Witness
) -> None:
    """Two clients of one log submit larger and smaller checkpoints at once."""
    published = [grow(log, 3) for _ in range(60)]
    cosigned: list[list[int]] = [[], []]
    reasons: set[Reason] = set()
    start = threading.Barrier(2)

    def submit(number: int) -> None:
        client = WitnessClient(server.url, identity.key)
        start.wait()
        for checkpoint in published[number::2]:
            try:
                client.cosign(checkpoint, log.consistency_proof)
                cosigned[number].append(checkpoints.parse(notes.parse(checkpoint).text).size)
            except LyditeError as error:
                reasons.add(error.reason)
        client.close()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    largest = max(cosigned[0] + cosigned[1])
    assert reasons <= {Reason.CONFLICT}
    assert all(sizes == sorted(sizes) for sizes in cosigned)
    fresh = WitnessClient(server.url, identity.key)
    with pytest.raises(UnavailableError) as caught:
        fresh.cosign(published[0], log.consistency_proof)
    fresh.close()
    assert f"seen size {largest}" in str(caught.value)


def test_of_many_requests_from_one_state_only_one_wins(log: LogStore, keeper: Keeper) -> None:
    """The race of the specification: all are consistent with the stored state, one may go on."""
    heads = [checkpoints.parse(notes.parse(grow(log, 1)).text) for _ in range(16)]
    statuses: list[int] = []
    start = threading.Barrier(16)

    def submit(head: Checkpoint) -> None:
        note = checkpoints.sign(head, SIGNER)
        body = witness.Request(0, (), note, head).encode()
        start.wait()
        statuses.append(keeper.add_checkpoint(body).status)

    threads = [threading.Thread(target=submit, args=(head,)) for head in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 15


SIGNER = Signer(b"log key of 32 bytes, for tests 1")


def test_a_witness_remembers_over_a_restart(
    log: LogStore, tmp_path: Path, identity: Witness, clock: Callable[[], int]
) -> None:
    small = grow(log, 3)
    large = grow(log, 3)
    for _ in range(2):
        with WitnessServer(Keeper(identity, tmp_path / "witness", clock)) as server:
            client = WitnessClient(server.url, identity.key)
            client.cosign(large, log.consistency_proof)
            with pytest.raises(UnavailableError):
                client.cosign(small, log.consistency_proof)
            client.close()


def test_two_witnesses_cannot_share_a_state(
    keeper: Keeper, tmp_path: Path, identity: Witness
) -> None:
    with pytest.raises(ConfigurationError):
        Keeper(identity, tmp_path / "witness")


def test_a_damaged_state_is_not_built_upon(
    log: LogStore, client: WitnessClient, tmp_path: Path
) -> None:
    checkpoint = grow(log, 3)
    client.cosign(checkpoint, log.consistency_proof)
    state = tmp_path / "witness" / sha256(ORIGIN.encode()).hexdigest()
    for content in (b"rubbish", log.checkpoint(), b""):
        state.write_bytes(content)
        with pytest.raises(UnavailableError):
            client.cosign(checkpoint, log.consistency_proof)


def test_a_witness_that_cannot_write_cosigns_nothing(
    log: LogStore, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = checkpoints.parse(notes.parse(grow(log, 3)).text)
    body = witness.Request(0, (), notes.parse(log.checkpoint()), head).encode()

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("full")

    with monkeypatch.context() as patched:
        patched.setattr(witness_server.disk, "place", refuse)
        with pytest.raises(StorageError):
            keeper.add_checkpoint(body)
    assert keeper.checkpoint(sha256(ORIGIN.encode()).hexdigest()) is None
    assert keeper.add_checkpoint(body).status == 200


def test_bad_requests_are_answered_and_the_witness_goes_on(
    log: LogStore, client: WitnessClient, server: WitnessServer
) -> None:
    assert post(server.url, b"rubbish")[0] == 400
    assert post(server.url, b"")[0] == 400
    assert post(server.url, b"x" * (witness.MAX_REQUEST_BYTES + 1))[0] == 413
    assert post(server.url, b"old 0\n\n", "/else")[0] == 404
    host, port = urlsplit(server.url).netloc.split(":")
    for raw, status in (
        (b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\n\r\n", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"411"),
        (b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"rubbish\r\n\r\n", b"400"),
    ):
        with socket.create_connection((host, int(port)), timeout=5) as raw_socket:
            raw_socket.sendall(raw)
            assert status in raw_socket.recv(200)
    with socket.create_connection((host, int(port))) as cut_off:
        cut_off.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold")
    client.cosign(grow(log, 3), log.consistency_proof)


def test_a_log_that_the_witness_does_not_know_is_refused(
    client: WitnessClient, tmp_path: Path, signer: Signer
) -> None:
    with LogStore.open(tmp_path / "two", "log.example/two", signer) as other:
        with pytest.raises(VerificationError) as caught:
            client.cosign(grow(other, 2), other.consistency_proof)
        assert caught.value.reason is Reason.WRONG_ORIGIN
    with LogStore.open(tmp_path / "three", ORIGIN, Signer(b"x" * 32)) as other:
        with pytest.raises(VerificationError) as caught:
            client.cosign(grow(other, 2), other.consistency_proof)
        assert caught.value.reason is Reason.BAD_SIGNATURE


@pytest.fixture
def liar() -> Iterator[Callable[[bytes], str]]:
    """A server that answers whatever it is told to, once for each connection."""
    sockets: list[socket.socket] = []

    def start(answer: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in sockets:
        each.close()


def answer(status: str, body: bytes, kind: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_witness_that_lies_is_not_believed(
    log: LogStore, liar: Callable[[bytes], str], identity: Witness
) -> None:
    checkpoint = grow(log, 3)
    text = notes.parse(checkpoint).text
    stranger = notes.cosign(text, "w", Signer(b"x" * 32), 7).line()
    forged = notes.Signature(identity.name, identity.key.key_id, bytes(7) + b"\1" + bytes(64))
    older = notes.cosign(b"another\n", identity.name, identity.signer, 7).line()
    for said, expected in (
        (b"", UnavailableError),
        (b"HTTP/1.1", UnavailableError),
        (answer("200 OK", b""), UnavailableError),
        (answer("200 OK", b"rubbish\n"), UnavailableError),
        (answer("200 OK", stranger), UnavailableError),
        (answer("200 OK", forged.line()), VerificationError),
        (answer("200 OK", older), VerificationError),
        (answer("200 OK", b"x" * 200_000), UnavailableError),
        (answer("409 Conflict", b"3\n"), UnavailableError),
        (answer("409 Conflict", b"3\n", "text/x.tlog.size"), UnavailableError),
        (answer("409 Conflict", b"-3\n", "text/x.tlog.size"), UnavailableError),
        (answer("409 Conflict", b"99\n", "text/x.tlog.size"), UnavailableError),
        (answer("500 Error", b""), UnavailableError),
        (answer("302 Found", b""), UnavailableError),
        (answer("403 Forbidden", b"\xff"), VerificationError),
    ):
        client = WitnessClient(liar(said), identity.key, timeout_s=2)
        with pytest.raises(expected):
            client.cosign(checkpoint, log.consistency_proof)
        client.close()


def test_cosignatures_by_other_keys_beside_the_witness_s_own_are_ignored(
    log: LogStore, liar: Callable[[bytes], str], identity: Witness
) -> None:
    checkpoint = grow(log, 3)
    text = notes.parse(checkpoint).text
    lines = notes.cosign(text, "other", Signer(b"x" * 32), 7).line()
    own = notes.cosign(text, identity.name, identity.signer, 8)
    client = WitnessClient(liar(answer("200 OK", lines + own.line())), identity.key)
    assert client.cosign(checkpoint, log.consistency_proof) == own
    client.close()


def test_a_witness_that_is_silent_is_given_up(log: LogStore, identity: Witness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = WitnessClient(url, identity.key, timeout_s=0.2)
        with pytest.raises(UnavailableError):
            client.cosign(grow(log, 1), log.consistency_proof)
        client.close()
    with pytest.raises(UnavailableError):
        WitnessClient(url, identity.key).cosign(log.checkpoint(), log.consistency_proof)


def test_what_is_no_witness_is_refused_at_once(log: LogStore, identity: Witness) -> None:
    for url in ("ftp://x", "nothing", "http://", "file:///etc"):
        with pytest.raises(ConfigurationError):
            WitnessClient(url, identity.key)
    with pytest.raises(ConfigurationError):
        WitnessClient("http://127.0.0.1:1", log.key)


def test_the_service_runs_as_a_process_of_its_own(log: LogStore, tmp_path: Path) -> None:
    keys.create(tmp_path / "key")
    command = [sys.executable, "-m", "lydite.tlog.witness_server", "--name", "w.example",
               "--key", str(tmp_path / "key"), "--state", str(tmp_path / "w"),
               "--log", str(log.key)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        client = WitnessClient(ready["url"], notes.parse_key(ready["vkey"]))
        client.cosign(grow(log, 5), log.consistency_proof)
        client.close()
        second = subprocess.run(command, capture_output=True, check=False)
        process.terminate()
    assert second.returncode == 2
    assert b"in use by another process" in second.stderr
