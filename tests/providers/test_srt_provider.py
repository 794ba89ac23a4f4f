"""SRT ingest with real encoders: every frame, every refusal, over bad networks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio

from appliance.net import srt
from appliance.net.srt import SrtRefused, SrtSocket
from appliance.providers.srt import SrtPort, SrtProvider
from appliance.settings.models import Application
from appliance.settings.models.providers import AudioMapItem, Providers
from appliance.settings.models.providers import SrtProvider as SrtSettings
from tests.kit import ffmpeg
from tests.kit.ffmpeg import B_FRAMES, SMALL, TINY, Ffmpeg
from tests.kit.frames import of_file
from tests.kit.recording_directory import RecordingDirectory, provider_context

pytestmark = pytest.mark.needs("libsrt")

PASSPHRASE = "a passphrase"


def applications(**settings: object) -> dict[tuple[str, str], Application]:
    made = SrtSettings(**settings)  # type: ignore[arg-type]
    return {("default", "app"): Application(name="app", type="live", providers=Providers(srt=made))}


@asynccontextmanager
async def providing(directory: RecordingDirectory, *ports: SrtPort) -> AsyncIterator[SrtProvider]:
    async with provider_context(directory) as context:
        provider = SrtProvider(context, ports or [SrtPort("127.0.0.1", 0)])
        await context.nursery.start(lambda task_status: provider.run(lambda: None, task_status=task_status))
        yield provider
        context.nursery.cancel_scope.cancel()


def publish(spec: ffmpeg.SourceSpec, port: int, stream_id: str, more: str = "") -> Ffmpeg:
    url = f"srt://127.0.0.1:{port}?streamid={stream_id}{more}"
    return Ffmpeg(["-re", "-i", str(ffmpeg.source(spec)), "-c", "copy", "-f", "mpegts", url])


async def refusal(port: int, stream_id: str, **more: str) -> int:
    with pytest.raises(SrtRefused) as refused:
        await srt.connect("127.0.0.1", port, stream_id=stream_id, **more)  # type: ignore[arg-type]
    return refused.value.code


async def gone(socket: SrtSocket) -> None:
    while await socket.receive():
        pass


@pytest.mark.parametrize("spec", [pytest.param(SMALL, marks=pytest.mark.long), B_FRAMES], ids=lambda spec: spec.name)
async def test_every_frame_of_an_encoder_arrives(spec: ffmpeg.SourceSpec) -> None:
    directory = RecordingDirectory(applications())
    async with providing(directory) as provider:
        with publish(spec, provider.ports[0], "default/app/cam"):
            opened = await directory.opened()
            await opened.wait(lambda this: bool(this.prepared))
            statistics = provider.statistics["default/app/cam"]
            assert await opened.wait_closed(30) == "closed by the publisher"
    assert (opened.label, opened.source.kind, opened.source.address) == ("default/app/cam", "SRT", "127.0.0.1")
    assert opened.source.url.startswith("SRT://127.0.0.1:")
    assert statistics.packets_received > 0
    assert statistics.latency >= 120
    file = ffmpeg.source(spec)
    pictures, sounds = opened.of("Video"), opened.of("Audio")
    # An encoder that closes takes back what libsrt has not sent yet: some frames at the end.
    sent = len(of_file(file, "video"))
    assert sent - 12 <= len(pictures) <= sent
    assert all(after.dts - before.dts == 90000 // spec.rate for before, after in pairwise(pictures))
    assert sum(each.keyframe for each in pictures) == -(-spec.seconds * spec.rate // spec.gop)
    sent = len(of_file(file, "audio"))
    assert sent - 20 <= len(sounds) <= sent
    assert all(1023 <= after.dts - before.dts <= 1025 for before, after in pairwise(sounds))
    assert [each.pts - each.dts for each in pictures] != [0] * len(pictures) or not spec.bframes
    assert provider.counters.published == 1


async def test_who_is_refused_is_told_why() -> None:
    directory = RecordingDirectory(applications(publish_key="secret"))
    async with providing(directory) as provider:
        port = provider.ports[0]
        with trio.fail_after(20):
            assert await refusal(port, "") == 1400
            assert await refusal(port, "app/cam") == 1400
            assert await refusal(port, "default/nothing/cam?key=secret") == 1404
            assert await refusal(port, "default/app/cam") == 1401
            assert await refusal(port, "default/app/cam?key=Secret") == 1401
            assert await refusal(port, "default/app/a b?key=secret") == 1400
            assert await refusal(port, "#!::r=default/app/cam,m=request,key=secret") == 1405
            first = await srt.connect("127.0.0.1", port, stream_id="#!::r=default/app/cam,m=publish,key=secret")
            await directory.opened()
            assert await refusal(port, "srt%3A%2F%2Fdefault%2Fapp%2Fcam%3Fkey%3Dsecret") == 1409
            first.close()
            await directory.inputs[0].wait_closed()
        assert provider.counters.refused == 8
        assert provider.counters.reasons == {1400: 3, 1404: 1, 1401: 2, 1405: 1, 1409: 1}


async def test_a_duplicate_takes_the_place_where_the_settings_say_so() -> None:
    directory = RecordingDirectory(applications(block_duplicate_stream_name=False))
    async with providing(directory) as provider:
        with trio.fail_after(20):
            first = await srt.connect("127.0.0.1", provider.ports[0], stream_id="default/app/cam")
            await directory.opened()
            second = await srt.connect("127.0.0.1", provider.ports[0], stream_id="default/app/cam")
            await directory.opened(2)
            assert await directory.inputs[0].wait_closed() == "replaced"
            await gone(first)
            first.close()
            second.close()


async def test_passphrase_options_and_ports_mapped_to_streams() -> None:
    directory = RecordingDirectory(applications())
    options = {"SRTO_PASSPHRASE": PASSPHRASE, "SRTO_PBKEYLEN": "24", "SRTO_LATENCY": "333"}
    mapped = SrtPort("127.0.0.1", 0, options, "default/app/mapped")
    async with providing(directory, SrtPort("127.0.0.1", 0), mapped) as provider:
        port = provider.ports[1]
        assert await refusal(port, "default/app/cam", passphrase="a wrong passphrase") == 10
        assert await refusal(port, "default/app/cam") == 11
        with publish(TINY, port, "", f"&passphrase={PASSPHRASE.replace(' ', '%20')}&pbkeylen=24"):
            opened = await directory.opened()
            await opened.wait(lambda this: len(this.sent) > 30)
            assert opened.label == "default/app/mapped"
            assert provider.statistics["default/app/mapped"].latency == 333


async def test_sounds_are_named_by_the_audio_map() -> None:
    names = (AudioMapItem(name="English", language="en", characteristics="public.easy-to-read"),)
    directory = RecordingDirectory(applications(audio_map=names))
    async with providing(directory) as provider:
        with publish(SMALL, provider.ports[0], "default/app/cam"):
            opened = await directory.opened()
            await opened.wait(lambda this: len(this.of("Audio")) > 20)
    audio = opened.prepared[1]
    assert (audio.public_name, audio.language, audio.characteristics) == ("English", "en", "public.easy-to-read")
    assert {id(each.track) for each in opened.of("Audio")} == {id(audio)}


async def test_what_is_no_transport_stream_is_ended_with_the_reason() -> None:
    directory = RecordingDirectory(applications())
    async with providing(directory) as provider:
        caller = await srt.connect("127.0.0.1", provider.ports[0], stream_id="default/app/cam")
        opened = await directory.opened()
        with trio.move_on_after(15):
            while opened.closed is None:
                await caller.send(bytes(range(256)) * 200) if caller.alive else None
                await trio.sleep(0.01)
        caller.close()
        assert opened.closed is not None
        assert "no MPEG transport stream" in opened.closed
        assert provider.counters.protocol_errors == 1


async def test_many_that_say_nothing_leave_the_others_alone() -> None:
    directory = RecordingDirectory(applications())
    async with providing(directory) as provider:
        port = provider.ports[0]
        silent: list[SrtSocket] = []
        refused = 0
        codes: set[int] = set()
        with publish(SMALL, port, "default/app/cam"):
            opened = await directory.opened()
            with trio.fail_after(40):
                for number in range(200):
                    try:
                        silent.append(await srt.connect("127.0.0.1", port, stream_id=f"default/app/silent{number}"))
                    except SrtRefused as error:
                        codes.add(error.code)
                        refused += 1
            await opened.wait(lambda this: len(this.of("Video")) > 60)
            before = len(opened.of("Video"))
            await trio.sleep(1)
            assert len(opened.of("Video")) - before >= 25
        assert codes == {1503}
        assert len(silent) >= 32
        assert refused >= 200 - 40
        assert provider.counters.reasons == {1503: refused}
        for caller in silent:
            caller.close()
