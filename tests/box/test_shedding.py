"""Heat and overload: what is left out, in which order, and when it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.box.sensors import faults
from appliance.box.shedding import ALARM, ORDER, Shedder
from hw.fakes.tree import FakeTree
from hw.sensors import read_sensors


def _shedder(alarms: dict[str, str], applied: list[tuple[str, ...]]) -> Shedder:
    def apply(steps: Sequence[str]) -> None:
        applied.append(tuple(steps))

    return Shedder(85, 97, apply, alarms)


def test_a_ramp_of_heat_goes_down_the_order_and_back() -> None:
    alarms: dict[str, str] = {}
    applied: list[tuple[str, ...]] = []
    shedder = _shedder(alarms, applied)
    shedder.look(84.9, 10, 0)
    assert not shedder.shed
    shedder.look(85, 10, 3)
    assert shedder.shed == ORDER[:1]
    assert "85 °C" in alarms[ALARM]
    for second in range(4, 30):
        shedder.look(90, 10, second)
    assert shedder.shed == ORDER
    # Between the limit and 5 °C below it nothing changes, however long.
    for second in range(30, 300, 3):
        shedder.look(81, 10, second)
    assert shedder.shed == ORDER
    for second in range(300, 330):
        shedder.look(80, 10, second)
    assert not shedder.shed
    assert ALARM not in alarms
    assert applied[-1] == ()


def test_a_short_peak_of_load_leaves_nothing_out() -> None:
    shedder = _shedder({}, [])
    for second in range(9):
        shedder.look(None, 100, second)
    shedder.look(None, 50, 9)
    assert not shedder.shed
    for second in range(10, 21):
        shedder.look(None, 100, second)
    assert shedder.shed == ORDER[:1]


def test_no_recording_is_in_the_order() -> None:
    assert not any("record" in step for step in ORDER)


def test_alarms_say_what_to_do(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path)
    assert list(faults(read_sensors(tree.paths))) == []
    tree.set_temperature(101)
    tree.set_fan(0)
    tree.set_throttled(0x5)
    found = dict(faults(read_sensors(tree.paths)))
    assert "replace power supply" in found["sensor:under-voltage"]
    assert {id.split(":")[1] for id in found} == {"temperature", "fan", "under-voltage", "throttled"}
