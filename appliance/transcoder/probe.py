"""Which encoders really encode on this machine: each is tried in a process of its own, with a deadline."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import trio

from appliance.media.track import Codec
from appliance.transcoder.encoders import is_hardware
from appliance.transcoder.pool import worker_environment

#: What is tried, in the order of the report.
CANDIDATES: tuple[tuple[str, Codec], ...] = (
    ("libx264", Codec.H264),
    ("h264_nvenc", Codec.H264),
    ("h264_qsv", Codec.H264),
    ("h264_amf", Codec.H264),
    ("h264_vaapi", Codec.H264),
    ("h264_rkmpp", Codec.H264),
    ("h264_v4l2m2m", Codec.H264),
    ("libx265", Codec.H265),
    ("hevc_nvenc", Codec.H265),
    ("hevc_qsv", Codec.H265),
    ("hevc_amf", Codec.H265),
    ("hevc_vaapi", Codec.H265),
    ("hevc_v4l2m2m", Codec.H265),
    ("libvpx", Codec.VP8),
    ("libvpx-vp9", Codec.VP9),
    ("libsvtav1", Codec.AV1),
    ("av1_nvenc", Codec.AV1),
    ("av1_qsv", Codec.AV1),
    ("av1_amf", Codec.AV1),
)
#: How many are tried at once.
AT_ONCE = 2
#: Where hardware shows, for the question whether a kept result still holds.
_DEVICE_FOLDERS = ("/dev/dri", "/dev")
_DEVICE_NAMES = ("nvidia", "video", "render", "card", "mpp", "kfd")


class EncoderReport(msgspec.Struct, frozen=True):
    """``name`` is FFmpeg's; ``fps`` frames a second of 640x360; ``reason`` why it does not work ("" when it does)."""

    name: str
    codec: str
    hardware: bool
    works: bool
    reason: str = ""
    fps: float = 0.0


class _Result(msgspec.Struct, frozen=True):
    works: bool
    reason: str
    fps: float


class _Kept(msgspec.Struct, frozen=True):
    machine: str
    reports: list[EncoderReport]


_remembered: _Kept | None = None


async def probe_encoders(
    deadline_s: float = 20.0, *, candidates: Sequence[tuple[str, Codec]] = CANDIDATES, cache: Path | None = None,
    fresh: bool = False,
) -> list[EncoderReport]:  # fmt: skip
    """Try each candidate; one that takes longer than ``deadline_s`` seconds counts as hanging and is killed.

    A result is remembered, also in the file ``cache``, until FFmpeg, the kernel or the devices change; ``fresh`` tries
    again all the same.
    """
    global _remembered
    machine = _machine(candidates)
    if not fresh:
        kept = _remembered or _read(cache)
        if kept is not None and kept.machine == machine:
            return list(kept.reports)
    reports: dict[str, EncoderReport] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(name: str, codec: Codec) -> None:
        async with limit:
            reports[name] = await _probe(name, codec, deadline_s)

    async with trio.open_nursery() as nursery:
        for name, codec in candidates:
            nursery.start_soon(one, name, codec)
    ordered = [reports[name] for name, _ in candidates]
    _remembered = _Kept(machine, ordered)
    _write(cache, _remembered)
    return ordered


def working(reports: Iterable[EncoderReport]) -> frozenset[str]:
    """The names of those that work, as `appliance.transcoder.encoders.candidates` takes them."""
    return frozenset(report.name for report in reports if report.works)


async def _probe(name: str, codec: Codec, deadline_s: float) -> EncoderReport:
    command = [sys.executable, "-P", "-m", "appliance.transcoder.worker.probe", name, codec, str(deadline_s)]
    result = _Result(False, f"hangs: nothing after {deadline_s:g} s", 0.0)
    with trio.move_on_after(deadline_s):
        done = await trio.run_process(
            command, stdin=b"", capture_stdout=True, stderr=subprocess.DEVNULL, check=False,
            env=worker_environment(os.environ),
        )  # fmt: skip
        result = _result(done.returncode, done.stdout)
    return EncoderReport(name, codec, is_hardware(name), result.works, result.reason, result.fps)


def _result(status: int, output: bytes) -> _Result:
    try:
        return msgspec.json.decode(output, type=_Result)
    except msgspec.DecodeError:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return _Result(False, f"its driver or library crashed ({how})", 0.0)


def _machine(candidates: Sequence[tuple[str, Codec]]) -> str:
    devices = sorted(
        str(path)
        for folder in _DEVICE_FOLDERS
        for path in (Path(folder).iterdir() if Path(folder).is_dir() else ())
        if path.name.startswith(_DEVICE_NAMES)
    )
    return " ".join([version("av"), platform.release(), *(name for name, _ in candidates), *devices])


def _read(cache: Path | None) -> _Kept | None:
    if cache is None:
        return None
    try:
        return msgspec.json.decode(cache.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None


def _write(cache: Path | None, kept: _Kept) -> None:
    if cache is None:
        return
    part = cache.with_name(cache.name + ".part")
    try:
        part.write_bytes(msgspec.json.encode(kept))
        part.replace(cache)
    except OSError:
        # It is only a memory: next time the encoders are tried again.
        part.unlink(missing_ok=True)
