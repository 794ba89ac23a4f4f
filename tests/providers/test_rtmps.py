"""RTMPS: a real encoder publishes inside TLS; who speaks no TLS, or nothing at all, gets no further."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.net.listener import Listener
from appliance.net.tls import TlsContexts, self_signed
from appliance.protocols.rtmp import Refused, RtmpClient
from appliance.providers.rtmp import RtmpProvider
from tests.kit import ffmpeg, frames
from tests.kit.recording_directory import RecordingDirectory, application, provider_context


@asynccontextmanager
async def serving(folder: Path, directory: RecordingDirectory) -> AsyncIterator[RtmpProvider]:
    contexts = TlsContexts()
    contexts.replace("*", *self_signed(["localhost"], folder))
    async with provider_context(directory) as context:
        provider = RtmpProvider(context, [Listener.tls("127.0.0.1", 0, contexts)])
        await context.nursery.start(provider.run, lambda: None)
        yield provider


async def test_every_frame_of_an_encoder(tmp_path: Path) -> None:
    directory, source = RecordingDirectory(), ffmpeg.source(ffmpeg.SMALL)
    async with serving(tmp_path, directory) as provider:
        url = f"rtmps://127.0.0.1:{provider.ports[0]}/app/cam"
        arguments = ["-re", "-t", "2", "-i", str(source), "-c", "copy", "-f", "flv", "-tls_verify", "0", url]
        with ffmpeg.Ffmpeg(arguments) as encoder:
            opened = await directory.opened()
            await opened.wait_closed()
            assert await trio.to_thread.run_sync(encoder.wait) == 0, encoder.said()
    assert opened.source.url.startswith("TCP://127.0.0.1:")
    got = opened.of("Video")
    wanted = frames.of_file(source, "video")[: len(got)]
    assert len(got) == 60
    assert [frames.slices_digest(each.payload) for each in got] == [frame.digest for frame in wanted]


async def test_a_refusal_is_heard(tmp_path: Path) -> None:
    directory = RecordingDirectory({("default", "app"): application(publish_key="swordfish")})
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with serving(tmp_path, directory) as provider:
        plain = await trio.open_tcp_stream("127.0.0.1", provider.ports[0])
        async with trio.SSLStream(plain, trusting, https_compatible=True) as stream:
            client = RtmpClient("rtmps://127.0.0.1/app", "app", "cam?key=wrong")
            events: list[object] = []
            with trio.fail_after(5):
                while not any(isinstance(event, Refused) for event in events):
                    if out := client.data_to_send():
                        await stream.send_all(out)
                    data = await stream.receive_some(65536)
                    assert data, "hung up without a word"
                    events += client.receive_data(bytes(data))
                while await stream.receive_some(65536):
                    pass
        assert provider.counters.refused == 1


@pytest.mark.parametrize("said", [b"", b"\3" + bytes(1536), b"GET / HTTP/1.1\r\n\r\n"])
async def test_who_speaks_no_tls_is_let_go(tmp_path: Path, said: bytes) -> None:
    async with serving(tmp_path, RecordingDirectory()) as provider:
        stream = await trio.open_tcp_stream("127.0.0.1", provider.ports[0])
        async with stream:
            if said:
                await stream.send_all(said)
            else:
                await stream.send_eof()
            with trio.fail_after(5):
                try:
                    while await stream.receive_some(65536):
                        pass
                except trio.BrokenResourceError:
                    # It did not read what we said.
                    assert said
        assert provider.counters.accepted == 0
