"""A server over real sockets whose every answer is a script's: for what no honest server says."""

import http.server
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple


class Said(NamedTuple):
    """One answer, to the last byte."""

    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    endless: bool = False


Script = Callable[[dict[str, Any]], Said]


def answer(**changes: Any) -> Said:
    """A chat answer with ``changes`` to its only choice; ``usage`` and others go beside it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}}
    beside = {name: changes.pop(name) for name in ("usage", "error") if name in changes}
    body = {"choices": [{**choice, "finish_reason": "length", **changes}], **beside}
    return Said(json.dumps(body).encode())


@contextmanager
def serving(script: Script, sent: list[tuple[str | None, ...]] | None = None) -> Iterator[str]:
    """Serve ``script``, which is given each request's JSON, until the context is left.

    ``sent`` is given the key and our own headers of every request.
    """
    kept = [] if sent is None else sent

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(Said(json.dumps({"data": [{"id": "small"}]}).encode()))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(script(asked))

        def _say(self, said: Said) -> None:
            names = ("Authorization", "X-Ours", "X-Theirs")
            kept.append(tuple(self.headers.get(name) for name in names))
            self.send_response(said.status)
            self.send_header("Content-Type", said.kind)
            if not said.endless:
                self.send_header("Content-Length", str(len(said.body)))
            for name, value in said.headers:
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the client has had enough
                self.wfile.write(said.body)
                while said.endless:
                    self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def through(url: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Script:
    """Ask a real server, then let ``change`` do something to the request and to its answer.

    ``change`` is called with the request before it is sent, and an empty answer; then with both.
    """

    def script(asked: dict[str, Any]) -> Said:
        change(asked, {})
        request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as got:
            said = json.loads(got.read())
        change(asked, said)
        return Said(json.dumps(said).encode())

    return script
