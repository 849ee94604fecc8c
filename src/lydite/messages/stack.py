"""A numeric stack: all that decides in which digits two honest machines differ.

In passports, which are measured on one; in Reference Values, which say which ones they cover; in
declarations, as far as a provider says what it runs. Knows nothing of models.
"""

from lydite.messages.canonical import Message, Word


class Stack(Message, frozen=True, kw_only=True):
    """One way to run a model. Words, compared letter by letter."""

    engine: Word
    """As in a declaration: ``lydite transformers``, ``vllm``."""
    version: Word
    dtype: Word
    """Of weights and arithmetic: ``bfloat16``."""
    cache_dtype: Word
    kernels: Word
    """The path through the attention kernels: ``sdpa``, ``eager``, ``flash-attn-3``."""
    architecture: Word
    """``x86_64``, ``sm_90``."""
    parallelism: Word
    """``1 thread``, ``tp 4``."""
    batch: Word
    """The class of batches: ``batch 16``."""
    shape: Word
    """``decode`` or ``prefill``."""
    decoding: Word
    """How tokens are chosen one after the other: ``sequential``, ``speculative ngram 4``."""
    sampler: Word
    """The noise adapter: ``lydite/v1``, ``none``."""
