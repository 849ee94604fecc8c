"""In-toto Statement v1: the common frame of everything that is signed here.

Each predicate has its own module; this one knows none of them.
"""

from lydite.messages.canonical import Hex32, Message, Word

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Sha256(Message, frozen=True, kw_only=True):
    """A digest set with the one algorithm that we write."""

    sha256: Hex32


class Subject(Message, frozen=True, kw_only=True):
    """What a statement is about, by digest."""

    name: Word
    digest: Sha256


def subject(name: str, digest: bytes) -> tuple[Subject]:
    """Return the single subject of one of our statements."""
    return (Subject(name=name, digest=Sha256(sha256=digest.hex())),)
