from __future__ import annotations

import pytest

from appliance.net.hosts import host_name


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (b"box.lan", "box.lan"),
        (b"Box.LAN:8081", "box.lan"),
        (b"[::1]:8081", "::1"),
        (b"[FE80::1]", "fe80::1"),
        (b"[::1", "::1"),
        (b":80", ""),
        (b"", ""),
        (b"\xff:1", "\xff"),
    ],
)
def test_host_names(header: bytes, host: str) -> None:
    assert host_name(header) == host
