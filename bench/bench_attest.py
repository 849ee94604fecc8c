"""``make bench-attest``: quotes and lists of 100,000 files appraised, beside Keylime's replay.

Processor time of one thread, the best of several runs. Evidence is made here, by keys of software.
Keylime runs in an environment of its own, on the same list and policy, or its cells stay empty:

    python -m venv .tools/keylime
    .tools/keylime/bin/pip install keylime==7.14.3 jsonschema lark cryptography packaging pyyaml
    .tools/keylime/bin/pip install requests tornado pyasn1 pyasn1-modules sqlalchemy psutil
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import process_time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import attest_tee
import report
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lydite.errors import LyditeError
from lydite.evidence.tpm import (
    attester,
    boot,
    claims,
    ima,
    keys,
    quote,
    runtime,
    signature,
    template,
)
from lydite.evidence.tpm.ima import Place
from lydite.evidence.tpm.judge import Judge, Rules
from lydite.evidence.tpm.quote import Bank
from lydite.evidence.tpm.runtime import Runtime
from lydite.tpm.codec import sized, u8, u16, u32

PEER = Path(__file__).parents[1] / ".tools" / "keylime" / "bin" / "python"
PEER_NAME = "Keylime 7.14.3"
ENTRIES, NEW = 100_000, 100
QUOTES = 2_000
SIGNATURE = b"\3\2\4" + bytes(76)
"""As long as one by a P-256 key in a distribution's package; a file that is listed needs none."""
BANKS = (Bank("sha256", (*range(11), 14)), Bank("sha1", (10,)))
START = Place(0, bytes(32))


def main() -> None:
    """Measure, print and write ``bench/results/attest.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES, help="files on the list")
    parser.add_argument("--runs", type=int, default=5, help="runs of which the best counts")
    options = parser.parse_args()
    rows = [quote_row("rsa", 15_000, options.runs), quote_row("ecc", 8_000, options.runs)]
    rows += list_rows(options.entries, options.runs)
    rows += attest_tee.rows(options.runs)
    rows += garbage_rows()
    keep = options.entries == ENTRIES
    report.write("attest", rows, keep=keep, versions={"keylime": "7.14.3"} if PEER.exists() else {})


def best(work: Callable[[], object], runs: int) -> float:
    """Return the least processor time that ``work`` took."""
    least = float("inf")
    for _ in range(runs):
        started = process_time()
        work()
        least = min(least, process_time() - started)
    return least


def quote_row(kind: attester.Kind, goal: float, runs: int) -> report.Row:
    """Quotes a second, from the bytes of quote, signature and key to a genuine quote."""
    public, sign = software_key(kind)
    key = keys.parse(public, "key")
    content = u32(quote.MAGIC) + u16(quote.QUOTE) + sized(key.name) + sized(bytes(32)) + bytes(16)
    content += u8(1) + bytes(8) + attester.selection(BANKS) + sized(bytes(32))
    made = sign(content)

    def work() -> None:
        for _ in range(QUOTES):
            parsed = keys.parse(public, "key")
            keys.check_attestation_key(parsed)
            quoted = quote.parse(content)
            signature.check(parsed, quote.parse_signature(made), content)
            if parsed.name != key.name or quoted.signer != key.name:
                raise AssertionError("another key")

    return report.row(f"quotes/{kind}", QUOTES / best(work, runs), "1/s", goal=goal)


def software_key(kind: attester.Kind) -> tuple[bytes, Callable[[bytes], bytes]]:
    """Return a public area and what signs as a TPM with that key would."""
    made = attester.ak_template(kind)
    if kind == "rsa":
        own = rsa.generate_private_key(65537, 2048)
        modulus = own.public_key().public_numbers().n.to_bytes(256, "big")

        def sign_rsa(content: bytes) -> bytes:
            signed = own.sign(content, padding.PKCS1v15(), hashes.SHA256())
            return u16(quote.RSASSA) + u16(0x0B) + sized(signed)

        return made[:-2] + sized(modulus), sign_rsa
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")

    def sign_ec(content: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
        both = sized(r.to_bytes(32, "big")) + sized(s.to_bytes(32, "big"))
        return u16(quote.ECDSA) + u16(0x0B) + both

    return made[:-4] + sized(x) + sized(y), sign_ec


class Lists:
    """A list of many files, as binary and as text, a policy that allows them, and the register."""

    def __init__(self, count: int) -> None:
        self.aggregate = hashlib.sha256(bytes(320)).digest()
        named = [(f"/usr/lib/module-{n % 977}/file-{n}.so", n) for n in range(1, count)]
        digests = {name: hashlib.sha256(b"%d" % n).digest() for name, n in named}
        records, lines, value = [], [], START.value
        signed, self.signed_value = [], START.value
        for name, digest in {"boot_aggregate": self.aggregate, **digests}.items():
            data = template.plain_data(digest, "sha256", name.encode(), 2)
            mark = hashlib.sha1(data)
            head = u32(10)[::-1] + mark.digest() + b"\6\0\0\0ima-ng"
            records.append(head + len(data).to_bytes(4, "little") + data)
            lines.append(f"10 {mark.hexdigest()} ima-ng sha256:{digest.hex()} {name}\n")
            value = hashlib.sha256(value + hashlib.sha256(data).digest()).digest()
            data += len(SIGNATURE).to_bytes(4, "little") + SIGNATURE
            head = u32(10)[::-1] + hashlib.sha1(data).digest() + b"\7\0\0\0ima-sig"
            signed.append(head + len(data).to_bytes(4, "little") + data)
            extended = hashlib.sha256(data).digest()
            self.signed_value = hashlib.sha256(self.signed_value + extended).digest()
        self.signed = b"".join(signed)
        self.binary, self.text, self.value = b"".join(records), "".join(lines).encode(), value
        self.last = b"".join(records[-NEW:])
        self.before = Place(count - NEW, followed(records[:-NEW]))
        spelt = {name: [digest.hex()] for name, digest in digests.items()}
        spelt["boot_aggregate"] = [self.aggregate.hex()]
        ima_part = {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": None}
        policy = {"meta": {"version": 1}, "release": 0, "digests": spelt, "excludes": []}
        policy |= {"keyrings": {}, "ima": ima_part, "ima-buf": {}, "verification-keys": ""}
        self.policy = json.dumps(policy).encode()

    def judge(self, known: Runtime) -> Judge:
        """Return a judge for this list."""
        return Judge(known, Rules(), {"sha256": self.aggregate}, lambda _entry, _keys: None)


def followed(records: list[bytes]) -> bytes:
    """Return what the register holds after records of ``ima-ng``."""
    value = START.value
    for record in records:
        value = hashlib.sha256(value + hashlib.sha256(record[38:]).digest()).digest()
    return value


def list_rows(count: int, runs: int) -> list[report.Row]:
    """Rows of the list of files: whole, as binary and text, and what is new."""
    lists = Lists(count)
    known = runtime.compile_policy([lists.policy])

    def replay(log: bytes, form: ima.Form, start: Place = START, value: bytes = b"") -> None:
        prepared = known.hashed if form == "binary" else known.lines
        judge = lists.judge(known)
        found = ima.replay(log, form, start, value or lists.value, prepared, judge)
        if judge.unknown or judge.changed or found.place.entries != count:
            raise AssertionError("the list is good")

    peer = keylime_s(lists)
    binary = best(lambda: replay(lists.binary, "binary"), runs)
    signed = best(lambda: replay(lists.signed, "binary", value=lists.signed_value), runs)
    text = best(lambda: replay(lists.text, "ascii"), runs)
    more = best(lambda: replay(lists.last, "binary", lists.before), runs)
    compiled = best(lambda: runtime.compile_policy([lists.policy]), min(runs, 3))
    tracemalloc.start()
    replay(lists.text, "ascii")
    peak = tracemalloc.get_traced_memory()[1] / len(lists.text)
    tracemalloc.stop()
    rows = [
        beside("list/binary", binary, 0.15 * count / ENTRIES, peer),
        beside("list/text", text, 0.30 * count / ENTRIES, peer),
        report.row("list/binary, files signed", signed, "s", at_most=True),
        report.row("list/100 more", 1000 * more, "ms", goal=1.0, at_most=True),
        report.row("list/memory beside it", 1 + peak, "x list", goal=3.0, at_most=True),
        report.row("policy/compiled once", compiled, "s"),
    ]
    if peer is not None:
        rows.append(report.row("list/times faster than Keylime", peer / text, "x", goal=5.0))
    return rows


def beside(metric: str, ours: float, goal: float, peer: float | None) -> report.Row:
    """Return a row in seconds, beside Keylime's."""
    name = None if peer is None else PEER_NAME
    return report.row(metric, ours, "s", goal=goal, at_most=True, peer=peer, peer_name=name)


def keylime_s(lists: Lists) -> float | None:
    """Return how long Keylime takes for the same list and policy; None where it is not there."""
    if not PEER.exists():
        print(f"Keylime is not there, so its cells stay empty: {PEER}", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as place:
        text, policy = Path(place, "list"), Path(place, "policy")
        text.write_bytes(lists.text)
        policy.write_bytes(lists.policy)
        script = str(Path(__file__).with_name("attest_keylime.py"))
        command = [str(PEER), script, str(text), str(policy), lists.value.hex(), "3"]
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    if done.returncode:
        print(f"Keylime failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    said = json.loads(done.stdout.splitlines()[-1])
    if not said["accepted"]:
        raise AssertionError("Keylime finds fault with the list, so the two are not compared")
    return float(said["seconds"])


def garbage_rows() -> list[report.Row]:
    """Return the longest that a megabyte of anything takes to be refused, by every reader."""
    dice = random.Random(1)
    size = 1 << 20
    small = Lists(2_000)
    known = runtime.compile_policy([small.policy])
    bent = bytearray((small.binary * 8)[:size])
    bent[len(bent) // 2] ^= 1
    made = {
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "noise": dice.randbytes(size),
        "zeros and a one": bytes(size - 1) + b"\1",
        "line feeds": b"\n" * size,
        "bent list": bytes(bent),
        "bent text": (small.text * 8)[:size] + b"\n",
    }

    def listed(form: ima.Form) -> Callable[[bytes], object]:
        rules = Rules(kexec=True)
        judge = Judge(known, rules, {"sha256": small.aggregate}, lambda _entry, _keys: None)
        prepared = known.hashed if form == "binary" else known.lines
        return lambda content: ima.replay(content, form, START, bytes(31) + b"\1", prepared, judge)

    readers: dict[str, Callable[[bytes], object]] = {
        "evidence": claims.parse,
        "quote": quote.parse,
        "boot": boot.parse,
        "list": listed("binary"),
        "text": listed("ascii"),
    }
    worst, culprit = 0.0, ""
    for reader, read in readers.items():
        for kind, content in made.items():
            took = best(lambda read=read, content=content: refused(read, content), 2)  # type: ignore[misc]
            if took > worst:
                worst, culprit = took, f"{kind} as {reader}"
    print(f"the slowest garbage: {culprit}", file=sys.stderr)
    return [report.row("garbage of 1 MiB", 1000 * worst, "ms", goal=50.0, at_most=True)]


def refused(read: Callable[[bytes], object], content: bytes) -> None:
    """Read what has to be refused, or is nothing but the fill of a buffer."""
    try:
        read(content)
    except LyditeError:
        return


if __name__ == "__main__":
    main()
