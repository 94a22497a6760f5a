import hashlib
import http.server
import threading

import pytest

from workbench.core.config import UserError
from workbench.data.download import download

CONTENT = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, in pieces that break off if the server says so."""

    def do_GET(self) -> None:
        server = self.server
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if server.ranges else 0
        server.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + server.most])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.starts, server.most, server.ranges = [], len(CONTENT), True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_address[1]}/file"
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_continues(server, tmp_path, ranges):
    target = tmp_path / "new" / "file"
    server.most = 100_000
    with pytest.raises(OSError, match="closed early"):
        download(server.url, target, SHA256)
    assert not target.exists()
    server.most, server.ranges = len(CONTENT), ranges
    download(server.url, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.starts == [0, 100_000 if ranges else 0]
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_one_that_was_whole_is_only_checked(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_file_is_refused_and_deleted(server, tmp_path):
    with pytest.raises(UserError, match="is not the published file"):
        download(server.url, tmp_path / "file", "0" * 64)
    assert not list(tmp_path.iterdir())
