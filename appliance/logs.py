"""Logging: key=value lines, no secret in them, and repeats counted instead of repeated."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from typing import TextIO

_NAMES = (
    r"(?:stream_?key|pass_?phrase|password|passwd|secret_?key|secret|access_?token|token|api_?key|publish_?key"
    r"|authorization|key)"
)
#: ``token=…``, ``"streamKey": "…"``, ``passphrase: …``; a name that only ends in one of them (``keyframe``) is let be.
_PAIR = re.compile(
    rf"""(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{{2}}))({_NAMES}["']?\s*(?:=|:\s?|%3[Dd])\s*)(?!(?:Basic|Bearer)\s)("[^"]*"|'[^']*'|[^\s&,;"'}})\]]+)""",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(Basic|Bearer|Digest)(\s+)[A-Za-z0-9+/=._~-]{4,}", re.IGNORECASE)
_USER_INFO = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")

MASK = "***"

#: Bounds of the lines that are kept in memory.
RING_LINES = 5000
RING_SIZE = 1024 * 1024
LONGEST_LINE = 8192
_STREAM = re.compile(r"\bstream=(\S+)")
_NO_LOCK: nullcontext[None] = nullcontext()


def redact(text: str) -> str:
    """``text`` with the values of keys, tokens, pass phrases, Authorization headers and URL passwords as ``***``."""
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _USER_INFO.sub(rf"\1{MASK}@", text)
    return _PAIR.sub(rf"\1{MASK}", text)


class LineFormatter(logging.Formatter):
    """``time=2026-01-02T03:04:05.678Z level=warning logger=kiln.rtmp <message>``, secrets masked, tracebacks too.

    A record is formatted once, whoever asks for it.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        known: str | None = record.__dict__.get("kiln_line")
        if known is None:
            known = record.__dict__["kiln_line"] = self._made(record)
        return known

    def _made(self, record: logging.LogRecord) -> str:
        head = f"time={self.formatTime(record)} level={record.levelname.lower()} logger={record.name}"
        line = f"{head} {record.getMessage()}"
        if record.exc_info and record.exc_info[0] is not None:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            line = f"{line}\n{self.formatStack(record.stack_info)}"
        return redact(line)


class LogLine:
    """``number`` counts lines from 1, ``time`` is seconds since 1970, ``text`` the line without time, level and logger;
    ``stream`` what it is about ("" when it names none). ``event`` is for whoever sends it to many: made once."""

    __slots__ = ("event", "level", "logger", "number", "stream", "text", "time")

    def __init__(self, number: int, record: logging.LogRecord, line: str) -> None:
        self.number = number
        self.time = record.created
        self.level = record.levelno
        self.logger = record.name
        self.text = line.split(" ", 3)[3][:LONGEST_LINE] if line.count(" ") > 2 else ""
        named = _STREAM.search(self.text)
        self.stream = named[1] if named else ""
        self.event = b""

    @property
    def line(self) -> str:
        """As it was logged."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.time))
        level = logging.getLevelName(self.level).lower()
        return f"time={seconds}.{int(self.time % 1 * 1000):03d}Z level={level} logger={self.logger} {self.text}"


class LogRing(logging.Handler):
    """The last lines, at most RING_LINES and RING_SIZE characters. Threads may log; the loop's reads.

    ``on_line`` is called after each line, from whatever thread logs it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(LineFormatter())
        self.on_line: Callable[[], None] | None = None
        self.last = 0
        self._lines: deque[LogLine] = deque()
        self._size = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        entry = LogLine(self.last + 1, record, self.format(record))
        self._lines.append(entry)
        self._size += len(entry.text)
        while len(self._lines) > RING_LINES or self._size > RING_SIZE:
            self._size -= len(self._lines.popleft().text)
        self.last = entry.number
        if self.on_line is not None:
            self.on_line()

    def after(self, number: int, most: int = RING_LINES) -> list[LogLine]:
        """At most ``most`` lines after that number, oldest first."""
        with self.lock or _NO_LOCK:
            known = len(self._lines)
            skipped = max(0, number - (self.last - known))
            return list(islice(self._lines, skipped, min(known, skipped + most)))

    def clear(self) -> None:
        """Forget all lines; their numbers go on."""
        with self.lock or _NO_LOCK:
            self._lines.clear()
            self._size = 0


#: What the process has said of late.
RING = LogRing()


def set_up_logging(level: int | str = logging.INFO, stream: TextIO | None = None) -> logging.Handler:
    """Send all loggers as redacted key=value lines to ``stream`` (standard error by default) and to RING. A second call
    replaces the first. Raises ValueError for a level that is not one."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.setLevel(level)
    for old in [each for each in root.handlers if isinstance(each.formatter, LineFormatter)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.addHandler(RING)
    for chatty in ("httpx", "httpcore", "h2", "hpack"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


class RateLimited:
    """Logs a repeated event at most once in ``interval`` seconds and says how often it came: ``… repeated=37``.

    ``clock`` gives monotonic seconds. What was held back last is not lost: the next line, or ``flush``, carries it.
    """

    __slots__ = ("_clock", "_held", "_interval", "_last", "_log", "total")

    def __init__(self, log: logging.Logger, interval: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0
        self._log = log
        self._interval = interval
        self._clock = clock
        self._last = -float("inf")
        self._held: tuple[int, str, tuple[object, ...], int] | None = None

    def __call__(
        self, level: int, message: str, *values: object, exc_info: BaseException | None = None
    ) -> None:
        """Count the event; log it when the last line is ``interval`` seconds old. Arguments as of ``Logger.log``."""
        self.total += 1
        count = self._held[3] + 1 if self._held else 1
        now = self._clock()
        if now - self._last < self._interval:
            self._held = (level, message, values, count)
            return
        self._last = now
        self._held = None
        self._write(level, message, values, count, exc_info)

    def flush(self) -> None:
        """Log what is still held back."""
        if self._held is not None:
            level, message, values, count = self._held
            self._held = None
            self._write(level, message, values, count)

    def _write(
        self,
        level: int,
        message: str,
        values: tuple[object, ...],
        count: int,
        exc_info: BaseException | None = None,
    ) -> None:
        if count > 1:
            self._log.log(level, message + " repeated=%d", *values, count, exc_info=exc_info)
        else:
            self._log.log(level, message, *values, exc_info=exc_info)
