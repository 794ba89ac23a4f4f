"""The Record, Push and HlsDump resources (catalogue 3.5 to 3.7); ``error`` and ``calendar`` are Kiln's own."""

from __future__ import annotations

from typing import Any

from appliance.api.ome.stream_resource import api_time
from appliance.engine.tasks.agenda import Agenda
from appliance.engine.tasks.calendar import Window
from appliance.engine.tasks.entry import Entry
from appliance.media.tasks import Dump, Push, Record, Task, TaskState

#: When a task that never began did so, and when one that runs ended.
_EPOCH = 0


def record_resource(entry: Entry, now: int) -> dict[str, Any]:
    task = entry.task
    assert isinstance(task, Record)
    shown = {**_shared(task), **_not_empty(metadata=task.metadata, filePath=task.file_path, infoPath=task.info_path,
                                           schedule=task.schedule, error=task.error)}  # fmt: skip
    shown["segmentationRule"] = task.segmentation_rule
    shown["createdTime"] = api_time(task.created)
    if task.interval > 0:
        shown["interval"] = task.interval
    if task.sequence > 0:
        shown["sequence"] = task.sequence
    if task.state is not TaskState.READY:
        shown |= _not_empty(outputFilePath=task.output_file, outputInfoPath=task.output_info)
        figures = {
            "recordBytes": task.bytes, "recordTime": task.time,
            "totalRecordBytes": task.total_bytes, "totalRecordTime": task.total_time,
        }  # fmt: skip
        shown |= {key: value for key, value in figures.items() if value > 0}
        shown["startTime"] = api_time(task.started or task.created)
    if task.state in (TaskState.STOPPED, TaskState.ERROR):
        shown["finishTime"] = api_time(task.finished)
    return shown | _calendar(entry.agenda, now)


def stopped_record_resource(entry: Entry, now: int) -> dict[str, Any]:
    """As ``:stopRecord`` answers: what was, without its files."""
    shown = record_resource(entry, now)
    for key in ("outputFilePath", "outputInfoPath"):
        shown.pop(key, None)
    shown["state"] = TaskState.STOPPING
    return shown


def push_resource(entry: Entry, now: int) -> dict[str, Any]:
    task = entry.task
    assert isinstance(task, Push)
    shown = _shared(task) | {
        "protocol": task.protocol,
        "url": task.urls[0],
        "sentBytes": task.sent_bytes,
        "sentTime": task.sent_time,
        "totalsentBytes": task.total_sent_bytes,
        "totalsentTime": task.total_sent_time,
        "sequence": task.sequence,
        "startTime": api_time(task.started or _EPOCH),
        "finishTime": api_time(task.finished or _EPOCH),
        "createdTime": api_time(task.created),
    }
    if len(task.urls) > 1:
        shown["urls"] = list(task.urls)
        shown |= _not_empty(urlInUse=task.url_in_use)
    if task.dropped:
        shown["droppedFrames"] = task.dropped
    return shown | _not_empty(streamKey=task.stream_key, error=task.error) | _calendar(entry.agenda, now)


def dump_resource(entry: Entry) -> dict[str, Any]:
    task = entry.task
    assert isinstance(task, Dump)
    shown: dict[str, Any] = {"outputStreamName": task.stream, "id": task.id, "enabled": task.enabled}
    if task.playlist:
        shown["playlist"] = list(task.playlist)
    return shown | _not_empty(
        outputPath=task.output_path, infoFile=task.info_file, userData=task.user_data, error=task.error
    )


def _shared(task: Task) -> dict[str, Any]:
    stream: dict[str, Any] = {"trackIds": list(task.track_ids), "variantNames": list(task.variant_names)}
    return {
        "state": task.state,
        "isConfig": task.from_config,
        "stream": stream | _not_empty(name=task.stream),
        **_not_empty(id=task.id, vhost=task.vhost, app=task.app),
    }


def _not_empty(**texts: str) -> dict[str, Any]:
    return {key: text for key, text in texts.items() if text}


def _calendar(agenda: Agenda | None, now: int) -> dict[str, Any]:
    if agenda is None:
        return {}
    shown: dict[str, Any] = dict(agenda.calendar.written)
    current, following = agenda.window(now), agenda.next(now)
    if current is not None:
        shown["current"] = _window(current)
    if following is not None:
        shown["next"] = _window(following)
    if agenda.missed:
        shown["missed"] = [_window(missed.window) | {"reason": missed.reason} for missed in agenda.missed]
    return {"calendar": shown}


def _window(window: Window) -> dict[str, Any]:
    return {"start": api_time(window.start), "stop": api_time(window.stop)}
