"""The accept loop: contained handlers, limits, and a process without file descriptors."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator

import pytest
import trio

from appliance.net.limits import Limits
from appliance.net.listener import Listener
from appliance.net.tcp_server import PeerCounts, peer_address, serve_tcp


async def upper(sock: trio.socket.SocketType, peer: str) -> None:
    while data := await sock.recv(1000):
        if data == b"fail":
            raise ValueError("wires crossed")
        if data == b"who":
            data = peer.encode()
        await sock.send(data.upper())


@contextlib.asynccontextmanager
async def upper_server(limits: Limits | None = None) -> AsyncIterator[int]:
    listener = Listener.tcp("127.0.0.1", 0)
    listener.bind()
    try:
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[None]) -> None:
                await serve_tcp(listener.sock, upper, limits=limits, name="upper", task_status=task_status)

            await nursery.start(serve)
            yield listener.port
            nursery.cancel_scope.cancel()
    finally:
        listener.close()


async def test_connections_are_served_and_failures_contained(caplog: pytest.LogCaptureFixture) -> None:
    async with upper_server() as port:
        one = await trio.open_tcp_stream("127.0.0.1", port)
        two = await trio.open_tcp_stream("127.0.0.1", port)
        async with one, two:
            await one.send_all(b"fail")
            assert await one.receive_some(10) == b""
            await two.send_all(b"abc")
            assert await two.receive_some(10) == b"ABC"
            await two.send_all(b"who")
            assert await two.receive_some(100) == b"127.0.0.1:%d" % two.socket.getsockname()[1]
    assert "wires crossed" in caplog.text
    assert "server=upper" in caplog.text


async def test_limits_a_peer() -> None:
    async with upper_server(Limits(connections_per_peer=2)) as port:
        held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in held:
            await stream.send_all(b"a")
            assert await stream.receive_some(10) == b"A"
        async with await trio.open_tcp_stream("127.0.0.1", port) as refused:
            assert await refused.receive_some(10) == b""
        await held[0].aclose()

        async def served() -> bool:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"b")
                return await stream.receive_some(10) == b"B"

        with trio.fail_after(2):
            while True:
                with contextlib.suppress(trio.BrokenResourceError):
                    if await served():
                        break
                await trio.sleep(0.01)
        await held[1].aclose()


def test_peer_addresses() -> None:
    assert peer_address(("::ffff:192.0.2.1", 5, 0, 0)) == ("192.0.2.1", 5)
    assert peer_address(("2001:db8::1", 5, 0, 0)) == ("2001:db8::1", 5)
    assert peer_address(("192.0.2.1", 5)) == ("192.0.2.1", 5)
    assert peer_address("") == ("", 0)


def test_counts_forget_peers_that_left() -> None:
    counts = PeerCounts(Limits(connections=3, connections_per_peer=2))
    assert [bool(counts.take(peer)) for peer in ("a", "a", "a", "", "b")] == [False, False, True, False, True]
    for peer in ("a", "a", ""):
        counts.give_back(peer)
    assert counts.total == 0
    assert counts._peers == {}


NO_DESCRIPTORS = """
    import logging, os, resource, sys
    import trio
    from appliance.net.http_server import HttpServer
    from appliance.net.listener import Listener

    logging.basicConfig(stream=sys.stdout)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def main():
        server = HttpServer(app, name="small", server_header=None)
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(server.serve, [Listener.tcp("127.0.0.1", 0)])
            hoard = []
            streams = [await trio.open_tcp_stream("127.0.0.1", listener.port) for _ in range(3)]
            pending = trio.socket.socket()
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                while True:
                    hoard.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            await pending.connect(("127.0.0.1", listener.port))
            await trio.sleep(0.5)
            print("waiting", server.connections)
            await streams[0].send_all(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            print("served", (await streams[0].receive_some(1000)).endswith(b"hello"))
            for descriptor in hoard:
                os.close(descriptor)
            await pending.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            with trio.fail_after(5):
                print("survived", (await pending.recv(1000)).endswith(b"hello"))
            nursery.cancel_scope.cancel()

    trio.run(main)
"""


def test_accept_survives_a_lack_of_file_descriptors() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NO_DESCRIPTORS)], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "waiting 3" in run.stdout
    assert "served True" in run.stdout
    assert "survived True" in run.stdout
    assert run.stdout.count("event=accept_failed") == 1
    assert "Too many open files" in run.stdout


async def test_the_loop_ends_with_its_task() -> None:
    async with upper_server() as port:
        pass
    with pytest.raises(OSError):
        await trio.open_tcp_stream("127.0.0.1", port)
