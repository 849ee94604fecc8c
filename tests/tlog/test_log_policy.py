import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy

LOG = Signer(b"log!" * 8)
LOG_KEY = notes.verifier_key("log.example", LOG)
NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
WITNESSES = {name: Signer(name.encode() * 16) for name in NAMES}
KEYS = {
    name: notes.verifier_key(f"{name}.example", signer, notes.Kind.COSIGNATURE)
    for name, signer in WITNESSES.items()
}
LINES = [f"log {LOG_KEY} https://log.example/", *(f"witness {n} {k}" for n, k in KEYS.items())]
# The example of c2sp.org/tlog-policy.
EXAMPLE = [
    *LINES,
    "group X-witnesses 2 X1 X2 X3",
    "group Y-witnesses any Y1 Y2 Y3",
    "group X-and-Y all X-witnesses Y-witnesses",
    "quorum X-and-Y",
]
HEAD = checkpoints.Checkpoint("log.example", 5, bytes(32))


def read(lines: list[str]) -> policy.Policy:
    return policy.parse(("\n".join(lines) + "\n").encode())


def cosigned(times: dict[str, int]) -> notes.Note:
    note = checkpoints.sign(HEAD, LOG)
    return notes.attach(
        note,
        [
            notes.cosign(note.text, KEYS[name].name, WITNESSES[name], time_s)
            for name, time_s in times.items()
        ],
    )


def test_the_published_example_is_read() -> None:
    read_policy = read(EXAMPLE)
    assert read_policy.logs == (policy.Log(LOG_KEY, "https://log.example/"),)
    assert read_policy.groups["X-witnesses"] == policy.Group(2, ("X1", "X2", "X3"))
    assert read_policy.groups["Y-witnesses"].threshold == 1
    assert read_policy.groups["X-and-Y"].threshold == 2
    assert read_policy.quorum == "X-and-Y"


@pytest.mark.parametrize("who", [c for n in range(7) for c in itertools.combinations(NAMES, n)])
def test_the_published_example_asks_for_two_x_and_one_y(who: tuple[str, ...]) -> None:
    note = cosigned(dict.fromkeys(who, 100))
    enough = sum(name[0] == "X" for name in who) >= 2 and any(name[0] == "Y" for name in who)
    if enough:
        assert policy.accept(note, read(EXAMPLE)).witnesses == who
    else:
        with pytest.raises(VerificationError) as caught:
            policy.accept(note, read(EXAMPLE))
        assert caught.value.reason is Reason.UNWITNESSED


@settings(max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=6, max_size=6))
def test_the_time_is_the_first_at_which_the_quorum_stood(times: list[int]) -> None:
    said = dict(zip(NAMES, times, strict=True))
    accepted = policy.accept(cosigned(said), read(EXAMPLE))

    def stood(at: int) -> bool:
        done = [name for name in NAMES if said[name] <= at]
        return sum(n[0] == "X" for n in done) >= 2 and any(n[0] == "Y" for n in done)

    assert accepted.time_s == min(at for at in range(10) if stood(at))


def test_one_backdated_witness_of_three_does_not_move_the_time_back() -> None:
    lines = [*LINES, "group g 2 X1 X2 X3", "quorum g"]
    assert policy.accept(cosigned({"X1": 1, "X2": 500, "X3": 501}), read(lines)).time_s == 500


def test_no_quorum_is_only_had_by_name() -> None:
    accepted = policy.accept(cosigned({}), read([*LINES, "quorum none"]))
    assert (accepted.time_s, accepted.witnesses) == (None, ())


def test_a_bad_cosignature_is_refused_though_the_quorum_stands_without_it() -> None:
    note = cosigned({"X1": 1, "X2": 1, "Y1": 1})
    bad = notes.Signature(KEYS["Y2"].name, KEYS["Y2"].key_id, bytes(7) + b"\1" + bytes(64))
    with pytest.raises(VerificationError) as caught:
        policy.accept(notes.attach(note, [bad]), read(EXAMPLE))
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_a_cosignature_over_another_checkpoint_is_refused() -> None:
    other = checkpoints.Checkpoint("log.example", 6, bytes(32))
    note = notes.attach(checkpoints.sign(other, LOG), cosigned({"X1": 1}).signatures[1:])
    with pytest.raises(VerificationError) as caught:
        policy.accept(note, read([*LINES, "quorum X1"]))
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_a_log_that_is_not_listed_is_refused() -> None:
    other = checkpoints.sign(checkpoints.Checkpoint("log.other", 5, bytes(32)), LOG)
    for lines in ([*LINES, "quorum none"], [*LINES[1:], "quorum none"]):
        with pytest.raises(VerificationError) as caught:
            policy.accept(other, read(lines))
        assert caught.value.reason is Reason.WRONG_ORIGIN


def test_a_log_with_two_keys_is_accepted_by_either() -> None:
    second = Signer(b"next" * 8)
    lines = [f"log {notes.verifier_key('log.example', second)}", *LINES, "quorum none"]
    for signer in (LOG, second):
        assert policy.accept(checkpoints.sign(HEAD, signer), read(lines)).checkpoint == HEAD


def test_white_space_comments_and_other_octets_are_allowed() -> None:
    text = (
        b"# caf\xe9\n\n\t \n"
        + f"  log\t{LOG_KEY} \n".encode()
        + b"witness \xff "
        + f"{KEYS['X1']}\n".encode()
        + b"witness \xfe "
        + f"{KEYS['X2']}\n  # end\nquorum ".encode()
        + b"\xff\n"
    )
    found = policy.parse(text)
    assert len(found.witnesses) == 2
    assert policy.accept(cosigned({"X1": 9}), found).time_s == 9


@pytest.mark.parametrize(
    "extra",
    [
        ["quorum X1", "quorum X2"],
        [],
        ["quorum"],
        ["quorum X1 X2"],
        ["quorum nobody"],
        ["group g any", "quorum g"],
        ["group g 0 X1", "quorum g"],
        ["group g 2 X1", "quorum g"],
        ["group g 01 X1", "quorum g"],
        ["group g some X1", "quorum g"],
        ["group g ٢ X1 X2", "quorum g"],
        ["group g any X1 X1", "quorum g"],
        ["group g any X1", "group h all X1 X2", "quorum h"],
        ["group g any h", "group h any X1", "quorum g"],
        ["group g any g", "quorum g"],
        ["group g any none", "quorum g"],
        ["group X1 any X2", "quorum X1"],
        ["group none any X2", "quorum none"],
        [f"witness X1 {KEYS['X1']}", "quorum none"],
        [f"witness Z {KEYS['X1']}", "quorum none"],
        [f"witness none {KEYS['X1']}", "quorum none"],
        ["witness Z", "quorum none"],
        [f"witness Z {LOG_KEY}", "quorum none"],
        [f"log {KEYS['X1']}", "quorum none"],
        [f"log {LOG_KEY}", "quorum none"],
        [f"log {notes.verifier_key('other.name', LOG)}", "quorum none"],
        ["log", "quorum none"],
        [f"log {LOG_KEY} a b", "quorum none"],
        [f"witness Z {notes.verifier_key('z', LOG, notes.Kind.COSIGNATURE)}", "quorum none"],
        ["vote X1", "quorum none"],
        ["quorum none\r"],
        ["quorum\u00a0none"],
    ],
)
def test_a_policy_that_says_something_else_is_refused(extra: list[str]) -> None:
    with pytest.raises(FormatError):
        read([*LINES, *extra])


def test_a_policy_without_a_last_newline_or_of_any_size_is_refused() -> None:
    for text in (b"quorum none", b"", b"#" * policy.MAX_POLICY_BYTES + b"\nquorum none\n"):
        with pytest.raises(FormatError):
            policy.parse(text)


def test_groups_may_nest_deeply_but_not_without_end() -> None:
    def nested(depth: int) -> list[str]:
        groups = ["group g0 any X1", *(f"group g{n} all g{n - 1}" for n in range(1, depth))]
        return [*LINES, *groups, f"quorum g{depth - 1}"]

    assert policy.accept(cosigned({"X1": 3}), read(nested(64))).time_s == 3
    with pytest.raises(FormatError) as caught:
        read(nested(65))
    assert caught.value.reason is Reason.TOO_LARGE
