"""The API on real sockets, through the box's own HTTP server."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio

from appliance.net.http_server import HttpServer
from appliance.net.listener import Listener, bind_listeners
from tests.api.box import AUTHORIZATION, open_box


async def test_over_tcp_and_the_unix_socket(tmp_path: Path) -> None:
    tcp, unix = Listener.tcp("127.0.0.1", 0), Listener.unix(tmp_path / "api.sock")
    async with open_box(tmp_path) as box, trio.open_nursery() as nursery:
        box.feed(*box.open("bypass", "cam"), frames=40)
        bind_listeners([tcp, unix])
        nursery.start_soon(HttpServer(box.api, name="api", server_header="Kiln").serve, [tcp, unix])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{tcp.port}") as client:
            path = "/v1/vhosts/default/apps/bypass/streams/cam"
            assert (await client.get(path)).status_code == 401
            client.headers["Authorization"] = AUTHORIZATION
            answer = await client.get(path)
            assert answer.json()["response"]["name"] == "cam"
            head = await client.head(path)
            assert head.content == b""
            assert head.headers["content-length"] == answer.headers["content-length"]
            options = await client.options(path)
            assert options.status_code == 204
            assert "content-length" not in options.headers
            assert (await client.get("/v1/vhosts/my%20host")).json()["message"].startswith(
                "[HTTP] Could not find the virtual host: [my%20host]"
            )
            assert (await client.get("/")).headers["content-type"].startswith("text/html")
        local = httpx.AsyncHTTPTransport(uds=str(tmp_path / "api.sock"))
        async with httpx.AsyncClient(transport=local, base_url="http://anything") as client:
            assert (await client.get("/v1/vhosts")).json()["response"] == ["default"]
        nursery.cancel_scope.cancel()
