"""The real far end: ffmpeg as publisher, player and encoder, and the files it publishes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import imageio_ffmpeg

FFMPEG: str = imageio_ffmpeg.get_ffmpeg_exe()
BASE = [FFMPEG, "-hide_banner", "-nostdin", "-loglevel", "warning"]


class Ffmpeg:
    """One running ffmpeg. Use it as a context manager: leaving kills it."""

    def __init__(self, arguments: Sequence[str], *, log: Path | None = None) -> None:
        self.arguments = list(arguments)
        self._own_log = log is None
        if log is None:
            handle, name = tempfile.mkstemp(prefix="kiln-ffmpeg-", suffix=".log")
            os.close(handle)
            log = Path(name)
        self.log = log
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*BASE, *self.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait(self, timeout: float = 60) -> int:
        """Its exit status."""
        return self.process.wait(timeout)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: its sockets close at once, its protocol says nothing."""
        if self.running:
            self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM: it ends its output properly."""
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._own_log:
            self.log.unlink(missing_ok=True)


def run(arguments: Sequence[str], *, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg to its end; both its outputs are in the answer."""
    return subprocess.run(
        [*BASE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )


def publish(source: Path, url: str, *, loop: bool = False, log: Path | None = None) -> Ffmpeg:
    """Send ``source`` as it is to ``url`` over RTMP in real time."""
    repeat = ["-stream_loop", "-1"] if loop else []
    return Ffmpeg([*repeat, "-re", "-i", str(source), "-c", "copy", "-f", "flv", url], log=log)


@dataclass(frozen=True)
class SourceSpec:
    """A moving picture with a tone: a key frame each ``gop`` frames and no other; ``seconds`` long, bits a second."""

    name: str
    size: str
    rate: int
    bitrate: int
    seconds: float
    gop: int
    bframes: int = 0
    preset: str = "ultrafast"
    audio: bool = True


#: 16 frames of video last as long as 25 of audio: lengths are whole multiples of that, so that a loop has no seam.
FULL_HD = SourceSpec("1080p30", "1920x1080", 30, 4_000_000, 19.2, 30, preset="superfast")
HD = SourceSpec("720p30", "1280x720", 30, 2_500_000, 12.8, 30)
SMALL = SourceSpec("360p30", "640x360", 30, 600_000, 12.8, 30)
B_FRAMES = SourceSpec("360p30b", "640x360", 30, 600_000, 12.8, 30, bframes=2, preset="veryfast")
#: Long enough that a whole test passes without a loop.
LONG = SourceSpec("180p30", "320x180", 30, 300_000, 160, 30)
#: 60 kB in half a second.
MEGABIT = SourceSpec("360p30m", "640x360", 30, 830_000, 19.2, 30)
#: A small body in a fifth of a second.
TINY = SourceSpec("180p30t", "320x180", 30, 100_000, 12.8, 30, audio=False)


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"kiln-test-sources-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def source(spec: SourceSpec) -> Path:
    """The MP4 file of ``spec``, made once a machine: constant bit rate H.264 and AAC 128 kbit/s at 48 kHz."""
    video = [
        "-f", "lavfi", "-i", f"testsrc2=size={spec.size}:rate={spec.rate},noise=alls=12:allf=t,format=yuv420p",
    ]  # fmt: skip
    audio = ["-f", "lavfi", "-i", "anoisesrc=color=pink:seed=7:amplitude=0.2:sample_rate=48000"] if spec.audio else []
    encode = [
        "-t", str(spec.seconds), "-c:v", "libx264", "-preset", spec.preset, "-profile:v", "high",
        "-b:v", str(spec.bitrate), "-minrate", str(spec.bitrate), "-maxrate", str(spec.bitrate),
        "-bufsize", str(spec.bitrate // 2), "-x264-params", "nal-hrd=cbr:force-cfr=1",
        "-g", str(spec.gop), "-keyint_min", str(spec.gop), "-sc_threshold", "0", "-bf", str(spec.bframes),
    ]  # fmt: skip
    sound = ["-c:a", "aac", "-b:a", "128k", "-ac", "2"] if spec.audio else []
    arguments = [*video, *audio, *encode, *sound, "-movflags", "+faststart"]
    digest = zlib.crc32(" ".join(arguments).encode())
    path = _cache() / f"{spec.name}-{digest:08x}.mp4"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.mp4")
        made = run([*arguments, "-y", str(partial)], timeout=300)
        if made.returncode:
            raise RuntimeError(f"ffmpeg could not make {spec.name}: {made.stderr.decode(errors='replace')}")
        partial.rename(path)
    return path
