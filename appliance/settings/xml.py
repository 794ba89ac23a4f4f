"""Server.xml: read whole, every fault collected with its file and line (catalogue 4.5, 5)."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec
from lxml import etree

from appliance.errors import ConfigError
from appliance.settings import models
from appliance.settings.binder import Binder, Where
from appliance.settings.clashes import server_faults
from appliance.settings.macros import expand
from appliance.settings.schema import Field, Kind, Node, Raw, fields_of, lower_first

DEFAULT_XML = Path(__file__).with_name("default.xml")
"""The commented default, which is the manual of every setting."""

LARGEST_FILE = 4 * 1024 * 1024
MOST_FILES = 1000
DEEPEST_INCLUDE = 16
VERSIONS = ("8", "9", "10")
_ATTRIBUTES = frozenset({"include", "ignore", "version"})
#: Files of TLS sections: relative ones lie beside the file that names them.
_BESIDE = frozenset({"certPath", "keyPath", "chainCertPath"})


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong. ``path`` in XML names (``Server.Bind.Foo``), ``line`` 0 when the whole file is meant."""

    path: str
    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = self.message if self.path in self.message else f"{self.path}: {self.message}"
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{text} ({place}){' ' if self.hint else ''}{self.hint}"


class Place(msgspec.Struct, frozen=True):
    file: Path
    line: int
    path: str


def place_of(places: Mapping[Where, Place], where: Where) -> Place:
    """Where the value stands, or the nearest thing around it that was written."""
    while where not in places:
        where = where[:-1]
    return places[where]


class LoadedServer(msgspec.Struct, frozen=True):
    """What a Server.xml says. ``raw`` has the original texts under JSON names, as the API answers them;
    ``warnings`` are what is doubtful and holds nothing up."""

    raw: Raw
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    built: models.Server | None
    places: Mapping[Where, Place]

    def fault_at(self, where: Where, path: str, message: str, hint: str = "") -> Fault:
        """A fault found later, with the file and line of what ``where`` leads to, or of what is around it."""
        place = place_of(self.places, where)
        return Fault(path, str(place.file), place.line, message, hint)

    @property
    def model(self) -> models.Server:
        """The typed settings. Raises ConfigError with every fault when there is one."""
        self.check()
        assert self.built is not None
        return self.built

    def check(self) -> None:
        """Raises ConfigError with every fault when there is one."""
        if self.faults or self.built is None:
            lines = [str(fault) for fault in self.faults]
            raise ConfigError("\n".join(lines), hint="`kiln check FILE` lists every fault of a file.")


class FaultList:
    """Collects what is wrong, with the place of each value in the raw tree."""

    def __init__(self) -> None:
        self.places: dict[Where, Place] = {}
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def place(self, where: Where) -> Place:
        return place_of(self.places, where)

    def fault(self, where: Where, path: str, error: ConfigError) -> None:
        place = self.place(where)
        self.faults.append(Fault(path, str(place.file), place.line, str(error), error.hint))

    def warning(self, where: Where, path: str, message: str) -> None:
        place = self.place(where)
        self.warnings.append(Fault(path, str(place.file), place.line, message))


def load_xml(
    path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None, home: Path | None = None,
    data: bytes | None = None,
) -> LoadedServer:  # fmt: skip
    """Read a Server.xml with all that it includes. Never raises for what is in the files: see ``faults``.

    ``${env:…}`` takes from ``environment`` (the process's own when None); ``${ome:Home}`` is ``home`` (the folder of
    the file when None), ``${ome:CurrentPath}`` the folder of the file that it stands in. ``data`` is taken instead of
    what is in the file.
    """
    main = Path(path).absolute()
    found = FaultList()
    found.places[()] = Place(main, 0, "Server")
    reader = _Reader(found, {} if data is None else {main: data})
    raw = reader.read_main(main)
    variables = os.environ if environment is None else environment
    folder = str(home or main.parent)

    def expanded(text: str, where: Where) -> str:
        here = {"Home": folder, "CurrentPath": str(found.place(where).file.parent)}
        told = expand(text, variables, here)
        return os.path.join(here["CurrentPath"], told) if told and where[-1] in _BESIDE else told

    built = None
    if raw is not None:
        built, _ = Binder(found, expanded, text=True).section(models.Server, raw, "Server", ())
        for where, name, error in server_faults(built):
            found.fault(where, name, error)
    order = {str(file): index for index, file in enumerate(reader.files)}
    found.faults.sort(key=lambda fault: (order.get(fault.file, 0), fault.line))
    return LoadedServer(raw or {}, tuple(found.faults), tuple(found.warnings), built, found.places)


class _Unreadable(Exception):
    """A file that can't be read; its faults are in the list."""


class _Reader:
    """From elements to the raw tree. What is not in the models is a fault here."""

    def __init__(self, found: FaultList, given: Mapping[Path, bytes]) -> None:
        self._found = found
        self._given = given
        self.files: dict[Path, None] = {}

    def read_main(self, file: Path) -> Raw | None:
        try:
            root = self._parse(file, Place(file, 0, "Server"))
        except _Unreadable:
            return None
        place = Place(file, _line(root), "Server")
        self._found.places[()] = place
        if root.tag != "Server":
            self._fault(place, f"The root element must be Server, not {root.tag}")
            return None
        version = root.get("version", "")
        if version not in VERSIONS:
            shown = f"Unsupported version: [{version}]" if version else "The attribute version is missing"
            self._fault(place, shown, "Versions 8, 9 and 10 are read.")
        raw = self._section(root, models.Server, "Server", (), (file,))
        return {"version": version, **raw}

    def _fault(self, place: Place, message: str, hint: str = "") -> None:
        self._found.faults.append(Fault(place.path, str(place.file), place.line, message, hint))

    def _parse(self, file: Path, asked: Place) -> etree._Element:
        """The root of ``file``; ``asked`` is where it was asked for. Raises _Unreadable when the faults are listed."""
        self.files[file] = None
        try:
            data = self._given[file] if file in self._given else _read_regular(file)
        except OSError as error:
            self._fault(asked, f"Can't read {file}: {error.strerror or error}")
            raise _Unreadable from error
        parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            for entry in parser.error_log:
                self._fault(Place(file, entry.line, asked.path), f"Not well-formed: {entry.message.strip()}")
            if not len(parser.error_log):
                self._fault(Place(file, error.lineno or 0, asked.path), f"Not well-formed: {error.msg}")
            raise _Unreadable from error
        if cast("Any", etree.ElementTree(root).docinfo).doctype:
            self._fault(Place(file, 1, asked.path), "A document type (DOCTYPE) is not allowed")
            raise _Unreadable
        return root

    def _section(
        self, element: etree._Element, model: type[Node], path: str, where: Where, files: tuple[Path, ...]
    ) -> Raw:
        """The raw object of ``element``; ``files`` are those that lead here, the last one holds it."""
        raw: Raw = {}
        self._attributes(element, path, files[-1])
        self._no_text(element, path, files[-1])
        known = {field.container or field.xml: field for field in fields_of(model) if not field.attribute}
        for child in _elements(element):
            name = f"{path}.{child.tag}"
            place = Place(files[-1], _line(child), name)
            if child.get("ignore", "").lower() == "true":
                continue
            field = known.get(child.tag)
            if field is None:
                self._fault(place, f"Unknown item found: {name}", _nearest(child.tag, known))
            elif field.many and not field.container:
                self._append(raw.setdefault(field.json, []), child, field, name, (*where, field.json), files)
            elif field.json in raw:
                self._fault(place, f"{name} is given more than once")
            else:
                self._single(raw, child, field, place, (*where, field.json), files)
        return raw

    def _single(
        self, raw: Raw, child: etree._Element, field: Field, place: Place, where: Where, files: tuple[Path, ...]
    ) -> None:
        included = self._included(child, place.path, files, many=False)
        if not included:
            return
        element, files = included[0]
        self._found.places[where] = Place(files[-1], _line(element), place.path)
        if field.many:
            raw[field.json] = self._container(element, field, place.path, where, files)
        elif field.section:
            raw[field.json] = self._section(element, field.section, place.path, where, files)
        elif field.kind is Kind.OPAQUE:
            raw[field.json] = _opaque(element)
        else:
            raw[field.json] = self._text(element, place.path, files[-1])

    def _container(
        self, element: etree._Element, field: Field, path: str, where: Where, files: tuple[Path, ...]
    ) -> list[Any] | Raw:
        items: list[Any] = []
        self._attributes(element, path, files[-1])
        self._no_text(element, path, files[-1])
        where = (*where, field.item_json) if field.nested else where
        for child in _elements(element):
            name = f"{path}.{child.tag}"
            if child.get("ignore", "").lower() == "true":
                continue
            if child.tag == field.xml:
                self._append(items, child, field, name, where, files)
            else:
                hint = _nearest(child.tag, {field.xml: field})
                self._fault(Place(files[-1], _line(child), name), f"Unknown item found: {name}", hint)
        return {field.item_json: items} if field.nested else items

    def _append(
        self, items: list[Any], child: etree._Element, field: Field, path: str, where: Where, files: tuple[Path, ...]
    ) -> None:
        for element, sources in self._included(child, path, files, many=True):
            at = (*where, len(items))
            self._found.places[at] = Place(sources[-1], _line(element), path)
            if field.section:
                items.append(self._section(element, field.section, path, at, sources))
            else:
                items.append(self._text(element, path, sources[-1]))

    def _included(
        self, element: etree._Element, path: str, files: tuple[Path, ...], *, many: bool
    ) -> list[tuple[etree._Element, tuple[Path, ...]]]:
        """``element``, or the roots of the files that its ``include`` names, each with the files that lead to it."""
        pattern = element.get("include")
        if pattern is None:
            return [(element, files)]
        place = Place(files[-1], _line(element), path)
        if len(element) or (element.text or "").strip():
            self._fault(place, "An element with include= must be empty")
            return []
        matches = _matches(files[-1].parent, pattern)
        if len(matches) != 1 and not (many and any(sign in pattern for sign in "*?[")):
            count = f"{len(matches)} files match" if matches else "no such file"
            self._fault(place, f"Can't include [{pattern}]: {count}", "" if many else "Exactly one file is wanted.")
            return []
        found_all = []
        for file in matches:
            root = self._include(file, element.tag, place, files)
            if root is not None:
                found_all += self._included(root, path, (*files, file), many=many)
        return found_all

    def _include(self, file: Path, tag: str, place: Place, files: tuple[Path, ...]) -> etree._Element | None:
        if file in files:
            self._fault(place, f"Can't include {file}: it includes itself")
        elif len(files) > DEEPEST_INCLUDE or len(self.files) >= MOST_FILES:
            limit = f"more than {DEEPEST_INCLUDE} deep" if len(files) > DEEPEST_INCLUDE else f"over {MOST_FILES} files"
            self._fault(place, f"Can't include {file}: {limit}")
        else:
            try:
                root = self._parse(file, place)
            except _Unreadable:
                return None
            if root.tag == tag:
                return root
            self._fault(Place(file, _line(root), place.path), f"The root element must be {tag}, not {root.tag}")
        return None

    def _attributes(self, element: etree._Element, path: str, file: Path) -> None:
        for name in map(str, element.attrib):
            if name not in _ATTRIBUTES and not name.startswith("{"):
                self._fault(Place(file, _line(element), path), f"Unknown attribute found: {path} {name}=")

    def _no_text(self, element: etree._Element, path: str, file: Path) -> None:
        texts = [element.text, *(child.tail for child in element)]
        text = " ".join(part.strip() for part in texts if part and part.strip())
        if text:
            self._fault(Place(file, _line(element), path), f"Unexpected text in {path}: [{text[:40]}]")

    def _text(self, element: etree._Element, path: str, file: Path) -> str:
        self._attributes(element, path, file)
        for child in _elements(element):
            name = f"{path}.{child.tag}"
            self._fault(Place(file, _line(child), name), f"Unknown item found: {name}")
        return (element.text or "").strip()


def _read_regular(file: Path) -> bytes:
    """The bytes of a file that is one and isn't huge. Raises OSError."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a file")
    with file.open("rb") as opened:
        data = opened.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST_FILE // 1048576} MiB")
    return data


def _matches(folder: Path, pattern: str) -> list[Path]:
    names = glob.glob(pattern, root_dir=folder) if any(sign in pattern for sign in "*?[") else [pattern]
    return sorted(Path(os.path.normpath(folder / name)) for name in names)


def _elements(parent: etree._Element) -> Iterator[etree._Element]:
    return (child for child in parent if isinstance(child.tag, str))


def _line(element: etree._Element) -> int:
    return int(cast("Any", element).sourceline or 0)


def _opaque(element: etree._Element) -> Any:
    below: dict[str, Any] = {}
    for child in _elements(element):
        below.setdefault(lower_first(child.tag), []).append(_opaque(child))
    plain = {name: values[0] if len(values) == 1 else values for name, values in below.items()}
    return plain or (element.text or "").strip() or {}


def _nearest(tag: str, known: Mapping[str, Field]) -> str:
    import difflib  # only a file with a fault needs it

    near = difflib.get_close_matches(tag, known, 1, 0.75)
    return f"Is {near[0]} meant?" if near else ""
