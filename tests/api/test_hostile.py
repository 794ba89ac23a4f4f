"""A running box in the hands of somebody who means harm: refused with the reason, nothing half-done, still there."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.hostile_box import APP, STREAM, envelope, exchange, hostile_box, raw
from tests.kit.kiln import AUTHORIZATION, KilnProcess

#: Endless answers, by path.
_FOLLOWED = ("/box/v1/events",)


@pytest.fixture(scope="module")
def kiln(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    with hostile_box(tmp_path_factory.mktemp("hostile")) as running:
        yield running
        log = running.log.read_text(errors="replace")
        assert "request failed" not in log
        assert "Traceback" not in log


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


BODIES = {
    "arrays 5 000 deep": (b"[" * 5000 + b"]" * 5000, 400),
    "objects 5 000 deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400),
    "open brackets alone": (b"[" * 100_000, 400),
    "invalid UTF-8": (b'{"name":"\xff\xfe"}', 400),
    "UTF-16": ('{"name":"x"}'.encode("utf-16"), 400),
    "half a surrogate pair": (b'{"name":"\\ud800"}', 400),
    "a byte order mark": (b'\xef\xbb\xbf{"name":"x"}', 400),
    "a key twice": (b'[{"name":"a","name":"b"}]', 400),
    "bytes behind the value": (b'[{"name":"a"}] x', 400),
    "a comment": (b'[{"name":"a"} /* b */]', 400),
    "not a number": (b'[{"name":NaN}]', 400),
    "a number of 100 000 digits": (b"[" + b"9" * 100_000 + b"]", 400),
    "400 000 values": (b"[" + b"0," * 400_000 + b"0]", 400),
    "2 MiB": (b'[{"name":"' + b"x" * 2 * 1024 * 1024 + b'"}]', 413),
    "null": (b"null", 400),
    "an empty text": (b'""', 400),
    "nothing": (b"", 400),
}
WITH_BODIES = (
    ("POST", "/v1/vhosts"), ("POST", f"{APP}:startRecord"), ("POST", f"{APP}:startPush"), ("POST", f"{APP}/streams"),
    ("POST", f"{APP}/outputProfiles"), ("PATCH", APP), ("POST", f"{APP}/streams/{STREAM}:sendEvent"),
    ("POST", f"{APP}/streams/{STREAM}:startHlsDump"), ("POST", "/box/v1/tokens"),
)  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_told_whole_or_in_chunks(kiln: KilnProcess, name: str) -> None:
    body, expected = BODIES[name]
    before = kiln.api("/v1/vhosts")
    for method, path in WITH_BODIES:
        told = []
        for headers, sent in (
            ((f"Content-Length: {len(body)}",), body), (("Transfer-Encoding: chunked",), chunked(body)),
        ):  # fmt: skip
            status, _, answer = exchange(kiln, method, path, headers=headers, body=sent)
            assert status == expected, (method, path, answer[:200])
            assert envelope(answer)["statusCode"] == expected
            told.append(answer)
        assert told[0] == told[1]
    assert kiln.api("/v1/vhosts") == before


@pytest.mark.parametrize(
    "tail",
    [b'Content-Length: 90\r\n\r\n[{"name":"cut"}]', b'Transfer-Encoding: chunked\r\n\r\n10\r\n[{"name":"cut"}]\r\n',
     b'Transfer-Encoding: chunked\r\n\r\n10\r\n[{"name":"cut"}]\r\n0\r\n', b"Content-Length: 16\r\n\r\n"],
)  # fmt: skip
def test_a_truncated_body_makes_nothing(kiln: KilnProcess, tail: bytes) -> None:
    head = f"POST /v1/vhosts HTTP/1.1\r\nHost: box\r\nAuthorization: {AUTHORIZATION}\r\n".encode()
    status, _, _ = raw(kiln, head + tail, cut=True)
    assert status in (0, 400)
    assert "cut" not in kiln.api("/v1/vhosts")


@pytest.mark.parametrize(
    "head",
    ["Transfer-Encoding: chunked\r\n\r\nzz\r\n", "Content-Length: 3\r\nContent-Length: 4\r\n\r\n[{}]",
     "Content-Length: -1\r\n\r\n", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     "Transfer-Encoding: gzip\r\n\r\n", "X: " + "x" * 100_000 + "\r\n\r\n", "Bad Name: 1\r\n\r\n"],
)  # fmt: skip
def test_a_broken_message_is_refused_without_an_answer_of_ours(kiln: KilnProcess, head: str) -> None:
    start = f"POST /v1/vhosts HTTP/1.1\r\nHost: box\r\nAuthorization: {AUTHORIZATION}\r\n"
    status, _, _ = raw(kiln, (start + head).encode(), cut=True)
    assert status in (0, 400, 413, 431, 501)
    assert kiln.api("/v1/version")


TARGETS = {
    "/v1/vhosts/hostile/apps/live/streams/%00": 404, "/v1/vhosts/%2e%2e/apps": 404, "/v1/../v1/vhosts": 404,
    "/v1//vhosts": 404, "/v1/vhosts/hostile%2fapps": 404, "/v1/vhosts/%ff%fe": 404, "/v1/vhosts/%zz": 404,
    "/v1/vhosts/" + "x" * 6000: 404, "/v1/vhosts?" + "&".join(f"a{n}=b" for n in range(900)): 200,
    "/box/v1/recordings/..%2f..%2f..%2fetc%2fpasswd": 404, "/-/../../appliance/app.py": 404,
    "/-/%2e%2e/app.py": 404,
    "/box/v1/logs?lines=-1": 400, "/box/v1/logs?lines=99999999999999999999": 400, "/box/v1/logs?since=%00": 400,
    "/box/v1/logs?level[]=x": 400, "http://other.example/v1/vhosts": 200, "*": 404,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=range(len(TARGETS)))
def test_any_target_is_found_or_not(kiln: KilnProcess, target: str) -> None:
    status, headers, body = exchange(kiln, "GET", target)
    assert status in (TARGETS[target], 400), body[:200]
    assert b"root:" not in body
    if status != 200 and headers.get("content-type", "").startswith("application/json"):
        assert envelope(body)["statusCode"] == status


def test_of_many_at_once_one_makes_it_and_one_deletes_it(kiln: KilnProcess) -> None:
    path = f"{APP}/outputProfiles"
    profile = {
        "name": "raced", "outputStreamName": "raced_${OriginStreamName}",
        "encodes": {"videos": [{"name": "v", "bypass": True}], "audios": [{"name": "a", "bypass": True}]},
    }  # fmt: skip
    with ThreadPoolExecutor(16) as many:
        for _ in range(3):
            made = list(many.map(lambda _: kiln.call("POST", path, [profile])[0], range(16)))
            assert sorted(made) == [200] + [409] * 15
            gone = list(many.map(lambda _: kiln.call("DELETE", f"{path}/raced")[0], range(16)))
            assert sorted(gone) == [200] + [404] * 15
    assert kiln.api(path) == ["small"]


def test_who_sends_a_body_drop_by_drop_holds_up_nobody(kiln: KilnProcess) -> None:
    head = f"POST /v1/vhosts HTTP/1.1\r\nHost: box\r\nAuthorization: {AUTHORIZATION}\r\nContent-Length: 9\r\n\r\n["
    with ExitStack() as held:
        for _ in range(200):
            sock = held.enter_context(socket.create_connection(("127.0.0.1", kiln.ports.api), timeout=10))
            sock.sendall(head.encode())
        began = time.monotonic()
        assert kiln.api("/v1/vhosts") == ["default", "hostile"]
        assert kiln.call("POST", "/v1/vhosts", [{"name": "meanwhile"}])[0] == 200
        assert kiln.call("DELETE", "/v1/vhosts/meanwhile")[0] == 200
        assert time.monotonic() - began < 2


def gets(kiln: KilnProcess) -> list[str]:
    """The path of each GET in the document, with names of what is there."""
    names = {"vhost": "hostile", "app": "live", "stream": STREAM, "outputProfile": "small"}
    found = []
    for path, operations in kiln_document(kiln)["paths"].items():
        if "get" in operations:
            for each in operations["get"]["parameters"]:
                if each["in"] == "path":
                    path = path.replace("{" + each["name"] + "}", names.get(each["name"], "none"))
            found.append(path)
    return found


def kiln_document(kiln: KilnProcess) -> dict[str, Any]:
    status, _, body = exchange(kiln, "GET", "/openapi.json")
    assert status == 200
    document: dict[str, Any] = json.loads(body)
    return document


def test_head_of_every_get(kiln: KilnProcess) -> None:
    paths = [path for path in gets(kiln) if path not in _FOLLOWED]
    assert len(paths) > 25
    good = 0
    for path in paths:
        status, headers, body = exchange(kiln, "GET", path)
        head_status, head_headers, nothing = exchange(kiln, "HEAD", path)
        assert (head_status, nothing) == (status, b""), path
        assert head_headers["content-type"] == headers["content-type"], path
        assert status in (200, 404), (path, body[:200])
        good += status == 200
    assert good > 20


def test_options_without_a_token_and_nothing_else_without(kiln: KilnProcess) -> None:
    for path, operations in kiln_document(kiln)["paths"].items():
        status, headers, body = exchange(kiln, "OPTIONS", path.replace("{", "").replace("}", ""), token=None)
        assert (status, body) == (204, b""), path
        assert "access-control-allow-methods" in headers
        for method in operations:
            status, headers, body = exchange(kiln, method.upper(), path.replace("{", "").replace("}", ""), token=None)
            assert status == 401, (method, path)
            assert headers["www-authenticate"].startswith("Basic")
            envelope(body)


PATHS = (
    "../../etc/x.ts", "a/../../x.ts", "/../x.ts", "${Stream}/../x.ts", "..", "a/..", "nul\x00x.ts", "line\nbreak.ts",
    "x" * 5000, "/".join("a" * 2100), "${Nonsense}.ts/..",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_no_path_leads_out_of_the_media_folder(kiln: KilnProcess, path: str) -> None:
    record = {"id": "out", "stream": {"name": STREAM}}
    dump = {"id": "out", "outputStreamName": STREAM}
    for action, body in (
        (f"{APP}:startRecord", {**record, "filePath": path}),
        (f"{APP}:startRecord", {**record, "filePath": "fine.ts", "infoPath": path}),
        (f"{APP}/streams/{STREAM}:startHlsDump", {**dump, "outputPath": path}),
        (f"{APP}/streams/{STREAM}:startHlsDump", {**dump, "outputPath": "fine", "infoFile": path}),
    ):
        status, told = kiln.call("POST", action, body)
        assert status == 400, (action, body, told)
        assert "(400)" in told["message"] or "[Config]" in told["message"]
    assert kiln.call("GET", f"{APP}:records")[1]["response"] == []


def test_an_absolute_path_stays_below_the_media_folder(kiln: KilnProcess) -> None:
    folder = f"/kiln-{os.getpid()}-{os.urandom(4).hex()}"
    dump = {"id": "rooted", "outputStreamName": STREAM, "outputPath": folder}
    assert kiln.call("POST", f"{APP}/streams/{STREAM}:startHlsDump", dump)[0] == 200
    kiln._until(lambda: any((kiln.state / "media").glob(f"{folder[1:]}/*")), "no dump within 10 s", 10)
    assert not Path(folder).exists()
    stop = {"outputStreamName": STREAM, "id": "rooted"}
    assert kiln.call("POST", f"{APP}/streams/{STREAM}:stopHlsDump", stop)[0] == 200


FORBIDDEN_HOSTS = (
    "127.0.0.1", "localhost", "LOCALHOST.", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "2130706433",
    "0x7f.1", "127.1", "0177.0.0.1", "169.254.169.254", "[::ffff:a9fe:a9fe]", "[fe80::1]", "[fd00:ec2::254]",
    "100.100.100.200", "224.0.0.1", "255.255.255.255", "user:word@127.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
)  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_nothing_is_pulled_from_or_pushed_to_the_box_itself(kiln: KilnProcess, host: str) -> None:
    for url in (f"rtmp://{host}/a/b", f"rtsp://{host}:554/x"):
        status, told = kiln.call("POST", f"{APP}/streams", {"name": "inward", "urls": [url]})
        assert status == 400, (url, told)
        assert len(told["message"]) > len("[HTTP]  (400)")
    for protocol, url in (("rtmp", f"rtmp://{host}/a"), ("srt", f"srt://{host}:999")):
        push = {"id": "inward", "stream": {"name": STREAM}, "protocol": protocol, "url": url, "streamKey": "k"}
        status, told = kiln.call("POST", f"{APP}:startPush", push)
        assert status == 400, (url, told)
    assert kiln.call("GET", f"{APP}:pushes")[1]["response"] == []


@pytest.mark.parametrize(
    "url", ["", " ", "rtmp://", "rtmp:///a/b", "rtmp://10.1.1.1:99999/a/b", "rtmp://a b/c", "rtmp://10.1.1.1\r\n/a/b", "://"]
)  # fmt: skip
def test_what_is_no_url_is_not_pushed_to(kiln: KilnProcess, url: str) -> None:
    push = {"id": "none", "stream": {"name": STREAM}, "protocol": "rtmp", "url": url, "streamKey": "k"}
    status, told = kiln.call("POST", f"{APP}:startPush", push)
    assert status == 400, told
    status, told = kiln.call("POST", f"{APP}/streams", {"name": "none", "urls": [url]})
    assert status in (400, 502), told


def test_the_eleventh_bad_token_waits_and_the_good_one_does_not(tmp_path: Path) -> None:
    with KilnProcess(tmp_path) as box:
        statuses = []
        for number in range(12):
            token = "Basic " + base64.b64encode(b"guess%d" % number).decode()
            status, headers, body = exchange(box, "GET", "/v1/vhosts", token=token)
            statuses.append(status)
            envelope(body)
        assert statuses == [401] * 10 + [429] * 2
        assert int(headers["retry-after"]) > 0
        assert exchange(box, "GET", "/v1/vhosts")[0] == 200
