"""NMEA 0183, what GPS receivers say: GGA, RMC, GSA, GSV of any talker. Sans-IO. Not verified on hardware."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

#: The standard allows 82; receivers with many satellites go a little over.
LONGEST = 120
_SENTENCE = re.compile(rb"\$([A-Z]{2})([A-Z]{3}),([\x20-\x7e]*)\*([0-9A-Fa-f]{2})")
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])(\.[0-9]{1,6})?")
_DATE = re.compile(r"([0-3][0-9])([01][0-9])([0-9]{2})")
_ANGLE = re.compile(r"([0-9]{2,3})([0-5][0-9](?:\.[0-9]{1,8})?)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """``type`` such as GGA; ``talker`` GP, GN, GL, GA …; ``fields`` between the commas."""

    talker: str
    type: str
    fields: tuple[str, ...]


class NmeaParser:
    """Bytes in, whole sentences with a good checksum out. The rest is counted: ``discarded`` bytes, ``corrupt``
    sentences."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.discarded = 0
        self.corrupt = 0

    def receive_data(self, data: bytes) -> list[Sentence]:
        found = []
        for byte in data:
            if byte == 0x24:
                self._throw_away()
            elif byte == 0x0A:
                sentence = self._complete()
                if sentence is not None:
                    found.append(sentence)
                continue
            elif not self._buffer or len(self._buffer) >= LONGEST:
                self._throw_away()
                self.discarded += byte != 0x0D
                continue
            self._buffer.append(byte)
        return found

    def _throw_away(self) -> None:
        self.discarded += len(self._buffer)
        self._buffer.clear()

    def _complete(self) -> Sentence | None:
        line = bytes(self._buffer).rstrip(b"\r")
        self._buffer.clear()
        if not line:
            return None
        match = _SENTENCE.fullmatch(line)
        if match is None or checksum(line[1:-3]) != int(match[4], 16):
            self.corrupt += 1
            return None
        talker, type_, body = match[1].decode(), match[2].decode(), match[3].decode()
        return Sentence(talker, type_, tuple(body.split(",")))


def checksum(body: bytes) -> int:
    """Of what stands between ``$`` and ``*``."""
    value = 0
    for byte in body:
        value ^= byte
    return value


class FixQuality(StrEnum):
    """What a position and a time are worth."""

    NONE = "none"
    TWO_D = "2d"
    THREE_D = "3d"
    DIFFERENTIAL = "differential"
    ESTIMATED = "estimated"


_GGA_QUALITY = {
    "1": FixQuality.TWO_D, "2": FixQuality.DIFFERENTIAL, "3": FixQuality.TWO_D, "4": FixQuality.DIFFERENTIAL,
    "5": FixQuality.DIFFERENTIAL, "6": FixQuality.ESTIMATED,
}  # fmt: skip


@dataclass(slots=True)
class Position:
    """Degrees (north and east positive), metres above the sea, knots, degrees from north; None: not told.
    ``time`` UTC, to a hundredth of a second at best, at the moment of the fix; ``in_view`` satellites by talker."""

    quality: FixQuality = FixQuality.NONE
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    speed: float | None = None
    course: float | None = None
    time: datetime | None = None
    time_valid: bool = False
    satellites: int = 0
    hdop: float | None = None
    pdop: float | None = None
    in_view: dict[str, int] = field(default_factory=dict)
    _three_d: bool = False

    def apply(self, sentence: Sentence) -> bool:
        """Whether it told anything; a field that is wrong counts as not told."""
        fields = [*sentence.fields, *[""] * 20]
        if sentence.type == "GGA":
            self._gga(fields)
        elif sentence.type == "RMC":
            self._rmc(fields)
        elif sentence.type == "GSA":
            self._three_d = fields[1] == "3"
            self.pdop, self.hdop = _number(fields[14]), _number(fields[15])
        elif sentence.type == "GSV":
            self.in_view[sentence.talker] = int(_number(fields[2]) or 0)
        else:
            return False
        return True

    def _gga(self, fields: Sequence[str]) -> None:
        quality = _GGA_QUALITY.get(fields[5], FixQuality.NONE)
        self.quality = FixQuality.THREE_D if quality is FixQuality.TWO_D and self._three_d else quality
        has_fix = quality is not FixQuality.NONE
        self.latitude = _angle(fields[1], fields[2], 90) if has_fix else None
        self.longitude = _angle(fields[3], fields[4], 180) if has_fix else None
        self.satellites = int(_number(fields[6]) or 0)
        self.hdop = _number(fields[7])
        self.altitude = _number(fields[8]) if has_fix else None

    def _rmc(self, fields: Sequence[str]) -> None:
        self.time = _moment(fields[8], fields[0])
        self.time_valid = fields[1] == "A" and self.time is not None
        if fields[1] != "A":
            self.quality, self.latitude, self.longitude, self.altitude = FixQuality.NONE, None, None, None
            self.speed = self.course = None
            return
        self.latitude, self.longitude = _angle(fields[2], fields[3], 90), _angle(fields[4], fields[5], 180)
        self.speed, self.course = _number(fields[6]), _number(fields[7])
        if self.quality is FixQuality.NONE:
            self.quality = FixQuality.THREE_D if self._three_d else FixQuality.TWO_D


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text) else None


def _angle(text: str, side: str, most: int) -> float | None:
    match = _ANGLE.fullmatch(text)
    if match is None or side not in ("N", "S", "E", "W"):
        return None
    degrees = int(match[1]) + float(match[2]) / 60
    if degrees > most:
        return None
    return round(-degrees if side in "SW" else degrees, 7)


def _moment(date: str, time: str) -> datetime | None:
    day, clock = _DATE.fullmatch(date), _TIME.fullmatch(time)
    if day is None or clock is None:
        return None
    micro = round(float(clock[4] or 0) * 1_000_000)
    try:
        # Two digits of a year: no receiver in use is older than 1980, when GPS time began.
        year = int(day[3]) + (1900 if int(day[3]) >= 80 else 2000)
        return datetime(
            year, int(day[2]), int(day[1]), int(clock[1]), int(clock[2]), int(clock[3]), min(micro, 999_999), UTC
        )
    except ValueError:
        return None
