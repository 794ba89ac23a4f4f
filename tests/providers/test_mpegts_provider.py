"""MPEG-TS over UDP and TCP: real encoders, sender switch, silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.media.contracts import Source
from appliance.providers.mpegts import MpegtsPort, MpegtsProvider, Target
from appliance.providers.mpegts.session import without_rtp
from appliance.settings.models import Application
from appliance.settings.models.providers import MpegtsProvider as MpegtsSettings
from appliance.settings.models.providers import Providers
from tests.kit import ffmpeg
from tests.kit.ffmpeg import SMALL, TINY, Ffmpeg
from tests.kit.frames import of_file
from tests.kit.ports import free_port
from tests.kit.recording_directory import RecordingDirectory, provider_context

CAPTURE = (Path(__file__).parents[1] / "protocols" / "corpus" / "mpegts" / "h264-aac.ts").read_bytes()
DATAGRAMS = [CAPTURE[at : at + 1316] for at in range(0, len(CAPTURE), 1316)]


@asynccontextmanager
async def providing(
    directory: RecordingDirectory, *ports: MpegtsPort, silence_ms: int = 1500, mapped: bool = True
) -> AsyncIterator[MpegtsProvider]:
    settings = MpegtsSettings(packet_silence_timeout_ms=silence_ms)
    providers = Providers(mpegts=settings)
    directory.applications["default", "app"] = Application(name="app", type="live", providers=providers)

    def look_up(port: MpegtsPort) -> Target | None:
        return Target("default", "app", f"ts{ports.index(port) if port in ports else 0}", settings) if mapped else None

    async with provider_context(directory) as context:
        provider = MpegtsProvider(context, ports or [MpegtsPort("127.0.0.1", 0)], look_up)
        await context.nursery.start(lambda task_status: provider.run(lambda: None, task_status=task_status))
        yield provider
        context.nursery.cancel_scope.cancel()


def publish(spec: ffmpeg.SourceSpec, url: str, form: str = "mpegts") -> Ffmpeg:
    return Ffmpeg(["-re", "-i", str(ffmpeg.source(spec)), "-c", "copy", "-f", form, url])


@asynccontextmanager
async def sender(port: int) -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.connect(("127.0.0.1", port))
        yield sock


@pytest.mark.long
async def test_every_frame_arrives_over_udp() -> None:
    directory = RecordingDirectory()
    async with providing(directory) as provider:
        with publish(SMALL, f"udp://127.0.0.1:{provider.ports[0]}?pkt_size=1316"):
            opened = await directory.opened()
            assert await opened.wait_closed(30) == "no data for 1500 ms"
    file = ffmpeg.source(SMALL)
    assert opened.source.kind == "MPEGTS"
    assert opened.source.url.startswith("UDP://127.0.0.1:")
    assert len(opened.of("Video")) == len(of_file(file, "video"))
    sent = len(of_file(file, "audio"))
    assert sent - 3 <= len(opened.of("Audio")) <= sent
    assert provider.counters.streams == 1


@pytest.mark.parametrize(("form", "url"), [("rtp_mpegts", "rtp://127.0.0.1:{}"), ("mpegts", "tcp://127.0.0.1:{}")])
async def test_rtp_and_tcp(form: str, url: str) -> None:
    directory = RecordingDirectory()
    port = MpegtsPort("127.0.0.1", 0, "tcp" if "tcp" in url else "udp")
    async with providing(directory, port) as provider:
        with publish(TINY, url.format(provider.ports[0]), form):
            opened = await directory.opened()
            await opened.wait(lambda this: len(this.of("Video")) > 60)
        if "tcp" in url:
            # Killed: the connection is lost or closed.
            assert await opened.wait_closed(5)
    damage = next(iter(provider.damage.values()), None)
    assert damage is None or damage.garbage == 0


async def test_multicast() -> None:
    directory = RecordingDirectory()
    group = MpegtsPort("239.255.77.1", 0, "udp", "127.0.0.1")
    async with providing(directory, group) as provider:
        url = f"udp://239.255.77.1:{provider.ports[0]}?pkt_size=1316&localaddr=127.0.0.1"
        with publish(TINY, url):
            opened = await directory.opened()
            await opened.wait(lambda this: len(this.of("Video")) > 30)


async def test_groups_are_joined_and_left_while_it_runs() -> None:
    directory = RecordingDirectory()
    group = MpegtsPort("239.255.77.2", free_port(), "udp", "127.0.0.1")
    lost = MpegtsPort("239.255.77.3", free_port(), "udp", "192.0.2.1")
    wanted: list[MpegtsPort] = []
    told: list[tuple[str, bool]] = []
    shown: list[list[str]] = []
    settings = MpegtsSettings()
    providers = Providers(mpegts=settings)
    directory.applications["default", "app"] = Application(name="app", type="live", providers=providers)
    async with provider_context(directory) as context:
        provider = MpegtsProvider(
            context, [MpegtsPort("127.0.0.1", 0)], lambda port: Target("default", "app", "group", settings),
            lambda places: shown.append([host for _, host, _ in places]),
            groups=lambda: wanted, group_failed=lambda port, error: told.append((port.host, error is not None)),
        )  # fmt: skip
        await context.nursery.start(lambda task_status: provider.run(lambda: None, task_status=task_status))
        assert shown == [["127.0.0.1"]]
        with publish(TINY, f"udp://{group.host}:{group.port}?pkt_size=1316&localaddr=127.0.0.1"), trio.fail_after(15):
            wanted[:] = [group, lost]
            opened = await directory.opened()
            await opened.wait(lambda this: len(this.of("Video")) > 10)
            assert shown[-1] == ["127.0.0.1", group.host]
            assert told == [(lost.host, True)]
            wanted.clear()
            assert await opened.wait_closed(5) == "no application wants the group any longer"
        assert shown[-1] == ["127.0.0.1"]
        assert told == [(lost.host, True), (lost.host, False)]
        context.nursery.cancel_scope.cancel()


async def test_the_first_sender_has_the_port_until_it_is_silent() -> None:
    directory = RecordingDirectory()
    async with providing(directory, silence_ms=400) as provider:  # noqa: SIM117
        async with sender(provider.ports[0]) as first, sender(provider.ports[0]) as second:
            for datagram in DATAGRAMS:
                await first.send(datagram)
                await trio.sleep(0.005)
            opened = await directory.opened()
            for datagram in DATAGRAMS[:5]:
                await second.send(datagram)
                await first.send(CAPTURE[:188])
                await trio.sleep(0.02)
            assert len(directory.inputs) == 1
            assert provider.counters.strangers >= 1
            assert await opened.wait_closed(5) == "no data for 400 ms"
            frames = len(opened.sent)
            for datagram in DATAGRAMS:
                await second.send(datagram)
                await trio.sleep(0.005)
            again = await directory.opened(2)
            await again.wait(lambda this: bool(this.prepared))
            assert again.source.url != opened.source.url
            assert len(opened.sent) == frames


async def test_a_second_tcp_sender_is_closed() -> None:
    directory = RecordingDirectory()
    async with providing(directory, MpegtsPort("127.0.0.1", 0, "tcp")) as provider:
        async with await trio.open_tcp_stream("127.0.0.1", provider.ports[0]) as first:
            await first.send_all(CAPTURE[: 188 * 40])
            opened = await directory.opened()
            async with await trio.open_tcp_stream("127.0.0.1", provider.ports[0]) as second:
                with trio.fail_after(5):
                    assert await second.receive_some(1) == b""
            assert opened.closed is None
        assert await opened.wait_closed(5) == "closed by the sender"


async def test_a_port_that_nothing_maps_and_a_name_in_use_are_counted() -> None:
    directory = RecordingDirectory()
    async with providing(directory, mapped=False) as provider, sender(provider.ports[0]) as sock:
        await sock.send(DATAGRAMS[0])
        await trio.sleep(0.05)
        assert provider.counters.unmapped == 1
        assert directory.inputs == []
    directory = RecordingDirectory()
    async with providing(directory) as provider, sender(provider.ports[0]) as sock:
        directory.open_input("default", "app", "ts0", Source("Rtmp"))
        await sock.send(DATAGRAMS[0])
        await trio.sleep(0.05)
        assert provider.counters.refused == 1


def test_rtp_headers_are_taken_off() -> None:
    assert without_rtp(CAPTURE[:1316]) == CAPTURE[:1316]
    plain = bytes((0x80, 33)) + bytes(10)
    assert without_rtp(plain + CAPTURE[:376]) == CAPTURE[:376]
    extended = bytes((0x92, 0x80 | 33)) + bytes(10) + bytes(8) + b"\xbe\xde\0\1" + bytes(4)
    assert without_rtp(extended + CAPTURE[:376]) == CAPTURE[:376]
    padded = bytes((0xA0, 33)) + bytes(10) + CAPTURE[:376] + b"\0\0\0\4"
    assert without_rtp(padded) == CAPTURE[:376]
