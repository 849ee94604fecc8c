"""A machine that loads its model from a store and says in every answer which weights it holds.

``python loading_engine.py PORT STORE [DELAY_S]``; without a model in the store it does not start.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lydite.engines.weights import measure


class Handler(BaseHTTPRequestHandler):
    """Answers everything with the root of what was loaded."""

    protocol_version = "HTTP/1.1"
    root = ""

    def do_GET(self) -> None:
        self._say({"object": "list", "data": [{"id": "loaded", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        message = {"role": "assistant", "content": self.root}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._say({"id": "c", "object": "chat.completion", "created": 1, "choices": [choice]})

    def _say(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0)
    Handler.root = measure(Path(sys.argv[2])).root
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
