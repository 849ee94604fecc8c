"""Whether an answer's bytes are its text: in no content coding, and in no charset but UTF-8.

A commitment covers the bytes of a body. What HTTP libraries make of them goes by fields of the
head, which nothing commits to, so only heads that leave the bytes as they are pass. Knows nothing
of what the bytes say.
"""

import re

from lydite.errors import FormatError, Reason

_UTF8 = re.compile(r';\s*charset\s*=\s*("?)utf-?8\1\s*(?=;|\Z)', re.IGNORECASE)


def check(encodings: str, content_type: str) -> None:
    """Check the fields of a head by which readers decode its body.

    Args:
        encodings: the values of Content-Encoding, commas between them; empty if there is none.
        content_type: the value of Content-Type; empty if there is none.

    Raises:
        FormatError: some readers would decode the body to other bytes, or other text, than others.

    **Does not show** that the body is UTF-8.
    """
    codings = {coding.strip().lower() for coding in encodings.split(",")}
    if not codings <= {"", "identity"}:
        raise FormatError(f"an answer in a content coding, {encodings!r}", Reason.ODD_ANSWER)
    if "charset" in _UTF8.sub("", content_type, count=1).lower():
        raise FormatError(
            f"an answer in another charset than UTF-8, {content_type!r}", Reason.ODD_ANSWER
        )
