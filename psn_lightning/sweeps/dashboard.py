"""Optuna's dashboard of a study, in the browser while its sweep runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console

from psn_lightning.errors import SettingError

_PORT = 8080  # Optuna's own default
_SERVER = """
import os, sys, threading
from optuna_dashboard import run_server
storage = sys.stdin.readline().strip()  # not an argument: other users see those, and it may hold a password
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # ends with the sweep
run_server(storage, host="127.0.0.1", port=int(sys.argv[1]))
"""


@contextmanager
def serve_dashboard(storage: str) -> Iterator[str]:
    """Serve the dashboard to this machine, and print its address.

    The server ends with the block, and with the process if that is killed.

    Args:
        storage: URL of a storage that exists.

    Yields:
        Address of the page.

    Raises:
        SettingError: If optuna-dashboard is not installed.
    """
    if find_spec("optuna_dashboard") is None:
        raise SettingError("--dashboard needs optuna-dashboard: pip install 'psn_lightning[dashboard]'")
    port = _find_port()
    command = [sys.executable, "-c", _SERVER, str(port)]
    # A session of its own: Ctrl-C reaches the sweep, which goes on with its last steps.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdin is not None
        server.stdin.write(f"{storage}\n")
        server.stdin.flush()
        address = f"http://127.0.0.1:{port}"
        Console().print(f"Optuna's dashboard, while the sweep runs: {address}", highlight=False)
        yield address


def _find_port() -> int:
    """The usual port, or a free one."""
    for port in (_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SettingError("no port of this machine is free for --dashboard: leave it out")
