"""ffmpeg as the server that is pushed to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.media.packet import Packet
from tests.kit.ffmpeg import Ffmpeg
from tests.kit.frames import of_file, slices_digest


@contextmanager
def receiver(url: str, file: Path, *input_options: str) -> Iterator[Ffmpeg]:
    """Writes what comes to ``url`` into ``file`` (FLV, for every tag in it stands by itself)."""
    arguments = [*input_options, "-i", url, "-map", "0", "-c", "copy", "-f", "flv", "-y"]
    with Ffmpeg([*arguments, "-flush_packets", "1", str(file)], log=file.with_suffix(".log")) as ffmpeg:
        yield ffmpeg


def missing(file: Path, sent: list[Packet]) -> int:
    """How many pictures of ``sent`` are missing in ``file`` after the first that is there; -1: nothing is there."""
    got = [frame.digest for frame in of_file(file, "video")]
    wanted = [slices_digest(packet.payload) for packet in sent if packet.track.is_video]
    if not got or got[0] not in wanted:
        return -1
    wanted = wanted[wanted.index(got[0]) :]
    assert got == [digest for digest in wanted if digest in set(got)], "out of order, or doubled"
    return len(wanted) - len(got)
