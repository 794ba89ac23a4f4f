"""Recordings, from the hub to files that a demuxer reads."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests.publishers.record.kit import clip, decoded, demuxed, repeated, studio


@pytest.mark.parametrize("extension", ["mp4", "ts", "mkv"])
async def test_a_recording_holds_every_frame(tmp_path: Path, extension: str) -> None:
    tracks, packets = clip()
    async with studio(tmp_path, tracks) as box:
        task = box.start(file_path=f"/out/a.{extension}", info_path="/out/a.xml")
        await box.feed(repeated(packets, 3))
        await box.finish()
    assert [str(path.relative_to(tmp_path)) for path in box.files] == [f"out/a.{extension}", "out/a.xml"]
    assert task.error == ""
    tracks_found = demuxed(box.files[0])
    assert [len(found) for found in tracks_found] == [180, 279]
    assert decoded(box.files[0]) == 180
    assert task.output_file == f"out/a.{extension}"
    assert task.total_bytes == box.files[0].stat().st_size
    assert abs(task.total_time - 6000) < 100
