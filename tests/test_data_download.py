import contextlib
import http.server
import threading

import pytest

from valuelab.data import download
from valuelab.errors import InputError

CONTENTS = bytes(range(256)) * 40  # 10240 bytes


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENTS; what it does wrong is set on the server object."""

    def do_GET(self):
        start = 0
        self.server.ranges.append(self.headers.get("Range"))
        if self.path != "/file.bin":
            self.send_error(404)
            return
        if self.server.ranged and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENTS):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENTS)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENTS) - 1}/{len(CONTENTS)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENTS) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(CONTENTS[start : start + cut if cut else None])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(cuts=(), ranged=True):
    """A server that breaks off after `cuts` bytes of its first answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.cuts, server.ranged, server.ranges = list(cuts), ranged, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}/file.bin"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def accept(path):
    assert path.read_bytes() == CONTENTS


def test_whole_file(tmp_path):
    path = tmp_path / "folder" / "file.bin"
    with serving() as (server, url):
        download.fetch(url, path, accept, "do without")
    assert path.read_bytes() == CONTENTS
    assert server.ranges == [None]
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_resumes_where_the_connection_broke(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[4000, 1000]) as (server, url):
        download.fetch(url, path, accept, "do without")
    assert server.ranges == [None, "bytes=4000-", "bytes=5000-"]
    assert path.read_bytes() == CONTENTS


def test_resumes_in_another_run(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[100, 100, 100]) as (_, url):
        with pytest.raises(
            InputError, match=r"broke off after 300 of 10240 bytes, kept as .*file.bin.part: run again"
        ):
            download.fetch(url, path, accept, "do without")
        assert not path.exists()
        download.fetch(url, path, accept, "do without")
    assert path.read_bytes() == CONTENTS


def test_starts_anew_where_the_server_knows_no_ranges(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[4000], ranged=False) as (server, url):
        download.fetch(url, path, accept, "do without")
    assert len(server.ranges) == 2
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_part_that_is_whole_or_too_long(extra, tmp_path):
    path = tmp_path / "file.bin"
    (tmp_path / "file.bin.part").write_bytes(CONTENTS + extra)
    with serving() as (_, url):
        download.fetch(url, path, accept, "do without")
    assert path.read_bytes() == CONTENTS


def test_wrong_contents_are_refused_and_removed(tmp_path):
    def refuse(path):
        raise OSError("not an archive")

    path = tmp_path / "file.bin"
    with (
        serving() as (_, url),
        pytest.raises(InputError, match=r"sent 10240 bytes .* \(not an archive\): do without"),
    ):
        download.fetch(url, path, refuse, "do without")
    assert not list(tmp_path.iterdir())


def test_no_such_file(tmp_path):
    with (
        serving() as (_, url),
        pytest.raises(
            InputError, match=rf"no {tmp_path}/x, and .*missing cannot be fetched \(HTTP Error 404"
        ),
    ):
        download.fetch(url.replace("file.bin", "missing"), tmp_path / "x", accept, "do without")


def test_no_server(tmp_path):
    with pytest.raises(InputError, match=r"cannot be fetched .*Connection refused.*: do without"):
        download.fetch("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", accept, "do without")
