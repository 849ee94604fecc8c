"""The admin protocol over HTTP, for the control port: instructions in, signed outcomes out.

Nobody logs in: an instruction carries its signatures.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lydite.errors import FormatError, LyditeError, Reason
from lydite.gateway.heads import fault_body
from lydite.gateway.office.admin import Admin
from lydite.gateway.plane.answers import status_of

_LIMIT_BYTES = 1 << 19
_JSON = "application/json"


def routes(admin: Admin) -> list[Route]:
    """Return ``POST /v1/admin/instructions`` and ``GET /v1/admin/authority``."""

    async def submit(request: Request) -> Response:
        try:
            answer = await admin.submit(await _body(request))
        except LyditeError as error:
            status = status_of(error)
            return Response(fault_body(str(error), error.reason, status), status, media_type=_JSON)
        headers = {"x-lydite-entry": str(answer.entry)}
        return Response(answer.envelope, 200, headers, media_type=_JSON)

    async def authority(_: Request) -> Response:
        return Response(msgspec.json.encode(admin.authority), media_type=_JSON)

    return [
        Route("/v1/admin/instructions", submit, methods=["POST"]),
        Route("/v1/admin/authority", authority, methods=["GET"]),
    ]


async def _body(request: Request) -> bytes:
    """Return the body within its bound.

    Raises:
        FormatError: it is longer.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LIMIT_BYTES:
            raise FormatError("an instruction of more than 512 KiB", Reason.TOO_LARGE)
    return body
