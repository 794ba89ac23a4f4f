"""The chain around the resources: hosts, the unix socket, trailing slashes, ETag, faults."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from appliance.access.roles import Role
from appliance.api.auth import TokenCheck
from appliance.api.cors import CrossOrigin
from appliance.api.envelope import Answer, success
from appliance.api.management import ManagementApi
from appliance.api.request import Request
from appliance.api.routes import Route, RouteTable
from appliance.errors import NameTaken
from appliance.media.contracts import Source
from appliance.net.asgi import Message, Scope
from tests.api.box import AUTHORIZATION, open_box, request


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1/vhosts/", "Could not find the virtual host: []"),
        ("/v1/vhosts/default/", "Controller not found"),
        ("/v1/vhosts/default/apps/", "Could not find the application: [default/]"),
        ("/v1/vhosts/default/apps/app/", "Controller not found"),
        ("/v1/vhosts/default/apps/app/streams/", "Could not find the stream: [default/#default#app/]"),
        ("/v1/vhosts/nope/apps/app/streams/x", "Could not find the virtual host: [nope]"),
        ("/v1/vhosts/default/apps/nope/streams/x", "Could not find the application: [default/nope]"),
        ("/v1/vhosts/default/apps/x:y", "Controller not found"),
        ("/v1/vhosts/default/apps/app/streams/x:y", "Could not find the stream: [default/#default#app/x:y]"),
        ("/v1/vhosts/de%66ault", "Could not find the virtual host: [de%66ault]"),
        ("/v1/version/", "Controller not found"),
        ("/v2/version", "Controller not found"),
    ],
)
async def test_what_is_not_there(path: str, text: str, tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        answer = await box.ask("GET", path)
        assert answer.status_code == 404
        assert answer.json() == {"message": f"[HTTP] {text} (404)", "statusCode": 404}
        head = await box.ask("HEAD", path)
        assert (head.status_code, head.content) == (404, b"")
        assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_wrong_method_is_an_unknown_route(method: str, tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        answer = await box.ask(method, "/v1/version")
        assert answer.status_code == 404
        assert answer.json()["message"] == "[HTTP] Controller not found (404)"


async def test_version_and_the_settings_alone(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        assert set((await box.ask("GET", "/v1/version")).json()["response"]) == {"gitVersion", "version"}
        settings = (await box.ask("GET", "/v1/vhosts/default/apps/bypass:")).json()["response"]
        whole = (await box.ask("GET", "/v1/vhosts/default/apps/bypass")).json()["response"]
        assert {**settings, "dynamic": False} == whole
        vhost = (await box.ask("GET", "/v1/vhosts/default")).json()["response"]
        assert "applications" not in vhost
        assert vhost["distribution"] == "peer.local"


async def test_an_input_is_there_once_its_tracks_are_known(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        opened, _, _ = box.open("bypass", "on")
        box.engine.directory.open_input("default", "bypass", "soon", Source("Rtmp"))
        streams = "/v1/vhosts/default/apps/bypass/streams"
        assert (await box.ask("GET", streams)).json()["response"] == ["on"]
        assert (await box.ask("GET", f"{streams}/soon")).status_code == 404
        assert (await box.ask("GET", f"{streams}/on")).status_code == 200
        opened.close("over")
        assert (await box.ask("GET", streams)).json()["response"] == []


async def test_options_needs_no_token(tmp_path: Path) -> None:
    async with open_box(tmp_path) as box:
        for path in ("/v1/vhosts", "/v1/nothing"):
            answer = await box.ask("OPTIONS", path, {})
            assert (answer.status_code, answer.content) == (204, b"")
            assert "content-length" not in answer.headers


def small_api(*, etag: bool = False) -> ManagementApi:
    async def fine(request: Request) -> Answer:
        return success([1])

    async def taken(request: Request) -> Answer:
        raise NameTaken("it is taken")

    async def broken(request: Request) -> Answer:
        raise ZeroDivisionError

    handlers = {"/fine": fine, "/taken": taken, "/broken": broken}
    routes = [Route("GET", path, handler, Role.VIEWER) for path, handler in handlers.items()]
    token = TokenCheck(lambda token: token == b"ome-access-token")
    return ManagementApi(
        RouteTable(routes), token, CrossOrigin(None, None), lambda host: host == "localhost", etag=etag
    )


async def ask(path: str, *, etag: bool = False, method: str = "GET", **headers: str) -> httpx.Response:
    sent = {"Authorization": AUTHORIZATION, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await request(small_api(etag=etag), method, path, sent)


async def test_errors_take_their_status_and_a_fault_harms_one_request(caplog: pytest.LogCaptureFixture) -> None:
    taken = await ask("/taken")
    assert (taken.status_code, taken.json()["message"]) == (409, "[HTTP] it is taken (409)")
    with caplog.at_level(logging.ERROR):
        broken = await ask("/broken")
    assert (broken.status_code, broken.json()["message"]) == (500, "[HTTP] Internal Server Error (500)")
    assert "ZeroDivisionError" in caplog.text
    assert (await ask("/fine")).status_code == 200


async def test_only_the_listed_hosts_are_answered() -> None:
    assert (await ask("/fine", Host="localhost:9")).status_code == 200
    for host in ("evil.example", "evil.example:8081", "", "[::1]:8081"):
        answer = await ask("/fine", Host=host)
        assert (answer.status_code, answer.json()["message"]) == (404, "[HTTP] Host not allowed (404)")


async def test_the_unix_socket_needs_neither_token_nor_host() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/fine", "raw_path": b"/fine", "headers": []}
    await small_api()(scope, receive, send)
    assert sent[0]["status"] == 404
    await small_api()({**scope, "extensions": {"kiln.peer": {"pid": 1, "uid": 0, "gid": 0}}}, receive, send)
    assert [message.get("status") for message in sent] == [404, None, 200, None]


async def test_etag_only_where_it_is_switched_on() -> None:
    assert "etag" not in (await ask("/fine")).headers
    first = await ask("/fine", etag=True)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await ask("/fine", etag=True, If_None_Match=known)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await ask("/fine", etag=True, If_None_Match='"other"')).status_code == 200
    assert (await ask("/taken", etag=True, If_None_Match="*")).status_code == 409


async def test_the_first_matching_route_wins_and_all_are_found() -> None:
    async def handler(request: Request, *names: str) -> Answer:
        return success(list(names))

    paths = ["/a", "/a/{v}", "/a/{v}/b", "/a/{v}/b/{a}", "/a/{v}/b/{a}:", "/a/{v}/b/{a}/c/{s}", "/a/x", "/{v}"]
    table = RouteTable([Route("GET", path, handler, Role.VIEWER) for path in paths])
    found = {path: table.find("GET", path) for path in ("/a", "/a/x", "/a/1:2/b/3", "/a/1/b/3:", "/a//b//c/", "/z")}
    assert {path: match[1] if match else None for path, match in found.items()} == {
        "/a": (),
        "/a/x": ("x",),
        "/a/1:2/b/3": ("1:2", "3"),
        "/a/1/b/3:": ("1", "3"),
        "/a//b//c/": ("", "", ""),
        "/z": ("z",),
    }
    assert table.find("GET", "/a/1/2") is None
    assert table.find("POST", "/a") is None
    assert table.find("HEAD", "/a") == table.find("GET", "/a")
