"""A local development beacon: rounds signed by one key, each no sooner than it is due.

``python -m lydite.laboratory.beacon_server --port 0 --key FILE --period 1`` prints one line of
JSON when it is ready: port, url, public key, genesis time and period. Whoever holds the key
predicts every round, so a draw by it convinces nobody else; it says so at ``/``.
"""

import argparse
import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from lydite.errors import LyditeError
from lydite.messages.canonical import encode
from lydite.messages.epoch import BeaconRound
from lydite.sampling import beacon
from lydite.sampling.beacon import Chain, Scheme
from lydite.signing import keys
from lydite.signing.keys import Signer

NAME = "local-development"
_ROUND = re.compile(r"/rounds/([1-9][0-9]{0,15})")
_TOO_EARLY = 425


class LocalBeacon:
    """A chain and the key that signs it. Refuses to sign a round before it is due."""

    def __init__(
        self,
        signer: Signer,
        period_s: int,
        clock: Callable[[], float] = time.time,
        genesis_time_s: int | None = None,
        name: str = NAME,
    ) -> None:
        """Begin a chain at ``genesis_time_s``, by default now; ``clock`` gives Unix seconds."""
        self._signer = signer
        self._clock = clock
        self.chain = Chain(
            name=name,
            scheme=Scheme.LOCAL_DEV,
            public_key=signer.public.hex(),
            genesis_time_s=int(clock()) if genesis_time_s is None else genesis_time_s,
            period_s=period_s,
        )

    def round(self, number: int) -> BeaconRound | None:
        """Return round ``number`` as an epoch records it, ``None`` before it is due."""
        if not 1 <= number <= beacon.round_at(self.chain, int(self._clock())):
            return None
        signature = self._signer.sign(beacon.local_message(number))
        return beacon.to_record(self.chain, beacon.local_round(number, signature))


class BeaconServer:
    """A local beacon that answers on ``url`` from when it is entered until it is left."""

    def __init__(self, source: LocalBeacon, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind to ``host`` and ``port``; port 0 takes a free one."""
        self._server = _Server((host, port), source)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], source: LocalBeacon) -> None:
        self.source = source
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10.0
    server: _Server

    def do_GET(self) -> None:
        source = self.server.source
        match = _ROUND.fullmatch(self.path)
        if match is not None:
            found = source.round(int(match[1]))
            if found is None:
                return self._answer(_TOO_EARLY, b'{"error":"this round is not due yet"}')
            return self._answer(200, encode(found))
        if self.path == "/":
            said = {"chain": source.chain.name, "says": beacon.describe(source.chain)}
            return self._answer(200, json.dumps(said).encode())
        return self._answer(404, b'{"error":"there are only rounds"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(
        prog="lydite.laboratory.beacon_server", description="a local development beacon"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to")
    parser.add_argument("--port", type=int, default=0, help="port to bind to; 0 takes a free one")
    parser.add_argument("--key", type=Path, required=True, help="file with the beacon's key")
    parser.add_argument("--period", type=int, default=1, help="seconds from round to round")
    parser.add_argument("--genesis", type=int, help="Unix second of round 1; now if absent")
    options = parser.parse_args(arguments)
    try:
        signer = keys.load(options.key)
        source = LocalBeacon(signer, options.period, genesis_time_s=options.genesis)
        server = BeaconServer(source, options.host, options.port)
    except LyditeError as error:
        sys.stderr.write(f"lydite: error: {error}\n")
        return 2
    except OSError as error:
        place = f"{options.host}:{options.port}"
        sys.stderr.write(f"lydite: error: cannot listen on {place}: {error.strerror}\n")
        return 2
    chain = source.chain
    with server, contextlib.suppress(KeyboardInterrupt):
        said = {
            "port": server.port,
            "url": server.url,
            "name": chain.name,
            "public_key": chain.public_key,
            "genesis_time_s": chain.genesis_time_s,
            "period_s": chain.period_s,
        }
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
