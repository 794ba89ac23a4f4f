"""The commented default is the manual: it is complete, its defaults are the models', its examples work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import models
from appliance.settings.check import check_file
from appliance.settings.schema import Field, Kind, Node, fields_of
from appliance.settings.xml import DEFAULT_XML, load_xml
from appliance.transcoder import sources

TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Z][A-Za-z0-9]*)(?P<attributes>\s[^<>]*?)?(?P<empty>/?)>")
REFUSED = {(models.AudioBypassIfMatch, "bitrate"), (models.VideoBypassIfMatch, "bitrate")}
"""Always an error (catalogue 3.3), so there is nothing to explain."""


@dataclass
class Line:
    """A setting in the manual: the model's field, the example, and what is said about it."""

    number: int
    field: Field
    example: str
    text: str


def manual() -> tuple[list[Line], str]:
    """Every setting of default.xml, in force or in a comment, and a file in which all of them are in force."""
    found: list[Line] = []
    document: list[str] = []
    stack: list[tuple[str, type[Node] | None, Field | None]] = []
    for number, raw in enumerate(DEFAULT_XML.read_text().splitlines(), 1):
        line = raw.replace("<!--", "").replace("-->", "")
        tags = list(TAG.finditer(line))
        for index, tag in enumerate(tags):
            name = tag["name"]
            if tag["close"]:
                assert stack, f"line {number}: </{name}> closes nothing"
                assert stack.pop()[0] == name, f"line {number}: </{name}>"
                document.append(f"</{name}>")
                continue
            if stack:
                section, field = _step(stack[-1], name, number)
            else:
                section, field = models.Server, None
            following = tags[index + 1] if index + 1 < len(tags) else None
            closed = following is not None and bool(following["close"]) and following["name"] == name
            example = line[tag.end() : following.start()] if closed and following else ""
            if field and not section:
                rest = line[following.end() if closed and following else tag.end() :].strip()
                found.append(Line(number, field, example, rest))
            elif field and field.section:
                found.append(Line(number, field, "", ""))
            document.append(f"{tag[0]}{example}")
            if not tag["empty"]:
                stack.append((name, section, field))
    assert not stack
    return found, "\n".join(document)


def _step(
    parent: tuple[str, type[Node] | None, Field | None], name: str, number: int
) -> tuple[type[Node] | None, Field | None]:
    """The section and the field that a tag below ``parent`` opens."""
    _, section, field = parent
    if section is None:
        assert field, f"line {number}: {name} is inside a value"
        assert name == field.xml, f"line {number}: {name} is not an item of {field.container}"
        return field.section, field
    for candidate in fields_of(section):
        if candidate.container == name:
            return None, candidate
        if not candidate.container and candidate.xml == name:
            return candidate.section, candidate
    pytest.fail(f"line {number}: {section.__name__} has no {name}")


def every_setting(model: type[Node], seen: set[type[Node]]) -> Iterator[Field]:
    if model in seen:
        return
    seen.add(model)
    for field in fields_of(model):
        if not field.attribute:
            yield field
        if field.section:
            yield from every_setting(field.section, seen)


def written(default: Any) -> str:
    """A default as the manual writes it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return " ".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) or '""'


SETTINGS, EVERYTHING = manual()


def test_the_default_runs() -> None:
    assert check_file(DEFAULT_XML) == []
    assert load_xml(DEFAULT_XML).warnings == ()


def test_it_lists_every_setting_there_is() -> None:
    listed = {(line.field.owner, line.field.attr) for line in SETTINGS}
    wanted = {(field.owner, field.attr) for field in every_setting(models.Server, set())}
    missing = sorted(f"{owner.__name__}.{attr}" for owner, attr in wanted - listed - REFUSED)
    assert missing == []
    assert len(wanted) > 300


def test_each_setting_says_its_default_and_what_it_does() -> None:
    wrong = []
    for line in SETTINGS:
        field = line.field
        if field.section or field.kind is Kind.OPAQUE or (field.container and not line.text and not line.example):
            continue
        stated = re.match(r"(?:(?P<required>required)|default (?P<default>\S+)); (?P<text>.{2,})", line.text)
        if not stated:
            wrong.append(f"{line.number}: {field.xml} says nothing of its default: {line.text!r}")
        elif bool(stated["required"]) != field.required:
            wrong.append(f"{line.number}: {field.xml} required: {field.required}")
        elif not field.required and stated["default"] != written(field.default):
            wrong.append(f"{line.number}: {field.xml} default {written(field.default)}, not {stated['default']}")
    assert wrong == []


def test_all_examples_work_together(tmp_path: Path) -> None:
    file = tmp_path / "everything.xml"
    file.write_text(EVERYTHING)
    loaded = load_xml(file, environment={})
    assert [str(fault) for fault in loaded.faults] == []
    assert [str(warning) for warning in loaded.warnings if " is of old: " not in warning.message] == []
    app = loaded.model.virtual_hosts[0].applications[0]
    assert app.providers.srt is not None
    assert app.providers.srt.audio_map[0].language == "en"
    assert loaded.model.modules.egress.allow == ("192.168.10.0/24",)


def test_the_lines_are_of_a_length_to_read() -> None:
    long = [number for number, line in enumerate(DEFAULT_XML.read_text().splitlines(), 1) if len(line) > 140]
    assert long == []


def test_it_is_read_in_time_for_the_start() -> None:
    script = (
        "import time; from appliance.settings.xml import DEFAULT_XML, load_xml; start = time.process_time();"
        "load_xml(DEFAULT_XML).model; print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", script]
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=60, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) <= 0.060


def test_what_the_box_starts_with() -> None:
    server = load_xml(DEFAULT_XML).model
    assert (server.version, server.type, server.ip) == (10, "origin", ("*",))
    assert server.bind.managers.api is not None
    assert server.bind.managers.api.port == 8081
    assert server.bind.providers.rtmp is not None
    assert server.bind.providers.rtmp.port == 1935
    assert server.bind.publishers.llhls is not None
    assert server.bind.publishers.llhls.port == 3333
    assert server.bind.providers.srt is not None
    assert server.bind.providers.srt.port == "9999/srt"
    assert server.managers.api is not None
    assert server.managers.api.access_token == ""
    (vhost,) = server.virtual_hosts
    assert (vhost.name, vhost.host.names) == ("default", ("*",))
    (app,) = vhost.applications
    assert (app.name, app.type) == ("app", "live")
    assert app.providers.rtmp is not None
    assert app.providers.capture is not None
    (pattern,) = app.providers.capture.streams
    assert (pattern.name, pattern.url) == ("pattern", "pattern://?size=1280x720&fps=30")
    llhls = app.publishers.llhls
    assert llhls is not None
    assert (llhls.chunk_duration, llhls.segment_duration, llhls.segment_count) == (0.5, 2.0, 10)
    assert llhls.cross_domains is not None
    assert llhls.cross_domains.urls == ("*",)
    (profile,) = app.profiles
    assert (profile.name, profile.output_stream_name) == ("bypass_stream", "${OriginStreamName}")
    assert [video.bypass for video in profile.encodes.videos] == [True]
    (audio,) = profile.encodes.audios
    assert (audio.codec, audio.bitrate, audio.samplerate, audio.channel) == ("aac", 128000, 48000, 2)
    assert audio.bypass_if_match is not None
    assert audio.bypass_if_match.codec == "eq"
    (master,) = profile.playlists
    assert (master.name, master.file_name) == ("master", "master")
    assert master.options.hls_chunklist_path_depth == 0
    assert master.rendition_templates[0].name == "${Height}p"


def test_it_tells_of_every_parameter_of_a_capture_url() -> None:
    told = set(re.findall(r"^ {19}([a-z]+) +(?:default|pattern:)", DEFAULT_XML.read_text(), re.MULTILINE))
    read = re.findall(
        r'parameters\.(?:text|choice|integer|bitrate|rate|size)\("(\w+)"', Path(sources.__file__).read_text()
    )
    assert told == set(read)


def test_the_capture_urls_that_it_shows_are_right() -> None:
    shown = re.findall(r"(?:pattern|v4l2|alsa)://\S*\?\S+", DEFAULT_XML.read_text().replace("&amp;", "&"))
    assert len(shown) == 4
    for url in shown:
        sources.parse(url.partition("<")[0])
