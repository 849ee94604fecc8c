"""Whatever stands in a field of a message, what reads it raises only what callers foresee."""

import contextlib
import importlib
import pkgutil
import typing
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect as shapes

from lydite import messages
from lydite.appraisal import promises
from lydite.errors import FormatError, LyditeError
from lydite.messages import compact, opening, placement
from lydite.messages.compact import Compact
from lydite.messages.opening import Opening
from lydite.signing import dsse
from lydite.signing.dsse import Envelope, Signature
from lydite.signing.keys import Signer
from tests.messages.test_canonical import honest_receipt

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["é", "AA==", "AA=", "AAé=", "٣" * 64, "0" * 64 + "\n", "\x00", "e30=\n"]
)


def parsers() -> dict[str, tuple[Callable[[bytes], Any], type]]:
    """Every ``parse...`` of a message, and what it returns."""
    found = {}
    for module in pkgutil.iter_modules(messages.__path__):
        loaded = importlib.import_module(f"lydite.messages.{module.name}")
        for name, function in vars(loaded).items():
            if name.startswith("parse") and function.__module__ == loaded.__name__:
                kind = typing.get_type_hints(function)["return"]
                if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                    found[f"{module.name}.{name}"] = function, kind
    return found


def nested(shape: shapes.Type) -> st.SearchStrategy[Any]:
    """Values of a shape that holds others."""
    match shape:
        case shapes.StructType(fields=fields):
            return st.fixed_dictionaries({f.encode_name: any_of(f.type) for f in fields})
        case shapes.TupleType(item_types=items):
            return st.tuples(*map(any_of, items))
        case shapes.VarTupleType(item_type=item) | shapes.ListType(item_type=item):
            return st.lists(any_of(item), max_size=2)
        case shapes.UnionType(types=kinds):
            return st.one_of(*map(any_of, kinds))
        case shapes.DictType(value_type=value):
            return st.dictionaries(texts, any_of(value), max_size=2)
    return texts


def any_of(shape: shapes.Type) -> st.SearchStrategy[Any]:
    """Values of that shape, but for their texts and numbers, which are any."""
    match shape:
        case shapes.StrType(pattern=str(pattern)):
            return texts | st.from_regex(pattern)
        case shapes.LiteralType(values=values):
            return st.sampled_from(values)
        case shapes.EnumType(cls=cls):
            return st.sampled_from([each.value for each in cls])
        case shapes.IntType():
            return st.integers(-1, 2**54)
        case shapes.BoolType():
            return st.booleans()
        case shapes.NoneType():
            return st.none()
    return nested(shape)


@pytest.mark.parametrize("name", sorted(parsers()))
def test_a_parser_raises_what_its_callers_foresee(name: str) -> None:
    parse, kind = parsers()[name]

    @settings(max_examples=25, deadline=None)
    @given(any_of(shapes.type_info(kind)))
    def hold(value: Any) -> None:
        with contextlib.suppress(LyditeError):
            parse(msgspec.json.encode(value, order="sorted"))

    hold()


@given(texts, texts, texts, texts)
def test_an_opening_of_any_texts_is_refused_in_form(
    salt: str, path: str, request: str, response: str
) -> None:
    said = Opening(
        receipt_id="0" * 32, salt=salt, path=path, request=request, response=response, status=200
    )
    readers: tuple[Callable[[], object], ...] = (
        said.salt_bytes,
        said.path_bytes,
        said.request_bytes,
        said.response_bytes,
    )
    for read in readers:
        with contextlib.suppress(FormatError):
            read()
    with pytest.raises(LyditeError):
        opening.check(said, honest_receipt())


@pytest.mark.parametrize("field", ["salt", "path", "request", "response"])
def test_an_opening_that_is_not_ascii_is_not_in_form(field: str) -> None:
    good = opening.make("0" * 32, bytes(32), b"/v1", b"{}", b"{}", 200)  # type: ignore[arg-type]
    said = msgspec.structs.replace(good, **{field: "é"})
    with pytest.raises(FormatError):
        opening.check(said, honest_receipt())


@given(texts, texts, texts)
def test_an_envelope_of_any_texts_is_refused(payload: str, keyid: str, sig: str) -> None:
    envelope = Envelope(
        payload=payload,
        payload_type=dsse.PAYLOAD_TYPE,
        signatures=(Signature(keyid=keyid, sig=sig),),
    )
    with contextlib.suppress(FormatError):
        dsse.payload_of(envelope)
    key = Signer(b"k" * 32).public
    with pytest.raises(LyditeError):
        dsse.open_envelope(msgspec.json.encode(envelope), {dsse.KeyId(keyid): key}, [])


@given(texts, st.binary(max_size=40))
def test_a_receipt_header_of_any_text_is_refused(text: str, raw: bytes) -> None:
    for value in (text.encode(), raw):
        with pytest.raises(FormatError):
            placement.from_header(value)


@given(texts)
def test_a_promise_with_any_signature_is_refused(text: str) -> None:
    zeros = "0" * 64
    told = Compact(
        entry=1,
        id="0" * 32,
        outcome="complete",
        request=zeros,
        response=zeros,
        salt=zeros,
        signature=text,
        statement=zeros,
        status=200,
    )
    with pytest.raises(LyditeError):
        promises.verify_promise(told, [Signer(b"k" * 32).public])
    with pytest.raises(LyditeError):
        compact.check(told, b"/", b"", b"")
