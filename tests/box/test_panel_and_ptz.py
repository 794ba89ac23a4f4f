"""The menu of the front panel, and the bodies that the camera API takes."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from appliance.api.box.ptz import command_of
from appliance.box.desk import Desk, Look
from appliance.box.panel import MENU_FOR, FrontPanel, Menu
from appliance.child_spec import Progress
from appliance.errors import BadRequest
from appliance.settings.models import FrontPanel as PanelSettings
from hw import visca
from hw.fakes.panels import FakeCrystalfontz
from hw.fakes.pty_device import PtyDevice
from hw.keys import Key
from hw.paths import DevicePaths

ON_AIR = Look(1, 2_500_000, 1, 0)


class _Desk:
    """Records when it is told to, and has nowhere to push."""

    def __init__(self) -> None:
        self.recording = False

    def look(self) -> Look:
        return ON_AIR

    def records(self) -> bool:
        return self.recording

    def pushes(self) -> bool:
        return False

    async def toggle_record(self) -> bool:
        self.recording = not self.recording
        return self.recording

    async def toggle_push(self) -> bool:
        raise BadRequest("no target is set: Server/Box/PushURL")


def _menu() -> tuple[Menu, _Desk]:
    desk = _Desk()
    return Menu(cast("Desk", desk), "Kiln"), desk


async def test_the_state_fits_on_the_panel() -> None:
    rows = _menu()[0].rows(ON_AIR)
    assert rows[0] == "Kiln        ON AIR 1"
    assert rows[2:] == ["2.5 Mbit/s", "REC 1  PUSH 0"]
    assert all(len(row) <= 20 for row in rows)


async def test_keys_start_and_stop_a_record(autojump_clock: trio.testing.MockClock) -> None:
    menu, desk = _menu()
    await menu.press(Key.ENTER)
    assert menu.rows(ON_AIR)[1] == "> Start record"
    await menu.press(Key.ENTER)
    assert desk.recording
    assert menu.rows(ON_AIR)[0] == "Recording"
    await trio.sleep(5)
    assert menu.rows(ON_AIR)[1] == "> Stop record"
    await menu.press(Key.ENTER)
    assert not desk.recording


async def test_what_can_not_be_done_is_shown(autojump_clock: trio.testing.MockClock) -> None:
    menu, _ = _menu()
    for key in (Key.ENTER, Key.DOWN, Key.ENTER):
        await menu.press(key)
    assert "".join(menu.rows(ON_AIR)) == "no target is set: Server/Box/PushURL"
    await menu.press(Key.UP)
    await trio.sleep(MENU_FOR + 1)
    assert "ON AIR" in menu.rows(ON_AIR)[0]


async def test_a_panel_that_is_pulled_out_is_an_alarm(nursery: trio.Nursery) -> None:
    device = FakeCrystalfontz()
    pty = PtyDevice(device)
    nursery.start_soon(pty.run)
    alarms: dict[str, str] = {}
    settings = PanelSettings(make="crystalfontz", device=str(pty.node))
    panel = FrontPanel(settings, DevicePaths(), cast("Desk", _Desk()), "Kiln", alarms)
    (child,) = panel.children()
    nursery.start_soon(child.start, Progress())
    with trio.fail_after(5):
        while not device.rows[0].startswith("Kiln        ON AIR 1"):  # noqa: ASYNC110
            await trio.sleep(0.01)
        pty.unplug()
        while not alarms:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert not panel.state.ready
    assert "gone" in next(iter(alarms.values()))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ({"move": {"pan": -3, "tilt": 0}}, visca.drive(-3, 0)),
        ({"moveTo": {"pan": 5, "tilt": 6, "panSpeed": 2}}, visca.move_to(5, 6, 2, 20)),
        ({"home": True}, visca.HOME),
        ({"zoom": 0}, visca.ZOOM_STOP),
        ({"preset": {"action": "recall", "number": 4}}, visca.preset("recall", 4)),
        ({"focusMode": "auto"}, visca.FOCUS_AUTO),
        ({"power": False}, visca.POWER_OFF),
    ],
)
def test_bodies_become_commands(body: Any, command: visca.Command) -> None:
    assert command_of(body) == command


@pytest.mark.parametrize(
    "body",
    [
        None, [], {}, "zoom", {"zoom": "3"}, {"zoom": True}, {"zoom": 9}, {"zoom": 1, "focus": 1}, {"paint": 1},
        {"move": {"pan": 1}}, {"move": {"pan": 1, "tilt": 1, "roll": 1}}, {"move": 3}, {"home": False}, {"power": 1},
        {"preset": {"action": "x", "number": 1}}, {"preset": {"action": "set"}}, {"preset": 1}, {"focusMode": []},
        {"zoomTo": 10**400}, {"moveTo": {"pan": 1.0, "tilt": 1}},
    ],
)  # fmt: skip
def test_other_bodies_are_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        command_of(body)
