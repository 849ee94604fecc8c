"""Where clients come in over TLS: each has its place before a byte of its handshake is read.

A server of the event loop counts nobody until a handshake is over, so that who never ends one could
hold as many connections as there are descriptors. Knows nothing of certificates or requests.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from lydite.gateway.plane.client import ClientConnection, of_peer

_AT_ONCE = 64
"""Accepted in one turn of the loop, so that others have theirs."""
_REST_S = 0.2
_logger = logging.getLogger(__name__)


class Door:
    """Accepts on one socket, which is bound and now belongs to this."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        receive: Callable[[], ClientConnection],
        context: ssl.SSLContext,
        patience_s: float,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._receive = receive
        self._context = context
        self._patience_s = patience_s
        self._handshakes: set[asyncio.Task[None]] = set()

    def open(self, backlog: int) -> None:
        """Begin to listen."""
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more; handshakes that run go on."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors, no memory: the next may find some
                _logger.warning("no connection can be accepted: %s", error)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_REST_S, self._go_on)
                return
            self._seat(connection, of_peer(peer))

    def _go_on(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _seat(self, connection: socket.socket, peer: str) -> None:
        client = self._receive()
        if not client.expect(peer):
            connection.close()
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._secure(connection, client))
        client.give_up = task.cancel
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _secure(self, connection: socket.socket, client: ClientConnection) -> None:
        secured = False
        try:
            await self._loop.connect_accepted_socket(
                lambda: client,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._patience_s,
            )
            secured = True
        except OSError as error:  # TLS's own errors and timeouts are of this kind
            _logger.debug("a handshake failed: %s", error)
        finally:
            if not secured:  # else the loop tells of the end
                client.connection_lost()
