"""Configurations, access units and FLV times of real encoders, against what libav says of the same files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from appliance.media.codecs import aac, av1, h264, h265, nal, opus, vp9
from appliance.media.timeline import Timeline
from appliance.media.track import Track
from tests.kit.ffmpeg import FFMPEG

QUIET_X265 = "log-level=none:pools=none:frame-threads=1"


def encode(path: Path, source: str, *arguments: str) -> Path:
    subprocess.run(
        [FFMPEG, "-nostdin", "-y", "-v", "error", "-f", "lavfi", "-i", source, *arguments, str(path)],
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )
    return path


def pattern(size: str, rate: str) -> str:
    return f"testsrc2=size={size}:rate={rate}"


def read(path: Path) -> tuple[bytes, dict[str, object], list[tuple[bytes, bool]]]:
    """Extradata, what libav says of it, and the packets with their key flag."""
    with av.open(str(path)) as container:
        stream = container.streams[0]
        context = stream.codec_context
        said: dict[str, object] = {}
        if isinstance(context, av.VideoCodecContext):
            aspect = context.sample_aspect_ratio
            said = {"size": (context.width, context.height), "aspect": aspect, "pixels": context.pix_fmt}
            said["rate"] = stream.average_rate
        elif isinstance(context, av.AudioCodecContext):
            said = {"rate": context.sample_rate, "channels": context.layout.nb_channels}
        packets = [(bytes(packet), packet.is_keyframe) for packet in container.demux(stream) if packet.size]
        return context.extradata or b"", said, packets


VIDEO = [
    ("1920x1080", "25", ("-profile:v", "high", "-bf", "2")),
    ("640x360", "30000/1001", ("-profile:v", "baseline")),
    ("1280x720", "50", ("-profile:v", "main", "-level", "4.2")),
    ("1920x1080", "30", ("-flags", "+ildct+ilme", "-x264-params", "tff=1")),
    ("722x402", "60000/1001", ("-pix_fmt", "yuv420p10le", "-vf", "setsar=64/45")),
]


@pytest.mark.parametrize(("size", "rate", "options"), VIDEO)
def test_h264(tmp_path: Path, size: str, rate: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / "v.mp4", pattern(size, rate), "-frames:v", "9", "-g", "4", "-c:v", "libx264",
                  "-preset", "ultrafast", "-threads", "1", *options)  # fmt: skip
    config, said, packets = read(path)
    track = h264.track_from_config(0, config)
    check_video(track, said)
    assert track.codec_config == config
    assert track.has_b_frames == any(h264.has_b_slices(payload) for payload, _ in packets)
    check_access_units(tmp_path, path, packets, h264.canonical, h264.canonical_annexb, h264.config_from_parameter_sets)


@pytest.mark.parametrize(
    ("size", "rate", "options", "codec_string"),
    [
        ("1920x1080", "60000/1001", (), "hvc1.1.6.L123.90"),
        ("640x360", "25", ("-pix_fmt", "yuv420p10le", "-bf", "0"), "hvc1.2.4.L63.90"),
        ("322x182", "50", ("-pix_fmt", "yuv422p10le", "-vf", "setsar=64/45"), "hvc1.4.10.L60.9D.8"),
    ],
)
def test_h265(tmp_path: Path, size: str, rate: str, options: tuple[str, ...], codec_string: str) -> None:
    path = encode(tmp_path / "v.mp4", pattern(size, rate), "-frames:v", "9", "-g", "4", "-c:v", "libx265", "-tag:v",
                  "hvc1", "-preset", "ultrafast", "-x265-params", QUIET_X265, *options)  # fmt: skip
    config, said, packets = read(path)
    track = h265.track_from_config(0, config)
    check_video(track, said)
    assert track.codec_string == codec_string
    assert h265.HevcConfig.parse(config).parameter_sets == h265.HevcConfig.parse(track.codec_config).parameter_sets
    assert config[1:13] == track.codec_config[1:13]
    check_access_units(tmp_path, path, packets, h265.canonical, h265.canonical_annexb, h265.config_from_parameter_sets)


def check_video(track: Track, said: dict[str, object]) -> None:
    assert (track.width, track.height) == said["size"]
    rate = said["rate"]
    assert isinstance(rate, Fraction)
    assert track.frame_rate == pytest.approx(float(rate), abs=1e-3)


def check_access_units(
    folder: Path,
    path: Path,
    packets: list[tuple[bytes, bool]],
    canonical: Callable[[bytes], tuple[bytes, bool, tuple[bytes, ...]]],
    canonical_annexb: Callable[[bytes], tuple[bytes, bool, tuple[bytes, ...]]],
    from_sets: Callable[[tuple[bytes, ...]], bytes],
) -> None:
    """Key frames as libav sees them; the same stream as MPEG-TS comes out the same, its parameter sets in band."""
    assert [canonical(payload)[1] for payload, _ in packets] == [keyframe for _, keyframe in packets]
    multiplex = folder / "v.ts"
    subprocess.run([FFMPEG, "-nostdin", "-y", "-v", "error", "-i", str(path), "-c", "copy", str(multiplex)], check=True)
    _, _, from_ts = read(multiplex)
    sets = canonical_annexb(from_ts[0][0])[2]
    assert from_sets(sets)
    slices = [coded_slices(canonical(payload)[0]) for payload, _ in packets]
    assert [coded_slices(canonical_annexb(payload)[0]) for payload, _ in from_ts] == slices


def coded_slices(payload: bytes) -> bytes:
    """The large units: a multiplexer may add and leave out small ones."""
    return max(nal.split_prefixed(payload), key=len)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 6), (16_000, 1), (48_000, 8)])
def test_aac(tmp_path: Path, rate: int, channels: int) -> None:
    options = ("-t", "0.3", "-c:a", "aac", "-ac", str(channels))
    config, said, packets = read(encode(tmp_path / "a.mp4", f"sine=r={rate}", *options))
    track = aac.track_from_config(1, config)
    assert {"rate": track.sample_rate, "channels": track.channels} == said
    adts = encode(tmp_path / "a.aac", f"sine=r={rate}", *options).read_bytes() if channels < 7 else b""
    frames = list(aac.split_adts(adts))
    assert len(frames) == (len(packets) if adts else 0)
    for header, _ in frames:
        parsed = aac.AudioConfig.parse(header.config)
        assert (parsed.sample_rate, parsed.channels) == (rate, channels)


@pytest.mark.parametrize(("channels", "milliseconds"), [(2, "20"), (1, "60"), (6, "10"), (2, "2.5")])
def test_opus(tmp_path: Path, channels: int, milliseconds: str) -> None:
    options = ("-t", "0.6", "-c:a", "libopus", "-ac", str(channels), "-frame_duration", milliseconds)
    config, said, packets = read(encode(tmp_path / "a.mp4", "sine=r=48000", *options))
    track = opus.track_from_config(1, config)
    assert {"rate": track.sample_rate, "channels": track.channels} == said
    assert track.codec_config == config
    assert {opus.packet_samples(payload) for payload, _ in packets} == {int(float(milliseconds) * 48)}


@pytest.mark.parametrize(
    ("size", "options"),
    [("640x360", ("-c:v", "libaom-av1", "-cpu-used", "8")), ("322x182", ("-c:v", "libsvtav1", "-preset", "11"))],
)
def test_av1(tmp_path: Path, size: str, options: tuple[str, ...]) -> None:
    path = encode(tmp_path / "v.mp4", pattern(size, "25"), "-frames:v", "7", "-g", "3", *options)
    config, said, packets = read(path)
    track = av1.track_from_config(0, config)
    assert (track.width, track.height) == said["size"]
    assert [av1.canonical(payload)[:2] for payload, _ in packets] == packets
    raw = tmp_path / "v.obu"
    subprocess.run([FFMPEG, "-nostdin", "-y", "-v", "error", "-i", str(path), "-c", "copy", str(raw)], check=True)
    stream, _, headers = av1.canonical(raw.read_bytes())
    made = av1.parse_config(av1.config_from_sequence_header(headers[0]))
    assert (made.width, made.height) == said["size"]
    assert made.codec_string == track.codec_string
    assert len(stream) < raw.stat().st_size


def test_vp9(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", pattern("640x360", "25"), "-frames:v", "7", "-g", "3", "-c:v", "libvpx-vp9",
                  "-deadline", "realtime", "-cpu-used", "8")  # fmt: skip
    _, said, packets = read(path)
    assert [vp9.is_keyframe(payload) for payload, _ in packets] == [keyframe for _, keyframe in packets]
    key = vp9.parse_keyframe(packets[0][0])
    assert (key.width, key.height) == said["size"]
    assert vp9.config_from_keyframe(packets[0][0], 25.0) in path.read_bytes()


@pytest.mark.parametrize(("rate", "samples"), [("30000/1001", 44_100), ("25", 48_000), ("60000/1001", 44_100)])
def test_the_times_of_an_flv_are_put_back_on_their_grids(tmp_path: Path, rate: str, samples: int) -> None:
    """ffmpeg's FLV, B-frames and all: milliseconds in, exact spacing out, sound with picture."""
    path = encode(
        tmp_path / "av.flv", pattern("320x240", rate), "-f", "lavfi", "-i", f"sine=r={samples}", "-t", "8",
        "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-bf", "2", "-c:a", "aac",
    )  # fmt: skip
    timeline = Timeline(lambda: 0, 0)
    dts: dict[int, list[int]] = {0: [], 1: []}
    shown: list[int] = []
    first: int | None = None
    with av.open(str(path)) as container:
        picture = h264.track_from_config(0, container.streams.video[0].codec_context.extradata or b"")
        sound = aac.track_from_config(1, container.streams.audio[0].codec_context.extradata or b"")
        for packet in container.demux():
            if not packet.size or packet.pts is None or packet.dts is None:
                continue
            track = picture if packet.stream.type == "video" else sound
            scale = Fraction(track.timescale, 1000)
            out = timeline.stamp(track, round(packet.pts * scale), round(packet.dts * scale))
            dts[track.id].append(out[1])
            first = packet.dts if first is None else first
            assert abs(out[1] - (packet.dts - first) * scale) <= Fraction(3, 2) * scale
            if track is picture:
                shown.append(out[0])
    period = 90_000 / Fraction(rate)
    assert {after - before for before, after in pairwise(sorted(shown))} <= {int(period), -int(-period // 1)}
    assert {after - before for before, after in pairwise(dts[0])} <= {int(period), -int(-period // 1)}
    assert {after - before for before, after in pairwise(dts[1])} == {1024}
    assert not any(timeline.mended.as_dict().values())
