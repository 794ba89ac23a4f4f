"""The ring of log lines, and who reads and follows it."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from appliance import logs as logs_module
from appliance.api.box.logs import Filter, Logs
from appliance.api.request import Request
from appliance.console.server_events import Event, EventParser
from appliance.logs import LineFormatter, LogRing


@pytest.fixture
def ring() -> Iterator[LogRing]:
    ring = LogRing()
    logger = logging.getLogger("kiln.tried")
    logger.addHandler(ring)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield ring
    logger.removeHandler(ring)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


log = logging.getLogger("kiln.tried")


def test_lines_are_kept_numbered_and_redacted(ring: LogRing) -> None:
    log.info("input on stream=%s key=abc123secret", "default/app/cam")
    log.error("bad\nsecond line")
    first, second = ring.after(0)
    assert (first.number, first.stream, first.level) == (1, "default/app/cam", logging.INFO)
    assert first.text == "input on stream=default/app/cam key=***"
    assert first.line.startswith("time=20")
    assert first.line.endswith(f"level=info logger=kiln.tried {first.text}")
    assert (second.number, second.stream, second.text) == (2, "", "bad\nsecond line")
    assert ring.after(1) == [second]
    assert ring.after(0, 1) == [first]
    assert ring.after(2) == []


def test_a_line_is_formatted_once(ring: LogRing, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def note(text: str) -> str:
        made.append(text)
        return text

    monkeypatch.setattr(logs_module, "redact", note)
    other = logging.Handler()
    other.setFormatter(LineFormatter())
    shown: list[str] = []
    monkeypatch.setattr(other, "emit", lambda record: shown.append(other.format(record)))
    log.addHandler(other)
    try:
        log.info("once")
    finally:
        log.removeHandler(other)
    assert len(made) == 1
    assert shown[0].endswith(ring.after(0)[0].text)


def test_the_ring_is_bounded(ring: LogRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "RING_LINES", 10)
    monkeypatch.setattr(logs_module, "RING_SIZE", 1000)
    for number in range(50):
        log.info("line=%d", number)
    assert [line.text for line in ring.after(0)] == [f"line={number}" for number in range(40, 50)]
    assert [line.number for line in ring.after(45)] == [46, 47, 48, 49, 50]
    log.info("x" * 800)
    log.info("y" * 800)
    assert len(ring.after(0)) == 1
    ring.clear()
    assert ring.after(0) == []


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(0, "", "", 0), True),
        (Filter(logging.WARNING, "", "", 0), False),
        (Filter(0, "tried", "", 0), True),
        (Filter(0, "tri", "", 0), False),
        (Filter(0, "", "default/app/cam", 0), True),
        (Filter(0, "", "cam", 0), True),
        (Filter(0, "", "am", 0), False),
        (Filter(0, "", "", 4e9), False),
    ],
)
def test_filters(ring: LogRing, wanted: Filter, passes: bool) -> None:
    log.info("on stream=default/app/cam")
    assert wanted.passes(ring.after(0)[0]) is passes


class Follower:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.comments = 0
        self._parser = EventParser()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.comments += data.count(b": still here")
        self.events += self._parser.receive_data(data)

    @property
    def texts(self) -> list[str]:
        return [json.loads(event.data)["text"] for event in self.events if event.name == "log"]


@asynccontextmanager
async def following(reader: Logs, query: str, last_id: str = "") -> AsyncIterator[Follower]:
    follower = Follower()
    scope = {
        "type": "http", "method": "GET", "raw_path": b"/box/v1/logs", "query_string": query.encode(),
        "headers": [(b"last-event-id", last_id.encode())],
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    answer = await reader.read(Request(scope, receive))
    assert answer.stream is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer.stream, follower.write)
        await trio.testing.wait_all_tasks_blocked()
        yield follower
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_followers_get_each_line_once(ring: LogRing) -> None:
    reader = Logs(ring)
    log.info("early")
    async with following(reader, "follow=yes&lines=5") as one, following(reader, "follow=yes&level=error") as two:
        log.info("plain")
        log.error("bad")
        await trio.to_thread.run_sync(log.info, "from a thread")
        await trio.testing.wait_all_tasks_blocked(0.01)
        last = one.events[-1].id
    assert one.texts == ["early", "plain", "bad", "from a thread"]
    assert two.texts == ["bad"]
    assert ring.on_line is None, "nobody follows, nothing is woken"
    log.info("meanwhile")
    async with following(reader, "follow=yes", last) as again:
        pass
    assert again.texts == ["meanwhile"]


async def test_a_follower_hears_what_it_lost(ring: LogRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "RING_LINES", 5)
    reader = Logs(ring)
    async with following(reader, "follow=yes&lines=0") as follower:
        for number in range(12):
            log.info("n=%d", number)
    assert (follower.events[0].name, follower.events[0].data) == ("lost", "7")
    assert follower.texts == [f"n={number}" for number in range(7, 12)]


async def test_a_sign_of_life(ring: LogRing, autojump_clock: MockClock) -> None:
    async with following(Logs(ring), "follow=yes") as follower:
        await trio.sleep(31)
    assert follower.comments == 2
