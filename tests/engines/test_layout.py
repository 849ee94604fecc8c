"""A model is cut between tensors, and every byte of it is in exactly one piece."""

import json
import os
import struct
from itertools import accumulate
from pathlib import Path

import pytest
from answering import MODELS, SMALL
from hypothesis import given
from hypothesis import strategies as st

from lydite.engines import layout as layouts
from lydite.engines.layout import LEAST_BYTES, MOST_BYTES, Laid, Layout, Piece, cuts, lay_out
from lydite.engines.weights import File, check_root, files_of, measure, root_of
from lydite.errors import ConfigurationError, FormatError

blake3 = pytest.importorskip("blake3", reason="lydite[upload] is not installed").blake3


def header(sizes: list[int]) -> bytes:
    ends = list(accumulate(sizes, initial=0))
    tensors = {
        str(n): {"dtype": "U8", "shape": [sizes[n]], "data_offsets": [ends[n], ends[n + 1]]}
        for n in range(len(sizes))
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    return struct.pack("<Q", len(text)) + text


@given(st.lists(st.integers(0, 3 * MOST_BYTES), max_size=12), st.integers(0, 5))
def test_pieces_cover_a_file_and_end_with_tensors(sizes: list[int], tail: int) -> None:
    head = header(sizes)
    size = len(head) + sum(sizes) + tail
    pieces = list(cuts(head, size))
    assert sum(pieces) == size
    assert all(0 < piece <= MOST_BYTES for piece in pieces)
    ends = {size, *accumulate([len(head), *sizes])}
    start = 0
    for piece in pieces:
        start += piece
        if piece < MOST_BYTES:
            assert start in ends, "a piece ends with a tensor, unless it is as long as may be"
        if start != size:
            assert piece >= LEAST_BYTES, "small tensors share a piece"


@given(st.binary(max_size=40), st.integers(0, 3 * MOST_BYTES))
def test_what_is_no_safetensors_file_is_cut_all_the_same(head: bytes, more: int) -> None:
    size = len(head) + more
    assert sum(cuts(head, size)) == size


@pytest.mark.parametrize("name", ["lydite-small", "lydite-base"])
def test_a_layout_is_what_the_obvious_way_makes(name: str) -> None:
    layout = lay_out(MODELS / name)
    assert [file.name for file in layout.files] == [path.name for path in files_of(MODELS / name)]
    for laid in layout.files:
        data, start = (MODELS / name / laid.name).read_bytes(), 0
        for piece in laid.pieces:
            assert blake3(data[start : start + piece.size]).hexdigest() == piece.blake3
            start += piece.size
        assert start == len(data)
    assert layouts.parse(layouts.write(layout)) == layout


def test_a_header_that_lies_costs_nothing(tmp_path: Path) -> None:
    for raw in (
        b"",
        b"short",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 9) + b'{"a": 1}\n',
        header([1 << 40]),
    ):
        (tmp_path / "model.safetensors").write_bytes(raw)
        (laid,) = lay_out(tmp_path).files
        assert laid.size == len(raw)


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")], ids=["another order", "one name twice"])
def test_a_layout_has_its_files_in_order(names: tuple[str, str]) -> None:
    piece = Piece(size=1, blake3="00" * 32)
    made = Layout(files=tuple(Laid(name=name, pieces=(piece,)) for name in names))
    with pytest.raises(FormatError):
        layouts.parse(layouts.write(made))


@pytest.mark.parametrize("size", [0, MOST_BYTES + 1])
def test_a_piece_has_its_bounds(size: int) -> None:
    made = Layout(files=(Laid(name="a", pieces=(Piece(size=size, blake3="00" * 32),)),))
    with pytest.raises(FormatError):
        layouts.parse(layouts.write(made))


# The second algorithm of weights roots


def test_both_roots_name_the_same_model_and_are_never_the_same() -> None:
    sha256, fast = measure(SMALL), measure(SMALL, "blake3")
    assert sha256.root != fast.root
    assert [file.name for file in sha256.files] == [file.name for file in fast.files]
    for file in fast.files:
        assert file.digest == blake3((SMALL / file.name).read_bytes()).digest()
    check_root(SMALL, sha256.root)
    check_root(SMALL, fast.root)
    with pytest.raises(ConfigurationError):
        check_root(SMALL, "00" * 32)


def test_a_digest_cannot_pass_as_one_of_the_other_algorithm() -> None:
    digest = "ab" * 32
    one = root_of([File(name="a", sha256=digest, size=1)])
    other = root_of([File(name="a", blake3=digest, size=1)])
    assert one != other
    with pytest.raises(FormatError):
        root_of([File(name="a", sha256=digest, size=1), File(name="b", blake3=digest, size=1)])
    for wrong in (File(name="a", size=1), File(name="a", sha256=digest, blake3=digest, size=1)):
        with pytest.raises(FormatError):
            root_of([wrong])


@pytest.mark.parametrize(
    "head",
    [
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"\xff":{"data_offsets":[0,1]}}',
        b'{"a":{"data_offsets":[0,99999999999999999999999]}}',
        b"[]",
    ],
)
def test_a_header_that_is_none_cuts_nowhere(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"x" * 100)
    (laid,) = lay_out(tmp_path).files
    assert [piece.size for piece in laid.pieces] == [8 + len(head) + 100]


def test_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xff.bin")).write_bytes(b"x")
    for read in (lay_out, measure):
        with pytest.raises(ConfigurationError, match="not everybody can read"):
            read(tmp_path)
