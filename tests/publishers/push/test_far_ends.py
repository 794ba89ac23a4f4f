"""Pushed streams as real far ends get them."""

from __future__ import annotations

import contextlib
import grp
import io
import os
import pwd
import socket
import subprocess
from pathlib import Path

import av
import pytest
import trio

from appliance.media.events import Cue, CueType, TimedMetadata, event_packet
from appliance.media.packet import Packet
from appliance.media.tasks import Push, TaskState
from appliance.net import srt
from appliance.protocols.id3 import Frame, build_tag
from tests.kit.ffmpeg import B_FRAMES, SMALL, Ffmpeg, SourceSpec, source
from tests.kit.frames import of_file
from tests.kit.needs import NGINX_MODULES
from tests.kit.ports import free_port
from tests.publishers.push.far_end import missing, receiver
from tests.publishers.push.kit import free_udp_port, programme, push, pusher, until

SECONDS = 4.0


async def pushed(task: Push, far_end: Ffmpeg, *, media: Path | None = None) -> list[Packet]:
    """Play a while into ``task``'s target and end; what was played."""
    show = programme(media or source(SMALL), speed=2)
    async with pusher(show.output) as push_:
        push_.start(task)
        await until(lambda: task.state is TaskState.STARTED)
        await show.play(SECONDS)
        show.output.stream.close()
        await push_.ended()
    assert task.sent_time >= 1000 * SECONDS - 100
    assert task.error == ""
    assert task.sent_bytes == task.total_sent_bytes > 200_000
    assert task.total_sent_time == task.sent_time
    assert task.dropped == 0
    assert task.sequence >= 1
    with contextlib.suppress(trio.TooSlowError):
        await until(lambda: not far_end.running, 3)
    far_end.stop()
    return show.played


@pytest.mark.parametrize("spec", [SMALL, B_FRAMES])
async def test_rtmp_server_gets_every_frame(spec: SourceSpec, tmp_path: Path) -> None:
    port = free_port()
    media = source(spec)
    with receiver(f"rtmp://127.0.0.1:{port}/live/key", tmp_path / "got.flv", "-listen", "1") as far_end:
        played = await pushed(push(f"rtmp://127.0.0.1:{port}/live", key="key"), far_end, media=media)
    assert missing(tmp_path / "got.flv", played) == 0
    video, audio = of_file(tmp_path / "got.flv", "video"), of_file(tmp_path / "got.flv", "audio")
    assert video[0].dts == 0
    assert len(video) == int(SECONDS * 30)
    assert len(audio) >= SECONDS * 46


async def test_tcp_listener_gets_every_frame(tmp_path: Path) -> None:
    port = free_port()
    with receiver(f"tcp://127.0.0.1:{port}?listen=1", tmp_path / "got.flv", "-f", "mpegts") as far_end:
        played = await pushed(push(f"tcp://127.0.0.1:{port}"), far_end)
    assert missing(tmp_path / "got.flv", played) == 0


async def test_timed_metadata_goes_along_and_no_other_event() -> None:
    tag = build_tag([Frame("TXXX", "who", "me")])
    show = programme(source(SMALL), speed=2)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with listener, pusher(show.output) as push_, trio.open_nursery() as nursery:

        async def receive() -> None:
            async with await listener.accept() as stream:
                async for data in stream:
                    got.extend(data)

        got = bytearray()
        nursery.start_soon(receive)
        push_.start(task := push(f"tcp://127.0.0.1:{port}"))
        await until(lambda: task.state is TaskState.STARTED)
        await show.play(1)
        show.output.stream.inject(event_packet(TimedMetadata(tag), 500))
        show.output.stream.inject(event_packet(Cue(CueType.OUT), 500))
        await show.play(1, begin=1)
        show.output.stream.close()
        await push_.ended()
    with av.open(io.BytesIO(got), "r", format="mpegts") as file:
        (data,) = file.streams.data
        assert [bytes(packet) for packet in file.demux(data) if packet.size] == [tag]


async def test_udp_receiver_gets_every_frame(tmp_path: Path) -> None:
    with free_udp_port() as port:
        pass
    with receiver(f"udp://127.0.0.1:{port}?timeout=2000000", tmp_path / "got.flv", "-f", "mpegts") as far_end:
        await until(lambda: udp_bound(port))
        played = await pushed(push(f"udp://127.0.0.1:{port}?pkt_size=1316"), far_end)
    assert missing(tmp_path / "got.flv", played) == 0


@pytest.mark.needs("libsrt")
@pytest.mark.parametrize("secret", ["", "&passphrase=correct-horse-battery&pbkeylen=16"])
async def test_srt_listener_gets_every_frame(secret: str, tmp_path: Path) -> None:
    with free_udp_port() as port:
        pass
    far = f"srt://127.0.0.1:{port}?mode=listener{secret}"
    with receiver(far, tmp_path / "got.flv", "-f", "mpegts") as far_end:
        task = push(f"srt://127.0.0.1:{port}?mode=caller&latency=120000&timeout=500000{secret}")
        played = await pushed(task, far_end)
    assert missing(tmp_path / "got.flv", played) == 0


@pytest.mark.needs("libsrt", "srt-tools")
async def test_srt_live_transmit_gets_every_frame(tmp_path: Path) -> None:
    with free_udp_port() as port:
        pass
    with (tmp_path / "got.ts").open("wb") as file:
        command = ["srt-live-transmit", "-q", f"srt://:{port}", "file://con"]
        far_end = subprocess.Popen(command, stdout=file)  # noqa: ASYNC220
    try:
        show = programme(source(SMALL), speed=2)
        task = push(f"srt://127.0.0.1:{port}", key="#!::r=cam,m=publish")
        async with pusher(show.output) as push_:
            push_.start(task)
            await until(lambda: task.state is TaskState.STARTED)
            await show.play(SECONDS)
            show.output.stream.close()
            await push_.ended()
    finally:
        far_end.terminate()
        far_end.wait(5)
    with av.open(str(tmp_path / "got.ts")) as container:
        pictures = [packet for packet in container.demux(video=0) if packet.dts is not None]
    assert len(pictures) == int(SECONDS * 30)


def udp_bound(port: int) -> bool:
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(int(row.split()[1].rpartition(":")[2], 16) == port for row in rows)


NGINX = """
load_module {module};
user {user} {group};
daemon off; error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{}}
rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{
  live on; record all; record_path {folder}; record_suffix .flv;
}} }} }}
"""


@pytest.mark.needs("nginx-rtmp")
async def test_nginx_records_every_frame(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "nginx.conf"
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    module = NGINX_MODULES / "ngx_rtmp_module.so"
    config.write_text(NGINX.format(module=module, folder=tmp_path, port=port, user=user, group=group))
    nginx = subprocess.Popen(["nginx", "-c", str(config), "-p", str(tmp_path)])  # noqa: ASYNC220
    try:
        show = programme(source(SMALL), speed=2)
        task = push(f"rtmp://127.0.0.1:{port}/live", key="cam")
        async with pusher(show.output) as push_:
            push_.start(task)
            await until(lambda: task.state is TaskState.STARTED)
            await show.play(SECONDS)
            show.output.stream.close()
            await push_.ended()
        await trio.sleep(0.05)
    finally:
        nginx.terminate()
        nginx.wait(5)
    assert missing(tmp_path / "cam.flv", show.played) == 0


def group_listener() -> socket.socket:
    """Of 239.255.7.7 on the loopback interface."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    sock.bind(("", 0))
    try:
        membership = socket.inet_aton("239.255.7.7") + socket.inet_aton("0.0.0.0")
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError:
        sock.close()
        pytest.skip("no interface with multicast on this machine")
    sock.settimeout(0.2)
    return sock


async def test_a_multicast_group_gets_whole_datagrams() -> None:
    with group_listener() as sock:
        show = programme(source(SMALL), speed=8)
        task = push(f"udp://239.255.7.7:{sock.getsockname()[1]}?pkt_size=1500&ttl=1")
        async with pusher(show.output) as push_:
            push_.start(task)
            await until(lambda: task.state is TaskState.STARTED)
            await show.play(2)
            show.output.stream.close()
            await push_.ended()
        got: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            while True:
                got.append(sock.recv(65536))
    assert sum(map(len, got)) == task.sent_bytes > 100_000
    assert {len(datagram) % 188 for datagram in got} == {0}
    assert max(map(len, got)) == 1316
    assert {datagram[0] for datagram in got} == {0x47}


async def test_srt_without_libsrt_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def missing_library(*args: object, **options: object) -> srt.SrtSocket:
        raise srt.SrtMissing

    monkeypatch.setattr(srt, "connect", missing_library)
    show = programme(source(SMALL))
    async with pusher(show.output) as push_:
        task = push("srt://127.0.0.1:9")
        push_.start(task)
        await until(lambda: task.error != "")
        assert task.error == "SRT is off: libsrt is not installed"
        assert task.state is TaskState.READY
        await push_.end()


@pytest.mark.needs("libsrt")
async def test_an_srt_listener_that_says_no_is_told_as_such() -> None:
    show = programme(source(SMALL))
    async with pusher(show.output) as push_:
        with free_udp_port() as port:
            pass
        far = f"srt://127.0.0.1:{port}?mode=listener&passphrase=correct-horse-battery"
        with Ffmpeg(["-f", "mpegts", "-i", far, "-f", "null", "-"]):
            await until(lambda: udp_bound(port))
            task = push(f"srt://127.0.0.1:{port}?passphrase=wrong-horse-battery")
            push_.start(task)
            await until(lambda: task.error != "")
            assert "does not take the call" in task.error
            assert "horse" not in task.error
            await push_.end()
