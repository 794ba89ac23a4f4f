"""Pulled streams: which address is tried when, who gives up, what is stored; with sources that tests command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.engine.configuration import ApplicationEntry, VhostEntry
from appliance.engine.directory import Directory
from appliance.engine.pulls import PullFailed, Pulls, PullSpec
from appliance.engine.services import Services
from appliance.errors import BadRequest, ConfigError, KilnError, NameTaken, NotBuilt, Unavailable
from appliance.media.clock import Clock
from appliance.media.contracts import Finished, Input, Progress, PullRequest, Source
from appliance.media.track import Codec, MediaType, Track
from appliance.settings import models
from appliance.settings.store import Result, Store, Transaction, _transact
from appliance.supervisor import ChildSpec, Supervisor
from appliance.transcoder.pool import WorkerPool

VIDEO = Track(id=0, media=MediaType.VIDEO, codec=Codec.H264, timescale=90000, codec_config=b"one", width=640)
AUDIO = Track(id=1, media=MediaType.AUDIO, codec=Codec.AAC, timescale=48000, sample_rate=48000, channels=2)


@dataclass
class Scripted:
    """``rtsp://<how>``: ``live`` gives frames for ever, ``brief`` for 3 s, ``finishes`` too, ``once`` a track and
    silence, ``dead`` is refused, ``hole`` never answers, ``wrong`` can't be, ``sound`` gives sound alone, ``breaks`` is
    a fault of ours."""

    kind: str = "RtspPull"
    provider: str = "rtsp_pull"
    schemes: frozenset[str] = frozenset({"rtsp"})
    tried: list[tuple[str, float]] = field(default_factory=list)
    requests: list[PullRequest] = field(default_factory=list)
    ended: int = 0

    async def pull(self, request: PullRequest, target: Input, progress: Progress) -> None:
        how = request.url.removeprefix("rtsp://").split("/")[0]
        self.tried.append((how, round(trio.current_time(), 1)))
        self.requests.append(request)
        try:
            await getattr(self, how)(target)
        finally:
            self.ended += 1

    async def live(self, target: Input, seconds: float = 1e9) -> None:
        target.prepare([VIDEO])
        for frame in range(round(seconds)):
            target.send(VIDEO, frame * 90000, frame * 90000, True, b"frame")
            await trio.sleep(1)

    async def brief(self, target: Input) -> None:
        await self.live(target, 3)
        raise Unavailable("the source went away")

    async def over(self, target: Input) -> None:
        await self.live(target, 3)

    async def finishes(self, target: Input) -> None:
        await self.live(target, 3)
        raise Finished("the end of the film")

    async def sound(self, target: Input) -> None:
        target.prepare([AUDIO])
        await trio.sleep(2.5)
        target.send(AUDIO, 0, 0, True, b"sound")
        await trio.sleep_forever()

    async def once(self, target: Input) -> None:
        target.prepare([VIDEO])
        await trio.sleep_forever()

    async def dead(self, target: Input) -> None:
        raise Unavailable("refused")

    async def hole(self, target: Input) -> None:
        await trio.sleep_forever()

    async def wrong(self, target: Input) -> None:
        raise BadRequest("leads to a place that is not allowed")

    async def breaks(self, target: Input) -> None:
        raise RuntimeError("a fault of ours")


@dataclass
class Stage:
    pulls: Pulls
    source: Scripted
    directory: Directory
    alarms: dict[str, str]
    used: set[str]

    @property
    def live(self) -> list[str]:
        application = self.directory.find_application("default", "app")
        assert application is not None
        return [name for name, stream in application.inputs.items() if stream.prepared]


@asynccontextmanager
async def stage(folder: Path, origins: models.Origins | None = None, **providers: object) -> AsyncIterator[Stage]:
    def elapsed() -> int:
        return round((trio.current_time() + 1) * 1e9)

    clock = Clock(elapsed, elapsed)
    store = await Store.open(folder / "kiln.sqlite")
    try:
        async with Supervisor("test") as supervisor:
            vhost = models.VirtualHost(name="default", origins=origins or models.Origins())
            both = {"rtsp_pull": models.RtspPullProvider(), "rtmp": models.RtmpProvider()}
            enabled = models.Providers(**(providers or both))
            application = models.Application(name="app", type="live", providers=enabled)
            entry = VhostEntry(vhost, {}, [ApplicationEntry(application, {})])
            directory = Directory([entry], Services(clock, supervisor, WorkerPool(0), []))
            source, alarms, used = Scripted(), dict[str, str](), set[str]()
            pulls = Pulls(
                [source], directory, store, supervisor, clock, in_use=lambda stream: stream.name in used,
                alarms=alarms, random=lambda: 0.5,
            )  # fmt: skip
            await pulls.restore()
            supervisor.add(ChildSpec(name="pulls", start=pulls.run))
            yield Stage(pulls, source, directory, alarms, used)
            directory.close("test over")
            await supervisor.shut_down()
    finally:
        await store.close()


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Virtual time, which does not wait for a thread: the store works in the loop's own."""

    async def transaction(store: Store, work: Callable[[Transaction], Result]) -> Result:
        await trio.lowlevel.checkpoint()
        return _transact(store._connection, work)

    monkeypatch.setattr(Store, "transaction", transaction)
    return trio.testing.MockClock(autojump_threshold=0)


def spec(*hows: str, name: str = "cam", **more: object) -> PullSpec:
    urls = tuple(how if "://" in how else f"rtsp://{how}/x" for how in hows)
    return PullSpec(vhost="default", app="app", name=name, urls=urls, **more)  # type: ignore[arg-type]


async def test_it_returns_when_the_stream_is_on(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("live", ignore_rtcp_sr_timestamp=True, no_input_failover_timeout=700))
        assert on.live == ["cam"]
        (request,) = on.source.requests
        assert (request.timeout_ms, request.ignore_rtcp_sr_timestamp) == (700, True)
        stream = on.directory.input("default", "app", "cam")
        assert stream is not None
        assert stream.label == "default/app/cam"


async def test_addresses_are_tried_in_order_in_rounds(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        with pytest.raises(PullFailed, match="refused"):
            await on.pulls.create(spec("hole", "dead", retry_count=2, no_input_failover_timeout=1000))
        began = on.source.tried[0][1]
        assert [(how, round(when - began, 1)) for how, when in on.source.tried] == [
            ("hole", 0.0), ("dead", 2.0), ("hole", 2.5), ("dead", 4.5),
        ]  # fmt: skip
        assert (on.live, list(on.pulls)) == ([], [])
        await on.pulls.create(spec("dead", "live"))
        assert on.live == ["cam"]
    async with stage(tmp_path) as on:
        assert [pull.spec.urls for pull in on.pulls] == [("rtsp://dead/x", "rtsp://live/x")]


@pytest.mark.parametrize("persistent", [False, True])
async def test_the_end_of_a_programme_is_the_end_unless_it_is_persistent(
    persistent: bool, tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("finishes", "live", persistent=persistent))
        await trio.sleep(5)
        assert [how for how, _ in on.source.tried] == (["finishes", "live"] if persistent else ["finishes"])
        assert on.live == (["cam"] if persistent else [])
    async with stage(tmp_path) as on:
        assert len(list(on.pulls)) == persistent


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (("wrong",), BadRequest, "not allowed"),
        (("wrong", "dead"), PullFailed, "refused"),
        (("breaks",), PullFailed, "a fault of ours"),
        (("gopher://x/y",), PullFailed, "gopher"),
        (("nonsense://[",), PullFailed, "nothing can be pulled"),
        (("ovt://x/y", "gopher://x"), NotBuilt, "Pulling from ovt:// is not built"),
        (("ovt://x/y", "dead"), PullFailed, "refused"),
    ],
)
async def test_what_is_told_when_none_gives_a_stream(
    asked: tuple[str, ...], error: type[KilnError], text: str, tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        with pytest.raises(error, match=text):
            await on.pulls.create(spec(*asked))
        assert (on.live, list(on.pulls), on.alarms) == ([], [], {})
    async with stage(tmp_path) as on:
        assert list(on.pulls) == []


async def test_a_provider_that_is_off_gives_nothing(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path, rtmp=models.RtmpProvider()) as on:
        with pytest.raises(PullFailed, match="takes no RtspPull"):
            await on.pulls.create(spec("live"))
        assert on.source.tried == []


async def test_a_name_is_pulled_once(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("live"))
        with pytest.raises(NameTaken, match="Stream already exists"):
            await on.pulls.create(spec("live"))
        with pytest.raises(ConfigError):
            await on.pulls.create(spec("live", name="../x"))
        assert len(on.source.tried) == 1


async def test_who_leaves_before_it_is_on_leaves_nothing(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        with trio.move_on_after(0.5):
            await on.pulls.create(spec("hole", persistent=True))
        await trio.sleep(0.1)
        assert (on.live, list(on.pulls), on.source.ended) == ([], [], 1)
        await on.pulls.create(spec("live"))


async def test_a_break_leads_to_the_next_address_on_the_same_stream(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("brief", "live"))
        before = on.directory.input("default", "app", "cam")
        await trio.sleep(10)
        assert [how for how, _ in on.source.tried] == ["brief", "live"]
        assert on.directory.input("default", "app", "cam") is before


async def test_silence_leads_to_the_next_address(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("once", "live", no_input_failover_timeout=2000))
        await trio.sleep(6)
        assert [how for how, _ in on.source.tried] == ["once", "live"]
        assert on.source.ended == 1


async def test_a_source_with_other_tracks_begins_a_new_stream(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("brief", "sound"))
        before = on.directory.input("default", "app", "cam")
        await trio.sleep(6)
        after = on.directory.input("default", "app", "cam")
        assert before is not None
        assert after is not None
        assert before.closed
        assert [track.codec for track in after.tracks.values()] == [Codec.AAC]
        assert after.packets == 1


async def test_without_persistence_it_is_given_up_after_its_rounds(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("brief", "dead", retry_count=1))
        await trio.sleep(4)
        # A whole round has to fail.
        assert on.live == ["cam"]
        on.source.brief = on.source.dead  # type: ignore[method-assign]
        await trio.sleep(5)
        assert (on.live, list(on.pulls)) == ([], [])
    async with stage(tmp_path) as on:
        assert list(on.pulls) == []


async def test_a_persistent_one_is_never_given_up(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("brief", persistent=True))
        on.source.brief = on.source.dead  # type: ignore[method-assign]
        await trio.sleep(600)
        assert "refused" in on.alarms["pull:default/app/cam"]
        tries = [when for _, when in on.source.tried]
        assert tries[-1] - tries[-2] == pytest.approx(10, abs=0.2)
        on.source.brief = on.source.live  # type: ignore[method-assign]
        await trio.sleep(15)
        assert (on.live, on.alarms) == (["cam"], {})


async def test_one_that_nobody_uses_is_deleted(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        for name, more in (
            ("idle", {}), ("used", {}), ("kept", {"persistent": True}),
            ("never", {"unused_stream_deletion_timeout": 0}),
        ):  # fmt: skip
            await on.pulls.create(spec("live", name=name, **({"unused_stream_deletion_timeout": 5000} | more)))
        on.used.add("used")
        await trio.sleep(20)
        assert on.live == ["used", "kept", "never"]
        on.used.clear()
        await trio.sleep(20)
        assert on.live == ["kept", "never"]


async def test_the_virtual_host_says_what_a_pull_does_not(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    properties = models.OriginProperties(
        no_input_failover_timeout=500, unused_stream_deletion_timeout=4000, retry_count=3
    )
    async with stage(tmp_path, models.Origins(properties=properties)) as on:
        with pytest.raises(PullFailed):
            await on.pulls.create(spec("dead"))
        assert len(on.source.tried) == 3
        await on.pulls.create(spec("live"))
        assert on.source.requests[-1].timeout_ms == 500
        await trio.sleep(7)
        assert on.live == []


async def test_deleted_is_gone_for_good(tmp_path: Path, jumping: trio.testing.MockClock) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("live", persistent=True))
        assert await on.pulls.delete("default", "app", "cam")
        assert on.live == []
        await trio.sleep(30)
        assert (on.source.ended, len(on.source.tried)) == (1, 1)
        assert not await on.pulls.delete("default", "app", "cam")
    async with stage(tmp_path) as on:
        assert list(on.pulls) == []


async def test_both_kinds_come_back_after_a_restart_and_wait_for_the_network(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("live", name="plain"))
        await on.pulls.create(spec("live", name="lasting", persistent=True))
    async with stage(tmp_path) as on:
        live, on.source.live = on.source.live, on.source.dead  # type: ignore[assignment,method-assign]
        await trio.sleep(40)
        assert {pull.spec.name for pull in on.pulls} == {"plain", "lasting"}
        on.source.live = live  # type: ignore[method-assign]
        await trio.sleep(15)
        assert sorted(on.live) == ["lasting", "plain"]
    async with stage(tmp_path) as on:
        on.source.live = on.source.dead  # type: ignore[assignment,method-assign]
        await trio.sleep(120)
        assert {pull.spec.name for pull in on.pulls} == {"lasting"}


async def test_another_source_may_take_a_silent_name_and_the_pull_waits(
    tmp_path: Path, jumping: trio.testing.MockClock
) -> None:
    async with stage(tmp_path) as on:
        await on.pulls.create(spec("brief", persistent=True))
        on.source.brief = on.source.dead  # type: ignore[method-assign]
        await trio.sleep(20)
        taken = on.directory.open_input("default", "app", "cam", Source("Rtmp"))
        taken.prepare([VIDEO])
        for _ in range(30):
            taken.send(VIDEO, 0, 0, True, b"frame")
            await trio.sleep(1)
        assert not taken.closed
        on.source.brief = on.source.live  # type: ignore[method-assign]
        taken.close("left")
        await trio.sleep(15)
        assert on.live == ["cam"]
        assert on.directory.input("default", "app", "cam") is not taken.stream
