"""Alarms: opened, counted, acknowledged, closed, remembered; and nobody misses a change."""

from __future__ import annotations

import pytest

from appliance.engine.alarms import MOST_CLOSED, AlarmChange, Alarms, OpenAlarm, Severity
from appliance.errors import NotFound
from appliance.media.clock import Clock


class Wall:
    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


def test_an_alarm_is_opened_counted_and_closed() -> None:
    wall = Wall()
    alarms = Alarms(Clock(wall=wall))
    alarms["port:rtmp"] = "taken"
    wall.now += 5
    alarms["port:rtmp"] = "taken by another"
    (alarm,) = alarms.open
    assert (alarm.text, alarm.since, alarm.last, alarm.count) == ("taken by another", 1_000, 1_005, 2)
    assert alarm.severity is Severity.ERROR
    assert alarms == {"port:rtmp": "taken by another"}
    wall.now += 5
    assert alarms.pop("port:rtmp", None) == "taken by another"
    assert alarms.pop("port:rtmp", None) is None
    assert not alarms
    assert [(each.id, each.closed) for each in alarms.closed] == [("port:rtmp", 1_010)]
    alarms["port:rtmp"] = "taken"
    assert (alarms.open[0].since, alarms.open[0].count) == (1_010, 1)


def test_changes_are_told() -> None:
    alarms = Alarms()
    told: list[tuple[AlarmChange, str]] = []
    alarms.on_change(lambda change, alarm: told.append((change, alarm.id)))
    alarms["a"] = "x"
    alarms["a"] = "y"
    alarms.acknowledge("a")
    alarms.acknowledge("a")
    del alarms["a"]
    assert [change for change, _ in told] == ["opened", "changed", "acknowledged", "closed"]


def test_acknowledged_until_it_gets_worse() -> None:
    alarms = Alarms()
    alarms["disk"] = "12 % free"
    alarms.acknowledge("disk")
    alarms["disk"] = "11 % free"
    assert alarms.open[0].acknowledged
    alarms.raise_alarm("disk", "0 % free", Severity.ERROR)
    assert [alarm.acknowledged for alarm in alarms.open] == [False]
    with pytest.raises(NotFound, match="no open alarm"):
        alarms.acknowledge("other")


def test_no_secret_and_no_endless_history() -> None:
    alarms = Alarms()
    alarms["push"] = "rtmp://user:hunter22@example.com refused streamKey=abcd-efgh"
    assert "hunter22" not in alarms["push"]
    assert "abcd" not in alarms["push"]
    for number in range(MOST_CLOSED + 10):
        alarms[str(number)] = "x"
        del alarms[str(number)]
    closed: list[OpenAlarm] = list(alarms.closed)
    assert len(closed) == MOST_CLOSED
    assert closed[0].id == "10"
