"""A real encoder sends over SRT or as MPEG-TS over UDP; readers of LL-HLS and of SRT get exactly that."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.kit import ffmpeg, frames
from tests.kit.ffmpeg import B_FRAMES, SMALL, SourceSpec
from tests.kit.kiln import AUTHORIZATION, KilnProcess
from tests.kit.llhls_client import LlhlsClient
from tests.kit.ports import free_ports
from tests.kit.server_xml import Application, ServerXml

pytestmark = pytest.mark.needs("libsrt")


@dataclass(frozen=True)
class TransportXml(ServerXml):
    """With SRT in, SRT out and MPEG-TS over UDP."""

    applications: tuple[Application, ...] = (Application("app", segment=1, count=10),)
    transport: tuple[int, ...] = field(default_factory=lambda: tuple(free_ports(3)))

    def xml(self) -> str:
        srt, play, udp = self.transport
        text = super().xml()
        for before, after in (
            ("</RTMP></Providers>", f"</RTMP><SRT><Port>{srt}</Port></SRT><MPEGTS><Port>{udp}/udp</Port></MPEGTS>"
                                    "</Providers>"),
            ("</LLHLS></Publishers>\n  </Bind>", f"</LLHLS><SRT><Port>{play}</Port></SRT></Publishers>\n  </Bind>"),
            ("<Providers><RTMP/>", "<Providers><RTMP/><SRT/><MPEGTS><StreamMap><Stream><Name>udp_${Port}</Name>"
                                   f"<Port>{udp}/udp</Port></Stream></StreamMap></MPEGTS>"),
            ("<Publishers>\n            <LLHLS>", "<Publishers><SRT/>\n            <LLHLS>"),
        ):  # fmt: skip
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        return text


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KilnProcess, TransportXml]]:
    server = TransportXml()
    with KilnProcess(tmp_path_factory.mktemp("kiln"), server) as process:
        yield process, server


async def deliver(kiln: KilnProcess, spec: SourceSpec, name: str, url: str) -> LlhlsClient:
    """Publish the whole file and read the stream to its end."""
    client = LlhlsClient(kiln.hls(name))
    with ffmpeg.Ffmpeg(["-re", "-i", str(ffmpeg.source(spec)), "-c", "copy", "-f", "mpegts", url]) as publisher:
        with trio.fail_after(spec.seconds + 25):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.run)
                await trio.to_thread.run_sync(publisher.wait, spec.seconds + 15)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
        assert publisher.process.returncode == 0, publisher.said()
    return client


def check(client: LlhlsClient, spec: SourceSpec) -> None:
    """All frames, unaltered, in a row from the first picture on; at the end what the encoder took back may lack."""
    video, audio = client.video.frames(), client.audio.frames()
    sent_video = frames.of_file(ffmpeg.source(spec), "video")
    sent_audio = frames.of_file(ffmpeg.source(spec), "audio")
    assert frames.run_in(video, sent_video) == 0
    assert frames.run_in(audio, sent_audio) <= 12
    assert len(video) >= len(sent_video) - 32
    assert len(audio) >= len(sent_audio) - 60
    assert client.video.missed == client.audio.missed == 0
    assert frames.longest_step(video) <= 0.034


@pytest.mark.parametrize("spec", [SMALL, pytest.param(B_FRAMES, marks=pytest.mark.long)], ids=lambda spec: spec.name)
def test_srt_in(box: tuple[KilnProcess, TransportXml], spec: SourceSpec) -> None:
    kiln, server = box
    name = f"srt{spec.name}"
    # A second of latency: a busy machine may starve the encoder's own SRT for longer than the usual 120 ms.
    url = f"srt://127.0.0.1:{server.transport[0]}?streamid=default/app/{name}&latency=1000000"
    check(trio.run(deliver, kiln, spec, name, url), spec)


def test_udp_in(box: tuple[KilnProcess, TransportXml]) -> None:
    kiln, server = box
    port = server.transport[2]
    url = f"udp://127.0.0.1:{port}?pkt_size=1316"
    check(trio.run(deliver, kiln, SMALL, f"udp_{port}", url), SMALL)


def test_what_the_transports_know_is_served(box: tuple[KilnProcess, TransportXml], tmp_path: Path) -> None:
    """Figures of the publisher, of its transport stream and of a player: of the stream, and in the metrics."""
    kiln, server = box
    srt, play, udp = server.transport
    args = ["-re", "-stream_loop", "-1", "-i", str(ffmpeg.source(SMALL)), "-c", "copy", "-f", "mpegts"]
    watch = ["-i", f"srt://127.0.0.1:{play}?streamid=default/app/told", "-c", "copy", "-y", str(tmp_path / "seen.mp4")]
    with (
        ffmpeg.Ffmpeg([*args, f"srt://127.0.0.1:{srt}?streamid=default/app/told"]),
        ffmpeg.Ffmpeg([*args, f"udp://127.0.0.1:{udp}?pkt_size=1316"]),
    ):
        kiln.wait_stream("told")
        kiln.wait_stream(f"udp_{udp}")
        with ffmpeg.Ffmpeg(watch):
            found = players_of(kiln, "told")
        assert found["srt"]["rttMs"] > 0
        assert found["srt"]["latencyMs"] >= 120
        assert found["srt"]["packets"] > 50
        assert found["srt"]["lost"] >= found["srt"]["dropped"] >= 0
        assert set(found["transport"]) == {"garbage", "continuity", "tables", "broken", "scrambled", "errors"}
        assert found["outputs"][0]["srtPlayers"][0]["packets"] > 0
        datagrams = kiln.api(f"/box/v1/vhosts/default/apps/app/streams/udp_{udp}")
        assert "srt" not in datagrams
        assert datagrams["transport"]["garbage"] == 0
        asked = urllib.request.Request(kiln.api_url + "/metrics", headers={"Authorization": AUTHORIZATION})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=5) as answer:
            metrics = answer.read().decode()
    place = 'app="app",stream="told",vhost="default"'
    assert metrics.count("kiln_srt_rtt_seconds{" + place + "}") == 1
    assert "kiln_srt_dropped_packets_total{" + place + "}" in metrics
    assert f'kiln_mpegts_damage_total{{app="app",fault="continuity",stream="udp_{udp}",vhost="default"}}' in metrics


def players_of(kiln: KilnProcess, name: str) -> dict[str, Any]:
    """The stream's figures once somebody plays it."""
    deadline = time.monotonic() + 10
    while True:
        found: dict[str, Any] = kiln.api(f"/box/v1/vhosts/default/apps/app/streams/{name}")
        if any(player["packets"] for output in found["outputs"] for player in output["srtPlayers"]):
            return found
        assert time.monotonic() < deadline, "no player"
        time.sleep(0.05)


def test_srt_out(box: tuple[KilnProcess, TransportXml], tmp_path: Path) -> None:
    kiln, server = box
    taken = tmp_path / "taken.mp4"
    with ffmpeg.publish(ffmpeg.source(SMALL), kiln.rtmp("out")):
        kiln.wait_stream("out")
        url = f"srt://127.0.0.1:{server.transport[1]}?streamid=default/app/out"
        done = ffmpeg.run(["-i", url, "-t", "6", "-c", "copy", "-y", str(taken)], timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    video = frames.of_file(taken, "video")
    assert len(video) >= 150
    frames.run_in(video, frames.of_file(ffmpeg.source(SMALL), "video"))
    assert kiln.running
