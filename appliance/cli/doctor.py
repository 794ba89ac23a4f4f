"""``kiln doctor``: what this machine can do, found out by doing it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from appliance.cli.state_folder import default_state
from appliance.net.srt import SrtMissing, version
from appliance.transcoder.probe import EncoderReport, probe_encoders
from appliance.version import VERSION
from hw.cameras import list_cameras
from hw.paths import DevicePaths

#: A probe that takes longer counts as one that hangs (seconds).
PROBE_DEADLINE = 20.0

#: What a Server.xml may name and this version does not have yet. Counts as off.
NOT_BUILT_PROVIDERS = ("WebRTC", "OVT", "RTSP server")
NOT_BUILT_PUBLISHERS = ("WebRTC", "OVT")


def doctor(state: Path | None) -> int:
    """Print the report. The exit status is 0 when the box can encode and store, else 1."""
    print(f"Kiln {VERSION} on Python {sys.version.split()[0]}\n")
    reports = trio.run(_probe)
    software = any(report.works and report.codec == "H264" for report in reports)
    for line in _encoder_lines(reports):
        print(line)
    print(f"\nSRT        {_srt()}")
    for line in _camera_lines():
        print(line)
    storage, room = _free_space(state or default_state())
    print(storage)
    print(f"not built  inputs: {', '.join(NOT_BUILT_PROVIDERS)}")
    print(f"           outputs: {', '.join(NOT_BUILT_PUBLISHERS)}")
    return 0 if software and room else 1


async def _probe() -> list[EncoderReport]:
    return list(await probe_encoders(deadline_s=PROBE_DEADLINE))


def _encoder_lines(reports: list[EncoderReport]) -> Iterator[str]:
    yield "encoders (each one encoded frames, and what came out was decoded)"
    for report in reports:
        kind = "hardware" if report.hardware else "software"
        outcome = f"works, {report.fps:.0f} frames/s" if report.works else f"no: {report.reason}"
        yield f"  {report.name:<16} {report.codec:<5} {kind:<9} {outcome}"


def _srt() -> str:
    try:
        return f"{version()}: publishers and players can call"
    except SrtMissing as error:
        return f"off: {error}. {error.hint}"


def _camera_lines() -> Iterator[str]:
    cameras = list_cameras(DevicePaths.from_environment())
    if not cameras:
        yield "cameras    none"
    for number, camera in enumerate(cameras):
        right = "" if camera.readable else " (this user may not open it: join the group `video`)"
        yield f"{'cameras' if not number else '':<10} {camera.node} {camera.name}{right}"


def _free_space(folder: Path) -> tuple[str, bool]:
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    usage = shutil.disk_usage(existing)
    room = usage.free > 1 << 30
    note = "" if room else " (too little to record)"
    return f"storage    {folder}: {usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free{note}", room
