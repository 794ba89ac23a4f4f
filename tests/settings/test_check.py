"""What only shows when the whole file is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings.check import check_file
from tests.settings.writer import application, server

TLS = "<TLS><CertPath>a.crt</CertPath><KeyPath>a.key</KeyPath></TLS>"
SECURE_HOST = f"<VirtualHost><Name>v</Name><Host>{TLS}</Host></VirtualHost>"


def faults(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "Server.xml"
    file.write_text(text)
    found = check_file(file)
    assert all(fault.line > 0 for fault in found)
    return [f"{fault.path}: {fault.message}" for fault in found]


def ports(
    api: str = "8081", rtmp: str = "1935", llhls: str = "3333", more_publishers: str = "", more_providers: str = ""
) -> str:
    return (
        f"<Managers><API><Port>{api}</Port></API></Managers>"
        f"<Providers><RTMP><Port>{rtmp}</Port></RTMP>{more_providers}</Providers>"
        f"<Publishers><LLHLS><Port>{llhls}</Port></LLHLS>{more_publishers}</Publishers>"
    )


SIGNALLING = (
    "<WebRTC><Signalling><Port>3333</Port></Signalling>"
    "<IceCandidates><IceCandidate>*:10000-10004/udp</IceCandidate></IceCandidates></WebRTC>"
)


@pytest.mark.parametrize(
    "bind",
    [
        ports(),
        ports(more_publishers="<HLS><Port>3333</Port></HLS><Thumbnail/>" + SIGNALLING, more_providers=SIGNALLING),
        ports(api="0", rtmp="0", llhls="0"),
        ports(more_providers="<MPEGTS><Port>1935/udp</Port></MPEGTS>"),
        ports(more_providers="<SRT/>", more_publishers="<SRT/>"),
    ],
)
def test_ports_that_do_not_clash(tmp_path: Path, bind: str) -> None:
    assert faults(tmp_path, server(bind=bind)) == []


@pytest.mark.parametrize(
    ("bind", "fault"),
    [
        (ports(rtmp="8081"), "Providers.RTMP.Port: Port 8081/tcp is already taken by Server.Bind.Managers.API.Port"),
        (
            ports(llhls="1935"),
            "Publishers.LLHLS.Port: Port 1935/tcp is already taken by Server.Bind.Providers.RTMP.Port",
        ),
        (ports(api="3333"), "Publishers.LLHLS.Port: Port 3333/tcp is already taken by Server.Bind.Managers.API.Port"),
        (
            ports(more_publishers="<SRT><Port>9999</Port></SRT>", more_providers="<SRT/>"),
            "Publishers.SRT.Port: Port 9999/udp is already taken by Server.Bind.Providers.SRT.Port",
        ),
        (
            ports(more_providers="<MPEGTS><Port>9990-9999/udp</Port></MPEGTS><SRT/>"),
            "Providers.SRT.Port: Port 9999/udp is already taken by Server.Bind.Providers.MPEGTS.Port",
        ),
        (
            ports(more_publishers=SIGNALLING, more_providers="<MPEGTS><Port>10002</Port></MPEGTS>"),
            "Publishers.WebRTC.IceCandidates.IceCandidate: Port 10002/udp is already taken by "
            "Server.Bind.Providers.MPEGTS.Port",
        ),
        (
            ports(more_publishers="<OVT><Port>8081</Port></OVT>"),
            "Publishers.OVT.Port: Port 8081/tcp is already taken by Server.Bind.Managers.API.Port",
        ),
    ],
)
def test_ports_that_clash(tmp_path: Path, bind: str, fault: str) -> None:
    assert faults(tmp_path, server(bind=bind)) == [f"Server.Bind.{fault}"]


def test_plain_and_tls_on_one_port(tmp_path: Path) -> None:
    bind = "<Publishers><LLHLS><Port>3333</Port><TLSPort>3333</TLSPort></LLHLS></Publishers>"
    (fault,) = faults(tmp_path, server(bind=bind, hosts=SECURE_HOST))
    assert fault.startswith("Server.Bind.Publishers.LLHLS.TLSPort: Port 3333/tcp is already taken")


def test_tls_of_the_api_needs_a_certificate(tmp_path: Path) -> None:
    bind = "<Managers><API><TLSPort>8082</TLSPort></API></Managers>"
    assert faults(tmp_path, server(bind=bind)) == [
        "Server.Bind.Managers.API.TLSPort: TLSPort needs a certificate: Server.Managers.Host.TLS"
    ]
    half = "<Managers><Host><TLS><CertPath>a.crt</CertPath></TLS></Host></Managers>"
    assert len(faults(tmp_path, server(bind=bind, more=half))) == 1
    assert faults(tmp_path, server(bind=bind, more=f"<Managers><Host>{TLS}</Host></Managers>")) == []


def test_tls_of_the_publishers_needs_one_of_a_virtual_host(tmp_path: Path) -> None:
    bind = "<Publishers><LLHLS><TLSPort>3334</TLSPort></LLHLS></Publishers>"
    assert faults(tmp_path, server(bind=bind)) == [
        "Server.Bind.Publishers.LLHLS.TLSPort: TLSPort needs a certificate: Server.VirtualHosts.VirtualHost.Host.TLS"
    ]
    assert faults(tmp_path, server(bind=bind, hosts=SECURE_HOST)) == []


def test_names_given_twice(tmp_path: Path) -> None:
    profiles = (
        "<OutputProfiles>" + "\n<OutputProfile><Name>p</Name><OutputStreamName>s</OutputStreamName></OutputProfile>" * 2
    )
    apps = application() + application() + application(profiles + "</OutputProfiles>", name="b")
    host = f"\n<VirtualHost><Name>v</Name><Applications>{apps}</Applications></VirtualHost>"
    found = faults(tmp_path, server(hosts=host + "\n<VirtualHost><Name>v</Name></VirtualHost>"))
    assert sorted(fault.split(": ", 1)[1] for fault in found) == [
        "Duplicate application name: app",
        "Duplicate output profile name: p",
        "Duplicate virtual host name: v",
    ]


def test_the_line_of_a_name_given_twice(tmp_path: Path) -> None:
    file = tmp_path / "Server.xml"
    file.write_text(server(hosts="\n<VirtualHost><Name>v</Name></VirtualHost>" * 3))
    assert [fault.line for fault in check_file(file)] == [4, 5]
