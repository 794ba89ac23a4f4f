"""A source that fails, and the stream that goes on: in virtual time, with real hubs, timelines and slates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.engine.application import Application
from appliance.engine.input_loss import LEAD, MARGIN, InputLoss
from appliance.engine.input_stream import InputStream
from appliance.engine.pull_target import PullTarget
from appliance.engine.services import Services
from appliance.engine.slate_silence import silence
from appliance.media.clock import NANOSECONDS, Clock
from appliance.media.codecs import aac
from appliance.media.contracts import OutputStream, Progress, Source
from appliance.media.packet import Packet
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models
from appliance.supervisor import Supervisor
from appliance.transcoder.fault_slate import Slate, SlateForm, SlateJob, Slates
from appliance.transcoder.pool import WorkerPool
from appliance.transcoder.worker.fault_slate import make

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"\1\x64\0\x1e", width=64,
              height=48, frame_rate=25.0, variant="Video")  # fmt: skip
AUDIO = msgspec.structs.replace(aac.track_from_config(1, aac.AudioConfig(2, 48000, 48000, 2).build()))
RTMP = Source("Rtmp", "TCP://127.0.0.1:5", "127.0.0.1")
FRAME = NANOSECONDS // 25
FORM = SlateForm.of(VIDEO)


@pytest.fixture(scope="module")
def slate() -> Slate:
    return make(SlateJob(FORM))


class Ready(Slates):
    """One form is there from the start; what else is asked for can't be made."""

    def __init__(self, slate: Slate) -> None:
        super().__init__()
        self._kept[FORM] = slate

    async def make(self, form: SlateForm) -> Slate | None:
        return self.get(form)


@dataclass(eq=False)
class Recorder:
    """A publisher that keeps what it gets."""

    name: str = "llhls"
    outputs: list[OutputStream] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def accepts(self, tracks: Sequence[Track]) -> bool:
        return True

    async def run(self, output: OutputStream, progress: Progress) -> None:
        self.outputs.append(output)
        reader = output.stream.reader(self.name)
        async for packets in reader:
            self.packets += packets
            self.times += [trio.current_time()] * len(packets)

    def of(self, media: MediaType) -> list[Packet]:
        return [packet for packet in self.packets if packet.track.media is media]


@dataclass
class Box:
    application: Application
    recorder: Recorder
    alarms: dict[str, str]
    slate: Slate

    def open(self, source: Source = RTMP, name: str = "cam", *, replace: bool = False) -> InputStream:
        return self.application.open_input(name, source, replace=replace)

    @property
    def loss(self) -> InputLoss:
        loss = self.application.inputs["cam"].loss
        assert loss is not None
        return loss

    def fault(self) -> str:
        return self.loss.fault or ""

    @property
    def shown(self) -> str:
        """Of each picture: S when it is of the slate, . when not."""
        slate = {frame for loop in self.slate.loops.values() for frame in loop}
        return "".join("S" if packet.payload in slate else "." for packet in self.recorder.of(MediaType.VIDEO))


def rules(**changes: object) -> models.Application:
    held = models.Application(
        name="app", type="live", on_input_loss="hold",
        providers=models.Providers(rtmp=models.RtmpProvider(), srt=models.SrtProvider()),
        publishers=models.Publishers(llhls=models.LLHlsPublisher()),
    )  # fmt: skip
    return msgspec.structs.replace(held, **changes)


async def make_box(slate: Slate, settings: models.Application) -> AsyncIterator[Box]:
    def now() -> int:
        return round(trio.current_time() * NANOSECONDS)

    recorder, alarms = Recorder(), dict[str, str]()
    async with Supervisor("test") as supervisor:
        services = Services(Clock(now, now), supervisor, WorkerPool(0), [recorder], alarms, Ready(slate))
        application = Application(models.VirtualHost(name="default"), settings, {}, services)
        yield Box(application, recorder, alarms, slate)
        application.close("test over")


@pytest.fixture
async def box(slate: Slate) -> AsyncIterator[Box]:
    async for made in make_box(slate, rules()):
        yield made


async def play(
    live: InputStream | PullTarget, seconds: float, *, start: float = 0.0, gop: int = 25, video: bool = True,
    audio: bool = True, tracks: tuple[Track, Track] = (VIDEO, AUDIO), fast: bool = False,
) -> float:  # fmt: skip
    """A source in real time (``fast``: all at once) from its own time ``start`` on; where it ended."""
    picture, sound = tracks
    frames, samples = round(seconds * 25), 0
    for number in range(frames):
        if video:
            at = round(start * 90000) + number * 3600
            live.send(picture, at, at, number % gop == 0, b"picture %d" % number)
        while audio and samples * 25 < (number + 1) * 48000:
            live.send(sound, round(start * 48000) + samples, round(start * 48000) + samples, True, b"sound")
            samples += 1024
        await trio.sleep(0 if fast else 1 / 25)
    return start + frames / 25


def assert_sound(box: Box, *, longest_hole: float = 0.1) -> None:
    """Times of each track grow, nothing overlaps, no hole is longer than said, and sound ends with the picture."""
    ends = []
    for media in (MediaType.VIDEO, MediaType.AUDIO):
        packets = box.recorder.of(media)
        assert packets
        for one, other in pairwise(packets):
            scale = one.track.timescale
            step = (other.dts - one.dts) / scale
            assert 0 < step <= longest_hole, (one.dts / scale, other.dts / scale)
            assert step > 0.02 or media is MediaType.AUDIO
        ends.append(packets[-1].dts / packets[-1].track.timescale)
    assert abs(ends[0] - ends[1]) <= 0.15


async def test_a_source_that_leaves_and_one_that_comes(box: Box, autojump_clock: MockClock) -> None:
    first = box.open()
    first.prepare([VIDEO, AUDIO])
    await play(first, 2)
    left = trio.current_time()
    first.close("connection lost")
    await trio.sleep(3)
    assert box.alarms == {"input:default/app/cam": "no input: connection lost; a slate is shown"}
    assert first.abandoned
    assert box.loss.described["fault"] == "no input"
    slates = [time for time, packet in zip(box.recorder.times, box.recorder.packets, strict=True)
              if packet.payload == box.slate.loops["NO INPUT"][0]]  # fmt: skip
    assert slates[0] - left <= 0.2
    second = box.open(Source("SRT", "SRT://127.0.0.1:7"))
    assert second.prepared
    await trio.sleep(1)
    second.prepare([VIDEO, AUDIO])
    await play(second, 2, start=1000)
    assert not box.alarms
    assert len(box.recorder.outputs) == 1, "the stream is the same"
    assert not box.recorder.outputs[0].stream.closed
    assert box.recorder.outputs[0].source.kind == "SRT"
    assert box.shown.strip(".").strip("S") == ""
    assert 95 <= box.shown.count("S") <= 103
    assert_sound(box)
    generations = [packet.track.generation for packet in box.recorder.of(MediaType.VIDEO)]
    assert [one for one, other in pairwise([*generations, -1]) if one != other] == [0, 1, 2]
    assert len({packet.track for packet in box.recorder.of(MediaType.AUDIO)}) == 1


async def test_the_first_source_has_no_say_any_more(box: Box, autojump_clock: MockClock) -> None:
    first = box.open()
    first.prepare([VIDEO, AUDIO])
    await play(first, 1)
    first.close("gone")
    await trio.sleep(0.5)
    await play(first, 0.2, start=1)
    assert "." not in box.shown[26:]
    second = box.open()
    second.prepare([VIDEO, AUDIO])
    await play(second, 1)
    first.close("again")
    await play(first, 1)
    assert not box.fault()
    assert not second.closed
    assert box.application.inputs["cam"] is second


async def test_who_may_replace_a_live_source_goes_on_with_its_stream(box: Box, autojump_clock: MockClock) -> None:
    reasons: list[str] = []
    first = box.open()
    first.on_cancel(reasons.append)
    first.on_cancel(first.close)
    first.prepare([VIDEO, AUDIO])
    await play(first, 1)
    second = box.open(replace=True)
    assert reasons == ["replaced by another source"]
    second.prepare([VIDEO, AUDIO])
    await play(second, 1)
    assert len(box.recorder.outputs) == 1
    assert_sound(box)


async def test_tracks_of_other_ids_take_the_places_of_those_there_are(box: Box, autojump_clock: MockClock) -> None:
    first = box.open()
    first.prepare([VIDEO, AUDIO])
    await play(first, 1)
    first.close("gone")
    await trio.sleep(1)
    picture, sound = msgspec.structs.replace(VIDEO, id=256, width=128), msgspec.structs.replace(AUDIO, id=257)
    second = box.open()
    second.prepare([picture, sound])
    await play(second, 1, tracks=(picture, sound))
    assert {packet.track.id for packet in box.recorder.packets} == {0, 1}
    assert box.recorder.of(MediaType.VIDEO)[-1].track.width == 128
    assert_sound(box)


async def test_a_source_with_other_tracks_begins_anew(box: Box, autojump_clock: MockClock) -> None:
    first = box.open()
    first.prepare([VIDEO, AUDIO])
    await play(first, 1)
    first.close("gone")
    await trio.sleep(1)
    second = box.open()
    second.prepare([AUDIO])
    await play(second, 1, video=False)
    assert [output.stream.closed for output in box.recorder.outputs] == [True, False]
    assert [track.codec for track in box.recorder.outputs[1].stream.tracks.values()] == [Codec.AAC]
    second.close("gone")
    await trio.sleep(1)
    assert box.recorder.packets[-1].payload == silence(AUDIO)[0]  # type: ignore[index]


async def test_a_quiet_source_that_catches_up_keeps_its_clock(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    await play(live, 2)
    await trio.sleep(1.9)
    assert not box.fault()
    await trio.sleep(1.1)
    assert box.fault() == "no input"
    await play(live, 3, start=2, fast=True)
    late = box.loss.late
    assert late >= 100, "what was for the time of the slate"
    await play(live, 2, start=5)
    assert not box.fault()
    assert_sound(box, longest_hole=0.2)
    last = box.recorder.of(MediaType.VIDEO)[-1]
    assert last.dts == (2 + 3 + 2) * 90000 - 3600, "the source's own time"


async def test_a_quiet_source_that_stays_behind_is_stamped_to_go_on(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    await play(live, 2)
    await trio.sleep(5)
    back = trio.current_time()
    await play(live, 3, start=2)
    assert not box.fault()
    assert_sound(box)
    first = box.shown.rindex("S") + 1
    assert box.recorder.of(MediaType.VIDEO)[first].payload == b"picture 0"
    at = [time for time, packet in zip(box.recorder.times, box.recorder.packets, strict=True) if packet.track.is_video]
    assert at[first] - back <= 0.5


async def test_sound_without_picture_goes_on_below_a_slate(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    end = await play(live, 2)
    end = await play(live, 4, start=end, video=False)
    assert box.fault() == "no video"
    quiet = silence(AUDIO)
    assert quiet is not None
    assert quiet[0] not in [packet.payload for packet in box.recorder.packets]
    assert box.recorder.of(MediaType.VIDEO)[-1].payload in box.slate.loops["NO VIDEO"]
    await play(live, 2, start=end)
    assert not box.fault()
    assert_sound(box, longest_hole=0.2)


async def test_a_source_that_comes_back_with_sound_alone(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    await play(live, 2)
    await trio.sleep(4)
    assert box.fault() == "no input"
    end = await play(live, 4, start=100, video=False)
    assert box.fault() == "no video"
    await play(live, 2, start=end)
    assert not box.fault()
    assert_sound(box, longest_hole=0.3)


async def test_a_stream_is_kept_for_so_long(slate: Slate, autojump_clock: MockClock) -> None:
    async for box in make_box(slate, rules(hold_ms=5000)):
        live = box.open()
        live.prepare([VIDEO, AUDIO])
        await play(live, 1)
        live.close("gone")
        await trio.sleep(4.9)
        hub = box.recorder.outputs[0].stream
        assert hub.readers
        await trio.sleep(0.7)
        assert hub.closed
        assert not box.application.inputs
        assert not box.alarms


async def test_whoever_deletes_a_kept_stream_ends_it_at_once(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    await play(live, 1)
    live.close("gone")
    live.cancel("deleted over the API")
    assert box.recorder.outputs[0].stream.closed
    assert not box.application.inputs
    assert not box.alarms


async def test_settings_that_keep_no_more_end_what_is_kept(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    other = box.open(name="other")
    other.prepare([VIDEO])
    await play(live, 1)
    live.close("gone")
    other.send(VIDEO, 0, 0, True, b"picture")
    box.application.change(rules(on_input_loss="end"), {})
    assert list(box.application.inputs) == ["other"]
    other.close("gone")
    assert not box.application.inputs
    box.application.change(rules(), {})


async def test_by_default_a_publisher_ends_its_stream(slate: Slate, autojump_clock: MockClock) -> None:
    async for box in make_box(slate, rules(on_input_loss="")):
        live = box.open()
        live.prepare([VIDEO])
        live.close("gone")
        assert not box.application.inputs


@dataclass
class Statistics:
    source_frames: int = 0
    decode_errors: int = 0


@dataclass
class Worker:
    """Of a transcoder what the loss of input asks for."""

    stats: Statistics = field(default_factory=Statistics)


async def test_pictures_that_cannot_be_decoded_give_way_and_are_tried_again(
    box: Box, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    worker = Worker()
    monkeypatch.setattr(live.outputs, "transcoder", worker)
    end = 0.0
    for second in range(5):
        end = await play(live, 1, start=end)
        if second:
            worker.stats.decode_errors += 25
        else:
            worker.stats.source_frames += 25
    assert box.fault() == "decoding failed"
    assert box.recorder.of(MediaType.VIDEO)[-1].payload in box.slate.loops["DECODING FAILED"]
    quiet = silence(AUDIO)
    assert quiet is not None
    assert quiet[0] not in [packet.payload for packet in box.recorder.packets]
    for _ in range(7):
        end = await play(live, 1, start=end)
        worker.stats.source_frames += 25
    assert not box.fault()
    assert_sound(box, longest_hole=0.2)
    monkeypatch.undo()


async def test_sound_alone_goes_on_with_silence(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([AUDIO])
    await play(live, 1, video=False)
    live.close("gone")
    await trio.sleep(2)
    times = [packet.dts for packet in box.recorder.of(MediaType.AUDIO)]
    assert all(other - one == 1024 for one, other in pairwise(times))
    assert times[-1] >= 2.7 * 48000
    second = box.open()
    second.prepare([AUDIO])
    await play(second, 1, video=False, start=50)
    assert not box.fault()
    assert box.recorder.packets[-1].payload == b"sound"


async def test_a_codec_without_slate_shows_its_last_key_frame(box: Box, autojump_clock: MockClock) -> None:
    track = msgspec.structs.replace(VIDEO, codec=Codec.AV1, codec_config=b"")
    live = box.open()
    live.prepare([track, AUDIO])
    await play(live, 1.5, tracks=(track, AUDIO))
    live.close("gone")
    await trio.sleep(2)
    pictures = box.recorder.of(MediaType.VIDEO)[38:]
    assert len(pictures) >= 7
    assert {packet.payload for packet in pictures} == {b"picture 25"}
    assert {packet.keyframe for packet in pictures} == {True}


async def test_media_ahead_of_the_clock_is_taken_back_by_the_slate(box: Box, autojump_clock: MockClock) -> None:
    live = box.open()
    live.prepare([VIDEO, AUDIO])
    await play(live, 3, fast=True)
    live.close("gone")
    await trio.sleep(30)
    timeline = live.timeline
    assert timeline is not None
    ahead = timeline.reached_ns - (live.clock.monotonic() - live.stream.epoch)
    assert ahead <= LEAD - MARGIN + 2 * FRAME
    assert_sound(box)


async def test_a_pull_keeps_its_stream_between_two_connections(box: Box, autojump_clock: MockClock) -> None:
    target = PullTarget(lambda: box.open(Source("RtspPull", "rtsp://camera")), lambda: None)

    async def connection(start: float) -> None:
        target.prepare([VIDEO, AUDIO])
        await play(target, 1, start=start)

    await target.feed(lambda: connection(0), 5)
    await trio.sleep(1)
    assert box.fault() == "no input"
    await target.feed(lambda: connection(7), 5)
    await trio.sleep(0.2)
    assert len(box.recorder.outputs) == 1
    assert_sound(box)
    target.end("deleted")
    assert not box.application.inputs


@dataclass(frozen=True)
class Act:
    kind: str
    seconds: float
    jump: float


acts = st.builds(
    Act, st.sampled_from(["play", "play", "silence", "close", "replace", "sound", "picture", "burst"]),
    st.floats(0.1, 4), st.sampled_from([0.0, 0.0, 0.0, -3600.0, 5.0, 90000.0]),
)  # fmt: skip


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(acts, min_size=1, max_size=8), st.integers(2, 60))
def test_whatever_a_source_does_the_times_of_the_stream_grow(slate: Slate, script: list[Act], gop: int) -> None:
    async def run() -> None:
        async for box in make_box(slate, rules()):
            live = box.open()
            live.prepare([VIDEO, AUDIO])
            at = await play(live, 1, start=20, gop=gop)
            for act in script:
                at += act.jump
                if act.kind == "close":
                    live.close("gone")
                    await trio.sleep(act.seconds)
                if act.kind == "replace" or live.abandoned:
                    live = box.open(replace=True)
                    live.prepare([VIDEO, AUDIO])
                if act.kind == "silence":
                    await trio.sleep(act.seconds)
                elif act.kind != "close":
                    at = await play(live, act.seconds, start=at, gop=gop, video=act.kind != "sound",
                                    audio=act.kind != "picture", fast=act.kind == "burst")  # fmt: skip
            at = await play(live, 6, start=at, gop=gop)
            assert not box.fault()
            assert len(box.recorder.outputs) == 1
            for media in (MediaType.VIDEO, MediaType.AUDIO):
                times = [packet.dts for packet in box.recorder.of(media)]
                assert all(one < other for one, other in pairwise(times))
            picture, sound = (box.recorder.of(media)[-1] for media in (MediaType.VIDEO, MediaType.AUDIO))
            assert abs(picture.dts / 90000 - sound.dts / 48000) <= 0.2, "in sync"
            assert picture.payload not in box.slate.loops["NO INPUT"]

    trio.run(run, clock=MockClock(autojump_threshold=0))
