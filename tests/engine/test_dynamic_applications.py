"""Applications made of a virtual host's template when a stream comes for them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.directory import Directory
from appliance.engine.dynamic_applications import UNUSED_NS, DynamicApplications
from appliance.engine.services import Services
from appliance.engine.virtual_host import MOST_DYNAMIC
from appliance.errors import Forbidden, NotFound
from appliance.media.clock import Clock
from appliance.media.contracts import Source
from appliance.settings import models
from appliance.supervisor import Supervisor
from appliance.transcoder.pool import WorkerPool

RTMP = Source("Rtmp", "TCP://127.0.0.1:5", "127.0.0.1")


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 0

    def monotonic(self) -> int:
        return self.now


def directory(hand: Hand, *, template: bool = True) -> Directory:
    app = models.Application(name="app", type="live")
    pattern = models.Application(name="*", type="live", providers=models.Providers(rtmp=models.RtmpProvider()))
    entries = [ApplicationEntry(app, {"name": "app", "type": "live"})]
    if template:
        entries.append(ApplicationEntry(pattern, {"name": "*", "type": "live", "providers": {"rtmp": {}}}))
    vhost = VhostEntry(models.VirtualHost(name="default"), {"name": "default"}, entries)
    clock = Clock(hand.monotonic, hand.monotonic)
    return Directory([vhost], Services(clock, Supervisor("test"), WorkerPool(), []))


async def test_a_stream_for_an_unknown_application_makes_it() -> None:
    known = directory(Hand())
    assert known.application("default", "stage") is None
    told: Any = known.arriving("default", "stage")
    assert (told.name, told.providers.rtmp is not None) == ("stage", True)
    assert known.application("default", "stage") is None, "asking makes nothing"
    known.open_input("default", "stage", "cam", RTMP)
    made = known.find_application("default", "stage")
    assert made is not None
    assert made.dynamic
    assert made.raw == {"name": "stage", "type": "live", "providers": {"rtmp": {}}}
    assert known.open_input("default", "stage", "cam2", RTMP).label == "default/stage/cam2"
    assert known.vhosts["default"].dynamic == [made]


async def test_an_application_that_is_there_is_not_made() -> None:
    known = directory(Hand())
    with pytest.raises(Forbidden):
        known.open_input("default", "app", "cam", RTMP)
    assert known.vhosts["default"].dynamic == []


@pytest.mark.parametrize(("template", "app"), [(False, "stage"), (True, "a b"), (True, "*"), (True, ".x")])
async def test_what_cannot_be_made_is_not(template: bool, app: str) -> None:
    known = directory(Hand(), template=template)
    assert known.arriving("default", app) is None
    with pytest.raises(NotFound):
        known.open_input("default", app, "cam", RTMP)


async def test_a_flood_of_names_is_bounded() -> None:
    known = directory(Hand())
    for number in range(MOST_DYNAMIC):
        known.open_input("default", f"a{number}", "cam", RTMP)
    with pytest.raises(NotFound):
        known.open_input("default", "one-more", "cam", RTMP)


async def test_one_that_nobody_uses_goes_after_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    hand = Hand()
    known = directory(hand)
    opened = known.open_input("default", "stage", "cam", RTMP)
    known.open_input("default", "waited", "cam", RTMP).close("over")
    removal = DynamicApplications(known.vhosts, Clock(hand.monotonic, hand.monotonic), lambda _, app: app == "waited")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(removal.run, lambda: None)
        for step, there in ((UNUSED_NS * 2, True), (UNUSED_NS // 2, True), (UNUSED_NS, False)):
            hand.now += step
            await trio.sleep(11)
            assert (known.application("default", "stage") is not None) is there
            opened.close("over")
        nursery.cancel_scope.cancel()
    assert known.application("default", "waited") is not None
    assert known.application("default", "app") is not None
