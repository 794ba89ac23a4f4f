"""AMF data messages of a publisher as timed metadata (wire catalogue 5.7)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from appliance.errors import BadRequest, KilnError
from appliance.media.events import Event, Target, TimedMetadata
from appliance.protocols.id3 import Frame, build_tag, is_supported
from appliance.settings.models.providers import RtmpEventGenerator

log = logging.getLogger("kiln.rtmp")

_PREFIX = "AMFDataMessage."
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,6})\]")


@runtime_checkable
class TakesEvents(Protocol):
    """An input that events can be put into."""

    def inject(self, event: Event, target: Target = Target.EVENT, *, urgent: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class _Rule:
    """``steps``: what follows the message's name, keys and indexes."""

    message: str
    steps: tuple[str | int, ...]
    target: Target
    frame: Frame


class EventGenerator:
    """Raises nothing: a rule that makes no sense is told in the log and left out."""

    def __init__(self, settings: RtmpEventGenerator, label: str) -> None:
        self._label = label
        self._rules: list[_Rule] = []
        for event in settings.events:
            wanted = event.hls_id3v2
            if wanted is None:
                continue
            try:
                message, steps = parse_trigger(event.trigger)
                target = Target(wanted.event_type.lower() or "event")
                if not is_supported(wanted.frame_type):
                    raise BadRequest(f"FrameType is not supported: {wanted.frame_type!r}")
            except (BadRequest, ValueError) as fault:
                log.error("event without effect stream=%s setting=RTMP/EventGenerator trigger=%.128r reason=%s", label,
                          event.trigger, fault)  # fmt: skip
                continue
            self._rules.append(_Rule(message, steps, target, Frame(wanted.frame_type, wanted.info, wanted.data)))

    def take(self, target: object, name: str, values: Sequence[object]) -> None:
        """An AMF data message came: what it triggers goes into the input."""
        for metadata, where in self.events(name, values):
            if isinstance(target, TakesEvents):
                try:
                    target.inject(metadata, where)
                except KilnError as fault:
                    log.debug("event left out stream=%s message=%.64r reason=%s", self._label, name, fault)

    def events(self, name: str, values: Sequence[object]) -> Iterator[tuple[TimedMetadata, Target]]:
        for rule in self._rules:
            if rule.message != name:
                continue
            found = _found(values, rule.steps)
            if found is None:
                continue
            frame = Frame(rule.frame.type, rule.frame.info, rule.frame.data.replace("${TriggerValue}", found))
            try:
                tag = build_tag([frame])
            except BadRequest as fault:
                log.warning("event left out stream=%s message=%.64r reason=%s", self._label, name, fault)
                continue
            yield TimedMetadata(tag), rule.target


def parse_trigger(trigger: str) -> tuple[str, tuple[str | int, ...]]:
    """``AMFDataMessage.name.key[0].key`` as the message's name and the way to its value. Raises BadRequest."""
    path = trigger.removeprefix(_PREFIX)
    steps = [int(index) if index else key for key, index in _STEP.findall(path)]
    if path == trigger or not steps or not isinstance(steps[0], str):
        raise BadRequest(f"a trigger is {_PREFIX}<message>, with keys and indexes behind")
    return steps[0], tuple(steps[1:])


def _found(values: Sequence[object], steps: tuple[str | int, ...]) -> str | None:
    """The value as text; None when the message has none there. A key is looked for in the first argument."""
    at: object = values
    if not steps or isinstance(steps[0], str):
        if not values:
            return "" if not steps else None
        at = values[0]
    for step in steps:
        at = _member(at, step)
    return _text(at)


def _member(value: object, step: str | int) -> object:
    if isinstance(step, str):
        return value.get(step) if isinstance(value, Mapping) else None
    return value[step] if isinstance(value, list | tuple) and step < len(value) else None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if float(value).is_integer() and abs(value) < 1e6 else str(value)
    return "" if isinstance(value, Mapping | list | tuple) else None
