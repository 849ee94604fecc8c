"""What is sent to a TPM, byte for byte, and what is made of its answers; no TPM needed."""

import hashlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, DeviceError, Reason
from lydite.tpm import codec, counter, objects, sealing, sessions
from lydite.tpm.codec import Reader
from lydite.tpm.commands import Handle, Tpm
from lydite.tpm.sessions import Session
from lydite.tpm.software import SoftwareTpm
from lydite.tpm.transport import connect

key, half = st.binary(min_size=1, max_size=64), st.binary(max_size=40)


def test_a_selection_of_registers_is_as_the_specification_has_it() -> None:
    # count 1, SHA-256 (000b), three bytes: bit i of byte j is register 8j + i
    assert codec.pcr_selection((0, 7, 8, 23)).hex() == "00000001000b03810180"


def test_a_policy_of_registers_is_the_digest_that_part_3_computes() -> None:
    values = {0: bytes(32), 23: b"\x01" * 32}
    over = hashlib.sha256(bytes(32) + b"\x01" * 32).digest()
    step = bytes.fromhex("00" * 32 + "0000017f" + "00000001000b03010080") + over
    assert sealing.policy_of(values) == hashlib.sha256(step).digest()
    assert sealing.policy_of(dict(reversed(values.items()))) == sealing.policy_of(values)


def test_the_storage_key_is_the_template_of_the_trusted_computing_group() -> None:
    template = objects.storage_template().hex()
    assert template == (
        "0023000b000304720000"  # ECC, SHA-256, restricted storage, no policy
        "000600800043"  # AES, 128 bits, CFB
        "001000030010"  # no scheme, P-256, no KDF
        f"0020{'00' * 32}0020{'00' * 32}"
    )  # fmt: skip


def test_sealed_data_opens_under_its_policy_and_in_no_other_way() -> None:
    public = Reader(objects.sealed_template(b"\x07" * 32))
    assert (public.u16(), public.u16()) == (codec.KEYEDHASH, codec.SHA256)
    attributes = public.u32()
    assert attributes & (1 << 6) == 0, "userWithAuth: no password opens it"
    assert attributes & (1 << 1 | 1 << 4) == 1 << 1 | 1 << 4, "it stays in this TPM"
    assert public.sized() == b"\x07" * 32
    assert (public.u16(), public.sized()) == (codec.NULL, b"")
    public.end()


def test_a_counter_is_raised_and_read_with_its_own_authorisation_alone() -> None:
    area = counter.public_area(0x01800001, counter._ATTRIBUTES, 8)
    assert area.hex() == "01800001000b0204001400000008"


@given(key, half, half)
def test_session_keys_are_derived_as_another_library_derives_them(
    secret: bytes, u: bytes, v: bytes
) -> None:
    other = KBKDFHMAC(
        hashes.SHA256(), Mode.CounterMode, 48, 4, 4, CounterLocation.BeforeFixed, b"ATH", u + v,
        None,
    )  # fmt: skip
    assert sessions.kdfa(secret, b"ATH", u, v, 384) == other.derive(secret)
    concat = ConcatKDFHash(hashes.SHA256(), 32, b"SECRET\0" + u + v)
    assert sessions.kdfe(secret, b"SECRET", u, v) == concat.derive(secret)


def read_all(reader: Reader, parts: int) -> list[bytes]:
    return [reader.sized() for _ in range(parts)]


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 300))
def test_what_is_written_is_read_back_and_nothing_is_read_beyond(
    parts: list[bytes], cut: int
) -> None:
    content = b"".join(codec.sized(part) for part in parts)
    reader = Reader(content)
    assert [reader.sized() for _ in parts] == parts
    reader.end()
    if cut >= len(content):
        return
    short = Reader(content[:cut])
    with pytest.raises(DeviceError) as caught:
        read_all(short, len(parts))
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("code", "word"),
    [(0x000, "success"), (0x922, "retry"), (0x99D, "policy-fail"), (0x1DF, "integrity"),
     (0x98E, "auth-fail"), (0x2CA, "type"), (0x1BE, "0x1be"), (0x14A, "nv-uninitialized")],
)  # fmt: skip
def test_response_codes_have_names(code: int, word: str) -> None:
    assert codec.name(code) == word


class Scripted:
    """Answers with what it is given, one after the other."""

    managed = True

    def __init__(self, *answers: str) -> None:
        self.answers = [bytes.fromhex(answer) for answer in answers]
        self.commands: list[bytes] = []

    def transmit(self, command: bytes) -> bytes:
        self.commands.append(command)
        return self.answers.pop(0)

    def close(self) -> None:
        pass


def test_a_command_that_is_put_off_is_sent_again_the_same() -> None:
    transport = Scripted("80010000000a00000922", "80010000001000000000000401020304")
    assert Tpm(transport).random(4) == b"\1\2\3\4"
    assert transport.commands[0].hex() == "80010000000c0000017b0004"
    assert transport.commands[0] == transport.commands[1]


@pytest.mark.parametrize(
    "answer",
    ["", "8001", "80010000001000000000000501020304", "80020000001000000000000401020304",
     "80010000001100000000000401020304"],
)  # fmt: skip
def test_a_malformed_answer_is_refused(answer: str) -> None:
    with pytest.raises(DeviceError) as caught:
        Tpm(Scripted(answer)).random(4)
    assert caught.value.reason is Reason.MALFORMED


def test_two_sessions_never_share_a_command_with_a_hidden_parameter() -> None:
    hidden = Session(1, (bytes(32), bytes(32)), b"k")
    hidden.attributes |= sessions.ENCRYPT
    other = Session(2, (bytes(32), bytes(32)), b"k")
    with pytest.raises(DeviceError, match="one session"):
        Tpm(Scripted()).run(1, [Handle(1, b"")], b"", [hidden, other])


@pytest.mark.parametrize("address", ["", "tpm0", "unix:", "tcp:localhost", "tcp::1", "tcp:a:b"])
def test_an_address_of_no_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError), connect(address):
        pass


@pytest.mark.parametrize("address", ["/dev/no-such-tpm", "unix:/no/such", "tcp:127.0.0.1:1"])
def test_where_nothing_answers_there_is_no_tpm(address: str) -> None:
    with pytest.raises(DeviceError) as caught, connect(address):
        pass
    assert caught.value.reason is Reason.TPM_UNAVAILABLE


def listening(answer: Callable[[socket.socket], None]) -> str:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        link, _ = server.accept()
        with server, link:
            link.recv(4096)
            answer(link)

    threading.Thread(target=serve, daemon=True).start()
    return f"tcp:127.0.0.1:{server.getsockname()[1]}"


def ask(address: str, timeout_s: float) -> None:
    with connect(address, timeout_s) as transport:
        Tpm(transport).random(1)


def test_a_tpm_that_hangs_up_or_stalls_or_lies_about_length_is_not_waited_for() -> None:
    stall = threading.Event()
    with pytest.raises(DeviceError, match="hung up"):
        ask(listening(lambda link: None), 5)
    with pytest.raises(DeviceError, match="no TPM at"):
        ask(listening(lambda link: bool(stall.wait(5))), 0.1)
    stall.set()
    with pytest.raises(DeviceError, match="4294967295"):
        ask(listening(lambda link: link.sendall(bytes.fromhex("8001ffffffff00000000"))), 5)


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="apt-get install swtpm"):
        SoftwareTpm(tmp_path).start()
