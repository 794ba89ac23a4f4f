"""What the RTMP provider is given: listeners, and peers' names."""

from __future__ import annotations

import pytest

from appliance.errors import ConfigError
from appliance.net.listener import Listener
from appliance.providers.rtmp import RtmpProvider
from appliance.providers.rtmp.ingest import Peer
from tests.kit.recording_directory import RecordingDirectory, provider_context


def test_a_source_is_named_by_its_address() -> None:
    assert Peer("10.0.0.1:99", "10.0.0.1").source.url == "TCP://10.0.0.1:99"
    assert Peer("2001:db8::1:99", "2001:db8::1").source.url == "TCP://[2001:db8::1]:99"


async def test_tls_listeners_are_refused() -> None:
    async with provider_context(RecordingDirectory()) as context:
        listener = Listener("127.0.0.1", 0, object(), "")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="TLS"):
            RtmpProvider(context, [listener])
