"""nginx as the load balancer that a provider has anyway: it knows addresses, and nothing of us."""

import os
import pwd
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from lydite.errors import ConfigurationError, UnavailableError
from lydite.laboratory.processes import Processes, Service

_READY_S: Final = 10.0
_CONFIG: Final = """\
{user}worker_processes 1;
daemon off;
pid {place}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    upstream models {{
{servers}
        keepalive 32;
    }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 64m;
        location / {{
            proxy_pass http://models;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 300s;
            proxy_next_upstream error timeout http_502 http_503 non_idempotent;
        }}
    }}
}}
"""


def program() -> str:
    """Return where nginx is.

    Raises:
        ConfigurationError: it is not installed; the message says which package has it.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigurationError(
            "nginx, the load balancer of the example, is not installed; on Debian and Ubuntu: "
            "apt-get install nginx-light"
        )
    return found


def start(processes: Processes, directory: Path, servers: Sequence[str]) -> tuple[Service, str]:
    """Start nginx before ``servers`` (origins) and return it, and where it answers.

    Raises:
        ConfigurationError: it is not installed.
        UnavailableError: it does not come up.
    """
    nginx = program()
    place = directory.resolve() / "balancer"
    place.mkdir(parents=True)
    port = _free_port()
    config = place / "nginx.conf"
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.getuid() == 0 else ""
    lines = [f"        server {urlsplit(each).netloc};" for each in servers]
    config.write_text(_CONFIG.format(user=user, place=place, servers="\n".join(lines), port=port))
    words = [nginx, "-p", str(place), "-c", str(config), "-e", "stderr"]
    service = processes.run("balancer", words)
    _await(service, port)
    return service, f"http://127.0.0.1:{port}"


def _await(service: Service, port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if time.monotonic() > deadline or service.process.poll() is not None:
                raise UnavailableError(f"nginx did not start: {service.last_words()}") from error
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
