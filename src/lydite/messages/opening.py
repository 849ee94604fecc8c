"""The opening of one receipt: the bytes that its commitments cover, for client and auditor only.

Never in the log and never in a bundle.
"""

import base64
import hmac

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages.canonical import Count, Message, Word, decode
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.receipt import Receipt, ReceiptId


class Opening(Message, frozen=True, kw_only=True):
    """Salt, request and answer in standard base64; ``path`` is the request target."""

    receipt_id: ReceiptId
    salt: Word
    path: Word
    request: str
    response: str
    status: Count

    def salt_bytes(self) -> Salt:
        """Return the 32-byte salt."""
        return Salt(_unbase64(self.salt))

    def path_bytes(self) -> bytes:
        """Return the request target; it is ASCII on the wire."""
        try:
            return self.path.encode("ascii")
        except UnicodeEncodeError as error:
            raise FormatError(f"opening: the path is not ASCII: {error}") from error

    def request_bytes(self) -> bytes:
        """Return the exact request body."""
        return _unbase64(self.request)

    def response_bytes(self) -> bytes:
        """Return the exact answer body, as delivered, less the gateway's comment line."""
        return _unbase64(self.response)


def make(
    receipt_id: str, salt: Salt, path: bytes, request: bytes, response: bytes, status: int
) -> Opening:
    """Return the opening of one exchange."""
    return Opening(
        receipt_id=receipt_id,
        salt=base64.b64encode(salt).decode(),
        path=path.decode("ascii"),
        request=base64.b64encode(request).decode(),
        response=base64.b64encode(response).decode(),
        status=status,
    )


def parse(payload: bytes) -> Opening:
    """Parse an opening, at most 256 MiB, in its one spelling."""
    return decode(payload, Opening, limit=1 << 28)


def check(opening: Opening, receipt: Receipt) -> None:
    """Hold an opening against the receipt that commits to it.

    Raises:
        FormatError: what should be base64, a salt or a path is none.
        VerificationError: the opened bytes are not the committed ones.
    """
    salt = opening.salt_bytes()
    asked = commit_request(salt, opening.path_bytes(), opening.request_bytes())
    answered = commit_response(salt, opening.response_bytes())
    same = (
        hmac.compare_digest(asked.hex(), receipt.predicate.request.commitment)
        and hmac.compare_digest(answered.hex(), receipt.subject[0].digest.sha256)
        and opening.status == receipt.predicate.response.status
        and opening.receipt_id == receipt.predicate.receipt_id
    )
    if not same:
        raise VerificationError(
            Reason.BAD_COMMITMENT, f"opening of {opening.receipt_id} is not what was committed"
        )


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        raise FormatError(f"opening: not base64: {error}") from error
    if base64.b64encode(raw).decode() != text:
        raise FormatError("opening: base64 in another spelling", Reason.NOT_CANONICAL)
    return raw
