"""What an honest provider runs to choose each token: the filters of the request, then the noise.

Only the maker of tokens imports this; whoever checks them has an account of its own. Holds no
state: equal logits, sampling, seed and position give the same token on any machine.
"""

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.tokens.noise.murmur import gumbel_of
from lydite.evidence.tokens.sampling import Sampling


def sample(logits: NDArray[np.floating], sampling: Sampling, seed: int, position: int) -> int:
    """Return the id of the token that ``sampling`` draws from ``logits``, shape (vocabulary,).

    ``position`` is the index of the last input token, so the first output token uses prompt
    length - 1.

    Raises:
        FormatError: the logits are not a non-empty vector of finite numbers.
    """
    values = logits.astype(np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise FormatError(f"logits of shape {values.shape} are not one vector of finite numbers")
    if sampling.temperature == 0.0:
        return int(values.argmax())  # numpy takes the lowest id among equals
    scaled = values / sampling.temperature
    kept = support(scaled, sampling)
    return int(kept[(scaled[kept] + gumbel_of(seed, position, kept)).argmax()])


def support(scaled: NDArray[np.float64], sampling: Sampling) -> NDArray[np.int64]:
    """Return the ids of the tokens that the filters leave of ``scaled`` = logits / temperature."""
    limited = 0 < sampling.top_k < scaled.size
    if not limited and sampling.top_p >= 1.0:
        return np.arange(scaled.size)
    ranked = np.argsort(-scaled, kind="stable")
    if limited:
        ranked = ranked[: sampling.top_k]
    if sampling.top_p < 1.0:
        weights = np.exp(scaled[ranked] - scaled[ranked[0]])
        mass = np.cumsum(weights) / weights.sum()
        ranked = ranked[: int(np.searchsorted(mass, sampling.top_p)) + 1]
    return ranked
