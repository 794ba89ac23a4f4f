"""Everything that is measured, as families of samples for a monitoring system, read from the live objects when asked.

Names follow Prometheus' rules: base units, ``_total`` for what only grows, a gauge for what is so now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from appliance.engine.watch.machine import Disk, Machine
from appliance.engine.watch.state import CountsViewers, TaskOnBoard, dropped
from appliance.engine.watch.transports import Transports
from appliance.media.clock import NANOSECONDS
from appliance.media.measure import Measured
from appliance.media.tasks import Push, Record
from appliance.media.track import Track
from appliance.supervisor import Supervisor
from appliance.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.engine.engine import Engine
    from appliance.engine.input_stream import InputStream, LiveOutput

Kind = Literal["counter", "gauge"]
Labels = tuple[str, ...]


@dataclass(slots=True)
class Family:
    """``name`` without ``_total``; ``labels`` name what the labels of each sample are."""

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def add(self, value: float, *labels: str) -> None:
        self.samples.append((labels, value))


_STREAM = ("vhost", "app", "stream")
_TRACK = (*_STREAM, "side", "output", "track", "media", "codec")
_OUTPUT = (*_STREAM, "output")

FAMILIES: tuple[tuple[str, Kind, str, Labels], ...] = (
    ("kiln_info", "gauge", "Version of the engine.", ("version",)),
    ("kiln_uptime_seconds", "gauge", "Since the engine started.", ()),
    ("kiln_stream_up", "gauge", "1 for each input stream that is on.", (*_STREAM, "source")),
    ("kiln_stream_age_seconds", "gauge", "Since the input stream came.", _STREAM),
    ("kiln_stream_silence_seconds", "gauge", "Since the last packet of an input that sends packets.", _STREAM),
    ("kiln_stream_mended", "counter", "Repairs of the time line of an input.", (*_STREAM, "fault")),
    ("kiln_srt_rtt_seconds", "gauge", "Round trip to an SRT publisher.", _STREAM),
    ("kiln_srt_latency_seconds", "gauge", "Latency that both ends of an SRT input agreed on.", _STREAM),
    ("kiln_srt_bandwidth_bps", "gauge", "What the path of an SRT input is thought to carry.", _STREAM),
    ("kiln_srt_received_packets", "counter", "Packets of an SRT input.", _STREAM),
    ("kiln_srt_lost_packets", "counter", "Packets of an SRT input that were missing at first.", _STREAM),
    ("kiln_srt_retransmitted_packets", "counter", "Packets of an SRT input that were sent again.", _STREAM),
    ("kiln_srt_belated_packets", "counter", "Packets of an SRT input that came when they were given up.", _STREAM),
    ("kiln_srt_dropped_packets", "counter", "Packets of an SRT input that never came in time.", _STREAM),
    ("kiln_srt_undecrypted_packets", "counter", "Packets of an SRT input that could not be decrypted.", _STREAM),
    ("kiln_srt_refused", "counter", "SRT callers that were refused.", ("side", "code")),
    ("kiln_srt_play_rtt_seconds", "gauge", "Longest round trip to a present SRT player.", _OUTPUT),
    ("kiln_srt_play_retransmitted_packets", "gauge", "Packets sent again to the present SRT players.", _OUTPUT),
    ("kiln_srt_play_dropped_packets", "gauge", "Packets that the present SRT players did not get.", _OUTPUT),
    ("kiln_mpegts_damage", "counter", "Faults of an input's transport stream (garbage: bytes).", (*_STREAM, "fault")),
    ("kiln_mpegts_turned_away", "counter", "Batches at MPEG-TS ports that came to nothing.", ("reason",)),
    ("kiln_output_up", "gauge", "1 for each output stream, 0 while it waits for its tracks.", _OUTPUT),
    ("kiln_track_bytes", "counter", "Payload of a track.", _TRACK),
    ("kiln_track_frames", "counter", "Frames of a track.", _TRACK),
    ("kiln_track_bitrate_bps", "gauge", "Bit/s of the last second.", _TRACK),
    ("kiln_track_framerate", "gauge", "Frames a second of the last second.", _TRACK),
    ("kiln_track_key_frame_interval_frames", "gauge", "Between the last two key frames.", _TRACK),
    ("kiln_output_dropped_packets", "counter", "Lost by publishers that were too slow.", (*_OUTPUT, "reader")),
    ("kiln_viewers", "gauge", "Who watches now.", (*_OUTPUT, "protocol")),
    ("kiln_worker_up", "gauge", "1 while the input has a codec worker.", _STREAM),
    ("kiln_worker_restarts", "counter", "Codec workers that had to be replaced.", _STREAM),
    ("kiln_worker_cpu_seconds", "gauge", "Processor time of the current worker.", _STREAM),
    ("kiln_worker_resident_bytes", "gauge", "Memory of the current worker.", _STREAM),
    ("kiln_worker_queue_packets", "gauge", "Packets that wait for the worker or in it.", _STREAM),
    ("kiln_worker_frames_dropped", "counter", "Raw frames lost before the encoders.", _STREAM),
    ("kiln_worker_packets_dropped", "counter", "Packets lost because the worker was too slow.", _STREAM),
    ("kiln_worker_decode_errors", "counter", "Packets that the decoder refused.", _STREAM),
    ("kiln_tasks", "gauge", "Records, pushes and dumps by state.", ("kind", "state")),
    ("kiln_record_bytes", "counter", "Recorded by a task.", (*_STREAM, "id")),
    ("kiln_push_bytes", "counter", "Sent by a task.", (*_STREAM, "id")),
    ("kiln_push_dropped_frames", "counter", "Frames that a slow target did not get.", (*_STREAM, "id")),
    ("kiln_alarms", "gauge", "Open alarms.", ("severity", "acknowledged")),
    ("kiln_child_restarts", "counter", "Restarts of a part of the engine.", ("child",)),
    ("kiln_children", "gauge", "Parts of the engine by state.", ("state",)),
    ("kiln_loop_lag_seconds", "gauge", "How late the loop woke up in the last minute.", ("quantile",)),
    ("kiln_event_followers", "gauge", "Who follows the events.", ()),
    ("kiln_disk_free_bytes", "gauge", "Room left.", ("disk",)),
    ("kiln_disk_size_bytes", "gauge", "Size of the file system.", ("disk",)),
    ("kiln_process_cpu_seconds", "counter", "Processor time of the engine.", ()),
    ("kiln_process_resident_bytes", "gauge", "Memory of the engine.", ()),
    ("kiln_process_open_fds", "gauge", "Open files and sockets of the engine.", ()),
    ("kiln_host_cpu_ratio", "gauge", "Share of all cores in use.", ()),
    ("kiln_host_load1", "gauge", "Load of the last minute.", ()),
    ("kiln_host_memory_bytes", "gauge", "Memory of the machine.", ("state",)),
    ("kiln_host_temperature_celsius", "gauge", "Temperature.", ("sensor",)),
    ("kiln_host_network_bytes", "counter", "Carried by an interface.", ("interface", "direction")),
    ("kiln_host_network_errors", "counter", "Errors and drops of an interface.", ("interface",)),
)


def all_families() -> list[Family]:
    """Those that there are, in order, without samples."""
    return [Family(*each) for each in FAMILIES]


class Measures:
    """``fill`` is one look at everything; others may run between any two steps of it."""

    def __init__(
        self, engine: Engine, machine: Machine, tasks: Callable[[], Iterable[TaskOnBoard]], followers: Callable[[], int]
    ) -> None:
        self._engine = engine
        self._machine = machine
        self._tasks = tasks
        self._followers = followers

    async def disks(self) -> dict[str, Disk]:
        engine = self._engine
        return {
            "state": await self._machine.disk(engine.state), "media": await self._machine.disk(engine.media_root)
        }  # fmt: skip

    def fill(self, families: list[Family], disks: Mapping[str, Disk]) -> Iterator[None]:
        """Add the samples of now to ``families``, step by step."""
        found = {family.name: family for family in families}
        self._box(found, disks)
        transports = Transports(self._engine)
        for side, code, count in transports.refused():
            found["kiln_srt_refused"].add(count, side, code)
        for reason, count in transports.turned_away():
            found["kiln_mpegts_turned_away"].add(count, reason)
        for vhost in list(self._engine.directory.vhosts.values()):
            for application in list(vhost.applications.values()):
                for stream in list(application.inputs.values()):
                    self._stream(found, stream, transports)
                    yield
        self._of_tasks(found)

    def _box(self, found: dict[str, Family], disks: Mapping[str, Disk]) -> None:
        engine = self._engine
        found["kiln_info"].add(1, VERSION)
        found["kiln_uptime_seconds"].add((engine.clock.wall() - engine.started_wall) / NANOSECONDS)
        found["kiln_event_followers"].add(self._followers())
        lag = engine.lag.figures()
        for quantile, value in (("0.5", lag.p50), ("0.99", lag.p99), ("1", lag.max)):
            found["kiln_loop_lag_seconds"].add(value, quantile)
        for (severity, acknowledged), count in Counter(
            (alarm.severity.value, str(alarm.acknowledged).lower()) for alarm in engine.alarms.open
        ).items():
            found["kiln_alarms"].add(count, severity, acknowledged)
        self._children(found, engine.supervisor)
        for name, disk in disks.items():
            found["kiln_disk_free_bytes"].add(disk.free, name)
            found["kiln_disk_size_bytes"].add(disk.total, name)
        self._host(found)

    @staticmethod
    def _children(found: dict[str, Family], supervisor: Supervisor) -> None:
        """Names of children of a stream differ with each life: those share one name here."""
        restarts: Counter[str] = Counter()
        states: Counter[str] = Counter()
        for child in supervisor.children.values():
            restarts[child.name.partition("#")[0]] += child.restarts
            states[child.state.value] += 1
        for name, count in restarts.items():
            found["kiln_child_restarts"].add(count, name)
        for state, count in states.items():
            found["kiln_children"].add(count, state)

    def _host(self, found: dict[str, Family]) -> None:
        figures = self._machine.figures()
        found["kiln_process_cpu_seconds"].add(figures.process_cpu_seconds)
        found["kiln_process_resident_bytes"].add(figures.process_memory)
        found["kiln_process_open_fds"].add(figures.open_files)
        found["kiln_host_cpu_ratio"].add(figures.cpu)
        found["kiln_host_load1"].add(figures.load[0])
        found["kiln_host_memory_bytes"].add(figures.memory_total, "total")
        found["kiln_host_memory_bytes"].add(figures.memory_available, "available")
        for sensor, degrees in figures.temperatures.items():
            found["kiln_host_temperature_celsius"].add(degrees, sensor)
        for name, link in figures.links.items():
            found["kiln_host_network_bytes"].add(link.received, name, "in")
            found["kiln_host_network_bytes"].add(link.sent, name, "out")
            found["kiln_host_network_errors"].add(link.errors, name)

    def _stream(self, found: dict[str, Family], stream: InputStream, transports: Transports) -> None:
        place = (stream.vhost, stream.app, stream.name)
        if not stream.prepared:
            return
        clock = self._engine.clock
        found["kiln_stream_up"].add(1, *place, stream.source.kind)
        found["kiln_stream_age_seconds"].add((clock.wall() - stream.created_wall) / NANOSECONDS, *place)
        if not stream.stream.raw:
            silence = max(0, clock.monotonic() - stream.last_packet) / NANOSECONDS
            found["kiln_stream_silence_seconds"].add(silence, *place)
        if stream.timeline is not None:
            for fault, count in stream.timeline.mended.as_dict().items():
                found["kiln_stream_mended"].add(count, *place, fault)
        for name, value in transports.measured(stream.label):
            found[f"kiln_{name}"].add(value, *place)
        for fault, count in transports.damage(stream.label):
            found["kiln_mpegts_damage"].add(count, *place, fault)
        for track in stream.tracks:
            _track(found, track, stream.measured.get(track.id), *place, "input", "")
        if stream.outputs is None:
            return
        for view in list(stream.outputs.by_name.values()):
            self._output(found, view, place, transports)
        if stream.outputs.transcoder is not None:
            stats = stream.outputs.transcoder.stats
            for name, value in (
                ("up", 1 if stats.pid else 0), ("restarts", stats.restarts), ("cpu_seconds", stats.cpu_seconds),
                ("resident_bytes", stats.rss_bytes), ("queue_packets", stats.queue),
                ("frames_dropped", stats.frames_dropped), ("packets_dropped", stats.packets_dropped),
                ("decode_errors", stats.decode_errors),
            ):  # fmt: skip
                found[f"kiln_worker_{name}"].add(value, *place)

    def _output(
        self, found: dict[str, Family], view: LiveOutput, place: tuple[str, str, str], transports: Transports
    ) -> None:
        output = view.output
        found["kiln_output_up"].add(0 if output is None else 1, *place, view.name)
        if output is None:
            return
        for track in list(output.stream.tracks.values()):
            _track(found, track, view.measured.get(track.id), *place, "output", view.name)
        for name, value in transports.played(output.label):
            found[f"kiln_{name}"].add(value, *place, view.name)
        if dropped(output):
            lost: Counter[str] = Counter()
            for reader in output.stream.readers:
                lost[reader.name] += reader.dropped
            for name, count in lost.items():
                found["kiln_output_dropped_packets"].add(count, *place, view.name, name)
        for publisher in self._engine.publishers:
            if isinstance(publisher, CountsViewers):
                viewers = publisher.viewers(output.vhost, output.app, output.name)
                found["kiln_viewers"].add(viewers, *place, view.name, publisher.name)

    def _of_tasks(self, found: dict[str, Family]) -> None:
        states: Counter[tuple[str, str]] = Counter()
        for entry in list(self._tasks()):
            task = entry.task
            states[entry.kind.name, task.state.value] += 1
            place = (task.vhost, task.app, task.stream, task.id)
            if isinstance(task, Record):
                found["kiln_record_bytes"].add(task.total_bytes, *place)
            elif isinstance(task, Push):
                found["kiln_push_bytes"].add(task.total_sent_bytes, *place)
                found["kiln_push_dropped_frames"].add(task.dropped, *place)
        for (kind, state), count in states.items():
            found["kiln_tasks"].add(count, kind, state)


def _track(found: dict[str, Family], track: Track, measured: Measured | None, *place: str) -> None:
    if measured is None:
        return
    labels = (*place, str(track.id), track.media.value, track.codec.value)
    found["kiln_track_bytes"].add(measured.bytes, *labels)
    found["kiln_track_frames"].add(measured.packets, *labels)
    found["kiln_track_bitrate_bps"].add(measured.bitrate_latest, *labels)
    if track.is_video:
        found["kiln_track_framerate"].add(measured.framerate_latest, *labels)
        found["kiln_track_key_frame_interval_frames"].add(measured.key_frame_interval_latest, *labels)
