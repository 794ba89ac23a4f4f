"""SRT over libsrt: what is sent arrives, who is refused knows why, nothing stays behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import trio

from appliance.errors import BadRequest, ConfigError, KilnError
from appliance.net import srt
from appliance.net.srt import Caller, SrtError, SrtListener, SrtMissing, SrtRefused, SrtSocket
from appliance.net.srt import library as srt_library
from tests.kit.ports import free_port

pytestmark = [pytest.mark.needs("libsrt"), pytest.mark.usefixtures("thread_gate")]

PASSPHRASE = "a passphrase"


@pytest.fixture
def thread_gate() -> Iterator[None]:
    """Our thread ends with the last socket. (libsrt keeps its own, and a closed port, some seconds longer.)"""
    yield
    for thread in threading.enumerate():
        if thread.name == "srt-epoll":
            thread.join(2)
            assert not thread.is_alive()


@contextlib.contextmanager
def listening(listener: SrtListener) -> Iterator[SrtListener]:
    listener.bind()
    try:
        yield listener
    finally:
        listener.close()


async def read_all(socket: SrtSocket) -> bytes:
    data = bytearray()
    while piece := await socket.receive():
        data += piece
    socket.close()
    return bytes(data)


@pytest.mark.parametrize("options", [{}, {"SRTO_PASSPHRASE": PASSPHRASE, "SRTO_PBKEYLEN": "32"}], ids=["open", "aes"])
async def test_every_byte_arrives_once_and_in_order(options: dict[str, str]) -> None:
    sent = b"".join(number.to_bytes(4, "big") * 329 for number in range(1500))
    got: list[bytes] = []
    with trio.fail_after(20), listening(SrtListener("127.0.0.1", 0, options=options)) as listener:
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                got.append(await read_all(await listener.accept()))

            nursery.start_soon(serve)
            phrase = options.get("SRTO_PASSPHRASE", "")
            caller = await srt.connect("127.0.0.1", listener.port, passphrase=phrase, stream_id="a/b/c", latency_ms=300)
            assert caller.latency_ms == 300
            for at in range(0, len(sent), 65536):
                await caller.send(sent[at : at + 65536])
                await trio.sleep(0.005)
            await caller.drain(5)
            statistics = caller.statistics()
            caller.close()
    assert got[0] == sent
    assert statistics.packets_sent >= len(sent) // 1316
    assert statistics.rtt > 0
    assert statistics.latency == 300


async def test_the_listener_judges_by_stream_id_and_says_why_it_refuses() -> None:
    asked: list[Caller] = []

    def decide(caller: Caller) -> int:
        asked.append(caller)
        return 0 if caller.stream_id == "good" else 1404

    with trio.fail_after(10), listening(SrtListener("127.0.0.1", 0, decide=decide)) as listener:
        with pytest.raises(SrtRefused, match="there is no such thing") as refused:
            await srt.connect("127.0.0.1", listener.port, stream_id="bäd")
        assert refused.value.code == 1404
        caller = await srt.connect("127.0.0.1", listener.port, stream_id="good")
        accepted = await listener.accept()
        assert accepted.stream_id == "good"
        assert accepted.address == "127.0.0.1"
        assert accepted.peer == asked[1].peer
        assert [each.stream_id for each in asked] == ["bäd", "good"]
        caller.close()
        accepted.close()


async def test_a_fault_in_the_judgement_refuses() -> None:
    def decide(_: Caller) -> int:
        raise ValueError("a fault of ours")

    with trio.fail_after(10), listening(SrtListener("127.0.0.1", 0, decide=decide)) as listener:
        with pytest.raises(SrtRefused) as refused:
            await srt.connect("127.0.0.1", listener.port, stream_id="x")
        assert refused.value.code == 1500


@pytest.mark.parametrize("given", ["", "another passphrase"])
async def test_a_wrong_passphrase_is_refused(given: str) -> None:
    listener = SrtListener("127.0.0.1", 0, options={"SRTO_PASSPHRASE": PASSPHRASE})
    with trio.fail_after(10), listening(listener), pytest.raises(SrtRefused) as refused:
        await srt.connect("127.0.0.1", listener.port, passphrase=given)
    assert "pass" in str(refused.value)


async def test_where_nobody_listens_the_call_ends_in_time() -> None:
    with trio.fail_after(5), pytest.raises(SrtRefused, match="timeout"):
        await srt.connect("127.0.0.1", free_port(), timeout_ms=300)


async def test_a_call_can_be_cancelled() -> None:
    with trio.move_on_after(0.2) as scope:
        await srt.connect("127.0.0.1", free_port(), timeout_ms=10_000)
    assert scope.cancelled_caught


async def test_who_waits_is_told_of_the_end() -> None:
    with trio.fail_after(10), listening(SrtListener("127.0.0.1", 0)) as listener:
        caller = await srt.connect("127.0.0.1", listener.port)
        accepted = await listener.accept()
        async with trio.open_nursery() as nursery:
            ended: list[bytes] = []

            async def wait() -> None:
                ended.append(await accepted.receive())

            nursery.start_soon(wait)
            await trio.sleep(0.02)
            accepted.close()
        assert ended == [b""]
        while caller.alive:  # noqa: ASYNC110
            await trio.sleep(0.01)
        with pytest.raises(SrtError):
            await caller.send(bytes(1316))
        assert not caller.alive
        caller.close()
        caller.close()


async def test_a_port_that_is_taken_is_said_so() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as taken:
        await taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(KilnError, match=f"can't listen on srt://127.0.0.1:{port}"):
            SrtListener("127.0.0.1", port).bind()


async def test_many_sockets_share_one_thread() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with trio.fail_after(20), listening(SrtListener("127.0.0.1", 0)) as listener:
        callers, accepted = [], []
        for _ in range(40):
            callers.append(await srt.connect("127.0.0.1", listener.port))
            accepted.append(await listener.accept())
        threads = {thread.name for thread in threading.enumerate()} - before
        assert len([name for name in threads if not name.startswith("Trio")]) == 1
        for number, caller in enumerate(callers):
            await caller.send(bytes((number,)) * 1316)
        for number, socket in enumerate(accepted):
            assert await socket.receive() == bytes((number,)) * 1316
        for each in (*callers, *accepted):
            each.close()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SRTO_NOTHING", "1", "no option"), ("SRTO_RCVSYN", "1", "can't be set"),
        ("SRTO_LATENCY", "soon", "whole number"), ("SRTO_PASSPHRASE", "short", "10 to 79"),
        ("SRTO_PBKEYLEN", "17", "16, 24 or 32"),
        ("SRTO_TLPKTDROP", "maybe", "true or false"), ("SRTO_MSS", "99999999999", "out of range"),
    ],
)  # fmt: skip
async def test_options_are_checked(name: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        srt.check_options({name: value})
    with pytest.raises(BadRequest, match=reason):
        await srt.connect("127.0.0.1", 1, options={name: value})


async def test_without_libsrt_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt_library, "NAMES", ("libsrt-that-is-not-there.so",))
    srt_library._load.cache_clear()
    try:
        assert not srt.installed()
        with pytest.raises(SrtMissing, match="libsrt is not installed"):
            await srt.connect("127.0.0.1", 1)
        with pytest.raises(SrtMissing):
            SrtListener("127.0.0.1", 0).bind()
    finally:
        monkeypatch.undo()
        srt_library._load.cache_clear()
