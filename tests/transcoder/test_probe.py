"""The probe tells what really encodes: by encoding, in a process that may crash or hang."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from appliance.media.track import Codec
from appliance.transcoder import probe
from appliance.transcoder.probe import probe_encoders, working


async def test_software_encodes_and_absent_hardware_says_why(tmp_path: Path) -> None:
    names = ("libx264", "h264_v4l2m2m", "h264_rkmpp", "h264_amf")
    tried = [(name, Codec.H264) for name in names] + [("libx265", Codec.H265)]
    cache = tmp_path / "encoders.json"
    reports = {report.name: report for report in await probe_encoders(30, candidates=tried, cache=cache, fresh=True)}
    assert list(reports) == [name for name, _ in tried]
    assert reports["libx265"].works
    software = reports["libx264"]
    assert (software.works, software.hardware, software.reason, software.codec) == (True, False, "", "H264")
    assert software.fps > 5
    for name in ("h264_v4l2m2m", "h264_amf"):
        report = reports[name]
        if not report.works:
            assert report.hardware
            assert report.reason
    assert "not in this build" in reports["h264_rkmpp"].reason
    assert "libx264" in working(reports.values())
    began = time.monotonic()
    assert await probe_encoders(30, candidates=tried, cache=cache) == list(reports.values())
    probe._remembered = None
    assert await probe_encoders(30, candidates=tried, cache=cache) == list(reports.values())
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import time; time.sleep(60)", "hangs: nothing after 0.7 s"),
        ("import os; os.abort()", "crashed (signal 6)"),
        ("print('oops')", "crashed (status 0)"),
    ],
)
async def test_a_driver_that_hangs_or_crashes_is_only_a_report(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\n{program}\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    (report,) = await probe_encoders(0.7, candidates=[("h264_nvenc", Codec.H264)], fresh=True)
    assert not report.works
    assert reason in report.reason
    probe._remembered = None
