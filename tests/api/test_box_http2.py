"""Events over TLS with HTTP/2, as a browser on the LAN gets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from appliance.net.tls import self_signed
from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.ports import free_port
from tests.kit.server_xml import Application, ServerXml


@dataclass(frozen=True)
class WithTls(ServerXml):
    api_tls: int = field(default_factory=free_port)
    key: Path = Path()
    cert: Path = Path()

    def xml(self) -> str:
        port, names = f"<Port>{self.ports.api}</Port>", "<Host><Names><Name>*</Name></Names></Host>\n  </Managers>"
        files = f"<TLS><CertPath>{self.cert}</CertPath><KeyPath>{self.key}</KeyPath></TLS>"
        plain = super().xml()
        assert port in plain
        assert names in plain
        return plain.replace(port, f"{port}<TLSPort>{self.api_tls}</TLSPort>").replace(
            names, names.replace("</Host>", f"{files}</Host>")
        )


async def test_events_over_http2(tmp_path: Path) -> None:
    cert, key = self_signed(["localhost"], tmp_path / "tls")
    server = WithTls((Application("app"),), cert=Path(cert), key=Path(key))
    with KilnProcess(tmp_path, server):
        async with httpx.AsyncClient(
            http2=True, verify=False, trust_env=False, headers={"Authorization": AUTHORIZATION},
            base_url=f"https://127.0.0.1:{server.api_tls}",
        ) as http:  # fmt: skip
            got = b""
            with trio.fail_after(10), trio.CancelScope() as enough:
                async with http.stream("GET", "/box/v1/events") as answer:
                    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                    async for piece in answer.aiter_raw():
                        got += piece
                        if b"event: figures" in got:
                            enough.cancel()
            assert got.startswith(b"retry: 1000\n\nid: ")
            assert b"event: figures" in got
            assert (await http.get("/metrics")).http_version == "HTTP/2"
