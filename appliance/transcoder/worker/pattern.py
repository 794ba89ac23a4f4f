"""The test pattern: FFmpeg's moving picture with the time of day burnt in, a tone; each second a flash and a beep."""

from __future__ import annotations

import math
import time
from array import array
from fractions import Fraction

from av.audio.frame import AudioFrame
from av.filter.graph import Graph
from av.video.frame import VideoFrame

#: Flash and beep at the start of each second of the stream's timeline last this long.
MARK_SECONDS = Fraction(1, 25)
TONE_LEVEL = 0.1
BEEP_LEVEL = 0.6
BEEP_HZ = 2000

# 3x5 blocks a glyph, rows from the top, bit 2 is the left column.
_GLYPHS = {
    "0": (7, 5, 5, 5, 7), "1": (2, 6, 2, 2, 7), "2": (7, 1, 7, 4, 7), "3": (7, 1, 7, 1, 7), "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7), "6": (7, 4, 7, 5, 7), "7": (7, 1, 2, 2, 2), "8": (7, 5, 7, 5, 7), "9": (7, 5, 7, 1, 7),
    ":": (0, 2, 0, 2, 0), ".": (0, 0, 0, 0, 2), " ": (0, 0, 0, 0, 0),
    "N": (5, 7, 7, 7, 5), "O": (7, 5, 5, 5, 7), "S": (7, 4, 7, 1, 7), "I": (7, 2, 2, 2, 7), "G": (7, 4, 5, 5, 7),
    "A": (7, 5, 7, 5, 5), "L": (4, 4, 4, 4, 7), "P": (7, 5, 7, 4, 4), "U": (5, 5, 5, 5, 7), "T": (7, 2, 2, 2, 2),
    "V": (5, 5, 5, 5, 2), "D": (6, 5, 5, 5, 6), "E": (7, 4, 7, 4, 7), "C": (7, 4, 4, 4, 7), "F": (7, 4, 7, 4, 4),
}  # fmt: skip
_INK, _PAPER = 235, 16


class BlockText:
    """Writes a line of block letters into the planes of a yuv420p frame, in place and without numpy."""

    def __init__(self, width: int, height: int, length: int, *, scale: int = 0, centred: bool = False) -> None:
        self._scale = scale or max(2, height // 120 // 2 * 2)
        while self._scale > 2 and (length * 4 + 1) * self._scale > width:
            self._scale -= 2
        self._length = length
        self._high = 7 * self._scale
        self._wide = (length * 4 + 1) * self._scale
        self.fits = self._wide <= width and self._high + 2 * self._scale <= height
        self._left = self._scale * 2 if self._wide + self._scale * 2 <= width else 0
        self._top = (height - self._high - self._scale * 2) // 2 * 2
        if centred:
            self._left = max(0, width - self._wide) // 4 * 2
            self._top = max(0, height - self._high) // 4 * 2
        scale = self._scale
        self._cells = {
            (glyph, row): b"".join(
                bytes([_INK if bits[row] & bit else _PAPER]) * scale for bit in (4, 2, 1)
            ) + bytes([_PAPER]) * scale
            for glyph, bits in _GLYPHS.items()
            for row in range(5)
        }  # fmt: skip
        self._blank = bytes([_PAPER]) * self._wide
        self._grey = bytes([128]) * (self._wide // 2)

    def draw(self, frame: VideoFrame, text: str) -> None:
        if not self.fits:
            return
        scale, left, top, wide = self._scale, self._left, self._top, self._wide
        margin = bytes([_PAPER]) * scale
        rows = [margin + b"".join([self._cells[glyph, row] for glyph in text]) for row in range(5)]
        luma, blue, red = frame.planes
        stride = luma.line_size
        view = memoryview(luma)
        for line in range(self._high):
            at = (top + line) * stride + left
            row = line // scale - 1
            view[at : at + wide] = rows[row] if 0 <= row < 5 else self._blank
        for plane in (blue, red):
            stride = plane.line_size
            view = memoryview(plane)
            for line in range(top // 2, (top + self._high) // 2):
                at = line * stride + left // 2
                view[at : at + wide // 2] = self._grey


class PatternPicture:
    """Frame after frame of the pattern."""

    def __init__(self, width: int, height: int, rate: Fraction) -> None:
        graph = Graph()
        graph.threads = 1
        source = graph.add("testsrc2", f"size={width}x{height}:rate={rate.numerator}/{rate.denominator}")
        form = graph.add("format", "pix_fmts=yuv420p")
        sink = graph.add("buffersink")
        graph.link_nodes(source, form, sink).configure()
        self._graph = graph
        self._clock = BlockText(width, height, len("00:00:00.000"))
        side = max(4, min(width, height) // 8 // 2 * 2)
        self._flash_top = height - 2 * side
        self._flash_left = width - 2 * side
        self._flash_side = side

    def frame(self, wall_ns: int, *, flash: bool) -> VideoFrame:
        """The next picture, showing ``wall_ns`` as UTC; ``flash`` paints the sync mark white, else it is black."""
        frame = self._graph.vpull()
        self._clock.draw(frame, _time_of_day(wall_ns))
        self._mark(frame, _INK if flash else _PAPER)
        return frame

    def _mark(self, frame: VideoFrame, level: int) -> None:
        side = self._flash_side
        for plane, shrink, value in zip(frame.planes, (1, 2, 2), (level, 128, 128), strict=True):
            stride = plane.line_size
            view = memoryview(plane)
            row = bytes([value]) * (side // shrink)
            left = self._flash_left // shrink
            for line in range(self._flash_top // shrink, (self._flash_top + side) // shrink):
                at = line * stride + left
                view[at : at + len(row)] = row


def _time_of_day(wall_ns: int) -> str:
    seconds, rest = divmod(wall_ns, 1_000_000_000)
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}"


class SlatePicture:
    """What is shown while a device gives nothing: words on grey, and the clock, so that it is seen to live."""

    TEXT = "NO SIGNAL"

    def __init__(self, width: int, height: int, rate: Fraction) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add("color", f"c=0x303030:s={width}x{height}:r={rate.numerator}/{rate.denominator}")
        form = self._graph.add("format", "pix_fmts=yuv420p")
        self._graph.link_nodes(source, form, self._graph.add("buffersink")).configure()
        scale = max(2, width // (len(self.TEXT) * 8) // 2 * 2)
        self._words = BlockText(width, height, len(self.TEXT), scale=scale, centred=True)
        self._clock = BlockText(width, height, len("00:00:00.000"))

    def frame(self, wall_ns: int) -> VideoFrame:
        """The next picture, showing ``wall_ns`` as UTC."""
        frame = self._graph.vpull()
        # The filter hands out one picture again and again, which encoders may still be reading.
        frame.make_writable()
        self._words.draw(frame, self.TEXT)
        self._clock.draw(frame, _time_of_day(wall_ns))
        return frame


def _sine(rate: int, hertz: int, level: float, count: int) -> array[int]:
    period = rate // math.gcd(rate, hertz) if hertz else 1
    wave = [round(32767 * level * math.sin(2 * math.pi * hertz * index / rate)) for index in range(period)]
    return array("h", (wave * (count // period + 1))[:count])


class PatternSound:
    """One second of tone and beep, repeated for ever; sample 0 is a full second of the stream's timeline."""

    def __init__(self, rate: int, channels: int, tone: int, *, beep: bool = True) -> None:
        self.rate = rate
        self._layout = "mono" if channels == 1 else "stereo"
        beeping = round(rate * MARK_SECONDS) if beep else 0
        beep_hz = BEEP_HZ if tone != BEEP_HZ and rate > 2 * BEEP_HZ else tone // 2
        samples = _sine(rate, tone, TONE_LEVEL if tone else 0.0, rate)
        samples[:beeping] = _sine(rate, beep_hz, BEEP_LEVEL, beeping)
        second = array("h", bytes(2 * rate * channels))
        for channel in range(channels):
            second[channel::channels] = samples
        self._width = 2 * channels
        # The start once more at the end, so that any chunk is one slice.
        self._second = second.tobytes() * 2

    def frame(self, first: int, count: int) -> AudioFrame:
        """``count`` samples (at most a second) from sample number ``first`` of the timeline."""
        frame = AudioFrame("s16", self._layout, count)
        frame.sample_rate = self.rate
        frame.pts = first
        frame.time_base = Fraction(1, self.rate)
        at = first % self.rate * self._width
        view = memoryview(frame.planes[0])
        view[: count * self._width] = self._second[at : at + count * self._width]
        return frame
