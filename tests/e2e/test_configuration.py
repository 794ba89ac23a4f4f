"""The whole configuration of a box that runs: ports move, what is untouched stays, what nobody confirms is undone."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from pathlib import Path

from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.ports import free_ports
from tests.kit.server_xml import Application, ServerXml

CONFIG = "/box/v1/config"


def test_a_port_moves_and_the_others_stay(tmp_path: Path) -> None:
    (moved,) = free_ports(1)
    with KilnProcess(tmp_path, ServerXml((Application(),))) as kiln:
        kept = http.client.HTTPConnection("127.0.0.1", kiln.ports.http, timeout=5)
        kept.request("GET", "/")
        assert kept.getresponse().read()
        status, told = kiln.call("PATCH", CONFIG, {"bind": {"providers": {"rtmp": {"port": moved}}}})
        assert status == 200
        assert told["response"]["restarts"] == ["rtmp"]
        kiln.wait_said(f"service=rtmp on=tcp://127.0.0.1:{moved}")
        kept.request("GET", "/")
        assert kept.getresponse().status == 200
        kept.close()
        assert f"<Port>{moved}</Port>" in kiln.config.read_text()


def test_the_api_moves_after_its_answer(tmp_path: Path) -> None:
    (moved,) = free_ports(1)
    with KilnProcess(tmp_path, ServerXml((Application(),))) as kiln:
        status, _ = kiln.call("PATCH", CONFIG, {"bind": {"managers": {"api": {"port": moved}}}})
        assert status == 200
        kiln.wait_said(f"service=api on=tcp://127.0.0.1:{moved}")
        connection = http.client.HTTPConnection("127.0.0.1", moved, timeout=5)
        connection.request("GET", "/v1/version")
        assert connection.getresponse().status == 401
        connection.close()


def test_a_port_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other, KilnProcess(tmp_path, ServerXml((Application(),))) as kiln:
        other.bind(("127.0.0.1", 0))
        other.listen()
        before = kiln.config.read_text()
        wanted = {"bind": {"publishers": {"llhls": {"port": other.getsockname()[1]}}}}
        status, told = kiln.call("PATCH", CONFIG, wanted)
        assert status == 400
        assert "in use" in told["message"]
        assert kiln.config.read_text() == before


def test_a_kill_undoes_what_was_not_confirmed(tmp_path: Path) -> None:
    kiln = KilnProcess(tmp_path, ServerXml((Application(),)))
    with kiln:
        before = kiln.config.read_text()
        document = kiln.api(CONFIG)
        change = {"name": "other", "virtualHosts": [*document["virtualHosts"], {"name": "new"}]}
        assert kiln.call("PATCH", f"{CONFIG}?confirm-within=600", change)[0] == 200
        assert kiln.config.read_text() != before
        kiln.kill()
        # The tests' helper would write the file anew.
        kiln.server = _Keeps(kiln.server)
        kiln.start()
        assert kiln.config.read_text() == before
        assert kiln.api(CONFIG) == document
        assert kiln.call("POST", f"{CONFIG}:confirm")[0] == 409


def test_https_is_on_by_itself(tmp_path: Path) -> None:
    server = ServerXml((Application(),))
    api_tls, hls_tls = free_ports(2)
    text = server.xml().replace("</Port></API>", f"</Port><TLSPort>{api_tls}</TLSPort></API>", 1)
    text = text.replace("</Port></LLHLS>", f"</Port><TLSPort>{hls_tls}</TLSPort></LLHLS>", 1)
    own = "<TLS><SelfSigned>true</SelfSigned></TLS>"
    text = text.replace("</Names></Host>\n  </Managers>", f"</Names>{own}</Host></Managers>")
    kiln = KilnProcess(tmp_path, _Keeps(server))
    tmp_path.mkdir(exist_ok=True)
    kiln.config.write_text(text)
    with kiln:
        for port in (api_tls, hls_tls):
            pem = ssl.get_server_certificate(("127.0.0.1", port))
            context = ssl.create_default_context(cadata=pem)
            connection = http.client.HTTPSConnection("localhost", port, timeout=5, context=context)
            connection.request("GET", "/v1/version")
            assert connection.getresponse().status in (401, 404)
            connection.close()
        assert re.search(r"API +https://127\.0\.0\.1:\d+/v1/version", kiln.said())
        wanted = {"name": "mine", "names": ["localhost", "tv.test"]}
        assert kiln.call("POST", "/box/v1/certificates:selfSigned", wanted)[0] == 201
        kept = http.client.HTTPSConnection("localhost", api_tls, timeout=5, context=ssl._create_unverified_context())
        kept.request("GET", "/v1/version")
        kept.getresponse().read()
        status, told = kiln.call("POST", "/box/v1/certificates/mine:assign", {"managers": True})
        assert status == 200, told
        kept.request("GET", "/v1/version")
        assert kept.getresponse().status == 401
        kept.close()
        assert ssl.get_server_certificate(("127.0.0.1", api_tls)) != ssl.get_server_certificate(("127.0.0.1", hls_tls))


def test_a_body_over_the_limit(tmp_path: Path) -> None:
    with KilnProcess(tmp_path, ServerXml((Application(),))) as kiln:
        connection = http.client.HTTPConnection("127.0.0.1", kiln.ports.api, timeout=10)
        connection.request("POST", CONFIG, body=b" " * (5 << 20), headers={"Authorization": AUTHORIZATION})
        assert connection.getresponse().status == 413
        connection.close()
        deadline = time.monotonic() + 5
        assert kiln.api("/v1/version")
        assert time.monotonic() < deadline


class _Keeps(ServerXml):
    """Leaves the file as it is."""

    def __init__(self, server: ServerXml) -> None:
        super().__init__(server.applications, server.ports, server.certificate)

    def write(self, path: Path) -> Path:
        return path
