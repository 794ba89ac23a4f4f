"""Ports as Server.xml writes them."""

from __future__ import annotations

import pytest

from appliance.errors import ConfigError
from appliance.settings.ports import Candidate, PortList, parse_candidate, parse_port, parse_ports


@pytest.mark.parametrize(
    ("text", "numbers", "protocol"),
    [
        ("4000", (4000,), "udp"),
        (4000, (4000,), "udp"),
        ("4000/udp", (4000,), "udp"),
        (" 9999 / SRT ", (9999,), "srt"),
        ("4000-4001,4004,4005/udp", (4000, 4001, 4004, 4005), "udp"),
        ("5,3-4,4", (3, 4, 5), "udp"),
        ("0", (0,), "udp"),
        ("65535/tcp", (65535,), "tcp"),
    ],
)
def test_ports(text: str | int, numbers: tuple[int, ...], protocol: str) -> None:
    assert parse_ports(text, "udp") == PortList(numbers, protocol)


@pytest.mark.parametrize(
    "text", ["", "x", "65536", "5-4", "-1", "1.5", "80,", "80/", "80//tcp", "1-70000", "９９", "9" * 5000]
)
def test_wrong_ports(text: str) -> None:
    with pytest.raises(ConfigError, match="Invalid port"):
        parse_ports(text, "udp")


def test_one_tcp_port() -> None:
    assert [parse_port("1935"), parse_port("1935/tcp"), parse_port(8081)] == [1935, 1935, 8081]
    for wrong in ("1935/udp", "1935,1936", "1-2", -1):
        with pytest.raises(ConfigError, match="Invalid port"):
            parse_port(wrong)


@pytest.mark.parametrize(
    ("text", "address", "numbers", "protocol"),
    [
        ("*:10000/udp", "*", (10000,), "udp"),
        ("192.0.2.1:10000-10002", "192.0.2.1", (10000, 10001, 10002), "udp"),
        ("[2001:db8::1]:3478/tcp", "2001:db8::1", (3478,), "tcp"),
        ("box.example.net:1", "box.example.net", (1,), "udp"),
    ],
)
def test_candidates(text: str, address: str, numbers: tuple[int, ...], protocol: str) -> None:
    assert parse_candidate(text, "udp") == Candidate(address, PortList(numbers, protocol))


@pytest.mark.parametrize("text", ["", ":1", "*", "*:", "a:b:1", "[]:1", "*:99999"])
def test_wrong_candidates(text: str) -> None:
    with pytest.raises(ConfigError, match="Invalid"):
        parse_candidate(text, "udp")
