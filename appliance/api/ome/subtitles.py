"""Subtitles sent into a live stream (catalogue 1.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.access.roles import Role
from appliance.api.envelope import Answer, plain
from appliance.api.ome.events import live_input
from appliance.api.ome.fields import Fields
from appliance.api.request import Request
from appliance.api.routes import Route
from appliance.engine.engine import Engine
from appliance.errors import BadRequest, NotFound, Unavailable
from appliance.media.events import SubtitleCue

#: The bytes of one text, cues of one request, and the longest of its times (ms).
LONGEST_TEXT = 8192
MOST_CUES = 1000
LONGEST_TIME = 24 * 3600 * 1000


class Subtitles:
    """Handlers over one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterator[Route]:
        yield Route("POST", "/v1/vhosts/{v}/apps/{a}/streams/{s}:sendSubtitles", self.send, Role.OPERATOR)

    async def send(self, request: Request, vhost: str, app: str, stream: str) -> Answer:
        """All cues, or none when one of them is wrong."""
        body = await request.json()
        found = live_input(self._engine, vhost, app, stream)
        fields = Fields(body)
        name, data = fields.raw("format"), fields.raw("data")
        if not isinstance(name, str) or not isinstance(data, list) or not data:
            raise BadRequest("format(string) and data(array) are required")
        if name.lower() != "webvtt":
            raise BadRequest(f"format is not supported: [{name[:64]}]")
        items = [_item(each, f"data[{index}].") for index, each in enumerate(data)]
        for label, _ in items:
            if label not in found.subtitle_labels:
                raise NotFound(f"Could not send WebVTT frame: [{found.label}] (no subtitles are labelled {label[:64]})")
        try:
            for label, cues in items:
                found.subtitle(label, cues)
        except Unavailable as error:
            raise Unavailable(f"Could not get current timestamp: [{found.label}] ({error})") from error
        return plain(200)


def _item(value: Any, path: str) -> tuple[str, list[SubtitleCue]]:
    fields = Fields(value, path)
    label, subtitles = fields.raw("label"), fields.raw("subtitles")
    if not isinstance(label, str) or not label or not isinstance(subtitles, list) or not subtitles:
        raise BadRequest("label(string) and subtitles(array) are required")
    if len(subtitles) > MOST_CUES:
        raise BadRequest(f"subtitles may hold {MOST_CUES} elements")
    return label, [_cue(Fields(each, f"{path}subtitles[{index}].")) for index, each in enumerate(subtitles)]


def _cue(fields: Fields) -> SubtitleCue:
    text, settings = fields.raw("text"), fields.text("settings")
    if not isinstance(text, str):
        raise BadRequest("text(string) is required in subtitles")
    if len(text.encode()) > LONGEST_TEXT:
        raise BadRequest(f"text may have {LONGEST_TEXT} bytes")
    if len(settings) > 256 or not settings.isprintable() or "-->" in settings:
        raise BadRequest("settings must be WebVTT cue settings of one line")
    return SubtitleCue(
        text,
        fields.integer("startOffset", 0, low=-LONGEST_TIME, high=LONGEST_TIME),
        fields.integer("durationMs", 1000, low=0, high=LONGEST_TIME),
        settings,
    )
