"""HLS pull from what ffmpeg's HLS muxer writes, over a real server: every frame, in real time, to the end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import trio

from appliance.providers.hls import HlsPullSource
from tests.kit import ffmpeg, frames, pulling
from tests.kit.recording_directory import RecordedInput
from tests.kit.static_server import static_server


async def pulled(url: str, until: Callable[[RecordedInput], bool] = lambda _: False) -> RecordedInput:
    return await pulling.pulled(HlsPullSource, url, until)


def written(folder: Path, *arguments: str, spec: ffmpeg.SourceSpec = ffmpeg.SMALL, seconds: float = 4.0) -> Path:
    """What the HLS muxer makes of a file."""
    source = ffmpeg.source(spec)
    made = ffmpeg.run(
        ["-t", str(seconds), "-i", str(source), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0",
         *arguments, str(folder / "index.m3u8")]
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    return source


def pictures(target: RecordedInput) -> list[frames.Frame]:
    return [
        frames.Frame(
            Fraction(each.pts, each.track.timescale), Fraction(each.dts, each.track.timescale), each.keyframe,
            frames.slices_digest(each.payload),
        )
        for each in target.of("Video")
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["mpegts", "fmp4"])
async def test_every_frame_in_real_time_to_the_end(tmp_path: Path, kind: str) -> None:
    source = written(tmp_path, "-hls_segment_type", kind, "-hls_playlist_type", "vod", spec=ffmpeg.B_FRAMES)
    async with static_server(tmp_path) as server:
        target = await pulled(server.url("/index.m3u8"))
        lasted = trio.current_time() - target.prepared_at
    video, audio = target.prepared
    assert (video.codec, video.width, video.height, audio.codec) == ("H264", 640, 360, "AAC")
    assert 3.7 < lasted < 4.6
    assert len(target.of("Video")) in range(118, 124)
    assert 185 <= len(target.of("Audio")) <= 190
    assert frames.run_in(pictures(target), frames.of_file(source, "video")) == 0
    moments = [each.dts / each.track.timescale for each in target.sent]
    assert all(after - before > -0.3 for before, after in itertools.pairwise(moments))
    # Sound goes with the picture.
    assert abs(target.of("Audio")[0].dts / audio.timescale - target.of("Video")[0].pts / video.timescale) < 0.1
