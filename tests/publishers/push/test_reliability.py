"""Targets that fail: what they do to others, and when they are back."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.errors import BadRequest
from appliance.media.tasks import TaskState
from appliance.publishers.push.backoff import CAP, FIRST, REFUSED_CAP, Backoff
from tests.kit.ffmpeg import HD, SMALL, source
from tests.kit.lossy import tcp_relay
from tests.kit.ports import free_port
from tests.kit.procfs import rss_bytes
from tests.publishers.push.far_end import missing, receiver
from tests.publishers.push.kit import programme, push, pusher, until
from tests.publishers.push.rtmp_sink import lost, rtmp_sink


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port that takes connections and reads nothing."""
    held: list[trio.SocketStream] = []

    async def hold(stream: trio.SocketStream) -> None:
        held.append(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        nursery.start_soon(trio.serve_listeners, hold, [listener])
        yield listener.socket.getsockname()[1]
        for stream in held:
            stream.socket.close()
        nursery.cancel_scope.cancel()


async def five_targets(folder: Path, seconds: float, *, speed: float, reset_every: float) -> None:
    tcp = free_port()
    show = programme(source(HD), speed=speed, send_ms=1000)
    async with rtmp_sink() as good, rtmp_sink() as flaky, black_hole() as hole, tcp_relay(
        ("127.0.0.1", flaky.port)
    ) as relay, trio.open_nursery() as nursery:

        async def resets() -> None:
            while True:
                await trio.sleep(reset_every)
                await relay.reset_peers()

        nursery.start_soon(resets)
        with receiver(f"tcp://127.0.0.1:{tcp}?listen=1", folder / "got.flv", "-f", "mpegts") as far_end:
            async with pusher(show.output) as push_:
                fine = [
                    push(f"rtmp://127.0.0.1:{good.port}/live", key="one", id="a"),
                    push(f"tcp://127.0.0.1:{tcp}", id="b"),
                    push(f"rtmp://127.0.0.1:{good.port}/live/two?token=abcdef", id="c"),
                ]
                dead = push(f"tcp://127.0.0.1:{hole}", id="d")
                shaky = push(f"rtmp://127.0.0.1:{relay.port}/live", key="five", id="e")
                push_.start(*fine, dead, shaky)
                await until(lambda: all(task.state is TaskState.STARTED for task in fine))
                before = rss_bytes(os.getpid())
                await show.play(min(seconds, 12.8))
                for turn in itertools.count(1):
                    if (turn + 1) * 12.8 > seconds:
                        break
                    await show.play(12.8, begin=turn * 12.8)
                growth = rss_bytes(os.getpid()) - before
                # What waits is still sent.
                show.output.stream.close()
                await push_.ended()
            await until(lambda: not far_end.running, 5)
        nursery.cancel_scope.cancel()
    assert [lost(one, show.played) for one in good.published] == [0, 0]
    assert missing(folder / "got.flv", show.played) == 0
    assert [(task.error, task.sequence, task.dropped) for task in fine] == [("", 1, 0)] * 3
    assert "took nothing for 1 s" in dead.error or dead.sequence > 1
    assert shaky.sequence >= 2
    assert len(flaky.published) == shaky.sequence
    # What the played list itself keeps are references to the file's packets.
    assert growth < 32 * 1024 * 1024


async def test_one_dead_and_one_flaky_target_cost_the_others_no_frame(tmp_path: Path) -> None:
    await five_targets(tmp_path, 10, speed=2, reset_every=1.5)


@pytest.mark.long
async def test_one_dead_and_one_flaky_target_for_a_minute_and_a_half(tmp_path: Path) -> None:
    await five_targets(tmp_path, 90, speed=1, reset_every=3)


async def test_a_server_that_stops_reading_is_given_up_in_time() -> None:
    show = programme(source(HD), send_ms=300)
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show.play, 12.8)
            await until(lambda: task.sent_bytes > 100_000)
            sink.deaf = True
            await until(lambda: task.error != "", 10)
            nursery.cancel_scope.cancel()
        assert task.error == "the target took nothing for 0.3 s"
        await push_.end()


async def test_a_slow_target_gets_what_is_newest_and_the_rest_is_counted() -> None:
    show = programme(source(HD), speed=8)
    async with rtmp_sink() as sink, tcp_relay(("127.0.0.1", sink.port)) as relay, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{relay.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        # 20 Mbit/s come, a fifth of that passes.
        relay.toxics.bandwidth = 500_000
        for turn in range(2):
            await show.play(12.8, begin=turn * 12.8)
        await until(lambda: task.dropped > 0)
        await push_.end()
        (one,) = sink.published
        assert task.sequence == 1
        assert len(one.frames) < show.video
        times = [time for time, _ in one.frames]
        assert times == sorted(times)


async def test_a_lost_link_is_back_within_five_seconds() -> None:
    show = programme(source(SMALL))
    async with rtmp_sink() as sink, tcp_relay(("127.0.0.1", sink.port)) as relay, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{relay.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show.play, 12.8)
            await until(lambda: task.sent_time > 300)
            relay.black_hole()
            await relay.reset_peers()
            await until(lambda: task.state is TaskState.READY and task.error != "")
            await trio.sleep(0.9)
            relay.heal()
            healed = trio.current_time()
            await until(lambda: task.state is TaskState.STARTED and task.sent_time > 0)
            assert trio.current_time() - healed < 5
            nursery.cancel_scope.cancel()
        assert task.sequence == 2
        assert task.total_sent_time > task.sent_time
        assert task.total_sent_bytes > task.sent_bytes > 0
        await push_.end()
    first, second = sink.published
    assert first.frames[0][0] == second.frames[0][0] == 0


async def test_urls_are_tried_in_their_order() -> None:
    show = programme(source(SMALL))
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{free_port()}/live", key="k")
        task.urls = (*task.urls, f"rtmp://127.0.0.1:{sink.port}/other")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED, 2)
        assert task.url_in_use == task.urls[1]
        await until(lambda: bool(sink.published))
        assert (sink.published[0].app, sink.published[0].key) == ("other", "k")
        await push_.end()


async def test_what_a_server_says_is_told_without_the_key() -> None:
    show = programme(source(SMALL))
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        sink.refuse = ("NetStream.Publish.BadName", "secret-key is in use")
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="secret-key?sign=0123abcd")
        push_.start(task)
        await until(lambda: task.error != "")
        assert task.error == "the server says NetStream.Publish.BadName: *** is in use"
        assert task.state is TaskState.READY
        await until(lambda: task.retry_at > 0)
        assert task.sequence == 0
        sink.refuse = None
        await until(lambda: task.state is TaskState.STARTED)
        assert task.error == ""
        await push_.end()
    assert task.retry_at == 0


async def test_a_stream_that_ends_ends_the_push_politely() -> None:
    show = programme(source(SMALL), speed=8)
    async with rtmp_sink() as sink, pusher(show.output) as push_:
        task = push(f"rtmp://127.0.0.1:{sink.port}/live", key="k")
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        await show.play(2)
        show.output.stream.close()
        await until(lambda: bool(sink.published) and sink.published[0].said_goodbye)
        await push_.end()
    assert lost(sink.published[0], show.played) == 0
    assert task.finished >= task.started > 0


async def test_a_stop_during_the_pause_and_during_the_call_is_obeyed_at_once() -> None:
    show = programme(source(SMALL))
    async with black_hole() as hole:
        for url in (f"rtmp://127.0.0.1:{free_port()}/live", f"rtmp://127.0.0.1:{hole}/live"):
            async with pusher(show.output) as push_:
                task = push(url, key="k")
                push_.start(task)
                await trio.sleep(0.05)
                began = trio.current_time()
                await push_.end()
                assert trio.current_time() - began < 0.5


async def test_what_no_retry_mends_is_raised() -> None:
    show = programme(source(SMALL))
    async with pusher(show.output) as push_:
        with pytest.raises(BadRequest, match="Unsupported protocol"):
            await push_.runner.run(push("http://127.0.0.1/x", protocol="rtmp"), show.output, trio.Event(), lambda: None)


def test_delays_double_and_stay_short_for_a_link_that_is_lost() -> None:
    backoff = Backoff(lambda low, high: 1.0)
    assert [backoff.next() for _ in range(6)] == [FIRST, 0.5, 1.0, CAP, CAP, CAP]
    backoff.stood(3)
    assert backoff.next() == CAP
    backoff.stood(60)
    assert backoff.next() == FIRST
    assert FIRST * 0.75 <= Backoff().next() <= FIRST * 1.25


def test_a_server_that_keeps_saying_no_is_asked_less_often() -> None:
    backoff = Backoff(lambda low, high: 1.0)
    delays = [backoff.next(refused=True) for _ in range(20)]
    assert max(delays[:10]) == CAP
    assert delays[-1] == REFUSED_CAP
    assert backoff.next() == CAP
