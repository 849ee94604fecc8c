"""Keeps the states that a vLLM worker samples from until their answers are finished.

Filed by the position of the token that went in, so that chunked prefill, prefix caching and
pre-emption need no care: what a later pass computes for a position replaces what an earlier one
did. Nothing waits for the accelerator before somebody asks. Knows nothing of keys or of HTTP.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

LINGERING = 256
"""Finished answers whose states are kept at most for somebody who has yet to ask."""
_SUFFIX = 9
"""A dash and eight digits, which vLLM puts behind the id of a request."""


class _Row(NamedTuple):
    states: torch.Tensor
    at: int
    copied: Any
    """The event after which ``states`` is there; None if it is."""


class States:
    """Of the requests of one worker. Not for several threads."""

    def __init__(self) -> None:
        self._rows: defaultdict[str, dict[int, _Row]] = defaultdict(dict)
        self._finished: OrderedDict[str, None] = OrderedDict()

    def add(
        self, request_ids: Sequence[str], positions: Sequence[int], states: torch.Tensor
    ) -> None:
        """File one row of ``states``, shape (requests, width), for each request.

        ``positions`` are those of the tokens that went in last. The tensor must not change later.
        """
        host, copied = _to_host(states)
        for at, (name, position) in enumerate(zip(request_ids, positions, strict=True)):
            self._rows[name][position] = _Row(host, at, copied)

    def finished(self, request_ids: Iterable[str]) -> None:
        """Take note that no further states come; of those that nobody asks for, few are kept."""
        for name in request_ids:
            if name in self._rows:
                self._finished[name] = None
        while len(self._finished) > LINGERING:
            name, _ = self._finished.popitem(last=False)
            self._rows.pop(name, None)

    def take(self, name: str, prompt: int, output: int) -> NDArray[np.float32] | None:
        """Return the states behind ``output`` tokens after ``prompt`` tokens, and forget them.

        ``name`` is what the client's side calls the request. None if some are not there, or the
        name fits several requests: what is not known is not made up.
        """
        fitting = [each for each in self._rows if each == name or _is(each, name)]
        if len(fitting) != 1:
            return None
        rows = self._rows.pop(fitting[0])
        self._finished.pop(fitting[0], None)
        wanted = range(prompt - 1, prompt - 1 + output)
        if not output or any(position not in rows for position in wanted):
            return None
        return np.stack([_read(rows[position]) for position in wanted])


def _is(internal: str, name: str) -> bool:
    return len(internal) == len(name) + _SUFFIX and internal.startswith(f"{name}-")


def _to_host(states: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return a copy on the processor, begun but not awaited, and the event that ends it."""
    if states.device.type == "cpu":
        return states, None
    host = torch.empty(states.shape, dtype=states.dtype, pin_memory=True)
    host.copy_(states, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return host, copied


def _read(row: _Row) -> NDArray[np.float32]:
    if row.copied is not None:
        row.copied.synchronize()
    state: NDArray[np.float32] = row.states[row.at].float().numpy()
    return state
