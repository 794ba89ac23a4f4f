"""Just enough of MP4 to time fragments by their own boxes (14496-12), independent of the writer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Times in ticks of the track."""

    dts: int
    pts: int
    duration: int
    sync: bool
    payload: bytes


@dataclass(frozen=True)
class Init:
    timescale: int
    handler: str
    sample_entry: str
    default_duration: int
    default_flags: int


#: What stands for the initialisation of WebVTT: its parts have none, and no times of their own (RFC 8216 3.5).
TEXT = Init(1000, "text", "wvtt", 0, 0)


def parse_text(data: bytes, duration: float) -> list[Sample]:
    """A whole WebVTT document. Raises ValueError."""
    lines = data.decode().split("\n")
    if lines[0] != "WEBVTT" or not lines[1].startswith("X-TIMESTAMP-MAP="):
        raise ValueError("no WebVTT with its place in time")
    return [Sample(0, 0, round(duration * TEXT.timescale), True, data)]


def boxes(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Type, start and content of each box."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            raise ValueError(f"box {kind!r} of {size} bytes does not fit")
        yield kind.decode("latin-1"), at, data[at + 8 : at + size]
        at += size
    if at != len(data):
        raise ValueError("bytes behind the last box")


def child(data: bytes, *path: str) -> bytes:
    for name in path:
        data = next(content for kind, _, content in boxes(data) if kind == name)
    return data


def parse_init(data: bytes) -> Init:
    moov = child(data, "moov")
    mdia = child(moov, "trak", "mdia")
    mdhd = child(mdia, "mdhd")
    timescale = struct.unpack_from(">I", mdhd, 20 if mdhd[0] else 12)[0]
    handler = child(mdia, "hdlr")[8:12].decode("latin-1")
    stsd = child(mdia, "minf", "stbl", "stsd")
    trex = child(moov, "mvex", "trex")
    _, _, _, duration, _, flags = struct.unpack_from(">IIIIII", trex)
    return Init(timescale, handler, stsd[12:16].decode("latin-1"), duration, flags)


def parse_fragments(init: Init, data: bytes) -> list[list[Sample]]:
    """The samples of each fragment. Raises ValueError for what is no row of whole fragments."""
    found: list[list[Sample]] = []
    moof_at, moof = -1, b""
    for kind, at, content in boxes(data):
        if kind == "moof":
            moof_at, moof = at, content
        elif kind == "mdat":
            if moof_at < 0:
                raise ValueError("mdat without moof")
            found.append(_samples(init, data, moof_at, moof))
            moof_at = -1
        elif kind not in ("emsg", "styp", "prft", "sidx"):
            raise ValueError(f"{kind} has no place in a fragment")
    if moof_at >= 0 or not found:
        raise ValueError("moof without mdat")
    return found


def _samples(init: Init, data: bytes, moof_at: int, moof: bytes) -> list[Sample]:
    traf = child(moof, "traf")
    tfhd = child(traf, "tfhd")
    if not int.from_bytes(tfhd[1:4], "big") & 0x020000:
        raise ValueError("no default-base-is-moof")
    tfdt = child(traf, "tfdt")
    time = struct.unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)[0]
    trun = child(traf, "trun")
    version, flags = trun[0], int.from_bytes(trun[1:4], "big")
    count, offset = struct.unpack_from(">Ii", trun, 4)
    at = 12 + (4 if flags & 4 else 0)
    position = moof_at + offset
    samples = []
    for _ in range(count):
        values = {}
        for bit in (0x100, 0x200, 0x400, 0x800):
            if flags & bit:
                values[bit] = struct.unpack_from(">i" if bit == 0x800 and version else ">I", trun, at)[0]
                at += 4
        duration = values.get(0x100, init.default_duration)
        size = values[0x200]
        sync = not values.get(0x400, init.default_flags) & 0x10000
        payload = data[position : position + size]
        samples.append(Sample(time, time + values.get(0x800, 0), duration, sync, payload))
        position += size
        time += duration
    return samples
