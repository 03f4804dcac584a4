import concurrent.futures
import contextlib
import hashlib
import http.server
import resource
import shutil
import threading
import types

import pytest

from valuelab.data import download
from valuelab.errors import InputError

CONTENTS = bytes(range(256)) * 40  # 10240 bytes
DIGEST = hashlib.sha256(CONTENTS).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENTS; attributes of the server object choose its errors."""

    def do_GET(self):
        start = 0
        self.server.ranges.append(self.headers.get("Range"))
        if self.path != "/file.bin":
            self.send_error(404)
            return
        self.server.requested.set()
        self.server.go_on.wait(10)
        if self.server.ranged and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENTS):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENTS)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            first = start + self.server.lies.get("first", 0)
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENTS) - 1}/{len(CONTENTS)}")
        else:
            self.send_response(200)
        length = self.server.lies.get("length", str(len(CONTENTS) - start))
        self.send_header("Content-Length", length)
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(CONTENTS[start : start + cut if cut else None])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(cuts=(), ranged=True, **lies):
    """A server that breaks off after `cuts` bytes of its first answers, or sends false headers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.cuts, server.ranged, server.ranges, server.lies = list(cuts), ranged, [], lies
    server.requested, server.go_on = threading.Event(), threading.Event()
    server.go_on.set()
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
    assert sorted(file.name for file in path.parent.iterdir()) == ["file.bin", "file.bin.sha256"]
    assert (path.parent / "file.bin.sha256").read_text() == f"{DIGEST}  file.bin\n"


def test_resumes_where_the_connection_broke(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[4000, 1000]) as (server, url):
        download.fetch(url, path, accept, "do without")
    assert server.ranges == [None, "bytes=4000-", "bytes=5000-"]
    assert path.read_bytes() == CONTENTS


def test_resumes_in_another_run(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[100, 100, 100]) as (_, url):  # one for each attempt
        with pytest.raises(
            InputError, match=r"broke off after 300 of 10240 bytes, kept as .*file.bin.part: run the same"
        ):
            download.fetch(url, path, accept, "do without")
        assert not path.exists()
        download.fetch(url, path, accept, "do without")
    assert path.read_bytes() == CONTENTS


def test_restarts_where_the_server_does_not_support_ranges(tmp_path):
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
            InputError,
            match=rf"{tmp_path}/x does not exist, and .*missing cannot be downloaded \(HTTP Error 404",
        ),
    ):
        download.fetch(url.replace("file.bin", "missing"), tmp_path / "x", accept, "do without")


def test_no_server(tmp_path):
    with pytest.raises(InputError, match=r"cannot be downloaded .*Connection refused.*: do without"):
        download.fetch("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", accept, "do without")


def test_of_two_processes_one_downloads_and_the_other_uses_its_file(tmp_path):
    path = tmp_path / "file.bin"
    with serving() as (server, url), concurrent.futures.ThreadPoolExecutor(2) as pool:
        server.go_on.clear()
        first = pool.submit(download.fetch, url, path, accept, "do without")
        assert server.requested.wait(10)
        second = pool.submit(download.fetch, url, path, accept, "do without")
        with pytest.raises(TimeoutError):
            second.result(0.2)
        assert len(server.ranges) == 1
        server.go_on.set()
        first.result(10)
        second.result(10)
    assert len(server.ranges) == 1
    assert path.read_bytes() == CONTENTS
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file.bin", "file.bin.sha256"]


@pytest.mark.parametrize(
    ("lies", "message"),
    [
        ({"length": "20480"}, r"broke off after 10240 of 20480 bytes, kept as"),
        ({"length": "5000"}, r"sent 5000 bytes that cannot be read as file.bin"),
        ({"length": "many"}, None),  # treated as no length: the file is all that arrives
        ({"length": str(1 << 60)}, r"cannot be written \(.*bytes are missing and the disk has"),
    ],
)
def test_false_content_lengths(lies, message, tmp_path):
    path = tmp_path / "file.bin"
    with serving(**lies) as (server, url):
        server.ranged = False
        if message is None:
            download.fetch(url, path, accept, "do without")
            assert path.read_bytes() == CONTENTS
            return
        with pytest.raises(InputError, match=message) as refused:
            download.fetch(url, path, accept, "do without")
    assert "\n" not in str(refused.value)
    assert not path.exists()


def test_a_range_that_was_not_requested_is_refused(tmp_path):
    path = tmp_path / "file.bin"
    with serving(cuts=[4000], first=-7) as (server, url):
        download.fetch(url, path, accept, "do without")
    assert server.ranges == [None, "bytes=4000-", None]
    assert path.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    ("published", "recorded", "message"),
    [
        ([DIGEST], "", None),
        ([DIGEST, "0" * 64], "1" * 64, None),
        (["0" * 64], "", f"sent a file with SHA-256 {DIGEST}, but 0+ is published: do without"),
        (
            [],
            "1" * 64,
            f"SHA-256 {DIGEST}, but 1+ is in .*file.bin.sha256: delete file.bin.sha256 if",
        ),
    ],
)
def test_a_file_of_another_digest_is_refused(published, recorded, message, tmp_path):
    path = tmp_path / "file.bin"
    if recorded:
        path.with_name("file.bin.sha256").write_text(f"{recorded}  file.bin\n")
    with serving() as (_, url):
        if message is None:
            download.fetch(url, path, accept, "do without", published)
            assert path.read_bytes() == CONTENTS
            return
        with pytest.raises(InputError, match=message):
            download.fetch(url, path, accept, "do without", published)
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin.sha256"] * bool(recorded)


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "link.bin.part").symlink_to(tmp_path / "elsewhere")
    with serving() as (_, url):
        for path in (tmp_path / "file" / "x.bin", tmp_path / "link.bin"):
            with pytest.raises(InputError, match=f"^{path} cannot be written .* give another --data_dir"):
                download.fetch(url, path, accept, "do without")
        assert not (tmp_path / "elsewhere").exists()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=100))
        with pytest.raises(InputError, match="10240 bytes are missing and the disk has 100 bytes left"):
            download.fetch(url, tmp_path / "file.bin", accept, "do without")
    assert not (tmp_path / "file.bin").exists()


def test_a_disk_that_becomes_full(tmp_path):
    path = tmp_path / "file.bin"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving() as (server, url):
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            with pytest.raises(
                InputError, match=r"cannot be written .*File too large.*run the same command again to resume"
            ):
                download.fetch(url, path, accept, "do without")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not path.exists()
        download.fetch(url, path, accept, "do without")
    assert server.ranges == [None, "bytes=5000-"]
    assert path.read_bytes() == CONTENTS
