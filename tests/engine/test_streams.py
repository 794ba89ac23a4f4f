"""Inputs, their outputs, and who may take a name: the engine's wiring with real hubs and a supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
import trio
import trio.testing

from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.directory import Directory
from appliance.engine.services import Services
from appliance.errors import BadRequest, Forbidden, KilnError, NameTaken, NotFound
from appliance.media.clock import Clock
from appliance.media.contracts import OutputStream, Progress, Source
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models
from appliance.supervisor import Supervisor
from appliance.transcoder.pool import WorkerPool

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"one", width=640)
AUDIO = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48000, sample_rate=48000, channels=2)
RTMP = Source("Rtmp", "TCP://127.0.0.1:5", "127.0.0.1")


@dataclass(eq=False)
class Recorder:
    """A publisher that keeps what it gets."""

    name: str = "llhls"
    outputs: list[OutputStream] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    fails: int = 0

    def accepts(self, tracks: Sequence[Track]) -> bool:
        return bool(tracks)

    async def run(self, output: OutputStream, progress: Progress) -> None:
        self.outputs.append(output)
        reader = output.stream.reader(self.name)
        async for packets in reader:
            self.packets += packets
            if self.fails:
                self.fails -= 1
                raise RuntimeError("publisher broke")


@dataclass
class Box:
    directory: Directory
    supervisor: Supervisor
    publisher: Recorder
    pass_time: Callable[[float], None]


def application(**changes: object) -> models.Application:
    settings = models.Application(
        name="app",
        type="live",
        providers=models.Providers(rtmp=models.RtmpProvider()),
        publishers=models.Publishers(llhls=models.LLHlsPublisher()),
    )
    return msgspec.structs.replace(settings, **changes)


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    async for made in make_box(application()):
        yield made


async def make_box(settings: models.Application, **vhost: object) -> AsyncIterator[Box]:
    now = [1_000_000_000]

    def pass_time(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    host = models.VirtualHost(name="default", host=models.Host(names=("*",)), **vhost)  # type: ignore[arg-type]
    async with Supervisor("test") as supervisor:
        publisher = Recorder()
        services = Services(Clock(lambda: now[0], lambda: now[0]), supervisor, WorkerPool(0), [publisher])
        directory = Directory([VhostEntry(host, {}, [ApplicationEntry(settings, {})])], services)
        yield Box(directory, supervisor, publisher, pass_time)
        directory.close("test over")


def send_gop(stream: object, start: int = 0, video: Track = VIDEO) -> None:
    for number in range(3):
        stream.send(video, (start + number) * 3000, (start + number) * 3000, number == 0, b"frame")  # type: ignore[attr-defined]
        stream.send(AUDIO, (start + number) * 1600, (start + number) * 1600, True, b"sound")  # type: ignore[attr-defined]


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_what_is_sent_arrives_on_the_output_under_its_own_tracks(box: Box) -> None:
    live = box.directory.open_input("default", "app", "cam1", RTMP)
    live.prepare([VIDEO, AUDIO])
    send_gop(live)
    await settled()
    (output,) = box.publisher.outputs
    assert output.label == "default/app/cam1"
    assert [track.bypass for track in output.stream.tracks.values()] == [True, True]
    assert [packet.payload for packet in box.publisher.packets] == [b"frame", b"sound"] * 3
    assert box.directory.output("default", "app", "cam1") is output.stream
    live.close("done")
    await settled()
    assert output.stream.closed
    assert box.directory.output("default", "app", "cam1") is None


async def test_a_new_codec_configuration_is_a_new_generation_on_the_output(box: Box) -> None:
    live = box.directory.open_input("default", "app", "cam1", RTMP)
    live.prepare([VIDEO, AUDIO])
    await settled()
    send_gop(live)
    changed = msgspec.structs.replace(VIDEO, generation=1, codec_config=b"two", width=320)
    send_gop(live, 3, changed)
    await settled()
    seen = [packet.track for packet in box.publisher.packets if packet.track.is_video]
    assert [(track.generation, track.width) for track in seen] == [(0, 640)] * 3 + [(1, 320)] * 3
    assert len({id(track) for track in seen}) == 2


async def test_a_publisher_that_breaks_is_restarted_and_its_siblings_go_on(box: Box) -> None:
    other = box.directory.open_input("default", "app", "other", RTMP)
    other.prepare([AUDIO])
    live = box.directory.open_input("default", "app", "cam1", RTMP)
    live.prepare([VIDEO])
    box.publisher.fails = 1
    live.send(VIDEO, 0, 0, True, b"first")
    await settled()
    for number in range(50):
        other.send(AUDIO, number * 1024, number * 1024, True, b"%d" % number)
        await settled()
    sound = [packet.payload for packet in box.publisher.packets if packet.track.is_audio]
    assert sound == [b"%d" % number for number in range(50)]
    with trio.fail_after(5):
        while len(box.publisher.outputs) < 3:
            await trio.lowlevel.checkpoint()
            await trio.sleep(0.01)
    await settled()
    assert [packet.payload for packet in box.publisher.packets if packet.track.is_video] == [b"first", b"first"]


async def test_a_name_in_use_is_refused_until_its_source_is_silent(box: Box) -> None:
    first = box.directory.open_input("default", "app", "cam1", RTMP)
    first.prepare([VIDEO])
    reasons: list[str] = []
    first.on_cancel(reasons.append)
    with pytest.raises(NameTaken, match="default/app/cam1"):
        box.directory.open_input("default", "app", "cam1", RTMP)
    box.pass_time(2.9)
    with pytest.raises(NameTaken):
        box.directory.open_input("default", "app", "cam1", RTMP)
    box.pass_time(0.2)
    second = box.directory.open_input("default", "app", "cam1", RTMP)
    assert reasons == ["silent, and another source came"]
    second.prepare([VIDEO])
    first.close("late")
    assert box.directory.input("default", "app", "cam1") is second.stream


async def test_a_name_in_use_is_taken_over_where_duplicates_replace(box: Box) -> None:
    first = box.directory.open_input("default", "app", "cam1", RTMP)
    first.prepare([VIDEO])
    reasons: list[str] = []
    first.on_cancel(reasons.append)
    box.directory.open_input("default", "app", "cam1", RTMP, replace=True)
    assert reasons == ["replaced by another source"]
    assert first.closed


@pytest.mark.parametrize(
    ("vhost", "app", "name", "kind", "error"),
    [
        ("nope", "app", "cam1", "Rtmp", NotFound),
        ("default", "nope", "cam1", "Rtmp", NotFound),
        ("default", "app", "../etc", "Rtmp", KilnError),
        ("default", "app", ".hidden", "Rtmp", KilnError),
        ("default", "app", "", "Rtmp", KilnError),
        ("default", "app", "x" * 129, "Rtmp", KilnError),
        ("default", "app", "cam1", "Capture", Forbidden),
    ],
)
async def test_who_may_not_come_in(
    box: Box, vhost: str, app: str, name: str, kind: str, error: type[KilnError]
) -> None:
    with pytest.raises(error) as caught:
        box.directory.open_input(vhost, app, name, Source(kind))
    assert caught.value.status in (400, 403, 404)
    assert not isinstance(caught.value, BadRequest) or caught.value.status == 400


async def test_a_guarded_protocol_is_refused() -> None:
    policy = models.SignedPolicy(enables=models.Enables(providers="rtmp"))
    async for box in make_box(application(), signed_policy=policy):
        with pytest.raises(Forbidden, match="not enforced"):
            box.directory.open_input("default", "app", "cam1", RTMP)


async def test_an_output_name_in_use_leaves_its_profile_out() -> None:
    one = models.OutputProfile(
        name="fixed", output_stream_name="always", encodes=models.Encodes(videos=(models.VideoEncode(bypass=True),))
    )
    settings = application(output_profiles=models.OutputProfiles(profiles=(one,)))
    async for box in make_box(settings):
        for name in ("cam1", "cam2"):
            live = box.directory.open_input("default", "app", name, RTMP)
            live.prepare([VIDEO])
        await settled()
        assert [output.name for output in box.publisher.outputs] == ["always"]
        assert box.publisher.outputs[0].stream is box.directory.output("default", "app", "always")


async def test_a_profile_with_an_unknown_codec_is_left_out_and_the_others_go_on_air() -> None:
    bad = models.OutputProfile(
        name="bad",
        output_stream_name="${OriginStreamName}_bad",
        encodes=models.Encodes(videos=(models.VideoEncode(codec="mpeg9", bitrate=1),)),
    )
    good = models.OutputProfile(
        name="good",
        output_stream_name="${OriginStreamName}",
        encodes=models.Encodes(videos=(models.VideoEncode(bypass=True),)),
    )
    settings = application(output_profiles=models.OutputProfiles(profiles=(bad, good)))
    async for box in make_box(settings):
        live = box.directory.open_input("default", "app", "cam1", RTMP)
        live.prepare([VIDEO])
        await settled()
        assert [output.name for output in box.publisher.outputs] == ["cam1"]
