"""What bodies the routes take and give, as the OpenAPI document tells it. Settings are told by their models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.settings import models
from appliance.settings.schema import Node

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Many:
    """An array of what ``of`` is."""

    of: type[Node] | Schema


Body = type[Node] | Many | Schema


@dataclass(frozen=True, slots=True)
class Contract:
    """``request`` None: no body is read; ``optional``: it may be left out. ``response`` is what the envelope holds
    (None: nothing). ``raw`` is a content type instead of the envelope. ``results``: an array of results a piece,
    which may be 207. ``success`` is the status of a good answer, ``statuses`` are others that this one may give."""

    request: Body | None = None
    response: Body | None = None
    optional: bool = False
    raw: str = ""
    results: bool = False
    success: int = 200
    query: Mapping[str, str] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
NAME: Schema = {"type": "string", "pattern": "^(?!\\.)[A-Za-z0-9_.-]{1,128}$"}
URL: Schema = {"type": "string", "maxLength": 2048}
ANY: Schema = {"type": "object", "additionalProperties": True}


def obj(required: str = "", **properties: Schema) -> Schema:
    """An object; ``required`` names are divided by spaces."""
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required.split()
    return schema


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


_CHOSEN_STREAM = obj("name", name=NAME, trackIds=array(COUNT), variantNames=array(TEXT))
_BY_ID = obj(id=TEXT)
_RECORD = obj(
    "id state", id=TEXT, state=one_of("ready", "recording", "stopping", "stopped", "error"), vhost=TEXT, app=TEXT,
    stream=_CHOSEN_STREAM, filePath=TEXT, infoPath=TEXT, outputFilePath=TEXT, outputInfoPath=TEXT,
    recordBytes=COUNT, recordTime=COUNT, totalRecordBytes=COUNT, totalRecordTime=COUNT, sequence=COUNT,
    interval=COUNT, schedule=TEXT, segmentationRule=TEXT, createdTime=TIME, startTime=TIME, finishTime=TIME,
)  # fmt: skip
_PUSH = obj(
    "id state", id=TEXT, state=one_of("ready", "started", "stopping", "stopped", "error"), vhost=TEXT, app=TEXT,
    stream=_CHOSEN_STREAM, protocol=TEXT, url=TEXT, streamKey=TEXT, sentBytes=COUNT, sentTime=COUNT,
    totalsentBytes=COUNT, totalsentTime=COUNT, sequence=COUNT, createdTime=TIME, startTime=TIME, finishTime=TIME,
)  # fmt: skip
_EVENT = obj(
    "eventFormat events", eventFormat=one_of("id3v2", "cue", "amf", "sei", "scte35"), eventType=TEXT, urgent=FLAG,
    events={"type": "array", "items": ANY, "minItems": 1},
)  # fmt: skip
_CUE = obj("text", text=TEXT, startOffset={"type": "integer"}, durationMs=COUNT, settings=TEXT)
_ALARM = obj(
    "id text severity open acknowledged count since", id=TEXT, text=TEXT, severity=one_of("notice", "warning", "error"),
    open=FLAG, acknowledged=FLAG, count=COUNT, since=TIME, lastTime=TIME, closedTime=TIME,
)  # fmt: skip
_TOKEN = obj("name role", name=NAME, role=one_of("viewer", "operator", "admin"), createdTime=TIME)
_LOG = obj("id level logger text time", id=COUNT, level=TEXT, logger=TEXT, text=TEXT, time=TIME, stream=TEXT)
_STATISTICS = obj(
    createdTime=TIME, lastUpdatedTime=TIME, lastRecvTime=TIME, lastSentTime=TIME, totalBytesIn=COUNT,
    totalBytesOut=COUNT, totalConnections=COUNT, maxTotalConnections=COUNT, maxTotalConnectionTime=TIME,
    avgThroughputIn=COUNT, avgThroughputOut=COUNT, maxThroughputIn=COUNT, maxThroughputOut=COUNT,
    lastThroughputIn=COUNT, lastThroughputOut=COUNT, connections={"type": "object", "additionalProperties": COUNT},
)  # fmt: skip
_MILLISECONDS: Schema = {"type": "integer"}
_ITEM = obj("url", url=URL, start=_MILLISECONDS, duration=_MILLISECONDS, fallbackOnErr=FLAG)
_PROGRAMS = array(obj("scheduled", name=TEXT, scheduled=TIME, repeat=FLAG, items=array(_ITEM)))
_FALLBACK = obj(items=array(_ITEM))
_SCHEDULED_CHANNEL = obj(
    "stream",
    stream=obj(
        "name", name=NAME, bypassTranscoder=FLAG, videoTrack=FLAG, audioTrack=FLAG, errorToleranceDurationMs=COUNT,
        audioMap=array(obj("name", name=TEXT, language=TEXT, characteristics=TEXT)),
    ),
    programs=_PROGRAMS, fallbackProgram=_FALLBACK,
)  # fmt: skip
_SOURCES = array(
    obj(
        "name url trackMap", name=TEXT, url=URL,
        trackMap=array(
            obj(
                "sourceTrackName newTrackName", sourceTrackName=TEXT, newTrackName=TEXT, bitrateConf=COUNT,
                framerateConf=COUNT,
            )
        ),
    )
)  # fmt: skip
_PLAYLISTS = array(
    obj(
        "name fileName", name=TEXT, fileName=NAME,
        options=obj(webrtcAutoAbr=FLAG, hlsChunklistPathDepth={"type": "integer"}, enableTsPackaging=FLAG),
        renditions=array(
            obj(
                "name", name=TEXT, video=TEXT, audio=TEXT, videoIndexHint={"type": "integer"},
                audioIndexHint={"type": "integer"},
            )
        ),
    )
)  # fmt: skip
_MULTIPLEX_CHANNEL = obj(
    "outputStream sourceStreams", outputStream=obj("name", name=NAME, bypassTranscoder=FLAG), sourceStreams=_SOURCES,
    playlists=_PLAYLISTS,
)  # fmt: skip
_NAMES = array(TEXT)
_FOLLOW = "text/event-stream"

_APP = "/v1/vhosts/{v}/apps/{a}"
_STREAM = f"{_APP}/streams/{{s}}"
_BOX_STREAM = "/box/v1/vhosts/{v}/apps/{a}/streams/{s}"
_STATS = "/v1/stats/current"
_CREATED = (403, 404, 409)

CONTRACTS: dict[tuple[str, str], Contract] = {
    ("POST", "/v1/managers/api:reloadCertificate"): Contract(statuses=(400, 500)),
    ("POST", "/v1/vhosts:reloadAllCertificates"): Contract(statuses=(500,)),
    ("POST", "/v1/vhosts/{v}:reloadAllCertificates"): Contract(statuses=(500,)),
    ("POST", "/v1/vhosts/{a}:reloadCertificate"): Contract(statuses=(500,)),
    ("GET", "/v1/version"): Contract(response=obj("version gitVersion", version=TEXT, gitVersion=TEXT)),
    ("GET", "/v1/vhosts"): Contract(response=_NAMES),
    ("POST", "/v1/vhosts"): Contract(Many(models.VirtualHost), results=True, statuses=_CREATED),
    ("GET", "/v1/vhosts/{v}"): Contract(response=ANY),
    ("GET", "/v1/vhosts/{v}/apps"): Contract(response=_NAMES),
    ("POST", "/v1/vhosts/{v}/apps"): Contract(Many(models.Application), results=True, statuses=_CREATED),
    ("GET", _APP): Contract(response=ANY),
    ("GET", f"{_APP}:"): Contract(response=ANY),
    ("PATCH", _APP): Contract(ANY, ANY, statuses=_CREATED),
    ("GET", f"{_APP}/outputProfiles"): Contract(response=_NAMES),
    ("POST", f"{_APP}/outputProfiles"): Contract(Many(models.OutputProfile), results=True, statuses=_CREATED),
    ("GET", f"{_APP}/outputProfiles/{{v}}"): Contract(response=ANY),
    ("PATCH", f"{_APP}/outputProfiles/{{v}}"): Contract(ANY, ANY, statuses=_CREATED),
    ("GET", f"{_APP}/streams"): Contract(response=_NAMES),
    ("GET", _STREAM): Contract(response=obj("name input outputs", name=TEXT, input=ANY, outputs=array(ANY))),
    ("POST", f"{_APP}/streams"): Contract(
        obj(
            "name urls", name=NAME, urls={"type": "array", "items": URL, "minItems": 1},
            properties=obj(
                persistent=FLAG, noInputFailoverTimeoutMs={"type": "integer"},
                unusedStreamDeletionTimeoutMs={"type": "integer"}, ignoreRtcpSRTimestamp=FLAG,
                retryCount={"type": "integer"},
            ),
        ),
        success=201, statuses=(*_CREATED, 501, 502, 503),
    ),
    ("POST", f"{_APP}:startRecord"): Contract(
        obj(
            "id stream", id=TEXT, stream=_CHOSEN_STREAM, filePath=TEXT, infoPath=TEXT, interval=COUNT, schedule=TEXT,
            segmentationRule=one_of("discontinuity", "continuity"), metadata=TEXT,
        ),
        _RECORD, statuses=(404, 501, 507),
    ),
    ("POST", f"{_APP}:stopRecord"): Contract(obj("id", id=TEXT), _RECORD, statuses=(404,)),
    ("POST", f"{_APP}:records"): Contract(_BY_ID, array(_RECORD), optional=True, statuses=(404,)),
    ("GET", f"{_APP}:records"): Contract(response=array(_RECORD)),
    ("POST", f"{_APP}:startPush"): Contract(
        obj(
            "id stream protocol", id=TEXT, stream=_CHOSEN_STREAM, protocol=one_of("rtmp", "srt", "mpegts"), url=URL,
            urls=array(URL), streamKey=TEXT,
        ),
        _PUSH, statuses=(404, 501),
    ),
    ("POST", f"{_APP}:stopPush"): Contract(obj("id", id=TEXT), statuses=(404,)),
    ("POST", f"{_APP}:pushes"): Contract(_BY_ID, array(_PUSH), optional=True, statuses=(404,)),
    ("GET", f"{_APP}:pushes"): Contract(response=array(_PUSH)),
    ("POST", f"{_STREAM}:startHlsDump"): Contract(
        obj(
            "id outputStreamName outputPath", id=TEXT, outputStreamName=NAME, outputPath=TEXT, playlist=array(TEXT),
            infoFile=TEXT, userData=TEXT,
        ),
        statuses=(404, 409, 501, 507),
    ),
    ("POST", f"{_STREAM}:stopHlsDump"): Contract(
        obj("outputStreamName", outputStreamName=NAME, id=TEXT), statuses=(404,)
    ),
    ("POST", f"{_STREAM}:hlsDumps"): Contract(
        obj("outputStreamName", outputStreamName=NAME, id=TEXT), array(ANY), statuses=(404,)
    ),
    ("POST", f"{_STREAM}:sendEvent"): Contract(_EVENT, statuses=(404, 503)),
    ("POST", f"{_STREAM}:sendEvents"): Contract(
        {"type": "array", "items": _EVENT, "minItems": 1}, results=True, statuses=(404, 503)
    ),
    ("POST", f"{_STREAM}:sendSubtitles"): Contract(
        obj(
            "format data", format=one_of("webvtt"),
            data={
                "type": "array", "minItems": 1,
                "items": obj(
                    "label subtitles", label=TEXT, subtitles={"type": "array", "minItems": 1, "items": _CUE}
                ),
            },
        ),
        statuses=(404, 503),
    ),
    ("POST", f"{_STREAM}:concludeHlsLive"): Contract(obj(urgent=FLAG), optional=True, statuses=(404, 503)),
    ("GET", f"{_APP}/scheduledChannels"): Contract(response=_NAMES),
    ("POST", f"{_APP}/scheduledChannels"): Contract(_SCHEDULED_CHANNEL, success=201, statuses=_CREATED),
    ("GET", f"{_APP}/scheduledChannels/{{s}}"): Contract(response=ANY, statuses=(400,)),
    ("PATCH", f"{_APP}/scheduledChannels/{{s}}"): Contract(
        obj(programs=_PROGRAMS, fallbackProgram=_FALLBACK), success=201, statuses=_CREATED
    ),
    ("DELETE", f"{_APP}/scheduledChannels/{{s}}"): Contract(statuses=(400,)),
    ("GET", f"{_APP}/multiplexChannels"): Contract(response=_NAMES),
    ("POST", f"{_APP}/multiplexChannels"): Contract(_MULTIPLEX_CHANNEL, success=201, statuses=_CREATED),
    ("GET", f"{_APP}/multiplexChannels/{{s}}"): Contract(response=ANY, statuses=(400,)),
    ("PATCH", f"{_APP}/multiplexChannels/{{s}}"): Contract(
        obj(sourceStreams=_SOURCES, playlists=_PLAYLISTS), success=201, statuses=_CREATED
    ),
    ("DELETE", f"{_APP}/multiplexChannels/{{s}}"): Contract(statuses=(400,)),
    ("GET", f"{_STATS}/internals"): Contract(response=_NAMES),
    ("GET", _STATS): Contract(response=_STATISTICS),
    ("GET", f"{_STATS}/vhosts/{{v}}"): Contract(response=_STATISTICS),
    ("GET", f"{_STATS}/vhosts/{{v}}/apps/{{a}}"): Contract(response=_STATISTICS),
    ("GET", f"{_STATS}/vhosts/{{v}}/apps/{{a}}/streams/{{s}}"): Contract(response=_STATISTICS),
    ("GET", f"{_STATS}/internals/queues"): Contract(response=array(ANY)),
    ("GET", "/box/v1/system"): Contract(response=ANY),
    ("GET", "/box/v1/events"): Contract(raw=_FOLLOW, statuses=(503,)),
    ("GET", "/box/v1/logs"): Contract(
        response=array(_LOG), statuses=(400, 503),
        query={
            "follow": "yes: server-sent events, each line as it comes",
            "level": "the least: debug, info, warning, error, critical",
            "lines": "how many of the last ones, 0 to 1000 (200)",
            "part": "a part of the engine, such as rtmp",
            "since": "seconds since 1970, or ISO 8601",
            "stream": "vhost/app/name, or the name alone",
        },
    ),
    ("GET", "/box/v1/alarms"): Contract(
        response=array(_ALARM), query={"closed": "yes: also those that are over"}, statuses=(400,)
    ),
    ("POST", "/box/v1/alarms/{s}:acknowledge"): Contract(response=_ALARM, statuses=(404,)),
    ("GET", "/box/v1/support-bundle"): Contract(raw="application/zip", statuses=(503,)),
    ("GET", _BOX_STREAM): Contract(response=ANY),
    ("GET", f"{_BOX_STREAM}/preview"): Contract(
        raw="image/jpeg", statuses=(400, 503),
        query={"size": "<width>x<height>, each from 2 to 1920 (320x180)", "format": "jpeg, or rgb: RGB triples"},
    ),
    ("GET", "/box/v1/tokens"): Contract(response=array(_TOKEN)),
    ("POST", "/box/v1/tokens"): Contract(
        obj("name role", name=NAME, role=one_of("viewer", "operator", "admin")),
        obj("name role token", name=NAME, role=TEXT, token=TEXT), success=201, statuses=(409, 507),
    ),
    ("GET", "/metrics"): Contract(raw="text/plain"),
    ("GET", "/openapi.json"): Contract(raw="application/json"),
}  # fmt: skip
"""Of those routes whose ``Route`` says nothing itself. What stands nowhere takes no body and answers the envelope."""
