"""A schedule as JSON (catalogue 3.8) and as a ``.sch`` file (6.8): two forms of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from lxml import etree

from appliance.errors import BadRequest, ConfigError
from appliance.media.channel_text import stream_place, wall_time
from appliance.settings.names import check_name
from appliance.transcoder.playout.model import ALWAYS, FALLBACK, AudioMapItem, ChannelStream, Item, Program, Schedule

#: Programs and items of one channel; sounds; the longest time within a file (ms).
MOST_PROGRAMS = 5000
MOST_ITEMS = 20_000
MOST_AUDIOS = 16
LONGEST = 366 * 24 * 3600 * 1000
MOST_TOLERANCE = 60_000
_NO_ITEM = "Failed to find url object, url is required"
_BAD_URL = "Failed to parse url attribute, url must be file:// or stream://"
_NO_TIME = "Failed to find scheduled object, scheduled is required"

Body = Mapping[str, Any]


def from_json(body: Any, now: int) -> Schedule:
    """What a POST asks for; programs that are over at ``now`` (ns) are left out. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Invalid request body")
    stream = body.get("stream")
    if not isinstance(stream, dict):
        raise BadRequest("Failed to find Stream object")
    name = stream.get("name")
    if not isinstance(name, str):
        raise BadRequest("Failed to find Stream.Name object")
    made = ChannelStream(
        _checked_name(name),
        _flag(stream, "bypassTranscoder", False), _flag(stream, "videoTrack", True), _flag(stream, "audioTrack", True),
        _audio_map(stream.get("audioMap")),
        _integer(stream, "errorToleranceDurationMs", 500, 1, MOST_TOLERANCE),
    )  # fmt: skip
    return _checked(
        Schedule(made, _current(_programs(body.get("programs")), now), _fallback(body.get("fallbackProgram")))
    )


def patched(schedule: Schedule, body: Any, now: int) -> Schedule:
    """``schedule`` with what a PATCH names instead of what it has. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("Invalid request body")
    if "stream" in body:
        raise BadRequest("Cannot change [stream] using this API")
    changed = schedule
    if "programs" in body:
        changed = msgspec.structs.replace(changed, programs=_current(_programs(body["programs"]), now))
    if "fallbackProgram" in body:
        changed = msgspec.structs.replace(changed, fallback=_fallback(body["fallbackProgram"]))
    return _checked(changed)


def _checked(schedule: Schedule) -> Schedule:
    stream = schedule.stream
    if not stream.video_track and not stream.audio_track:
        raise BadRequest("One of videoTrack and audioTrack must be true")
    if len(schedule.programs) > MOST_PROGRAMS or sum(len(each.items) for each in schedule.programs) > MOST_ITEMS:
        raise BadRequest(f"A channel holds at most {MOST_PROGRAMS} programs with {MOST_ITEMS} items")
    return schedule


def _checked_name(name: str) -> str:
    try:
        return check_name("channel", name)
    except ConfigError as error:
        raise BadRequest(str(error)) from None


def _current(programs: tuple[Program, ...], now: int) -> tuple[Program, ...]:
    """Those whose window is not over: it ends where the next one in time begins."""
    latest = max((each.begins for each in programs if each.begins <= now), default=now)
    return tuple(each for each in programs if each.begins >= latest)


def _programs(given: Any) -> tuple[Program, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise BadRequest("programs must be an array")
    made = []
    for number, each in enumerate(given, 1):
        if not isinstance(each, dict) or not isinstance(each.get("scheduled"), str):
            raise BadRequest(_NO_TIME)
        scheduled = each["scheduled"]
        begins = wall_time(scheduled)
        name = _text(each, "name") or f"program-{number}"
        made.append(Program(name, scheduled, begins, _flag(each, "repeat", False), _items(each.get("items"))))
    return tuple(made)


def _fallback(given: Any) -> Program | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise BadRequest("FallbackProgram must be an object")
    return fallback_program(_items(given.get("items")))


def fallback_program(items: tuple[Item, ...]) -> Program:
    return Program(FALLBACK, ALWAYS, 0, True, items)


def _items(given: Any) -> tuple[Item, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise BadRequest("items must be an array")
    made = []
    for each in given:
        if not isinstance(each, dict) or not isinstance(each.get("url"), str):
            raise BadRequest(_NO_ITEM)
        made.append(
            _item(each["url"], _integer(each, "start", 0, 0, LONGEST), _integer(each, "duration", -1, -1, LONGEST),
                  _flag(each, "fallbackOnErr", True))
        )  # fmt: skip
    return tuple(made)


def _item(url: str, start: int, duration: int, fallback_on_err: bool) -> Item:
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    place = url.partition("://")[2]
    if scheme not in ("file", "stream") or not place or not url.isprintable() or len(url) > 2048:
        raise BadRequest(_BAD_URL)
    if scheme == "stream" and stream_place(url) is None:
        raise BadRequest("Failed to parse url attribute, a stream is stream://vhost/app/stream")
    if scheme == "file" and ".." in place.split("/"):
        raise BadRequest("Failed to parse url attribute, a file may not be above its folder")
    return Item(url, start, duration, fallback_on_err)


def _audio_map(given: Any) -> tuple[AudioMapItem, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise BadRequest("audioMap must be an array")
    if len(given) > MOST_AUDIOS:
        raise BadRequest(f"audioMap holds at most {MOST_AUDIOS} items")
    made = []
    for each in given:
        if not isinstance(each, dict):
            raise BadRequest("audioMap must be an array of objects")
        made.append(AudioMapItem(_text(each, "name"), _text(each, "language"), _text(each, "characteristics")))
    return tuple(made)


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"[{key}] must be a string")
    if len(value) > 128 or not (value.isprintable() or not value):
        raise BadRequest(f"[{key}] may hold 128 printable characters")
    return value


def _flag(body: Body, key: str, default: bool) -> bool:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"[{key}] must be true or false")
    return value


def _integer(body: Body, key: str, default: int, low: int, high: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"[{key}] must be an integer")
    if not low <= value <= high:
        raise BadRequest(f"[{key}] must be between {low} and {high}")
    return value


# Files


def from_xml(data: bytes, name: str) -> Schedule:
    """The schedule of the file ``name``.sch, whatever name stands in it. Raises BadRequest with the line."""
    root = _root(data)
    stream = root.find("Stream")
    if stream is None:
        raise BadRequest("There is no <Stream> in it")
    made = ChannelStream(
        _checked_name(name),
        _xml_flag(_below(stream, "BypassTranscoder"), False, stream),
        _xml_flag(_below(stream, "VideoTrack"), True, stream), _xml_flag(_below(stream, "AudioTrack"), True, stream),
        tuple(
            AudioMapItem(*(_below(each, part) or "" for part in ("Name", "Language", "Characteristics")))
            for each in stream.findall("AudioMap/Item")
        ),
        _xml_integer(_below(stream, "ErrorToleranceDurationMs"), 500, 1, MOST_TOLERANCE, stream),
    )  # fmt: skip
    fallback = root.find("FallbackProgram")
    return _checked(
        Schedule(
            made, tuple(_xml_program(each, number) for number, each in enumerate(root.findall("Program"), 1)),
            None if fallback is None else fallback_program(_xml_items(fallback)),
        )
    )  # fmt: skip


def _root(data: bytes) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadRequest(f"It is no XML: {error}") from None
    info = root.getroottree().docinfo
    if getattr(info, "doctype", ""):
        raise BadRequest("A document type (DOCTYPE) is not allowed")
    if root.tag != "Schedule":
        raise BadRequest(f"It begins with <{root.tag}>, not with <Schedule>")
    return root


def _xml_program(element: etree._Element, number: int) -> Program:
    scheduled = element.get("scheduled")
    if scheduled is None:
        raise _at(element, _NO_TIME)
    try:
        begins = wall_time(scheduled)
    except BadRequest as error:
        raise _at(element, str(error)) from None
    name = element.get("name") or f"program-{number}"
    return Program(name, scheduled, begins, _xml_flag(element.get("repeat"), False, element), _xml_items(element))


def _xml_items(element: etree._Element) -> tuple[Item, ...]:
    made = []
    for each in element.findall("Item"):
        url = each.get("url")
        if url is None:
            raise _at(each, _NO_ITEM)
        try:
            made.append(
                _item(
                    url, _xml_integer(each.get("start"), 0, 0, LONGEST, each),
                    _xml_integer(each.get("duration"), -1, -1, LONGEST, each),
                    _xml_flag(each.get("fallbackOnErr"), True, each),
                )
            )  # fmt: skip
        except BadRequest as error:
            raise _at(each, str(error)) from None
    return tuple(made)


def _below(element: etree._Element, name: str) -> str | None:
    found = element.find(name)
    return None if found is None else (found.text or "").strip()


def _xml_flag(text: str | None, default: bool, element: etree._Element) -> bool:
    if not text:
        return default
    if text.lower() not in ("true", "false"):
        raise _at(element, f"'{text}' is neither true nor false")
    return text.lower() == "true"


def _xml_integer(text: str | None, default: int, low: int, high: int, element: etree._Element) -> int:
    if not text:
        return default
    try:
        value = int(text) if len(text) < 20 else high + 1
    except ValueError:
        raise _at(element, f"'{text}' is no number") from None
    if not low <= value <= high:
        raise _at(element, f"{text} is not between {low} and {high}")
    return value


def _at(element: etree._Element, text: str) -> BadRequest:
    return BadRequest(text if text.startswith("line ") else f"line {element.sourceline}: {text}")


def to_xml(schedule: Schedule) -> bytes:
    """The file of ``schedule``; `from_xml` gives it back."""
    root = etree.Element("Schedule")
    stream = etree.SubElement(root, "Stream")
    given = schedule.stream
    _put(stream, "Name", given.name)
    _put(stream, "BypassTranscoder", _word(given.bypass_transcoder))
    _put(stream, "VideoTrack", _word(given.video_track))
    _put(stream, "AudioTrack", _word(given.audio_track))
    if given.audio_map:
        audio_map = etree.SubElement(stream, "AudioMap")
        for each in given.audio_map:
            item = etree.SubElement(audio_map, "Item")
            _put(item, "Name", each.name)
            _put(item, "Language", each.language)
            _put(item, "Characteristics", each.characteristics)
    _put(stream, "ErrorToleranceDurationMs", str(given.error_tolerance_ms))
    if schedule.fallback is not None:
        _put_items(etree.SubElement(root, "FallbackProgram"), schedule.fallback.items)
    for program in schedule.programs:
        element = etree.SubElement(
            root, "Program", name=program.name, scheduled=program.scheduled, repeat=_word(program.repeat)
        )
        _put_items(element, program.items)
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    return written


def _put(parent: etree._Element, name: str, text: str) -> None:
    etree.SubElement(parent, name).text = text


def _put_items(parent: etree._Element, items: Sequence[Item]) -> None:
    for item in items:
        etree.SubElement(
            parent, "Item", url=item.url, start=str(item.start), duration=str(item.duration),
            fallbackOnErr=_word(item.fallback_on_err),
        )  # fmt: skip


def _word(value: bool) -> str:
    return "true" if value else "false"
