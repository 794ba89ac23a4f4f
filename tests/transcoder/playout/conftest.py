"""Files to play, and somebody who takes what is played."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kit.ffmpeg import FFMPEG

PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"]
SOUND = ["-f", "lavfi", "-i", "sine=1000:r=48000"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "30"]
AAC = ["-c:a", "aac"]

FILES = {
    "b-frames.mp4": [*PICTURE, *SOUND, "-t", "2", *H264, "-bf", "2", *AAC],
    "plain.mp4": [*PICTURE, *SOUND, "-t", "3", *H264, "-bf", "0", *AAC],
    "stereo.ts": [*PICTURE, *SOUND, "-t", "2", *H264, *AAC, "-ac", "2"],
    "silent.mp4": [*PICTURE, "-t", "2", *H264],
    "dark.m4a": [*SOUND, "-t", "2", *AAC],
    "hevc.mkv": [*PICTURE, *SOUND, "-t", "2", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
                 "log-level=none:keyint=30", "-c:a", "libopus"],
    "short-sound.mp4": [*PICTURE, "-f", "lavfi", "-i", "sine=1000:r=48000:d=1", "-t", "2", *H264, *AAC],
    "sound.mp3": [*SOUND, "-t", "1"],
}  # fmt: skip


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A media root with `FILES`, and with what is no media."""
    root = tmp_path_factory.mktemp("media")
    for name, arguments in FILES.items():
        subprocess.run([FFMPEG, "-v", "error", *arguments, str(root / name)], check=True, timeout=60)
    (root / "nonsense.mp4").write_bytes(b"nonsense" * 1000)
    (root / "empty.mp4").write_bytes(b"")
    (root / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:4,\nfile://{root}/plain.mp4\n#EXT-X-ENDLIST\n")
    (root / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{root}/plain.mp4'\n")
    whole = (root / "plain.mp4").read_bytes()
    (root / "cut.ts").write_bytes((root / "stereo.ts").read_bytes()[:40_000])
    (root / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "link.mp4").symlink_to(root / "plain.mp4")
    return root
