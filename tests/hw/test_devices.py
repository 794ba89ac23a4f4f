"""Devices at the end of real pseudo terminals."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hw import visca
from hw.fakes.gps import FakeGps, sentences
from hw.fakes.panels import FakeCrystalfontz, FakeMatrixOrbital
from hw.fakes.pty_device import PtyDevice
from hw.fakes.tree import LEDS, FakeTree
from hw.fakes.visca_camera import FakeViscaCamera
from hw.gpio import LineSpec, open_line
from hw.gps import GpsReceiver
from hw.keys import Key
from hw.leds import is_lit, light
from hw.panel import make_panel
from hw.ptz import CameraRefuses, CameraSilent, PtzCamera, SerialWire, UdpWire, ViscaBus
from hw.sensors import read_sensors
from hw.serial_link import BABBLE, DeviceFault, SerialLink, keep_open, serial_names
from hw.visca import Datagram, PayloadType


async def _until(true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_a_camera_is_turned_and_asked(nursery: trio.Nursery) -> None:
    device = FakeViscaCamera()
    pty = PtyDevice(device)
    nursery.start_soon(pty.run)
    bus = ViscaBus()
    camera = PtzCamera(bus, 1)
    with closing(SerialLink.open(pty.node, 9600)) as link:
        nursery.start_soon(bus.run, SerialWire(link))
        await _until(lambda: bus.cameras == 1)
        await camera.do(visca.move_to(300, -40))
        assert await camera.position() == (300, -40)
        await camera.do(visca.zoom_to(0x1000))
        await camera.do(visca.preset("set", 3))
        await camera.do(visca.HOME)
        await camera.do(visca.preset("recall", 3))
        assert (await camera.position(), await camera.zoom()) == ((300, -40), 0x1000)
        await camera.do(visca.POWER_OFF)
        assert not await camera.power()
        with pytest.raises(CameraRefuses, match="switched off"):
            await camera.do(visca.HOME)
        assert bus.at_work == set()
        nursery.cancel_scope.cancel()
    pty.unplug()


async def test_a_silent_camera_is_told(nursery: trio.Nursery) -> None:
    device = FakeViscaCamera()
    device.silent = True
    pty = PtyDevice(device)
    nursery.start_soon(pty.run)
    bus = ViscaBus()
    with pytest.raises(CameraSilent, match="not open"):
        await PtzCamera(bus, 1).do(visca.HOME)
    with closing(SerialLink.open(pty.node, 9600)) as link:
        nursery.start_soon(bus.run, SerialWire(link))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CameraSilent, match="does not answer"):
            await PtzCamera(bus, 1).do(visca.HOME)
        nursery.cancel_scope.cancel()


async def test_a_lost_datagram_is_sent_again_with_its_number(nursery: trio.Nursery) -> None:
    device = FakeViscaCamera()
    seen: list[tuple[PayloadType, int]] = []
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as theirs, trio.socket.socket(
        type=trio.socket.SOCK_DGRAM
    ) as ours:
        await theirs.bind(("127.0.0.1", 0))
        await ours.connect(theirs.getsockname())

        async def answer() -> None:
            while True:
                data, peer = await theirs.recvfrom(100)
                datagram = visca.parse_datagram(data)
                assert datagram is not None
                seen.append((datagram.type, datagram.sequence))
                if len(seen) > 2:  # the first command is lost once
                    for frame in device.receive_data(datagram.payload).split(b"\xff")[:-1]:
                        reply = Datagram(PayloadType.REPLY, datagram.sequence, frame + b"\xff")
                        await theirs.sendto(reply.encode(), peer)

        nursery.start_soon(answer)
        bus = ViscaBus()
        nursery.start_soon(bus.run, UdpWire(ours, "camera"))
        await _until(lambda: seen)
        await PtzCamera(bus, 1).do(visca.move_to(1, 2))
        assert await PtzCamera(bus, 1).position() == (1, 2)
        assert [each for each in seen if each[0] is PayloadType.COMMAND] == [(PayloadType.COMMAND, 1)] * 2
        assert seen[-1] == (PayloadType.INQUIRY, 2)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("make", "fake"), [("crystalfontz", FakeCrystalfontz), ("matrixorbital", FakeMatrixOrbital)])
async def test_a_panel_shows_and_is_pressed(
    make: str, fake: type[FakeCrystalfontz] | type[FakeMatrixOrbital], nursery: trio.Nursery
) -> None:
    device = fake()
    pty = PtyDevice(device)
    nursery.start_soon(pty.run)
    keys: list[Key] = []
    with closing(SerialLink.open(pty.node, 19200)) as link:
        panel = make_panel(make, link)

        async def hear() -> None:
            while True:
                keys.extend(await panel.receive())

        nursery.start_soon(hear)
        await panel.begin()
        await panel.show(["Kiln", "192.0.2.1", "", "läuft"])
        await panel.light(0, green=True, red=False)
        await _until(lambda: device.rows[3].startswith("l?uft"))
        assert [row.rstrip() for row in device.rows[:2]] == ["Kiln", "192.0.2.1"]
        for key in Key:
            pty.say(device.press(key))
        await _until(lambda: len(keys) == len(Key))
        assert keys == list(Key)
        nursery.cancel_scope.cancel()


async def test_a_receiver_tells_where_it_is(nursery: trio.Nursery) -> None:
    from datetime import UTC, datetime

    pty, receiver = PtyDevice(FakeGps()), GpsReceiver()
    with closing(SerialLink.open(pty.node, 4800)) as link:
        nursery.start_soon(receiver.run, link)
        pty.say(sentences(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)))
        await _until(lambda: receiver.position.time)
        assert receiver.position.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert receiver.fresh
        nursery.cancel_scope.cancel()


async def test_a_device_that_is_plugged_in_again_is_used_again(tmp_path: Path, nursery: trio.Nursery) -> None:
    told: list[str] = []
    node = tmp_path / "camera"
    first = PtyDevice(FakeViscaCamera())
    node.symlink_to(first.node)
    nursery.start_soon(first.run)
    bus = ViscaBus()

    async def use(link: SerialLink) -> None:
        await bus.run(SerialWire(link))

    nursery.start_soon(keep_open, node, 9600, use, told.append)
    await _until(lambda: bus.cameras == 1)
    first.unplug()
    await _until(lambda: len(told) > 1)
    assert "gone" in told[1]
    node.unlink()
    second = PtyDevice(FakeViscaCamera())
    nursery.start_soon(second.run)
    node.symlink_to(second.node)
    await _until(lambda: told[-1] == "" and bus.cameras == 1)
    await PtzCamera(bus, 1).do(visca.HOME)
    nursery.cancel_scope.cancel()


async def test_a_device_that_babbles_is_given_up(nursery: trio.Nursery) -> None:
    pty = PtyDevice(FakeGps())
    receiver = GpsReceiver()
    with closing(SerialLink.open(pty.node, 4800)) as link:

        async def babble() -> None:
            while True:
                pty.say(b"\x00\xaa$GP" * 50)
                await trio.lowlevel.checkpoint()

        nursery.start_soon(babble)
        with trio.fail_after(10), pytest.raises(DeviceFault, match="no message"):
            await receiver.run(link)
        assert receiver.position.time is None
        nursery.cancel_scope.cancel()
    assert BABBLE <= 8192


async def test_what_can_not_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match="not there"):
        SerialLink.open(tmp_path / "nothing", 9600)
    pty = PtyDevice(FakeGps())
    with closing(SerialLink.open(pty.node, 9600)), pytest.raises(DeviceFault, match="in use"):
        SerialLink.open(pty.node, 9600)
    pty.unplug()


@contextmanager
def nobody() -> Iterator[None]:
    """Root may open everything; for the time of the block the test is not root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_device_of_others_names_the_group() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        node = Path(name) / "tty"
        node.touch(mode=0o000)
        with nobody(), pytest.raises(DeviceFault, match="group"):
            SerialLink.open(node, 9600)


async def test_lamps_lines_and_buttons(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path)
    light(tree.paths, LEDS[0], True)
    assert is_lit(tree.paths, LEDS[0])
    light(tree.paths, LEDS[0], False)
    assert is_lit(tree.paths, LEDS[0]) is False
    with pytest.raises(DeviceFault):
        light(tree.paths, "none", True)
    lamp = open_line(tree.paths, LineSpec("gpiochip0", 17, output=True))
    lamp.set(True)
    assert lamp.get()
    button = open_line(tree.paths, LineSpec("gpiochip0", 5, output=False))
    tree.press("gpiochip0-5")
    with trio.fail_after(2):
        await button.pressed()
    button.close()


def test_sensors_are_read(tmp_path: Path) -> None:
    tree = FakeTree(tmp_path)
    tree.set_temperature(71.25)
    tree.set_fan(0)
    tree.set_throttled(0x10001)
    found = read_sensors(tree.paths)
    assert found.hottest is not None
    assert (found.hottest.name, found.hottest.celsius) == ("cpu_thermal/SoC", 71.25)
    assert [(fan.rpm, fan.fault) for fan in found.fans] == [(0, True)]
    assert (found.throttling.under_voltage, found.throttling.throttled) == (True, False)
    assert found.throttling.frequency_share == 1.0
    (disk,) = found.disks
    assert (disk.worn, disk.end_of_life, disk.size) == (20, "normal", 62333952 * 512)
    assert read_sensors(FakeTree(tmp_path / "other").paths).throttling.under_voltage is False


def test_a_machine_that_tells_nothing_has_no_sensors(tmp_path: Path) -> None:
    from hw.paths import DevicePaths

    found = read_sensors(DevicePaths(tmp_path))
    assert (found.temperatures, found.fans, found.disks, found.hottest) == ((), (), (), None)
    assert serial_names(DevicePaths(tmp_path)) == []
