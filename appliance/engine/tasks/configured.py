"""Tasks that the configuration wants: StreamMap files of records and pushes (catalogue 6.6, 6.7), Dumps (6.10)."""

from __future__ import annotations

import logging
import re
import secrets
import string
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import trio
from lxml import etree

from appliance.engine.tasks.kinds import DUMP, PUSH, RECORD, Kind
from appliance.errors import ConfigError
from appliance.media.contracts import OutputStream
from appliance.media.tasks import Dump, Push, Record, Task
from appliance.settings import models

log = logging.getLogger("kiln.tasks")

#: Reading a file may take so long (s): the disk may be slow, or gone.
READ_WITHIN = 5.0
LARGEST_FILE = 1024 * 1024
_LETTERS = string.ascii_letters + string.digits
_RECORD_ID, _PUSH_ID = 16, 6


async def configured_tasks(kind: Kind, output: OutputStream, source: str) -> list[Task]:
    """Those for one life of ``output``, which is made of the input stream ``source``. Faults are logged."""
    application = output.application
    if not isinstance(application, models.Application):
        return []
    if kind is DUMP:
        llhls = application.publishers.llhls
        return list(_dumps(llhls.dumps if llhls else (), output))
    path = _map_of(kind, application.publishers)
    if not path:
        return []
    root = None
    try:
        with trio.fail_after(READ_WITHIN):
            root = await trio.to_thread.run_sync(_read, path, abandon_on_cancel=True)
        return list((_records if kind is RECORD else _pushes)(root, output, source))
    except (OSError, ConfigError, trio.TooSlowError) as error:
        log.error("stream map has no effect stream=%s file=%s reason=%s", output.label, path, error or "too slow")
        return []


def _map_of(kind: Kind, publishers: models.Publishers) -> str:
    """The path of the file, "" when there is none."""
    if kind is PUSH:
        push = publishers.push
        return push.stream_map.path if push is not None and push.stream_map.enable else ""
    file = publishers.file
    if kind is not RECORD or file is None:
        return ""
    if file.stream_map.enable:
        return file.stream_map.path
    return file.record.record_info if file.record is not None and file.record.enable else ""


def _read(path: str) -> etree._Element:
    """Raises OSError and ConfigError."""
    with Path(path).open("rb") as file:
        text = file.read(LARGEST_FILE + 1)
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"larger than {LARGEST_FILE} bytes")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _items(root: etree._Element, name: str, output: OutputStream, source: str) -> Iterator[etree._Element]:
    """Enabled items for the output stream."""
    for item in root.findall(name):
        pattern = _text(item, "StreamName").replace("${SourceStream}", source)
        if _text(item, "Enable", "true").lower() == "true" and matches(pattern, output.name):
            yield item


def _records(root: etree._Element, output: OutputStream, source: str) -> Iterator[Task]:
    for item in _items(root, "Record", output, source):
        interval = _text(item, "SegmentInterval", "0")
        if not interval.isdigit():
            raise ConfigError(f"SegmentInterval must be a number of milliseconds, not {interval!r}")
        rule = _text(item, "SegmentRule", "discontinuity")
        if rule not in ("continuity", "discontinuity"):
            raise ConfigError(f"SegmentRule must be continuity or discontinuity, not {rule!r}")
        expand = _expander(output, source)
        yield Record(
            id=_random(_RECORD_ID), vhost=output.vhost, app=output.app, stream=output.name,
            variant_names=_split(_text(item, "VariantNames")), interval=int(interval),
            schedule=_text(item, "SegmentSchedule"), segmentation_rule=rule, metadata=_text(item, "Metadata"),
            file_path=expand(_text(item, "FilePath")), info_path=expand(_text(item, "InfoPath")),
        )  # fmt: skip


def _pushes(root: etree._Element, output: OutputStream, source: str) -> Iterator[Task]:
    for item in _items(root, "Push", output, source):
        url = _text(item, "Url")
        if not url:
            raise ConfigError("a push needs an Url")
        expand = _expander(output, source, everything=True)
        yield Push(
            id=_random(_PUSH_ID), vhost=output.vhost, app=output.app, stream=output.name,
            variant_names=_split(_text(item, "VariantNames")), protocol=_text(item, "Protocol").lower(),
            urls=(expand(url).rstrip("/"),), stream_key=expand(_text(item, "StreamKey")),
        )  # fmt: skip


def _dumps(dumps: tuple[models.Dump, ...], output: OutputStream) -> Iterator[Task]:
    for number, dump in enumerate(dumps):
        if dump.enable and matches(dump.target_stream_name, output.name):
            yield Dump(
                id=dump.id or f"dump_{number}", vhost=output.vhost, app=output.app, stream=output.name,
                output_path=dump_path(dump.output_path, output), playlist=dump.playlists,
            )  # fmt: skip


def dump_path(path: str, output: OutputStream) -> str:
    """``path`` with the macros of catalogue 6.10 as they are when ``output`` came on the air (local time)."""
    began = datetime.fromtimestamp(output.stream.created_wall // 1_000_000_000, UTC).astimezone()
    offset = began.strftime("%z")
    values = {
        "VHostName": output.vhost, "AppName": output.app, "StreamName": output.name,
        "YYYY": f"{began:%Y}", "MM": f"{began:%m}", "DD": f"{began:%d}", "hh": f"{began:%H}", "mm": f"{began:%M}",
        "ss": f"{began:%S}", "ISO8601": f"{began:%Y-%m-%dT%H:%M:%S}{offset}", "z": offset,
    }  # fmt: skip
    return re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], match[0]), path)


def _expander(output: OutputStream, source: str, *, everything: bool = False) -> Callable[[str], str]:
    """Puts in what only the engine knows; the names of a push whole, for its runner knows no macros."""
    values = {"${SourceStream}": source}
    if everything:
        values |= {"${VirtualHost}": output.vhost, "${Application}": output.app, "${Stream}": output.name}

    def expand(text: str) -> str:
        for macro, value in values.items():
            text = text.replace(macro, value)
        return text

    return expand


def matches(pattern: str, name: str) -> bool:
    """``*`` is any text, ``?`` any character; the whole name must match."""
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.fullmatch("".join(parts), name) is not None


def _text(item: etree._Element, name: str, default: str = "") -> str:
    found = item.findtext(name)
    return (found or "").strip() or default


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
