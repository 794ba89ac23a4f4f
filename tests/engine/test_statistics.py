"""What goes in and out is added up at every level."""

from __future__ import annotations

from pathlib import Path

from appliance.engine.statistics import Meter
from appliance.engine.tasks.kinds import RECORD
from appliance.media.clock import Clock
from tests.engine.tasks.stage import record, send, settled, stage

SECOND = 10**9


def test_a_window_has_figures_of_its_own() -> None:
    meter = Meter(5)
    meter.add(1000, 7, 0, 0)
    meter.close_window(1.0)
    assert (meter.bytes_in, meter.last_in, meter.max_in, meter.last_out) == (1000, 1000, 8000, 0)
    assert (meter.received, meter.sent, meter.updated) == (7, 5, 7)
    meter.add(100, 9, 300, 11)
    meter.close_window(2.0)
    assert (meter.bytes_in, meter.last_in, meter.max_in) == (1100, 50, 8000)
    assert (meter.bytes_out, meter.last_out, meter.max_out, meter.sent) == (300, 150, 1200, 11)


async def test_all_levels_see_the_same_bytes(tmp_path: Path) -> None:
    now = [1000 * SECOND]
    async with stage(tmp_path, clock=Clock(lambda: now[0], lambda: now[0])) as on:
        stats = on.statistics
        one, two = on.open("one"), on.open("two")
        await settled()
        send(one, b"x" * 100)
        now[0] += SECOND
        send(two, b"y" * 10)
        sent = on.directory.find_application("default", "app").inputs["one"].outputs.by_name["one"].output  # type: ignore[union-attr]
        assert sent is not None
        sent.traffic.sent_bytes += 40
        stats.update()
        stats.close_window()
        assert (stats.stream(one).bytes_in, stats.stream(one).bytes_out) == (100, 40)
        assert (stats.stream(two).bytes_in, stats.stream(two).bytes_out) == (10, 0)
        for meter in (stats.app("default", "app"), stats.vhost("default"), stats.server):
            assert (meter.bytes_in, meter.bytes_out, meter.last_in) == (110, 40, 110)
        assert stats.stream(one).received == 1000 * SECOND
        assert stats.server.received == 1001 * SECOND
        send(one, b"last")
        one.close("left")
        stats.update()
        assert (stats.server.bytes_in, stats.app("default", "app").bytes_in) == (114, 114)
        again = on.open("one")
        stats.update()
        assert stats.stream(again).bytes_in == 0
        assert stats.server.bytes_in == 114


async def test_tasks_are_connections_and_use_a_stream(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        stream = on.open()
        await settled()
        assert not on.statistics.in_use(stream)
        entry = await on.board.start(RECORD, record())
        await settled()
        assert on.statistics.in_use(stream)
        on.statistics.update()
        for meter in (on.statistics.stream(stream), on.statistics.server):
            assert (meter.connections["file"], meter.total_connections, meter.most) == (1, 1, 1)
        await on.board.stop(entry)
        await entry.ended.wait()
        on.statistics.update()
        assert (on.statistics.server.total_connections, on.statistics.server.most) == (0, 1)


async def test_rings_are_queues(tmp_path: Path) -> None:
    now = [1000 * SECOND]
    async with stage(tmp_path, clock=Clock(lambda: now[0], lambda: now[0])) as on:
        stream = on.open()
        await settled()
        output = stream.outputs.by_name["cam"].output if stream.outputs else None
        assert output is not None
        reader = output.stream.reader("slow", max_packets=8)
        now[0] += SECOND
        on.statistics.update()
        on.statistics.close_window()
        for frame in range(6):
            send(stream, b"x", frame)
        assert len(await reader.receive()) == 6
        send(stream, b"x", 7)
        now[0] += 2 * SECOND
        on.statistics.update()
        on.statistics.close_window()
        ((urn, ring, queue),) = on.statistics.queues()
        assert urn == "mngq:v=#default#app:s=cam:p=pub:n=slow"
        assert ring is reader
        assert (queue.taken_rate, queue.peak, queue.waiting) == (3, 6, 333333)
        reader.close()
        on.statistics.close_window()
        assert list(on.statistics.queues()) == []
