"""A server of files on this machine, in place of the mirrors."""

import http.server
import threading
import time
from collections import Counter
from functools import partial

import pytest

from psn_lightning.data import dataset_files


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serve a folder; returns its address and how often each file was sent. There are no data elsewhere."""
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setattr(dataset_files, "_RETRIES", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    servers = []

    def start(folder, pause=0.0):
        sent = Counter()

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                sent[self.path.rsplit("/", 1)[-1]] += 1
                time.sleep(pause)
                super().do_GET()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/{{name}}", sent

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
