"""A model directory's tokenizer and chat template, without the model.

Provider and auditor render prompts with this same room, so a template that a provider changes
shows as other prompt ids. Knows nothing of weights or sampling.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from lydite.engines.weights import files_of
from lydite.errors import ConfigurationError, FormatError

_UNLIMITED = 1 << 40
"""Tokens; how much a model can take is for its engine to say."""


class DirectoryCodec:
    """The tokenizer of one local Hugging Face model directory."""

    def __init__(self, directory: Path) -> None:
        """Load the tokenizer of ``directory``; nothing is ever downloaded.

        Raises:
            ConfigurationError: there is no such directory, no tokenizer in it, or more in it than
                a root binds.
        """
        files_of(directory)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, model_max_length=_UNLIMITED
            )
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no tokenizer in {directory}: {error}") from error
        self._byte_of = _byte_alphabet()
        self._specials = frozenset(self._tokenizer.all_special_ids)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a plain prompt, with whatever the tokenizer puts before it."""
        return list(self._tokenizer.encode(text))

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the ids of a conversation, up to where the assistant's answer begins.

        Raises:
            FormatError: the chat template refuses the messages.
        """
        try:
            ids = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise FormatError(f"messages: the chat template refuses them: {error}") from error
        return list(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for, possibly a part of a character."""
        piece = self._tokenizer.convert_ids_to_tokens(token) or ""
        if token not in self._specials and all(c in self._byte_of for c in piece):
            return bytes(self._byte_of[c] for c in piece)
        return str(self._tokenizer.decode([token])).encode()

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids that end an answer as far as the tokenizer knows."""
        end = self._tokenizer.eos_token_id
        return frozenset() if end is None else frozenset({int(end)})


def _byte_alphabet() -> dict[str, int]:
    """Return GPT-2's byte-level alphabet: which printable character stands for which byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    alphabet = {chr(byte): byte for byte in plain}
    alphabet.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    return alphabet
