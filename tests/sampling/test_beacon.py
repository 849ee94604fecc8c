import json
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, decompress_G1, decompress_G2
from py_ecc.fields import optimized_bls12_381_FQ as FQ
from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12
from py_ecc.optimized_bls12_381 import (
    G2,
    add,
    curve_order,
    field_modulus,
    final_exponentiate,
    is_inf,
    multiply,
    neg,
    pairing,
)

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages.canonical import decode, encode
from lydite.sampling import beacon, schedule
from lydite.sampling.beacon import Chain, Round, Scheme

RECORDED = json.loads(
    (Path(__file__).parents[1] / "vectors" / "drand.json").read_text(encoding="utf-8")
)["chains"]
P = field_modulus
LOCAL_KEY = SigningKey(bytes(range(32)))
LOCAL = Chain(
    name="local",
    scheme=Scheme.LOCAL_DEV,
    public_key=bytes(LOCAL_KEY.verify_key).hex(),
    genesis_time_s=1_700_000_000,
    period_s=1,
)
times = st.integers(0, 2**40)
chains = st.builds(
    Chain,
    name=st.just("any"),
    scheme=st.sampled_from(Scheme),
    public_key=st.just(""),
    genesis_time_s=times,
    period_s=st.integers(1, 10_000),
)


def recorded_chain(name: str) -> Chain:
    record = next(r for r in RECORDED if r["name"] == name)
    return Chain(
        name=name,
        scheme=Scheme(record["scheme"]),
        public_key=record["public_key"],
        genesis_time_s=record["genesis_time_s"],
        period_s=record["period_s"],
    )


def recorded_round(name: str, number: int) -> Round:
    rounds = next(r for r in RECORDED if r["name"] == name)["rounds"]
    return as_round(next(r for r in rounds if r["round"] == number))


def as_round(record: dict[str, Any]) -> Round:
    previous = record.get("previous_signature")
    return Round(
        number=record["round"],
        signature=bytes.fromhex(record["signature"]),
        previous_signature=None if previous is None else bytes.fromhex(previous),
        randomness=bytes.fromhex(record["randomness"]),
    )


def local_round(number: int) -> Round:
    return beacon.local_round(number, LOCAL_KEY.sign(beacon.local_message(number)).signature)


def resigned(genuine: Round, signature: bytes) -> Round:
    """Another signature with the randomness that goes with it, so that step 3 cannot help."""
    return msgspec.structs.replace(
        genuine, signature=signature, randomness=sha256(signature).digest()
    )


def refused(chain: Chain, changed: Round) -> str:
    with pytest.raises(VerificationError) as caught:
        beacon.verify(chain, changed)
    assert caught.value.reason is Reason.BAD_BEACON
    return str(caught.value)


QUICK = recorded_round("drand/quicknet", 1000)
LEAGUE = recorded_round("drand/default", 72785)


@pytest.mark.parametrize(
    ("name", "record"),
    [(chain["name"], record) for chain in RECORDED for record in chain["rounds"]],
    ids=lambda value: value if isinstance(value, str) else f"round {value['round']}",
)
def test_recorded_drand_rounds_verify(name: str, record: dict[str, Any]) -> None:
    randomness = beacon.verify(recorded_chain(name), as_round(record))
    assert randomness.hex() == record["randomness"]


@pytest.mark.parametrize(
    ("chain", "name"),
    [(beacon.LEAGUE_OF_ENTROPY, "drand/default"), (beacon.QUICKNET, "drand/quicknet")],
)
def test_the_chains_we_name_are_those_whose_hashes_drand_publishes(chain: Chain, name: str) -> None:
    record = next(r for r in RECORDED if r["name"] == name)
    assert chain == recorded_chain(name)
    suffix = b"" if record["beacon_id"] == "default" else record["beacon_id"].encode()
    parameters = struct.pack(">Iq", chain.period_s, chain.genesis_time_s) + chain.key
    digest = sha256(parameters + bytes.fromhex(record["group_hash"]) + suffix).hexdigest()
    assert digest == record["hash"]


@pytest.mark.parametrize(
    ("chain", "genuine"),
    [(beacon.QUICKNET, QUICK), (beacon.LEAGUE_OF_ENTROPY, LEAGUE), (LOCAL, local_round(5))],
    ids=["quicknet", "default", "local"],
)
def test_a_round_has_its_own_number_only(chain: Chain, genuine: Round) -> None:
    refused(chain, msgspec.structs.replace(genuine, number=genuine.number + 1))
    for number in (0, -1, 2**64):
        changed = msgspec.structs.replace(genuine, number=number)
        assert "no round" in refused(chain, changed)


def test_the_randomness_must_be_that_of_the_signature() -> None:
    changed = msgspec.structs.replace(QUICK, randomness=bytes(32))
    assert "randomness" in refused(beacon.QUICKNET, changed)


def test_previous_signature_is_there_exactly_when_the_scheme_chains() -> None:
    missing = msgspec.structs.replace(LEAGUE, previous_signature=None)
    assert "needs the previous" in refused(beacon.LEAGUE_OF_ENTROPY, missing)
    surplus = msgspec.structs.replace(QUICK, previous_signature=bytes(48))
    assert "has no previous" in refused(beacon.QUICKNET, surplus)
    empty = msgspec.structs.replace(QUICK, previous_signature=b"")
    assert "has no previous" in refused(beacon.QUICKNET, empty)
    local = msgspec.structs.replace(local_round(2), previous_signature=bytes(64))
    assert "has no previous" in refused(LOCAL, local)


def test_another_previous_signature_is_refused() -> None:
    assert LEAGUE.previous_signature is not None
    first = bytes([LEAGUE.previous_signature[0] ^ 1]) + LEAGUE.previous_signature[1:]
    changed = msgspec.structs.replace(LEAGUE, previous_signature=first)
    assert "does not verify" in refused(beacon.LEAGUE_OF_ENTROPY, changed)
    seed = msgspec.structs.replace(LEAGUE, previous_signature=bytes(32))
    assert "96 bytes" in refused(beacon.LEAGUE_OF_ENTROPY, seed)


def test_bytes_do_not_move_between_previous_signature_and_round() -> None:
    """The message is a plain concatenation: only the fixed lengths keep the parts apart."""
    first = recorded_round("drand/default", 1)
    assert first.previous_signature is not None
    longer = msgspec.structs.replace(first, previous_signature=first.previous_signature + b"\0")
    assert "32 bytes" in refused(beacon.LEAGUE_OF_ENTROPY, longer)


@pytest.mark.parametrize("bit", [0, 1, 2, 3, 20, 200, 383])
def test_no_flipped_bit_of_a_short_signature_verifies(bit: int) -> None:
    signature = bytearray(QUICK.signature)
    signature[bit // 8] ^= 0x80 >> bit % 8
    refused(beacon.QUICKNET, resigned(QUICK, bytes(signature)))


@pytest.mark.parametrize("bit", [0, 1, 2, 3, 200, 384, 385, 386, 767])
def test_no_flipped_bit_of_a_long_signature_verifies(bit: int) -> None:
    signature = bytearray(LEAGUE.signature)
    signature[bit // 8] ^= 0x80 >> bit % 8
    refused(beacon.LEAGUE_OF_ENTROPY, resigned(LEAGUE, bytes(signature)))


@given(st.binary(max_size=120).filter(lambda noise: len(noise) not in (48, 96)))
def test_signatures_of_another_length_are_refused(noise: bytes) -> None:
    refused(beacon.QUICKNET, resigned(QUICK, noise))
    refused(beacon.LEAGUE_OF_ENTROPY, resigned(LEAGUE, noise))
    if len(noise) != 64:
        refused(LOCAL, resigned(local_round(1), noise))


def test_the_neutral_element_signs_nothing() -> None:
    infinity = b"\xc0" + bytes(47)
    assert "subgroup" in refused(beacon.QUICKNET, resigned(QUICK, infinity))
    no_key = msgspec.structs.replace(beacon.QUICKNET, public_key="c0" + 95 * "00")
    assert "subgroup" in refused(no_key, QUICK)


def test_a_point_that_pairs_as_well_but_lies_outside_the_subgroup_is_refused() -> None:
    """Without the subgroup check one round would have several signatures, and so randomnesses."""
    for x in range(1, 100):
        y = pow(x**3 + 4, (P + 1) // 4, P)
        # The part of the point whose order divides the cofactor.
        torsion = multiply((FQ(x), FQ(y), FQ(1)), curve_order)
        if y * y % P == (x**3 + 4) % P and not is_inf(torsion):
            break
    twin = add(decompress_G1(int.from_bytes(QUICK.signature)), torsion)
    changed = resigned(QUICK, compress_G1(twin).to_bytes(48))
    assert changed.randomness != QUICK.randomness
    assert "not in the subgroup" in refused(beacon.QUICKNET, changed)

    tag = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
    hashed = hash_to_G1(sha256((1000).to_bytes(8)).digest(), tag, sha256)
    imaginary, real = beacon.QUICKNET.key[:48], beacon.QUICKNET.key[48:]
    key = decompress_G2((int.from_bytes(imaginary), int.from_bytes(real)))
    product = pairing(G2, twin, False) * pairing(neg(key), hashed, False)
    assert final_exponentiate(product) == FQ12.one()  # and yet it pairs


def test_one_scheme_does_not_pass_for_another() -> None:
    early = msgspec.structs.replace(beacon.QUICKNET, scheme=Scheme.UNCHAINED_ON_G1)
    assert "does not verify" in refused(early, QUICK)
    long = msgspec.structs.replace(beacon.QUICKNET, scheme=Scheme.UNCHAINED)
    refused(long, QUICK)
    chained = recorded_round("drand/testnet-unchained", 223344)
    claimed = msgspec.structs.replace(
        recorded_chain("drand/testnet-unchained"), scheme=Scheme.CHAINED
    )
    refused(claimed, chained)


def test_one_chain_does_not_pass_for_another() -> None:
    fastnet = recorded_chain("drand/fastnet")
    moved = msgspec.structs.replace(beacon.QUICKNET, public_key=fastnet.public_key)
    assert "does not verify" in refused(moved, QUICK)


@given(st.integers(1, 2**64 - 1))
def test_local_rounds_verify(number: int) -> None:
    made = local_round(number)
    assert beacon.verify(LOCAL, made) == sha256(made.signature).digest()


@given(st.integers(0, 511))
def test_no_flipped_bit_of_a_local_signature_verifies(bit: int) -> None:
    made = local_round(9)
    signature = bytearray(made.signature)
    signature[bit // 8] ^= 1 << bit % 8
    refused(LOCAL, resigned(made, bytes(signature)))


def test_a_stranger_makes_no_local_round() -> None:
    stranger = SigningKey(bytes(32)).sign(beacon.local_message(3)).signature
    refused(LOCAL, beacon.local_round(3, stranger))
    short = msgspec.structs.replace(LOCAL, public_key=LOCAL.public_key[:62])
    assert "32 bytes" in refused(short, local_round(3))


def test_the_local_beacon_says_what_it_is() -> None:
    said = beacon.describe(LOCAL)
    assert "development" in said
    assert "predict" in said
    assert "development" not in beacon.describe(beacon.QUICKNET)


@given(chains, times)
def test_rounds_follow_the_schedule(chain: Chain, time_s: int) -> None:
    newest, following = beacon.round_at(chain, time_s), beacon.first_round_after(chain, time_s)
    assert following == newest + 1
    assert beacon.due_s(chain, following) > time_s
    if newest:
        assert beacon.due_s(chain, newest) <= time_s
    else:
        assert time_s < chain.genesis_time_s


@given(chains, st.integers(1, 10**6))
def test_a_round_due_exactly_now_is_not_after_now(chain: Chain, number: int) -> None:
    due_s = beacon.due_s(chain, number)
    assert beacon.round_at(chain, due_s) == number
    assert beacon.first_round_after(chain, due_s) == number + 1
    assert beacon.round_at(chain, due_s - 1) == number - 1


def test_a_recorded_time_falls_into_the_recorded_round() -> None:
    # Round 1000 of quicknet was due 999 periods after the first.
    assert beacon.round_at(beacon.QUICKNET, 1692803367 + 999 * 3) == 1000


@given(chains, times, st.integers(0, 1000))
def test_a_pledged_round_has_to_be_unknown_when_the_pledge_is_witnessed(
    chain: Chain, cosigned_s: int, margin_s: int
) -> None:
    number = schedule.acceptable_round(chain, cosigned_s, margin_s)
    assert beacon.due_s(chain, number) > cosigned_s + margin_s
    assert number == 1 or beacon.due_s(chain, number - 1) <= cosigned_s + margin_s
    for later in (number, number + 1, number + 1000):
        schedule.check(chain, cosigned_s, margin_s, later)
    with pytest.raises(VerificationError) as caught:
        schedule.check(chain, cosigned_s, margin_s, number - 1)
    assert caught.value.reason is Reason.BAD_BEACON


def test_a_negative_margin_would_let_the_past_decide() -> None:
    with pytest.raises(FormatError):
        schedule.acceptable_round(LOCAL, 1_700_000_100, -1)


@pytest.mark.parametrize(("genesis", "period"), [(0, 0), (0, -3), (-1, 3)])
def test_a_schedule_moves_forward(genesis: int, period: int) -> None:
    with pytest.raises(FormatError):
        Chain(
            name="odd",
            scheme=Scheme.LOCAL_DEV,
            public_key="",
            genesis_time_s=genesis,
            period_s=period,
        )


def test_a_key_is_hexadecimal() -> None:
    with pytest.raises(FormatError):
        msgspec.structs.replace(LOCAL, public_key="no key")


@pytest.mark.parametrize(
    ("chain", "made"), [(LOCAL, local_round(4)), (beacon.LEAGUE_OF_ENTROPY, LEAGUE)]
)
def test_an_epoch_records_a_round_and_gives_it_back(chain: Chain, made: Round) -> None:
    record = beacon.to_record(chain, made)
    assert beacon.from_record(chain, record) == made
    with pytest.raises(VerificationError) as caught:
        beacon.from_record(beacon.QUICKNET, record)
    assert caught.value.reason is Reason.BAD_BEACON


@pytest.mark.parametrize("chain", [LOCAL, beacon.LEAGUE_OF_ENTROPY, beacon.QUICKNET])
def test_a_chain_has_one_spelling(chain: Chain) -> None:
    assert decode(encode(chain), Chain) == chain


def test_checking_a_drand_round_leaves_nested_json_an_error_and_not_a_crash() -> None:
    work = """
import sys
from lydite.sampling import bls
from lydite.errors import FormatError
from lydite.appraisal import bundle
assert sys.getrecursionlimit() < 10_000, sys.getrecursionlimit()
try:
    bundle.parse(b'{"policy":' + b"[" * 1_000_000)
except FormatError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
