"""Sketches of the activations of every answer that a server gives, put into the answer itself.

The provider's side: it names the weights that it declares and the spec, and sketches always, never
on drawn requests alone, since nobody knows yet which those are. Knows nothing of HTTP.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.protocol import Piece
from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.evidence.activations import attester, claims
from lydite.evidence.activations import reference as references
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.spec import Spec
from lydite.messages.canonical import Hex32

Field = dict[str, str]
"""What stands in the answer under ``claims.FIELD``."""


class Sketcher(msgspec.Struct, frozen=True, kw_only=True):
    """How one server sketches."""

    spec: Spec
    weights_root: Hex32
    """Of the declared weights, which whoever checks has to name as well."""

    def field(
        self,
        receipt_id: str,
        prompt_ids: Sequence[int],
        output_ids: Sequence[int],
        states: NDArray[np.float32],
        inner: NDArray[np.float32] | None = None,
    ) -> Field:
        """Return the field of one finished answer, from the states of its output tokens.

        Raises:
            FormatError: the states do not fit, or the receipt's id is none.
        """
        key = specs.key(
            self.spec,
            receipt_id=receipt_id,
            weights_root=self.weights_root,
            prompt_ids=prompt_ids,
            output_ids=output_ids,
        )
        return claims.field(self.spec, key, attester.sketch(states, key, self.spec, inner))


class Sketched:
    """One answer on its way, and what it takes to sketch it at its end."""

    def __init__(self, sketcher: Sketcher, receipt_id: str, prompt_ids: Sequence[int]) -> None:
        self._sketcher = sketcher
        self._receipt_id = receipt_id
        self._prompt_ids = tuple(prompt_ids)
        self._output_ids: list[int] = []
        self._states: list[NDArray[np.float32]] = []
        self._inner: list[NDArray[np.float32]] = []

    def add(self, piece: Piece) -> Field | None:
        """Take note of a piece; return the field if it is the last one.

        Raises:
            UnavailableError: the engine does not show its states.
            FormatError: they cannot be sketched.
        """
        if piece.token_ids:
            if piece.states is None:
                raise UnavailableError("the engine does not show states", Reason.UPSTREAM_FAILED)
            self._output_ids += piece.token_ids
            self._states.append(piece.states)
            if piece.inner is not None:
                self._inner.append(piece.inner)
        if piece.finish_reason is None:
            return None
        return self._sketcher.field(
            self._receipt_id,
            self._prompt_ids,
            self._output_ids,
            np.concatenate(self._states) if self._states else np.zeros((0, 1), np.float32),
            np.concatenate(self._inner, axis=1) if self._inner else self._no_inner(),
        )

    def _no_inner(self) -> NDArray[np.float32] | None:
        return None if self._states else np.zeros((specs.INNER_DEPTHS, 0, 1), np.float32)


def load(
    *,
    measured: Hex32,
    bytes_per_token: int | None = None,
    delta: str | None = None,
    reference: Path | None = None,
) -> Sketcher | None:
    """Return how to sketch, None for not at all.

    From a Reference Value: its spec and its weights. Else ``bytes_per_token`` with the step
    ``delta``, for the ``measured`` weights. The second tap comes with a Reference Value only.

    Raises:
        ConfigurationError: the options do not make one spec, or the file holds none.
    """
    if bytes_per_token == 0:
        return None
    if reference is not None:
        known = _read(reference)
        first = known.spec.coordinates // 4
        if bytes_per_token not in (None, first):
            raise ConfigurationError(f"{reference} is for sketches of {first} bytes a token")
        return Sketcher(spec=known.spec, weights_root=known.weights_root)
    if bytes_per_token is None:
        return None
    if delta is None:
        raise ConfigurationError("a sketch needs a Reference Value, or a step of its own")
    spec = {"coordinates": 4 * bytes_per_token, "delta": delta}
    try:
        return Sketcher(spec=msgspec.convert(spec, Spec), weights_root=measured)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"sketch: {error}") from error


def _read(path: Path) -> references.Reference:
    try:
        return references.parse(path.read_bytes().strip())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except FormatError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def put(choice: dict[str, Any], field: Field | None) -> dict[str, Any]:
    """Return a choice with the field in it, if there is one."""
    return choice if field is None else {**choice, claims.FIELD: field}
