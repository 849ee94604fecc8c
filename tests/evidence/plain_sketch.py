"""The residue sketch once more, as its definition reads: integers, decimals and hashes alone.

``python -m tests.evidence.plain_sketch`` writes the vectors that any implementation can run.
"""

import hashlib
import json
import random
import struct
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors" / "activations" / "sketch.json"
ROOT = hashlib.sha256(b"lydite vectors: weights").hexdigest()
CLOSE = Decimal("0.001")
"""No residue of a vector hangs on a difference this small, in steps."""


def spelt(spec: dict[str, Any]) -> bytes:
    return json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()


def key(spec: dict[str, Any], receipt_id: str, prompt: list[int], output: list[int]) -> bytes:
    def words(values: list[int]) -> bytes:
        return b"".join(value.to_bytes(4, "big") for value in values)

    tokens = words([len(prompt), len(output)]) + words(prompt) + words(output)
    return hashlib.sha256(
        b"lydite/proj/v1\0"
        + receipt_id.encode()
        + b"\0"
        + bytes.fromhex(ROOT)
        + hashlib.sha256(spelt(spec)).digest()
        + hashlib.sha256(tokens).digest()
    ).digest()


def sign(stream: bytes, bit: int) -> int:
    return 1 if stream[bit // 8] >> (7 - bit % 8) & 1 else -1


def steps(states: list[list[Decimal]], kappa: bytes, count: int, delta: str) -> list[list[Decimal]]:
    """Return ``f / delta``, token by token."""
    width = len(states[0]) if states else 1
    matrix = hashlib.shake_128(kappa).digest(width * count // 8)
    turns = hashlib.shake_128(kappa + b"pos").digest(len(states) * count // 8)
    with localcontext(prec=60):
        scale = Decimal(width).sqrt() * Decimal(delta)
        return [
            [
                sign(turns, t * count + i)
                * sum((sign(matrix, d * count + i) * h for d, h in enumerate(state)), Decimal(0))
                / scale
                for i in range(count)
            ]
            for t, state in enumerate(states)
        ]


def packed(projected: list[list[Decimal]]) -> bytes:
    residues = [
        int(value.to_integral_value(ROUND_HALF_EVEN)) % 4 for row in projected for value in row
    ]
    return bytes(
        sum(residue << (2 * place) for place, residue in enumerate(residues[at : at + 4]))
        for at in range(0, len(residues), 4)
    )


def sketch(
    states: list[list[Decimal]],
    kappa: bytes,
    spec: dict[str, Any],
    inner: list[list[list[Decimal]]] | None = None,
) -> bytes:
    first = packed(steps(states, kappa, spec["coordinates"], spec["delta"]))
    if not spec["innerDeltas"]:
        return first
    assert inner is not None
    depth = int.from_bytes(hashlib.sha256(kappa + b"depth").digest()[:8], "big") % 3
    other = hashlib.sha256(kappa + b"inner").digest()
    return first + packed(
        steps(inner[depth], other, spec["coordinates"], spec["innerDeltas"][depth])
    )


def bf16(number: float) -> int:
    """Return the upper half of the 32-bit spelling of ``number``: a bf16 near it."""
    return int(struct.unpack(">I", struct.pack(">f", number))[0]) >> 16


def value(bits: int) -> Decimal:
    return Decimal(struct.unpack(">f", struct.pack(">I", bits << 16))[0])


def rows(bits: list[list[int]]) -> list[list[Decimal]]:
    return [[value(one) for one in row] for row in bits]


def case(rng: random.Random, tokens: int, width: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a vector none of whose residues is close to the next one."""
    while True:
        layers = [
            [[bf16(rng.gauss(0, 1.4)) for _ in range(width)] for _ in range(tokens)]
            for _ in range(4 if spec["innerDeltas"] else 1)
        ]
        prompt = [rng.randrange(1 << 31) for _ in range(rng.randrange(1, 9))]
        output = [rng.randrange(1 << 31) for _ in range(tokens)]
        receipt = f"receipt-{rng.randrange(10**9)}"
        kappa = key(spec, receipt, prompt, output)
        states, *inner = [rows(layer) for layer in layers]
        projected = steps(states, kappa, spec["coordinates"], spec["delta"])
        if all(abs(v % 1 - Decimal("0.5")) > CLOSE for row in projected for v in row):
            break
    return {
        "spec": spec,
        "specDigest": hashlib.sha256(spelt(spec)).hexdigest(),
        "weightsRoot": ROOT,
        "receiptId": receipt,
        "promptIds": prompt,
        "outputIds": output,
        "width": width,
        "statesBf16": ["".join(f"{one:04x}" for one in row) for row in layers[0]],
        "innerBf16": [
            ["".join(f"{one:04x}" for one in row) for row in layer] for layer in layers[1:]
        ],
        "kappa": kappa.hex(),
        "sketch": sketch(states, kappa, spec, inner).hex(),
    }


def main() -> None:
    rng = random.Random(4)
    cases = []
    for count, delta, inner in (
        (8, "0.032", []),
        (16, "0.032", []),
        (8, "0.5", ["1", "0.25", "2"]),
    ):
        spec = {
            "coordinates": count,
            "delta": delta,
            "format": "lydite/residue-sketch/v1",
            "innerDeltas": inner,
        }
        cases += [case(rng, tokens, width, spec) for tokens, width in ((0, 8), (1, 24), (5, 40))]
    document = {"about": "residue sketches; states are bf16, four hexadecimal digits each"}
    VECTORS.parent.mkdir(parents=True, exist_ok=True)
    VECTORS.write_text(json.dumps({**document, "cases": cases}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
