from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.notify import LoopLag, Notifier, Watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and the name of it as NOTIFY_SOCKET has it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@kiln-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if name.startswith("@") else name)
        listener.setblocking(False)
        yield listener, name


def received(listener: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096))
        except BlockingIOError:
            return messages


def test_messages(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("on the air\nwith 2 streams")
    notifier.ready()
    notifier.status("1 stream")
    notifier.reloading()
    notifier.watchdog()
    notifier.stopping("closing files")
    messages = received(listener)
    assert messages[:3] == [b"READY=1\nSTATUS=on the air with 2 streams", b"READY=1", b"STATUS=1 stream"]
    reloading, _, stamp = messages[3].partition(b"\nMONOTONIC_USEC=")
    assert reloading == b"RELOADING=1"
    assert int(stamp) > 0
    assert messages[4:] == [b"WATCHDOG=1", b"STOPPING=1\nSTATUS=closing files"]
    notifier.close()
    assert not notifier.active


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.ready()
    notifier.watchdog()
    assert not notifier.active
    assert notifier.watchdog_interval is None


def test_a_manager_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    for _ in range(5):
        notifier.status("hello")
    assert [record.getMessage().split(" reason")[0] for record in caplog.records] == [
        "service manager not told message=STATUS=hello"
    ]
    notifier.close()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], interval: float | None) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "@kiln-nobody", **environment})
    assert notifier.watchdog_interval == interval
    notifier.close()


async def test_watchdog_pings_only_while_all_is_well(
    autojump_clock: MockClock, manager: tuple[socket.socket, str]
) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000"})
    trouble = ""
    lag = LoopLag()
    watchdog = Watchdog(notifier, lag, lambda: trouble)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        nursery.start_soon(watchdog.run)
        await trio.sleep(22)
        assert received(listener) == [b"WATCHDOG=1"] * 5
        trouble = "no stream on the air"
        await trio.sleep(20)
        assert received(listener) == []
        trouble = ""
        await trio.sleep(20)
        assert len(received(listener)) == 4
        autojump_clock.jump(6)  # the loop stands still for 6 s
        await trio.sleep(0.5)
        assert received(listener) == []
        await trio.sleep(20)
        assert len(received(listener)) in (3, 4)
        nursery.cancel_scope.cancel()
    notifier.close()


async def test_lag_of_the_last_minute(autojump_clock: MockClock) -> None:
    lag = LoopLag()
    assert lag.figures().samples == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await trio.sleep(10)
        assert lag.figures().max == pytest.approx(0, abs=0.001)
        await trio.sleep(0.05)
        autojump_clock.jump(1.05)
        await trio.sleep(5)
        figures = lag.figures()
        assert figures.max == pytest.approx(1.0, abs=0.06)
        assert figures.p50 == pytest.approx(0, abs=0.001)
        assert figures.samples > 100
        assert lag.worst(3) == pytest.approx(0, abs=0.001)
        await trio.sleep(60)
        assert lag.figures().max == pytest.approx(0, abs=0.001)
        nursery.cancel_scope.cancel()


def test_lag_is_not_sampled_too_often() -> None:
    with pytest.raises(ValueError, match="sampled every"):
        LoopLag(interval=0.01)
