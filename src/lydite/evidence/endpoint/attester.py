"""What an honest endpoint reports of the tokens that it draws: log-probabilities, rounded.

For the laboratory and tests. Holds no state, and knows nothing of HTTP.
"""

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.endpoint.claims import Reported


def bf16(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return ``values`` rounded to bfloat16, half to even, as float32."""
    words = values.astype(np.float32).view(np.uint32)
    rounded = words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def reported(logits: NDArray[np.floating], token: int, top: int, decimals: int) -> Reported:
    """Return what is said of ``token``, drawn from ``logits`` of shape (vocabulary,), in nats.

    The ``top`` likeliest tokens are named by their ids.
    """
    values = logits.astype(np.float64)
    highest = values.max()
    logs = values - highest - np.log(np.exp(values - highest).sum())
    best = np.argsort(-logs, kind="stable")[:top]
    return Reported(
        token=str(token),
        raw=None,
        logprob=round(float(logs[token]), decimals),
        top=tuple((str(int(i)), round(float(logs[i]), decimals)) for i in best),
    )
