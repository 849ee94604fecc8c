"""Writes OpenAI-style answers, with the token ids that vLLM's extension puts beside the text.

Knows nothing of engines or connections: dictionaries out, ready to be encoded.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from lydite.engines import sketching
from lydite.engines.openai_requests import Request
from lydite.engines.protocol import Codec, Piece, TokenLogprobs
from lydite.engines.sketching import Field


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every part of one answer has in common."""

    request: Request
    identity: str
    created: int
    """Seconds since 1970."""
    model: str
    codec: Codec

    def whole(self, pieces: Sequence[Piece], field: Field | None = None) -> dict[str, Any]:
        """Return the body of an answer that does not stream; ``field`` is that of its sketch."""
        chat = self.request.chat
        text = "".join(piece.text for piece in pieces)
        tokens = [token for piece in pieces for token in piece.token_ids]
        logprobs = [one for piece in pieces for one in piece.logprobs]
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice = {
            "index": 0,
            **said,
            "logprobs": self._logprobs(logprobs, 0),
            "finish_reason": pieces[-1].finish_reason,
            "token_ids": tokens,
        }
        return {
            **self._frame("chat.completion" if chat else "text_completion"),
            "choices": [sketching.put(choice, field)],
            "usage": self._usage(len(tokens)),
            "prompt_token_ids": self.request.prompt_ids,
        }

    def opening(self) -> dict[str, Any]:
        """Return the first chunk of a stream: no text yet, but the prompt's token ids."""
        chunk = self.chunk(Piece(text="", token_ids=()), 0)
        if self.request.chat:
            chunk["choices"][0]["delta"]["role"] = "assistant"
        chunk["prompt_token_ids"] = self.request.prompt_ids
        return chunk

    def chunk(self, piece: Piece, offset: int, field: Field | None = None) -> dict[str, Any]:
        """Return the chunk that carries ``piece``, whose text starts ``offset`` characters in.

        ``field`` is that of the sketch, which comes with the last piece.
        """
        chat = self.request.chat
        said = {"delta": {"content": piece.text}} if chat else {"text": piece.text}
        choice = {
            "index": 0,
            **said,
            "logprobs": self._logprobs(piece.logprobs, offset) if piece.token_ids else None,
            "finish_reason": piece.finish_reason,
            "token_ids": piece.token_ids,
        }
        frame = self._frame("chat.completion.chunk" if chat else "text_completion")
        return {**frame, "choices": [sketching.put(choice, field)]}

    def closing(self, tokens: int) -> dict[str, Any]:
        """Return the chunk that counts the ``tokens`` of a stream."""
        frame = self._frame("chat.completion.chunk" if self.request.chat else "text_completion")
        return {**frame, "choices": [], "usage": self._usage(tokens)}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.identity,
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = len(self.request.prompt_ids)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        }

    def _logprobs(self, logprobs: Sequence[TokenLogprobs], offset: int) -> dict[str, Any] | None:
        if self.request.top_logprobs is None:
            return None
        return self._chat_logprobs(logprobs) if self.request.chat else self._lists(logprobs, offset)

    def _chat_logprobs(self, logprobs: Sequence[TokenLogprobs]) -> dict[str, Any]:
        content = [
            {
                **self._named(one.token, one.logprob),
                "top_logprobs": [self._named(token, value) for token, value in one.top],
            }
            for one in logprobs
        ]
        return {"content": content, "refusal": None}

    def _lists(self, logprobs: Sequence[TokenLogprobs], offset: int) -> dict[str, Any]:
        """Return the four parallel lists of the older interface."""
        names = [self._name(one.token) for one in logprobs]
        offsets = [offset + sum(map(len, names[:index])) for index in range(len(names))]
        return {
            "tokens": names,
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [
                {self._name(token): value for token, value in one.top} for one in logprobs
            ],
            "text_offset": offsets,
        }

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self.codec.token_bytes(token)
        return {
            "token": raw.decode(errors="replace"),
            "logprob": logprob,
            "bytes": list(raw),
        }

    def _name(self, token: int) -> str:
        return self.codec.token_bytes(token).decode(errors="replace")


def refusal(message: str, code: str | None, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def models(name: str, created: int, context_length: int) -> dict[str, Any]:
    """Return the list of the one model that is served."""
    entry = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "lydite",
        "max_model_len": context_length,
    }
    return {"object": "list", "data": [entry]}
