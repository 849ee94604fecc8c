"""A proxy between gateway and engine that does one bad thing at one byte of the answer.

``truncate`` closes there, ``reset`` resets there, ``stall`` says nothing more, ``delay`` waits and
goes on, ``garbage`` puts bytes of its own there, ``trickle`` sends what follows one byte at a time.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Literal

Fault = Literal["truncate", "reset", "stall", "delay", "garbage", "trickle", "none"]
FAULTS: tuple[Fault, ...] = ("truncate", "reset", "stall", "delay", "garbage", "trickle")
GARBAGE = b"\x00\xff\r\n\r\n: "


class FaultProxy:
    """One port before one engine; ``fault`` and ``at`` hold for the connections that come next."""

    def __init__(self, engine_port: int) -> None:
        self._engine_port = engine_port
        self.fault: Fault = "none"
        self.at = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        upstream, back = await asyncio.open_connection("127.0.0.1", self._engine_port)
        there = asyncio.ensure_future(self._copy(reader, back))
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._spoil(upstream, writer)
        there.cancel()
        for each in (writer, back):
            with contextlib.suppress(ConnectionError):
                each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
            writer.close()

    async def _spoil(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = 0
        while data := await upstream.read(1 << 16):
            if self.fault == "none" or sent + len(data) <= self.at or sent > self.at:
                writer.write(data)
                sent += len(data)
                continue
            before, after = data[: self.at - sent], data[self.at - sent :]
            writer.write(before)
            await writer.drain()
            if not await self._strike(writer, after):
                return
            sent += len(data) + 1

    async def _strike(self, writer: asyncio.StreamWriter, after: bytes) -> bool:
        """Do the bad thing; say whether the connection goes on."""
        if self.fault == "stall":
            await asyncio.Event().wait()
        if self.fault in ("truncate", "reset"):
            await asyncio.sleep(0.002)
            if self.fault == "reset":
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            return False
        if self.fault == "garbage":
            writer.write(GARBAGE)
        if self.fault == "delay":
            await asyncio.sleep(0.05)
        step = 1 if self.fault == "trickle" else max(1, len(after))
        for start in range(0, len(after), step):
            writer.write(after[start : start + step])
            await asyncio.sleep(0)
        return True
