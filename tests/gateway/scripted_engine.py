"""An engine whose answer is written in the request: the exact bytes, how they are cut, how it ends.

The body of a request is ``{"raw": base64, "cuts": [offset, ...], "end": ...}``, where ``end`` is
"keep", "close" or "reset"; so many "spaces" follow the bytes. Runs in a loop, or by itself:
``python scripted_engine.py`` prints its port.
"""

import asyncio
import base64
import json
import socket
import struct
import sys
import time
from itertools import pairwise
from typing import Any

RESET = struct.pack("ii", 1, 0)


class Seen:
    """One request as the engine saw it, and what became of its connection."""

    def __init__(self, connection: int, head: bytes, body: bytes) -> None:
        self.connection = connection
        self.head = head
        self.body = body
        self.closed_at: float | None = None


class ScriptedEngine:
    """Answers every request as the request says, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self.serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        serving = list(self.serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = writer
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._answer(number, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self.serving[task]
            if task.cancelling():
                writer.transport.abort()
            else:
                writer.close()

    async def _answer(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ),
            0,
        )
        body = await reader.readexactly(length)
        seen = Seen(number, head, body)
        self.seen.append(seen)
        script = parse(head, body)
        watch = asyncio.ensure_future(self._watch(reader, seen))
        try:
            await play(script, writer)
            if script.get("hang"):
                await watch
            return script["end"] == "keep" and not watch.done()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, reader: asyncio.StreamReader, seen: Seen) -> None:
        """Note when the other side closes while an answer is under way."""
        while not reader.at_eof():
            await asyncio.sleep(0.002)
        seen.closed_at = time.monotonic()


def parse(head: bytes, body: bytes) -> dict[str, Any]:
    """Return the script in a request; one without gets an empty list of models."""
    if head.startswith(b"GET /v1/models/"):
        name = head.split(b" ")[1].removeprefix(b"/v1/models/")
        return script(plain(b'{"id":"%s","object":"model","created":1,"owned_by":"us"}' % name))
    if head.startswith(b"GET"):
        return script(plain(b'{"object":"list","data":[{"id":"small","object":"model"}]}'))
    found = json.loads(body)
    if "raw" not in found:
        found = script(chat_stream()) if found.get("stream") else script(plain(chat()))
    return dict(found)


async def play(script: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    raw = base64.b64decode(script["raw"]) + b" " * script.get("spaces", 0)
    bounds = [0, *script.get("cuts", ()), len(raw)]
    for start, end in pairwise(bounds):
        writer.write(raw[start:end])
        await writer.drain()
        await asyncio.sleep(script.get("pause_s", 0))
    if script["end"] == "reset":
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


def script(
    raw: bytes, cuts: list[int] | None = None, end: str = "keep", **more: Any
) -> dict[str, Any]:
    return {"raw": base64.b64encode(raw).decode(), "cuts": cuts or [], "end": end, **more}


def plain(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def chunked(pieces: list[bytes], kind: bytes = b"text/event-stream; charset=utf-8") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n" % kind
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def chat(text: str = "Hallo, Wörld \U0001f30d") -> bytes:
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "small",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            "vendor": {"unknown": [1.0, 1e16]},
        }
    ).encode()


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def events() -> list[bytes]:
    words = ("Hal", "lo, ", "[DONE]", " data: [DONE]\n\n", ": lydite-receipt {}", "\U0001f30d")
    return [
        event({"role": "assistant", "content": ""}),
        *(event({"content": word}) for word in words),
        event({}, "stop"),
        b"data: [DONE]\n\n",
    ]


def chat_stream() -> bytes:
    return chunked(events())


async def main() -> None:
    engine = ScriptedEngine()
    await engine.start()
    sys.stdout.write(json.dumps({"port": engine.port}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
