"""The state of all that runs on the box, as the console and every follower of the events sees it.

Sections of items, each item a JSON object: ``system`` (one, ``box``), ``inputs`` (what the box captures itself, also
without a signal), ``streams`` (input streams with their output streams), ``tasks``, ``alarms``, ``workers``. What
changes all the time stands under ``figures``. Nothing secret is in it, and no None.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from appliance.engine.watch.machine import Disk, Figures, Machine
from appliance.engine.watch.transports import Transports
from appliance.logs import redact
from appliance.media.clock import NANOSECONDS
from appliance.media.contracts import OutputStream
from appliance.media.measure import Measured
from appliance.media.tasks import Dump, Push, Record, Task
from appliance.media.track import Track
from appliance.transcoder.client import Transcoder
from appliance.version import VERSION

if TYPE_CHECKING:
    from appliance.engine.application import Application
    from appliance.engine.engine import Engine
    from appliance.engine.input_stream import InputStream, LiveOutput

Item = dict[str, Any]

#: Bit rates are told in steps of so many bit/s, so that not every look is an event.
RATE_STEP = 1000


@runtime_checkable
class CountsViewers(Protocol):
    """A publisher that knows how many watch an output stream."""

    name: str

    def viewers(self, vhost: str, app: str, name: str) -> int: ...


class TaskOnBoard(Protocol):
    """A task with the name of its kind (``record``, ``push``, ``dump``)."""

    @property
    def kind(self) -> Any: ...
    @property
    def task(self) -> Task: ...


class State:
    """Reads the live objects of ``engine``; keeps only what rates are made of.

    ``tasks`` lists what is on the task board.
    """

    def __init__(self, engine: Engine, machine: Machine, tasks: Callable[[], Iterable[TaskOnBoard]]) -> None:
        self._engine = engine
        self._machine = machine
        self._tasks = tasks
        self._disks: dict[str, Disk] = {}
        #: By process: its CPU seconds, when they changed (monotonic ns), and the cores it used before that.
        self._worker_cpu: dict[int, tuple[float, int, float]] = {}

    async def refresh(self) -> None:
        """Ask the disks, which may take a while."""
        engine = self._engine
        for name, path in (("state", engine.state), ("media", engine.media_root)):
            self._disks[name] = await self._machine.disk(path)

    def items(self) -> Iterator[tuple[str, str, Item]]:
        """``(section, key, item)`` of everything. Others may run between any two."""
        engine = self._engine
        yield "system", "box", self.system()
        transports = Transports(engine)
        for vhost in list(engine.directory.vhosts.values()):
            for application in list(vhost.applications.values()):
                yield from self._of_application(application, transports)
        for entry in list(self._tasks()):
            yield "tasks", f"{entry.kind.name}:{entry.task.label}", task_item(entry.kind.name, entry.task)
        for alarm in engine.alarms.open:
            item = {
                "text": alarm.text, "severity": alarm.severity.value, "since": seconds(alarm.since),
                "acknowledged": alarm.acknowledged, "count": alarm.count,
            }  # fmt: skip
            yield "alarms", alarm.id, item

    def _of_application(self, application: Application, transports: Transports) -> Iterator[tuple[str, str, Item]]:
        capture = application.settings.providers.capture
        for configured in capture.streams if capture else ():
            yield "inputs", f"{application.label}/{configured.name}", self._captured(application, configured)
        for stream in list(application.inputs.values()):
            yield "streams", stream.label, self.stream(stream, transports)
            transcoder = stream.outputs.transcoder if stream.outputs else None
            if transcoder is not None:
                yield "workers", stream.label, self.worker(transcoder)

    def workers(self) -> Iterator[tuple[str, Item]]:
        """The codec workers by the stream they work for."""
        for vhost in self._engine.directory.vhosts.values():
            for application in vhost.applications.values():
                for stream in application.inputs.values():
                    transcoder = stream.outputs.transcoder if stream.outputs else None
                    if transcoder is not None:
                        yield stream.label, self.worker(transcoder)

    def _captured(self, application: Application, configured: Any) -> Item:
        """A capture input: whether it gives a signal, and why it does not."""
        child = self._engine.supervisor.children.get(f"capture:{application.label}/{configured.name}")
        live = application.inputs.get(configured.name)
        item: Item = {
            "name": configured.name, "url": redact(configured.url), "on": live is not None and live.prepared,
            "state": child.state.value if child else "stopped",
        }  # fmt: skip
        if child is not None and child.restarts:
            item["restarts"] = child.restarts
        if child is not None and child.last_fault and not item["on"]:
            item["error"] = redact(child.last_fault)
        return item

    def system(self) -> Item:
        engine = self._engine
        lag = engine.lag.figures()
        return {
            "version": VERSION,
            "name": engine.settings.name,
            "host": platform.node(),
            "startedTime": seconds(engine.started_wall),
            "ports": [
                {"service": service, "scheme": scheme, "host": host, "port": port}
                for service, scheme, host, port in engine.bound.services
                if scheme != "unix"
            ],
            "figures": {
                **machine_figures(self._machine.figures()),
                "disks": {name: disk_figures(disk) for name, disk in self._disks.items()},
                "loopLag": {"p99Ms": round(lag.p99 * 1000, 1), "maxMs": round(lag.max * 1000, 1)},
            },
        }

    def stream(self, stream: InputStream, transports: Transports) -> Item:
        """An input stream with the output streams made of it."""
        outputs = list(stream.outputs.by_name.values()) if stream.outputs else []
        timeline = stream.timeline
        item: Item = {
            "vhost": stream.vhost,
            "app": stream.app,
            "name": stream.name,
            "on": stream.prepared,
            "source": {"kind": stream.source.kind, "url": redact(stream.source.url)},
            "createdTime": seconds(stream.created_wall),
            "tracks": tracks(stream.tracks, stream.measured),
            "outputs": {each.name: self._output(stream, each) for each in outputs},
            "figures": {
                "mended": sum(value for value in timeline.mended.as_dict().values() if isinstance(value, int))
                if timeline
                else 0,
                "dropped": sum(reader.dropped for reader in stream.stream.readers) if stream.prepared else 0,
                **transports.figures(stream.label),
            },
        }
        if stream.loss is not None:
            item["figures"] |= {"losses": stream.loss.losses, "late": stream.loss.late}
            if stream.loss.fault is not None:
                item["fault"] = stream.loss.described
        return item

    def _output(self, stream: InputStream, view: LiveOutput) -> Item:
        output = view.output
        item: Item = {"on": output is not None, "profile": view.plan.profile, "tracks": {}, "figures": {}}
        if output is not None:
            item["tracks"] = tracks(output.stream.tracks.values(), view.measured)
            item["figures"] = {"dropped": dropped(output), "viewers": self.viewers(output)}
        return item

    def viewers(self, output: OutputStream) -> dict[str, int]:
        """How many watch, by publisher. Those that can't tell are left out."""
        return {
            publisher.name: publisher.viewers(output.vhost, output.app, output.name)
            for publisher in self._engine.publishers
            if isinstance(publisher, CountsViewers)
        }

    def worker(self, transcoder: Transcoder) -> Item:
        """The codec worker of one input."""
        stats = transcoder.stats
        item: Item = {
            "pid": stats.pid,
            "restarts": stats.restarts,
            "encoders": sorted({each.encoder for each in stats.renditions if each.encoder}),
            "figures": {
                "cpu": self._cores_used(stats.pid, stats.cpu_seconds),
                "memory": stats.rss_bytes >> 20 << 20,
                "framerate": round(stats.fps, 1),
                "queue": stats.queue,
                "dropped": stats.frames_dropped + stats.packets_dropped,
                "decodeErrors": stats.decode_errors,
            },
        }
        if transcoder.last_fault:
            item["lastFault"] = redact(transcoder.last_fault)
        return item

    def _cores_used(self, pid: int, cpu_seconds: float) -> float:
        """Between the last two changes of what the worker tells, which it does once a second."""
        now = self._engine.clock.monotonic()
        known = self._worker_cpu.get(pid)
        if known is not None and known[0] == cpu_seconds:
            return known[2] if now - known[1] < 3 * NANOSECONDS else 0.0
        if known is None:
            recent = now - 60 * NANOSECONDS
            self._worker_cpu = {each: value for each, value in self._worker_cpu.items() if value[1] > recent}
        used = 0.0
        if known is not None and now > known[1]:
            used = round(max(0.0, cpu_seconds - known[0]) * NANOSECONDS / (now - known[1]), 2)
        self._worker_cpu[pid] = cpu_seconds, now, used
        return used


def tracks(known: Iterable[Track], measured: Mapping[int, Measured]) -> dict[str, Item]:
    return {str(track.id): _track(track, measured.get(track.id)) for track in sorted(known, key=lambda each: each.id)}


def _track(track: Track, measured: Measured | None) -> Item:
    item: Item = {"type": track.media.value, "codec": track.codec.value, "name": track.variant, "bypass": track.bypass}
    if track.is_video:
        item |= {"width": track.width, "height": track.height, "framerate": round(float(track.frame_rate), 3)}
    elif track.is_audio:
        item |= {"samplerate": track.sample_rate, "channel": track.channels}
    if track.bitrate:
        item["bitrate"] = track.bitrate
    if measured is not None:
        figures: Item = {"bitrate": measured.bitrate_latest // RATE_STEP * RATE_STEP}
        if track.is_video:
            figures["framerate"] = round(measured.framerate_latest, 1)
        if measured.dropped:
            figures["dropped"] = measured.dropped
        item["figures"] = figures
    return item


def dropped(output: OutputStream) -> int:
    """Packets that slow publishers of it lost."""
    return sum(reader.dropped for reader in output.stream.readers)


def task_item(kind: str, task: Task) -> Item:
    """A record, push or dump. Of a push's target only the host is told: the rest may be its key."""
    item: Item = {
        "kind": kind, "id": task.id, "vhost": task.vhost, "app": task.app, "stream": task.stream,
        "state": task.state.value, "createdTime": seconds(task.created),
    }  # fmt: skip
    if task.error:
        item["error"] = redact(task.error)
    if task.started:
        item["startTime"] = seconds(task.started)
    figures: Item = {"sequence": task.sequence}
    if isinstance(task, Record):
        item["file"] = task.output_file
        figures |= {"bytes": task.total_bytes, "time": task.total_time}
    elif isinstance(task, Push):
        item["protocol"] = task.protocol
        item["target"] = target(task.url_in_use or (task.urls[0] if task.urls else ""))
        figures |= {"bytes": task.total_sent_bytes, "time": task.total_sent_time, "dropped": task.dropped}
    elif isinstance(task, Dump):
        item["enabled"] = task.enabled
        figures["files"] = len(task.files)
    item["figures"] = figures
    return item


def target(url: str) -> str:
    """``scheme://host:port`` of a URL, whatever else is in it."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        host = parts.hostname or ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}" if host else ""


def machine_figures(figures: Figures) -> Item:
    """Shares are 0 to 1, sizes bytes, rates bit/s, temperatures °C."""
    return {
        "cpu": round(figures.cpu, 2),
        "load": round(figures.load[0], 1),
        "memory": {"total": figures.memory_total, "available": figures.memory_available >> 20 << 20},
        "temperatures": {name: round(value) for name, value in figures.temperatures.items()},
        "network": {
            name: {
                "receiveBitrate": link.receive_rate // RATE_STEP * RATE_STEP,
                "sendBitrate": link.send_rate // RATE_STEP * RATE_STEP,
                "errors": link.errors,
            }
            for name, link in figures.links.items()
        },
        "process": {"cpu": round(figures.process_cpu, 2), "memory": figures.process_memory >> 20 << 20},
    }


def disk_figures(disk: Disk) -> Item:
    return {"total": disk.total, "free": disk.free >> 20 << 20, "stale": disk.stale}


def seconds(wall: int) -> float:
    """Nanoseconds since 1970 as seconds, to the millisecond."""
    return round(wall / NANOSECONDS, 3)
