import io
import os
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import rarfile

from rgbflow.data import download as downloads
from rgbflow.data import ucf101
from rgbflow.data.archives import extract, find_unrar
from rgbflow.data.download import download
from rgbflow.data.splits import SplitClip
from rgbflow.data.ucf101 import Archive, check_complete, fetch_ucf101
from rgbflow.errors import InputError

NAMES = [
    f"{label}/{stem}_g{group:02}_c01"
    for label, stem in (("Archery", "v_Archery"), ("HandstandPushups", "v_HandStandPushups"))
    for group in range(1, 5)
]
BYTES = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.001)


@dataclass
class Served:
    """A file on the server, and how the server misbehaves with it."""

    data: bytes
    etag: str = '"first"'
    statuses: list[int] = field(default_factory=list)  # answers to the first requests
    breaks: list[int] = field(default_factory=list)  # bytes after which the next answers end
    resets: bool = False  # an answer that ends too early ends with a reset
    knows_ranges: bool = True
    knows_if_range: bool = True
    shift: int = 0  # added to the byte that a range is said to begin with
    length: int | None = None  # announced instead of the true one; -1 is none at all
    stall: threading.Event | None = None  # waited for where an answer breaks


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served = self.server.files.get(self.path.strip("/"))
        self.server.requests.append((self.path.strip("/"), self.headers["Range"], self.headers["If-Range"]))
        if served is None or served.statuses:
            self.send_error(served.statuses.pop(0) if served else 404)
            return
        start = self._start(served)
        body = served.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", served.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start + served.shift}-{len(served.data) - 1}/{len(served.data)}")
        if served.length != -1:
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
        self.end_headers()
        cut = served.breaks.pop(0) if served.breaks else len(body)
        self.wfile.write(body[:cut])
        if cut < len(body) and served.stall:
            served.stall.wait()
        if cut < len(body) and served.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _start(self, served):
        fits = not served.knows_if_range or self.headers["If-Range"] in (None, served.etag)
        if not (self.headers["Range"] and served.knows_ranges and fits):
            return 0
        return int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *arguments):
        pass


class Home(ThreadingHTTPServer):
    def handle_error(self, *arguments):
        pass  # a client that hangs up is no news


@pytest.fixture
def home():
    """A web server with `files` to offer and a record of `requests`: (name, Range, If-Range)."""
    with Home(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def rar_of(files, mode=0o100644, solid=False):
    """An archive of the RAR 3 format whose files are stored as they are (a name that ends with / is a folder)."""

    def block(kind, flags, body):
        head = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0x08 if solid else 0, bytes(6))]
    for name, data in files.items():
        folder, text = name.endswith("/"), name.rstrip("/").encode()
        attributes = 0o40755 if folder else mode
        fields = (len(data), len(data), 3, zlib.crc32(data), 0x21 << 16, 20, 0x30, len(text), attributes)
        parts += [block(0x74, 0x80E0 if folder else 0x8000, struct.pack("<LLBLLBBHL", *fields) + text), data]
    return b"".join([*parts, block(0x7B, 0x4000, b"")])


def small_lists():
    lines = "\r\n".join(f"{name}.avi" for name in NAMES)
    files = {f"ucfTrainTestlist/{part}list0{n}.txt": "" for part in ("train", "test") for n in (1, 2, 3)}
    files |= {"ucfTrainTestlist/classInd.txt": "1 Archery\r\n2 HandstandPushups\r\n"}
    return files | {"ucfTrainTestlist/testlist01.txt": lines}


def small_videos():
    return {f"UCF-101/{name}.avi": name.encode() * 100 for name in NAMES}


@dataclass(frozen=True)
class Small:
    """A small UCF101 on the server: its archives, with what they hold."""

    lists: Archive
    videos: Archive
    files: dict[str, bytes]


@pytest.fixture
def small(home):
    return offer(home, zip_of(small_videos()), "UCF101.zip")


def offer(home, videos, name, lists=None):
    lists = lists or zip_of(small_lists())
    home.files |= {"lists.zip": Served(lists), name: Served(videos)}
    archives = [
        Archive("lists.zip", len(lists), "ucfTrainTestlist", 10**7),
        Archive(name, len(videos), "UCF-101", 10**6),
    ]
    return Small(*archives, small_videos())


def fetch_small(home, small, out, **named):
    return fetch_ucf101(out, home.url, small.lists, small.videos, **named)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def message_of(call, *arguments, **named):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def path_with(monkeypatch, folder, script=None):
    """Make `folder` the only place of programs; with a script, one called unrar lies in it."""
    folder.mkdir()
    if script:
        (folder / "unrar").write_text(f"#!{sys.executable}\n{script}")
        (folder / "unrar").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


# The whole way


def test_fetch_leaves_the_videos_and_the_lists_and_nothing_else(home, small, tmp_path):
    steps, lines = [], []
    progress = SimpleNamespace(update=lambda *step: steps.append(step), report=lines.append)
    fetched = fetch_small(home, small, tmp_path / "out", progress=progress)
    assert (fetched.num_clips, fetched.num_classes) == (8, 2)
    assert fetched.videos == tmp_path / "out/UCF-101"
    assert fetched.lists == tmp_path / "out/ucfTrainTestlist"
    assert tree(fetched.videos) == {name.removeprefix("UCF-101/"): data for name, data in small.files.items()}
    names = {"UCF-101", "UCF101.zip", "lists.zip", "ucfTrainTestlist"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert lines == [
        f"{doing} {name}" for name in ("lists.zip", "UCF101.zip") for doing in ("downloading", "extracting")
    ]
    assert {note for _, _, note in steps} == set(lines)
    assert all(0 <= done <= total for done, total, _ in steps)


def test_what_is_there_and_whole_is_not_fetched_again(home, small, tmp_path):
    for name in ("lists.zip", "UCF101.zip"):
        (tmp_path / name).write_bytes(home.files[name].data)
    fetch_small(home, small, tmp_path)  # both archives, put there by hand
    shutil.rmtree(tmp_path / "ucfTrainTestlist")
    for name in ("lists.zip", "UCF101.zip"):
        (tmp_path / name).unlink()
    (tmp_path / "lists.zip").write_bytes(home.files["lists.zip"].data)
    fetched = fetch_small(home, small, tmp_path)  # the archive of lists and the folder of videos
    assert fetched.num_clips == 8
    assert home.requests == []


def test_the_published_sizes_and_addresses():
    assert ucf101.HOME == "https://www.crcv.ucf.edu/data/UCF101/"
    assert (ucf101.VIDEOS.name, ucf101.VIDEOS.num_bytes) == ("UCF101.rar", 6_932_971_618)
    assert ucf101.LISTS.name == "UCF101TrainTestSplits-RecognitionTask.zip"
    assert ucf101.LISTS.num_bytes == 113_943


def test_the_official_lists_need_all_13320_videos(home, tmp_path):
    data = Path(os.environ.get("RGBFLOW_DATA", Path(__file__).parents[2] / "../shared/data")) / "ucf101-lists"
    if not (data / "classInd.txt").is_file():
        pytest.skip("UCF101's lists are not there: set RGBFLOW_DATA")
    lists = zip_of({f"ucfTrainTestlist/{path.name}": path.read_bytes() for path in data.glob("*.txt")})
    small = offer(home, b"", "UCF101.zip", lists)
    # Read here by other code than the program's; split 2 instead of 1.
    lines = (data / "trainlist02.txt").read_text().split("\n") + (data / "testlist02.txt").read_text().split("\n")
    names = [line.split()[0] for line in lines if line.strip()]
    (tmp_path / "one.avi").write_bytes(b"x")
    for label in {name.split("/")[0] for name in names}:
        (tmp_path / "UCF-101" / label).mkdir(parents=True)
    for name in names:
        os.link(tmp_path / "one.avi", f"{tmp_path}/UCF-101/{name}")
    fetched = fetch_small(home, small, tmp_path)
    assert (fetched.num_clips, fetched.num_classes) == (13_320, 101)

    (tmp_path / "UCF-101/YoYo/v_YoYo_g25_c05.avi").unlink()
    (tmp_path / "UCF-101/Archery/v_Archery_g01_c01.avi").unlink()
    (tmp_path / "UCF-101/Archery/v_Archery_g01_c01.avi").write_bytes(b"")
    message = message_of(fetch_small, home, small, tmp_path)
    assert "lacks 2 of the 13320 videos" in message
    assert "such as Archery/v_Archery_g01_c01, YoYo/v_YoYo_g25_c05:" in message
    shutil.rmtree(tmp_path / "UCF-101")  # pytest would keep its many files for three runs


def test_missing_videos_are_named_three_at_most(tmp_path):
    clips = [SplitClip(name, *name.split("/")) for name in NAMES]
    message = message_of(check_complete, tmp_path, clips)
    assert message == (
        f"folder {tmp_path} lacks 8 of the 8 videos that the lists name, such as Archery/v_Archery_g01_c01, "
        "Archery/v_Archery_g02_c01, Archery/v_Archery_g03_c01: remove the folder and run again"
    )


def test_a_missing_list_is_named(home, tmp_path):
    files = small_lists()
    del files["ucfTrainTestlist/trainlist03.txt"]
    small = offer(home, b"", "UCF101.zip", zip_of(files))
    assert "lacks trainlist03.txt: " in message_of(fetch_small, home, small, tmp_path)


def test_a_home_that_is_no_web_address_is_refused(tmp_path):
    message = message_of(fetch_ucf101, tmp_path, "file:///etc/")
    assert message == "home file:///etc/ is not a web address: give one that begins with https:// or http://"


def test_a_part_of_an_archive_is_not_taken_for_the_archive(home, small, tmp_path):
    (tmp_path / "UCF101.zip").write_bytes(home.files["UCF101.zip"].data[:1000])
    message = message_of(fetch_small, home, small, tmp_path)
    assert f"has 1000 bytes instead of {small.videos.num_bytes}" in message
    # The remedy that it gives
    (tmp_path / "UCF101.zip").rename(tmp_path / "UCF101.zip.part")
    assert fetch_small(home, small, tmp_path).num_clips == 8
    assert home.requests[-1] == ("UCF101.zip", "bytes=1000-", None)


# The download


@pytest.mark.parametrize("resets", [False, True])
def test_a_download_that_breaks_off_goes_on(home, tmp_path, resets):
    home.files["a.rar"] = Served(BYTES, breaks=[300_000, 0, 500_000], resets=resets)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES
    assert [path.name for path in tmp_path.iterdir()] == ["a.rar"]
    assert len(home.requests) == 4
    assert home.requests[0] == ("a.rar", None, None)
    offsets = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked, _ in home.requests[1:] if asked]
    assert offsets == sorted(offsets)
    if not resets:  # a reset may take bytes with it that were on their way
        assert offsets == [300_000, 300_000, 800_000]
        assert {tag for _, _, tag in home.requests[1:]} == {'"first"'}


def test_a_killed_download_goes_on(home, tmp_path):
    home.files["a.rar"] = Served(BYTES, breaks=[700_000], stall=threading.Event())
    code = (
        "import sys; from rgbflow.data.download import download; download(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
    )
    arguments = [home.url + "a.rar", str(tmp_path / "a.rar"), str(len(BYTES))]
    part = tmp_path / "a.rar.part"
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as process:
        while not (part.exists() and part.stat().st_size >= 500_000):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    home.files["a.rar"].stall.set()
    assert not (tmp_path / "a.rar").exists()
    size = part.stat().st_size
    assert 500_000 <= size <= 700_000
    download(arguments[0], tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES
    assert home.requests[-1] == ("a.rar", f"bytes={size}-", '"first"')


def test_a_download_killed_just_before_its_end_needs_no_server(tmp_path):
    (tmp_path / "a.rar.part").write_bytes(BYTES)
    download("http://127.0.0.1:1/a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES


def test_a_server_without_ranges_starts_anew(home, tmp_path):
    home.files["a.rar"] = Served(BYTES, breaks=[300_000], knows_ranges=False)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_the_rest_of_another_version_is_not_joined(home, tmp_path, knows_if_range):
    old = bytes(len(BYTES))
    home.files["a.rar"] = Served(old, breaks=[300_000] + [0] * 5)
    assert "at 300000 of 1048576 bytes" in message_of(download, home.url + "a.rar", tmp_path / "a.rar", len(old))
    home.files["a.rar"] = Served(BYTES, etag='"second"', knows_if_range=knows_if_range)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(home, tmp_path, status):
    home.files["a.rar"] = Served(BYTES, statuses=[status] * 4)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES


def test_a_server_that_stays_in_trouble_is_given_up(home, tmp_path):
    home.files["a.rar"] = Served(BYTES, statuses=[500] * 9)
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert message.startswith(f"{home.url}a.rar failed 5 times in a row at 0 of 1048576 bytes (500 Internal Server")
    assert message.endswith(f"run again later, or download it by hand into {tmp_path} and run again")
    assert len(home.requests) == 5


def test_a_missing_file_is_asked_for_once(home, tmp_path):
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", 10)
    assert message.startswith(f"{home.url}a.rar can't be downloaded (404 Not Found): download it by hand into")
    assert len(home.requests) == 1


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    with socket.socket() as closed:  # bound, so that no other process listens there, but not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.rar"
        assert "Connection refused" in message_of(download, url, tmp_path / "a.rar", 10)


def test_a_certificate_that_cannot_be_verified_is_refused_at_once(tmp_path, monkeypatch):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "unable to get local issuer certificate"
    asked = []

    def refuse(request, timeout):
        asked.append(request)
        raise URLError(error)

    monkeypatch.setattr(downloads, "urlopen", refuse)
    assert message_of(download, "https://a.edu/a.rar", tmp_path / "a.rar", 10) == (
        "https://a.edu/a.rar can't be trusted (its certificate: unable to get local issuer certificate): "
        f"download it by hand into {tmp_path} and run again"
    )
    assert len(asked) == 1


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_another_size_is_refused_at_once(home, tmp_path, difference):
    home.files["a.rar"] = Served(BYTES)
    size = len(BYTES) + difference
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", size)
    assert f"has 1048576 bytes, but a.rar must have {size}: " in message
    assert len(home.requests) == 1
    # The same for the rest of such a file
    (tmp_path / "a.rar.part").write_bytes(BYTES[:1000])
    assert f"has 1048576 bytes, but a.rar must have {size}: " in message_of(
        download, home.url + "a.rar", tmp_path / "a.rar", size
    )
    assert not (tmp_path / "a.rar").exists()


def test_less_than_announced_is_refused_after_some_tries(home, tmp_path):
    home.files["a.rar"] = Served(BYTES[:-1], length=len(BYTES), knows_ranges=False)
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert "failed 5 times in a row at 1048575 of 1048576 bytes (the connection ended too early)" in message
    assert not (tmp_path / "a.rar").exists()


def test_more_than_the_file_has_is_never_written(home, tmp_path):
    home.files["a.rar"] = Served(BYTES * 2, length=-1)
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert "has more than 1048576 bytes" in message
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(BYTES) + 100
    # Bytes after the announced ones do not belong to the file.
    home.files["a.rar"] = Served(BYTES * 2, length=len(BYTES), knows_ranges=False)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES


def test_a_weak_etag_is_not_asked_for(home, tmp_path):
    home.files["a.rar"] = Served(BYTES, etag='W/"weak"', breaks=[300_000])
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES
    assert home.requests == [("a.rar", None, None), ("a.rar", "bytes=300000-", None)]


@pytest.mark.parametrize("fault", [{"shift": 1}, {"statuses": [416]}])
def test_a_range_that_does_not_fit_is_not_joined(home, tmp_path, fault):
    (tmp_path / "a.rar.part").write_bytes(b"y" * 2000)
    home.files["a.rar"] = Served(BYTES, **fault)
    download(home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert (tmp_path / "a.rar").read_bytes() == BYTES
    assert [asked for _, asked, _ in home.requests] == ["bytes=2000-", None]


@pytest.mark.parametrize("free", [10, 2 * 1_048_575])
def test_a_disk_that_is_too_small_is_found_out_before(home, tmp_path, monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(0, 0, free))
    message = message_of(download, home.url + "a.rar", tmp_path / "a.rar", len(BYTES))
    assert message.endswith("MB free, 3 MB are needed: free space or choose another folder")
    assert home.requests == []


def test_a_folder_that_cannot_be_made_is_one_line(home, tmp_path):
    (tmp_path / "file").write_text("")
    message = message_of(download, home.url + "a.rar", tmp_path / "file/a.rar", 10)
    assert message.startswith(f"{tmp_path}/file can't be used (")


# The archives


def zip_with(name, mode=0o100644, data=b"x"):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, data)
    return buffer.getvalue()


UNSAFE = ["/etc/evil", "../evil", "UCF-101/../../evil", "..\\evil", "C:\\evil", "C:evil", "\\\\host\\share\\evil"]


def assert_refused(path, content, words):
    """An archive with this content is refused and nothing is written, neither inside nor outside the folder."""
    path.parent.mkdir()
    path.write_bytes(content)
    message = message_of(extract, path, path.parent / "UCF-101", 10**6)
    assert words in message
    assert list(path.parent.iterdir()) == [path]
    assert [entry.name for entry in path.parent.parent.iterdir() if entry.name != "programs"] == [path.parent.name]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_zip_that_leaves_its_folder_is_refused(tmp_path, name):
    assert_refused(tmp_path / "out/a.zip", zip_with(name), "is not safe: its member")


@pytest.mark.parametrize("name", UNSAFE)
def test_a_rar_that_leaves_its_folder_is_refused(tmp_path, name):
    content = rar_of({"UCF-101/a.avi": b"x", name: b"x"})
    assert_refused(tmp_path / "out/a.rar", content, "is not safe: its member")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_with_a_link_or_a_device_is_refused(tmp_path, kind):
    content = zip_with("UCF-101/link", kind | 0o777, b"/etc")
    assert_refused(tmp_path / "out/a.zip", content, "is not safe: its member 'UCF-101/link' is a link")


def test_a_rar_with_a_link_is_refused(tmp_path):
    content = rar_of({"UCF-101/link": b"/etc"}, mode=stat.S_IFLNK | 0o777)
    assert_refused(tmp_path / "out/a.rar", content, "is not safe: its member 'UCF-101/link' is a link")


def test_a_member_that_stands_twice_is_refused(tmp_path):
    content, empty = rar_of({"UCF-101/a.avi": b"x"}), rar_of({})
    head, end = empty[:-7], empty[-7:]
    file = content.removeprefix(head).removesuffix(end)
    assert_refused(tmp_path / "out/a.rar", head + file + file + end, "holds 'UCF-101/a.avi' twice")


@pytest.mark.parametrize("archive", ["a.zip", "a.rar"])
def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, archive):
    make = zip_of if archive == "a.zip" else rar_of
    content = make({"UCF-101/a.avi": bytes(600_000), "UCF-101/b.avi": bytes(400_001)})
    assert_refused(tmp_path / "out" / archive, content, "would become 1000001 bytes, more than the 1000000 it may have")


def test_a_zip_that_holds_more_than_it_announces_is_refused(tmp_path):
    content = zip_of({"UCF-101/a.avi": bytes(100_000)})
    lie = content.replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    assert_refused(tmp_path / "out/a.zip", lie, "Bad CRC-32 for file 'UCF-101/a.avi'")


@pytest.mark.parametrize("cut", [10, 5000])
def test_a_cut_zip_is_refused(tmp_path, cut):
    content = zip_of(small_videos() | {"UCF-101/noise": os.urandom(9000)})
    assert_refused(tmp_path / "out/a.zip", content[:-cut], "can't be extracted (")


def test_a_zip_with_a_wrong_byte_is_refused(tmp_path):
    content = zip_with("UCF-101/a.avi", data=b"abcdefgh" * 100)
    wrong = content.replace(b"abcdefgh", b"abcdefgx", 1)
    assert_refused(tmp_path / "out/a.zip", wrong, "can't be extracted (")


def test_an_archive_without_the_folder_is_refused(tmp_path):
    assert_refused(tmp_path / "out/a.zip", zip_of({"UCF101/a.avi": b"x"}), "contains no folder UCF-101")


@pytest.mark.parametrize("name", ["a.zip", "a.rar"])
def test_what_is_no_archive_is_refused(tmp_path, name):
    assert_refused(tmp_path / "out" / name, b"<html>Log in to the wireless network</html>", "can't be extracted (")


def test_what_a_killed_extraction_left_is_replaced(tmp_path):
    (tmp_path / ".UCF-101.part/UCF-101").mkdir(parents=True)
    (tmp_path / ".UCF-101.part/UCF-101/half.avi").write_bytes(b"ha")
    (tmp_path / "a.zip").write_bytes(zip_of({"UCF-101/a.avi": b"whole", "__MACOSX/junk": b"x"}))
    extract(tmp_path / "a.zip", tmp_path / "UCF-101", 100)
    assert tree(tmp_path / "UCF-101") == {"a.avi": b"whole"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "UCF-101"}


def test_without_a_program_for_rar_nothing_is_downloaded(home, tmp_path, monkeypatch):
    small = offer(home, rar_of(small_videos()), "UCF101.rar")
    path_with(monkeypatch, tmp_path / "programs")
    message = message_of(fetch_small, home, small, tmp_path / "out")
    assert message.startswith("no program that extracts UCF101.rar is found: install unrar or unar (apt install unar, ")
    assert message.endswith(f"or extract it by hand in {tmp_path / 'out'}")
    assert [name for name, _, _ in home.requests] == ["lists.zip"]


# A stand-in for unrar: it answers rarfile's question for its version, and gives the files' bytes one after the other.
STAND_IN = """
import pathlib, sys
if "-?" not in sys.argv:
    sys.stdout.buffer.write(pathlib.Path({content!r}).read_bytes())
    sys.exit({code})
"""


def stand_in(monkeypatch, tmp_path, content, code=0):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/content").write_bytes(content)
    path_with(
        monkeypatch, tmp_path / "programs/bin", STAND_IN.format(content=f"{tmp_path}/programs/content", code=code)
    )


RAR_FILES = {"UCF-101/Archery/": b"", "UCF-101/Archery/a.avi": b"a" * 600_000, "UCF-101/b.avi": b"", "UCF-101/c": b"c"}


def test_one_process_gives_all_files_of_a_rar(tmp_path, monkeypatch):
    (tmp_path / "a.rar").write_bytes(rar_of(RAR_FILES))
    stand_in(monkeypatch, tmp_path, b"".join(RAR_FILES.values()))
    extract(tmp_path / "a.rar", tmp_path / "UCF-101", 10**6)
    assert tree(tmp_path / "UCF-101") == {"Archery/a.avi": b"a" * 600_000, "b.avi": b"", "c": b"c"}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda content: content + b"x", 0, "it holds more than it announces"),
        (lambda content: content[:-2], 0, "UCF-101/Archery/a.avi ends 1 bytes too early"),
        (lambda content: b"b" + content[1:], 0, "UCF-101/Archery/a.avi has a wrong checksum"),
        (lambda content: b"", 2, "UCF-101/Archery/a.avi ends 600000 bytes too early"),
        (lambda content: content, 3, "unrar ended with 3"),
    ],
    ids=["more", "less", "other", "nothing", "failed"],
)
def test_a_rar_that_comes_out_otherwise_is_refused(tmp_path, monkeypatch, change, code, words):
    stand_in(monkeypatch, tmp_path, change(b"".join(RAR_FILES.values())), code)
    assert_refused(tmp_path / "out/a.rar", rar_of(RAR_FILES), words)


def test_a_rar_that_is_endless_is_cut(tmp_path, monkeypatch):
    endless = 'import sys\nwhile "-?" not in sys.argv:\n    sys.stdout.buffer.write(bytes(10**6))'
    (tmp_path / "programs").mkdir()
    path_with(monkeypatch, tmp_path / "programs/bin", endless)
    assert_refused(tmp_path / "out/a.rar", rar_of({"UCF-101/a": bytes(100)}), "it holds more than it announces")


@pytest.mark.parametrize("solid", [False, True])
def test_a_real_program_extracts_a_rar(home, tmp_path, solid):
    try:
        find_unrar("UCF101.rar")
    except InputError:
        pytest.skip("neither unrar nor unar is there: apt install unar")
    small = offer(home, rar_of(small_videos(), solid=solid), "UCF101.rar")
    fetched = fetch_small(home, small, tmp_path)
    assert tree(fetched.videos) == {name.removeprefix("UCF-101/"): data for name, data in small.files.items()}


def test_the_archives_of_the_tests_are_what_rarfile_reads(tmp_path):
    (tmp_path / "a.rar").write_bytes(rar_of(RAR_FILES, solid=True))
    with rarfile.RarFile(tmp_path / "a.rar", errors="strict") as archive:
        assert archive.is_solid()
        assert {info.filename: archive.read(info) for info in archive if info.is_file()} == {
            name: data for name, data in RAR_FILES.items() if not name.endswith("/")
        }
