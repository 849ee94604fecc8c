"""A server that reads seeds from bodies gets the gateway's, and nobody else notices."""

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lydite.engines.seeding import LIMIT_BYTES, Seeded, seeded


async def echo(request: Request) -> Response:
    return Response(await request.body())


APP = Seeded(Starlette(routes=[Route("/v1/completions", echo, methods=["POST"])]))


def served(parts: list[bytes], headers: dict[bytes, bytes]) -> bytes:
    """What a server behind the middleware reads of a body that comes in parts."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "headers": [(b"content-length", str(sum(map(len, parts))).encode()), *headers.items()],
        "query_string": b"",
    }
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    left[-1]["more_body"] = False
    said = bytearray()

    async def receive() -> Any:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.extend(message.get("body", b""))

    asyncio.run(APP(scope, receive, send))
    return bytes(said)


@pytest.mark.parametrize("parts", [[b'{"prompt": "hi"}'], [b'{"prom', b"", b'pt": "hi"}']])
def test_the_seed_of_the_header_is_in_the_body(parts: list[bytes]) -> None:
    assert json.loads(served(parts, {b"x-lydite-seed": b"77"})) == {"prompt": "hi", "seed": 77}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"prompt": "hi"}', {}),
        (b'{"prompt": "hi"}', {b"x-lydite-seed": b"-1"}),
        (b'{"prompt": "hi"}', {b"x-lydite-seed": b"seven"}),
        (b'{"prompt": "hi", "seed": 3}', {b"x-lydite-seed": b"77"}),
        (b"[1]", {b"x-lydite-seed": b"77"}),
        (b"no json", {b"x-lydite-seed": b"77"}),
        (b"[" * 100_000, {b"x-lydite-seed": b"77"}),
    ],
)
def test_every_other_request_goes_through_as_it_came(
    body: bytes, headers: dict[bytes, bytes]
) -> None:
    assert served([body], headers) == body


def test_a_body_that_is_too_long_to_read_is_not_held() -> None:
    assert LIMIT_BYTES >= 1 << 20
    assert served([b'{"prompt": "hi"}'], {b"content-length": b"%d" % (LIMIT_BYTES + 1)}) != b""


def test_a_null_seed_is_none() -> None:
    assert json.loads(seeded(b'{"seed": null}', 5)) == {"seed": 5}
