"""What the RTMP provider is given: listeners, and peers' names."""

from __future__ import annotations

from appliance.providers.rtmp.ingest import Peer


def test_a_source_is_named_by_its_address() -> None:
    assert Peer("10.0.0.1:99", "10.0.0.1").source.url == "TCP://10.0.0.1:99"
    assert Peer("2001:db8::1:99", "2001:db8::1").source.url == "TCP://[2001:db8::1]:99"
