"""Files as packets: what is in them, from where, and what is no media."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.errors import Unavailable
from appliance.media.codecs import nal
from appliance.media.track import Codec
from appliance.transcoder import demux
from appliance.transcoder.demux import Demuxers, DemuxWorker, OpenedFile
from appliance.transcoder.demux_messages import DemuxFrame, FrameReceiver, Kind, MakeSlate, pack_end
from tests.transcoder.playout.conftest import media

__all__ = ["media"]

SECOND = 1_000_000_000


@asynccontextmanager
async def demuxers() -> AsyncIterator[Demuxers]:
    made = Demuxers()
    try:
        yield made
    finally:
        await made.close()


async def whole(opened: OpenedFile) -> dict[int, list[DemuxFrame]]:
    """All packets by track."""
    packets: dict[int, list[DemuxFrame]] = {track.id: [] for track in opened.tracks}
    with trio.fail_after(10):
        while (frame := await opened.read()) is not None:
            if frame.kind is Kind.PACKET:
                packets[frame.track].append(frame)
    return packets


@pytest.mark.parametrize(
    ("name", "codecs", "frames"),
    [
        ("b-frames.mp4", [Codec.H264, Codec.AAC], 60), ("plain.mp4", [Codec.H264, Codec.AAC], 90),
        ("stereo.ts", [Codec.H264, Codec.AAC], 60), ("silent.mp4", [Codec.H264], 60),
        ("hevc.mkv", [Codec.H265, Codec.OPUS], 60), ("sound.mp3", [Codec.MP3], None),
    ],
)  # fmt: skip
async def test_every_frame_is_there(media: Path, name: str, codecs: list[Codec], frames: int | None) -> None:
    async with demuxers() as made:
        opened = await made.open(media, media / name)
        packets = await whole(opened)
    assert [track.codec for track in opened.tracks] == codecs
    for track in opened.tracks:
        found = packets[track.id]
        assert all(frame.pts >= frame.dts for frame in found)
        assert [frame.dts for frame in found] == sorted({frame.dts for frame in found})
        seconds = (found[-1].dts - found[0].dts) / track.timescale
        assert abs(seconds - opened.duration / SECOND) < 0.15
        if track.is_video:
            assert len(found) == frames
            assert found[0].keyframe
            assert (track.width, track.height, track.frame_rate) == (320, 180, 30)
            # Length prefixes, and no parameter sets among the pictures.
            for frame in found:
                assert sum(len(unit) + 4 for unit in nal.split_prefixed(frame.payload)) == len(frame.payload)


async def test_it_begins_at_the_key_frame_before(media: Path) -> None:
    async with demuxers() as made:
        opened = await made.open(media, media / "plain.mp4", 1_500_000_000)
        packets = await whole(opened)
    video = next(track for track in opened.tracks if track.is_video)
    assert packets[video.id][0].keyframe
    assert packets[video.id][0].pts == 90_000


@pytest.mark.parametrize(
    "name", ["nonsense.mp4", "empty.mp4", "list.m3u8", "list.ffconcat", "headless.mp4", "link.mp4", "nowhere.mp4", "."]
)
async def test_what_is_no_media_is_told_and_nothing_else_suffers(media: Path, name: str) -> None:
    async with demuxers() as made:
        with pytest.raises(Unavailable) as told:
            await made.open(media, media / name)
        assert str(told.value)
        assert len((await whole(await made.open(media, media / "silent.mp4")))[0]) == 60


async def test_a_file_that_breaks_off_gives_what_it_has(media: Path) -> None:
    async with demuxers() as made:
        packets = await whole(await made.open(media, media / "cut.ts"))
    assert 5 < len(packets[0]) < 60


async def test_a_file_is_given_up_for_the_next_one(media: Path) -> None:
    async with demuxers() as made:
        first = await made.open(media, media / "plain.mp4")
        assert await first.read() is not None
        first.close()
        second = await made.open(media, media / "silent.mp4")
        assert len((await whole(second))[0]) == 60


async def test_a_worker_that_hangs_is_killed(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demux, "ANSWER", 0.3)
    started: list[DemuxWorker] = []

    def start() -> DemuxWorker:
        started.append(DemuxWorker())
        return started[-1]

    made = Demuxers(start)
    await whole(await made.open(media, media / "silent.mp4"))
    started[0].process.send_signal(signal.SIGSTOP)
    with trio.fail_after(5), pytest.raises(Unavailable, match=r"gives nothing for 0\.3 s"):
        await made.open(media, media / "silent.mp4")
    assert started[0].process.returncode == -signal.SIGKILL
    assert len((await whole(await made.open(media, media / "silent.mp4")))[0]) == 60
    await made.close()


async def test_a_worker_that_dies_is_told(media: Path) -> None:
    started: list[DemuxWorker] = []

    def start() -> DemuxWorker:
        started.append(DemuxWorker())
        return started[-1]

    made = Demuxers(start)
    opened = await made.open(media, media / "plain.mp4")
    started[0].process.kill()
    with trio.fail_after(5), pytest.raises(Unavailable, match=r"demux worker ended|is gone"):
        await whole(opened)
    await made.close()


@pytest.mark.parametrize("codec", [Codec.H264, Codec.H265])
async def test_black_is_a_group_of_pictures(codec: Codec) -> None:
    async with demuxers() as made:
        (slate,) = await made.slates(MakeSlate(0, codec, 320, 180, 25.0))
    assert (slate.track.codec, slate.track.width, slate.track.height) == (codec, 320, 180)
    assert (len(slate.payloads), slate.frame) == (25, SECOND // 25)
    assert slate.track.codec_config


@pytest.mark.parametrize(
    ("codec", "frame"), [(Codec.AAC, 21_333_333), (Codec.OPUS, 20_000_000), (Codec.MP3, 24_000_000)]
)
async def test_silence(codec: Codec, frame: int) -> None:
    async with demuxers() as made:
        (slate,) = await made.slates(MakeSlate(0, None, audio=codec, sample_rate=48_000, channels=1))
    assert (slate.track.codec, slate.track.channels, slate.frame) == (codec, 1, frame)
    assert slate.payloads


def test_frames_are_the_same_in_pieces() -> None:
    data = pack_end(7, "because") + pack_end(8)
    piecemeal = FrameReceiver()
    found = [frame for byte in data for frame in piecemeal.receive_data(bytes([byte]))]
    assert [(frame.kind, frame.job, frame.payload) for frame in found] == [
        (Kind.FAULT, 7, b"because"), (Kind.END, 8, b""),
    ]  # fmt: skip
    assert found == FrameReceiver().receive_data(data)
