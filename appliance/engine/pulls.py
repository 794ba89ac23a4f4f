"""Streams that are fetched from elsewhere: asked for over the API, stored, and there again after a restart.

A pull tries its addresses in order, each for as long as it gives media; the input stream stays through all of it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

import msgspec
import trio

from appliance.engine.directory import Directory
from appliance.engine.input_stream import InputStream
from appliance.engine.pull_target import PullTarget
from appliance.engine.services import Services
from appliance.errors import BadRequest, Forbidden, KilnError, NameTaken, NotBuilt, NotFound, Unavailable
from appliance.media.clock import Clock
from appliance.media.contracts import Finished, Progress, PullRequest, PullSource, Source
from appliance.settings.models import OriginProperties
from appliance.settings.names import check_name
from appliance.settings.store import Store
from appliance.supervisor import Child, ChildSpec, Restart, Supervisor

log = logging.getLogger("kiln.pulls")

#: What the field pulls from; one that no source is there for is not built.
KNOWN_SCHEMES = frozenset({"rtsp", "rtspc", "ovt", "rtmp", "rtmps", "file"})
#: Like the providers that take streams in.
ORDER = 50
#: A source that keeps silent for so much longer than its time-out (s) has lost its way.
GRACE = 1.0
#: Pauses between rounds through all addresses (s), the last one again and again, and how much they vary.
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
JITTER = 0.2
#: A connection that lasted less (s) is no reason to come back at once.
BRIEF = 2.0
#: After a start of the box the network may come late: that long (s) a restored pull is not given up.
PATIENCE = 60.0
#: How often streams are looked at that are silent or that nobody uses (s).
SWEEP_EVERY = 1.0
_STORED = "pull"


class PullFailed(KilnError):
    """None of the addresses gave a stream."""

    status = 502


class PullSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for (catalogue 1.7). Times in ms; -1 is what the virtual host's Origins/Properties say, also for
    ``retry_count``, which counts rounds through all ``urls``."""

    vhost: str
    app: str
    name: str
    urls: tuple[str, ...]
    persistent: bool = False
    no_input_failover_timeout: int = -1
    unused_stream_deletion_timeout: int = -1
    ignore_rtcp_sr_timestamp: bool = False
    retry_count: int = -1

    @property
    def key(self) -> str:
        return f"{self.vhost}/{self.app}/{self.name}"


class Pull:
    """One pulled stream. ``reason`` is why the last try ended ("" before); ``url`` the address in use."""

    def __init__(self, spec: PullSpec, *, patience_until: float, used: float) -> None:
        self.spec = spec
        self.url = ""
        self.reason = ""
        self.target: PullTarget | None = None
        self.child: Child | None = None
        self.patience_until = patience_until
        self.used = used
        self.stored = False
        #: Made for somebody who wants to see it, not asked for over the API.
        self.on_demand = False
        #: Why an address can never be pulled, by address.
        self.refusals: dict[str, KilnError] = {}
        #: Its programme is over.
        self.finished = False
        self.on = False
        self.settled = trio.Event()


class Pulls:
    """``sources`` are those that are built; ``in_use`` tells whether anybody gets an input's outputs."""

    def __init__(
        self, sources: Sequence[PullSource], directory: Directory, store: Store, supervisor: Supervisor, clock: Clock,
        *, in_use: Callable[[InputStream], bool], alarms: MutableMapping[str, str] | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.sources = sources
        self._directory = directory
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._in_use = in_use
        self._alarms: MutableMapping[str, str] = {} if alarms is None else alarms
        self._random = random
        self._pulls: dict[str, Pull] = {}

    def __iter__(self) -> Iterator[Pull]:
        return iter(self._pulls.values())

    def find(self, vhost: str, app: str, name: str) -> Pull | None:
        return self._pulls.get(f"{vhost}/{app}/{name}")

    async def create(self, spec: PullSpec) -> None:
        """Pull the stream; returns when it is on the air and stored. A cancelled call leaves nothing.

        Raises ConfigError (name), NameTaken, NotBuilt (no source for a known scheme), BadRequest or Forbidden (no
        address that may be pulled), PullFailed (none that gave a stream), and what the store raises.
        """
        check_name("stream", spec.name)
        application = self._directory.find_application(spec.vhost, spec.app)
        if application is None:
            raise NotFound(f"there is no application {spec.vhost}/{spec.app}")
        present = application.inputs.get(spec.name)
        if spec.key in self._pulls or (present is not None and not present.abandoned):
            raise NameTaken("Stream already exists")
        self._check_schemes(spec)
        pull = Pull(spec, patience_until=0.0, used=trio.current_time())
        self._start(pull)
        try:
            await pull.settled.wait()
            if not pull.on:
                raise self._failure(pull)
            with trio.CancelScope(shield=True):
                await self._store.put(_STORED, spec.key, msgspec.json.encode(spec))
            pull.stored = True
        except BaseException:
            self._drop(pull, "it could not be pulled")
            raise

    def begin(self, spec: PullSpec) -> None:
        """Pull a stream for somebody who waits for it: not stored, and gone when it fails or nobody uses it.

        Raises what ``create`` raises before it tries.
        """
        self._check_schemes(spec)
        pull = Pull(spec, patience_until=0.0, used=trio.current_time())
        pull.on_demand = True
        self._start(pull)

    async def delete(self, vhost: str, app: str, name: str) -> bool:
        """End a pull and forget it. False when there is none of that name."""
        pull = self.find(vhost, app, name)
        if pull is None:
            return False
        with trio.CancelScope(shield=True):
            await self._store.delete(_STORED, pull.spec.key)
        self._drop(pull, "deleted over the API")
        return True

    async def forget_application(self, vhost: str, app: str) -> None:
        """The application is deleted, and its pulls with it."""
        for pull in [each for each in self if (each.spec.vhost, each.spec.app) == (vhost, app)]:
            await self.delete(vhost, app, pull.spec.name)

    async def restore(self) -> None:
        """Take up what the store has. What it can't read is left there and told."""
        for key, blob in (await self._store.list(_STORED)).items():
            if key in self._pulls:
                continue
            try:
                spec = msgspec.json.decode(blob, type=PullSpec)
            except msgspec.MsgspecError as error:
                log.error("stored pull can't be read key=%s reason=%s", key, error)
                self._alarms[f"pull:{key}"] = f"stored, and can't be read: {error}"
                continue
            now = trio.current_time()
            pull = Pull(spec, patience_until=now + PATIENCE, used=now + PATIENCE)
            pull.stored = True
            self._start(pull)

    async def run(self, progress: Progress) -> None:
        """Look after all pulls: who is silent, and whom nobody uses."""
        while True:
            progress()
            await trio.sleep(SWEEP_EVERY)
            for pull in list(self):
                if pull.on and pull.target is not None:
                    await self._look_at(pull, pull.target)

    async def _look_at(self, pull: Pull, target: PullTarget) -> None:
        timeout = self._properties(pull.spec).no_input_failover_timeout
        if target.running and not target.raw:
            silent = (self._clock.monotonic() - target.input.last_packet) / 1e9
            if silent > timeout / 1000 + GRACE:
                target.interrupt(f"no media for {timeout} ms")
        limit = self._properties(pull.spec).unused_stream_deletion_timeout / 1000
        now = trio.current_time()
        if pull.spec.persistent or limit <= 0 or not target.running or self._in_use(target.input):
            pull.used = max(pull.used, now)
        elif now - pull.used > limit:
            await self._give_up(pull, f"unused for {limit:g} s")

    # One pull

    def _start(self, pull: Pull) -> None:
        self._pulls[pull.spec.key] = pull
        pull.child = self._supervisor.add(
            ChildSpec(
                name=Services.child_name("pull", pull.spec.key), start=partial(self._run, pull),
                restart=Restart.TRANSIENT, order=ORDER,
            )
        )  # fmt: skip

    async def _run(self, pull: Pull, progress: Progress) -> None:
        urls = pull.spec.urls
        failures = position = 0
        try:
            while True:
                progress()
                began = trio.current_time()
                gave = await self._try(pull, urls[position], progress)
                if pull.finished and not pull.spec.persistent:
                    await self._give_up(pull, pull.reason)
                    return
                position = (position + 1) % len(urls)
                failures = 0 if gave else failures + 1
                rounds, rest = divmod(failures, len(urls))
                if rounds and not rest:
                    if self._is_enough(pull, rounds):
                        await self._give_up(pull, pull.reason)
                        return
                    self._alarms[f"pull:{pull.spec.key}"] = f"stream {pull.spec.key} can't be pulled: {pull.reason}"
                    await self._pause(rounds)
                elif gave and trio.current_time() - began < BRIEF:
                    await self._pause(1)
        finally:
            target, pull.target = pull.target, None
            if target is not None:
                target.end("the pull ends")

    def _is_enough(self, pull: Pull, rounds: int) -> bool:
        if not pull.on and not pull.stored:
            return rounds >= max(1, self._properties(pull.spec).retry_count)
        if pull.spec.persistent or trio.current_time() < pull.patience_until:
            return False
        return rounds >= max(1, self._properties(pull.spec).retry_count)

    async def _pause(self, rounds: int) -> None:
        pause = PAUSES[min(rounds, len(PAUSES)) - 1]
        await trio.sleep(pause * (1 + JITTER * (2 * self._random() - 1)))

    async def _try(self, pull: Pull, url: str, progress: Progress) -> bool:
        """Whether ``url`` gave a stream; returns when it has ended."""
        spec = pull.spec
        timeout = self._properties(spec).no_input_failover_timeout
        pull.url = url
        pull.finished = False
        target: PullTarget | None = None
        try:
            source = self._source(spec, url)
            target = self._target(pull, source, url)
            request = PullRequest(
                spec.vhost, spec.app, spec.name, url, timeout_ms=timeout,
                ignore_rtcp_sr_timestamp=spec.ignore_rtcp_sr_timestamp,
            )  # fmt: skip
            pull.reason = await target.feed(partial(source.pull, request, target, progress), timeout / 1000 + GRACE)
        except Finished as error:
            pull.finished = True
            pull.reason = str(error)
        except (BadRequest, Forbidden, NotBuilt) as error:
            pull.refusals[url] = error
            pull.reason = str(error)
        except (KilnError, OSError) as error:
            pull.reason = str(error) or type(error).__name__
        except Exception as error:
            # One address fails; the others are tried.
            log.exception("pull failed stream=%s", spec.key)
            pull.reason = f"internal fault: {error}"
        gave = target is not None and target.gave
        log.warning("pull ended stream=%s gave=%s reason=%s", spec.key, gave, pull.reason)
        return gave

    def _target(self, pull: Pull, source: PullSource, url: str) -> PullTarget:
        spec = pull.spec

        def open_input() -> InputStream:
            return self._directory.open_input(spec.vhost, spec.app, spec.name, Source(source.kind, url))

        if pull.target is None or pull.target.over or pull.target.input.closed:
            pull.target = PullTarget(open_input, partial(self._went_on, pull))
        else:
            pull.target.change_source(open_input, Source(source.kind, url))
        return pull.target

    def _went_on(self, pull: Pull) -> None:
        pull.on = True
        self._alarms.pop(f"pull:{pull.spec.key}", None)
        pull.settled.set()

    def _source(self, spec: PullSpec, url: str) -> PullSource:
        """Raises NotBuilt, Unavailable, Forbidden."""
        scheme = _scheme(url)
        source = next((each for each in self.sources if scheme in each.schemes), None)
        if source is None:
            if scheme in KNOWN_SCHEMES:
                raise NotBuilt(f"Pulling from {scheme}:// is not built in this version")
            raise Unavailable(f"nothing can be pulled from {scheme}://")
        application = self._directory.find_application(spec.vhost, spec.app)
        if application is None:
            raise Unavailable(f"there is no application {spec.vhost}/{spec.app}")
        if getattr(application.settings.providers, source.provider, None) is None:
            raise Unavailable(f"application {spec.vhost}/{spec.app} takes no {source.kind} input")
        return source

    def _check_schemes(self, spec: PullSpec) -> None:
        """Raises NotBuilt when every address waits for a source that is not there yet."""
        faults: list[KilnError] = []
        for url in spec.urls:
            try:
                self._source(spec, url)
            except KilnError as error:
                faults.append(error)
        if len(faults) == len(spec.urls):
            raise next((fault for fault in faults if isinstance(fault, NotBuilt)), PullFailed(str(faults[0])))

    def _failure(self, pull: Pull) -> KilnError:
        if pull.refusals and set(pull.refusals) == set(pull.spec.urls):
            return next(iter(pull.refusals.values()))
        return PullFailed(pull.reason)

    def _properties(self, spec: PullSpec) -> OriginProperties:
        """The pull's own, and the virtual host's where it says nothing."""
        vhost = self._directory.vhosts.get(spec.vhost)
        defaults = vhost.settings.origins.properties if vhost is not None else OriginProperties()

        def own(value: int, default: int) -> int:
            return value if value >= 0 else default

        return msgspec.structs.replace(
            defaults,
            no_input_failover_timeout=own(spec.no_input_failover_timeout, defaults.no_input_failover_timeout) or 3000,
            unused_stream_deletion_timeout=own(
                spec.unused_stream_deletion_timeout, defaults.unused_stream_deletion_timeout
            ),
            retry_count=own(spec.retry_count, defaults.retry_count),
        )

    async def _give_up(self, pull: Pull, reason: str) -> None:
        log.error("pull given up stream=%s reason=%s", pull.spec.key, reason)
        if pull.stored:
            try:
                with trio.CancelScope(shield=True):
                    await self._store.delete(_STORED, pull.spec.key)
            except KilnError as error:
                log.error("pull that is over stays in the store stream=%s reason=%s", pull.spec.key, error)
        self._drop(pull, reason)

    def _drop(self, pull: Pull, reason: str) -> None:
        """End it at once: nothing of it is left in the engine."""
        if self._pulls.get(pull.spec.key) is pull:
            del self._pulls[pull.spec.key]
        self._alarms.pop(f"pull:{pull.spec.key}", None)
        pull.settled.set()
        target, pull.target = pull.target, None
        if target is not None:
            target.end(reason)
        child = pull.child
        if child is not None and self._supervisor.children.get(child.name) is child:
            with suppress(Unavailable):
                self._supervisor.add(
                    ChildSpec(
                        name=Services.child_name("ending", pull.spec.key),
                        start=partial(self._end_child, child), restart=Restart.TEMPORARY, order=ORDER,
                    )
                )  # fmt: skip

    async def _end_child(self, child: Child, progress: Progress) -> None:
        with suppress(KeyError):
            await self._supervisor.stop(child.name)


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return ""
