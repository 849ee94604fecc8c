"""Connections that end at a deadline, whatever the other side does. Knows nothing of what is said.

The other side may be hostile: it may drip bytes for ever, or never say that it is done.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator

from lydite.errors import LyditeError


@contextlib.contextmanager
def connected(
    secure: bool, host: str, port: int | None, timeout_s: float
) -> Iterator[http.client.HTTPConnection]:
    """Yield a connection that is cut ``timeout_s`` seconds from now, whatever it is doing then.

    Raises:
        OSError: it could not be made, broke, or was cut.
    """
    deadline = time.monotonic() + timeout_s
    connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(host, port)
    plain = socket.create_connection((connection.host, connection.port), timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with plain, plain.dup() as line:  # the same line, which TLS does not take away
        watch = threading.Timer(deadline - time.monotonic(), _cut, [line])
        watch.start()
        try:
            connection.sock = _wrapped(plain, host) if secure else plain
            yield connection
            if time.monotonic() >= deadline:
                raise TimeoutError("cut, which may look like an end")
        except (OSError, http.client.HTTPException, LyditeError) as error:
            if time.monotonic() < deadline:
                raise
            raise TimeoutError(f"no whole answer within {timeout_s} s") from error
        finally:
            connection.close()
            watch.cancel()
            watch.join()


def _wrapped(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was first
        line.shutdown(socket.SHUT_RDWR)
