"""Holds a gateway to every receipt in the journal that a verified client kept."""

import http
import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from lydite.appraisal import promises
from lydite.appraisal.report import Report
from lydite.appraisal.trust import Trust
from lydite.cli.files import read
from lydite.errors import UnavailableError

_LIMIT_BYTES = 1 << 20
_TIMEOUT_S = 10.0


def settle(journal: Path, trust: Trust, deadline_s: float) -> Report:
    """Fetch the statement of each receipt, check it, and sum up.

    Raises:
        FormatError, VerificationError: a line of the journal, or what a gateway serves, fails.
        UnavailableError: a gateway cannot be reached.
    """
    found = [
        promises.settle(
            kept,
            _served(f"{kept.url}/v1/receipts/{kept.compact.id}"),
            trust,
            now_ms=int(time.time() * 1000),
            deadline_ms=int(deadline_s * 1000),
        )
        for kept in promises.parse_journal(read(journal))
    ]
    return promises.summed(found)


def _served(url: str) -> bytes | None:
    """Return what a gateway serves, ``None`` where it says that there is nothing."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read(_LIMIT_BYTES))
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.NOT_FOUND:
            return None
        raise UnavailableError(f"{url}: HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"{url} cannot be reached: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"{url}: {error}") from error
