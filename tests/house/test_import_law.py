"""The import law: an import goes down, never up or in a circle."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping

import pytest

from appliance.version import VERSION
from tests.house.tree import ROOT, Module, parse, product_modules, resolve, within

#: From the ground up. What is not named belongs to the longest package that is.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("appliance", "appliance.errors", "appliance.logs", "hw", "appliance.console"),
    ("appliance.media",),
    ("appliance.protocols",),
    ("appliance.net", "appliance.settings", "appliance.supervisor", "appliance.child_spec", "appliance.notify"),
    ("appliance.access", "appliance.cluster"),
    ("appliance.transcoder", "appliance.storage", "appliance.publishers"),
    ("appliance.providers",),
    ("appliance.engine",),
    ("appliance.box",),
    ("appliance.api",),
    ("appliance.cli", "appliance.__main__"),
)

#: What runs in a worker process and may use libav. Nothing else may, and nothing in the engine may import these.
WORKER_SIDE = ("appliance.transcoder.worker",)

#: Never on the same side as each other.
STRANGERS = ("appliance.publishers", "appliance.providers")

LOOP_AND_SOCKETS = ("trio", "socket", "asyncio", "select", "ssl", "threading", "subprocess", "httpx")
MAY_PARK = {"appliance.media.stream": ("trio",)}

#: Imported inside functions alone, when they are first needed.
LATE = ("appliance.net.egress.http",)
#: Not on the way from the command to the first answer of the API.
HEAVY = (
    "av", "numpy", "textual", "asyncio", "httpx", "starlette", "cryptography", "prometheus_client", "cffi", "serial",
)  # fmt: skip
#: What `kiln run` does without until somebody wants it: HTTP/2, WebSocket, RTSP, what asks the installation.
LATER_THAN_THE_START = (
    *HEAVY, "h2", "hpack", "wsproto", "h11", "zoneinfo", "email.message", "urllib.request", "xml.sax",
    "importlib.metadata", "importlib.resources", "appliance.protocols.rtsp.client", "appliance.api.box.bundle",
)  # fmt: skip


def floor_of(name: str) -> int:
    best = max(
        ((len(unit), number) for number, units in enumerate(FLOORS) for unit in units if within(name, unit)),
        default=None,
    )
    if best is None:
        raise AssertionError(f"{name} is on no floor: give its package one")
    return best[1]


def ours(modules: Mapping[str, Module]) -> Iterable[tuple[Module, str, int]]:
    """Each import of a module of ours by a module of ours, also those in functions and for types."""
    known = frozenset(modules)
    for module in modules.values():
        for each in module.imports:
            target = resolve(each.module, known)
            if target is not None and target != module.name:
                yield module, target, each.line


def law_breaks(modules: Mapping[str, Module]) -> list[str]:
    """Imports that go up, or between strangers, or that ``hw`` and ``console`` may not make."""
    faults = []
    for module, target, line in ours(modules):
        where = f"{module.path}:{line}: {module.name} imports {target}"
        if within(module.name, "hw") and not within(target, "hw"):
            faults.append(f"{where}: hw knows nothing of the appliance")
        elif within(module.name, "appliance.console") and not within(target, "appliance.console"):
            faults.append(f"{where}: the console is a client of the API alone")
        elif floor_of(target) > floor_of(module.name):
            faults.append(f"{where}: an import goes down, never up")
        elif any(within(module.name, side) for side in STRANGERS) and any(
            within(target, side) and not within(module.name, side) for side in STRANGERS
        ):
            faults.append(f"{where}: publishers and providers don't know each other")
    return faults


def libav_breaks(modules: Mapping[str, Module]) -> list[str]:
    """Imports of libav, or of a worker-side module, by what runs in the engine; also those inside functions."""
    known = frozenset(modules)
    faults = []
    for module in modules.values():
        if within(module.name, *WORKER_SIDE):
            continue
        for each in module.imports:
            if each.for_types:
                continue
            if within(each.module, "av") or within(resolve(each.module, known) or "", *WORKER_SIDE):
                faults.append(f"{module.path}:{each.line}: {module.name} imports {each.module}: only workers use libav")
    return faults


def purity_breaks(modules: Mapping[str, Module]) -> list[str]:
    """Imports of a loop, a socket or a process by the sans-IO floors."""
    faults = []
    for module in modules.values():
        if not within(module.name, "appliance.media", "appliance.protocols"):
            continue
        allowed = MAY_PARK.get(module.name, ())
        for each in module.imports:
            root = each.module.split(".")[0]
            if root in LOOP_AND_SOCKETS and root not in allowed and not each.for_types:
                faults.append(f"{module.path}:{each.line}: {module.name} imports {root}: protocols are sans-IO")
    return faults


def circles(modules: Mapping[str, Module]) -> list[list[str]]:
    """Groups of modules that need each other to load. A package above a module is not counted as needed by it."""
    known = frozenset(modules)
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for module in modules.values():
        for each in module.imports:
            target = resolve(each.module, known)
            if each.at_load and target is not None and target != module.name:
                graph[module.name].add(target)
    return [sorted(group) for group in _strong_groups(graph) if len(group) > 1]


def _strong_groups(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            groups.append(group)

    for node in graph:
        if node not in index:
            visit(node)
    return groups


def test_there_is_something_to_look_at() -> None:
    modules = product_modules()
    assert len(modules) > 25
    assert sum(1 for _ in ours(modules)) > 20
    assert {"appliance.media.stream", "appliance.supervisor", "hw"} <= set(modules)


def test_imports_go_down() -> None:
    assert law_breaks(product_modules()) == []


def test_the_engine_never_imports_libav() -> None:
    assert libav_breaks(product_modules()) == []


def test_media_and_protocols_are_sans_io() -> None:
    assert purity_breaks(product_modules()) == []


def test_no_circles() -> None:
    assert circles(product_modules()) == []


def test_loading_the_engine_side_loads_nothing_heavy() -> None:
    engine_side = sorted(
        name
        for name in product_modules()
        if not within(name, *WORKER_SIDE, *LATE, "appliance.console", "hw") and not name.endswith("__main__")
    )
    program = (
        "import importlib, sys\n"
        f"for name in {engine_side!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_what_the_start_does_without_is_not_loaded_by_it() -> None:
    program = (
        "import appliance.cli.run, sys\n"
        f"print(*[name for name in {LATER_THAN_THE_START!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def modules(**sources: str) -> dict[str, Module]:
    """Modules by dotted name (``__`` for the dot) with these sources."""
    named = {name.replace("__", "."): source for name, source in sources.items()}
    return {name: parse(name, source) for name, source in named.items()}


@pytest.mark.parametrize(
    ("who", "imports"),
    [
        ("appliance.media.ring", "from appliance.net import http"),
        ("appliance.publishers.llhls.muxer", "from appliance.engine.hosts import Hosts"),
        ("appliance.publishers.llhls.muxer", "def f():\n    import appliance.engine.hosts"),
        ("appliance.publishers.llhls.muxer", "from appliance.providers.rtmp import server"),
        ("appliance.providers.rtmp.server", "from appliance.publishers.llhls import muxer"),
        ("appliance.settings.store", "import typing\nif typing.TYPE_CHECKING:\n    import appliance.api.envelope"),
        ("hw.v4l2", "from appliance.errors import KilnError"),
        ("appliance.console.app", "from appliance.settings import store"),
        ("appliance.console.app", "from appliance.errors import KilnError"),
        ("appliance.engine.engine", "from appliance.api import envelope"),
    ],
)
def test_the_law_finds_breaks(who: str, imports: str) -> None:
    house = modules(
        appliance__errors="",
        appliance__net__http="",
        appliance__settings__store="",
        appliance__engine__hosts="",
        appliance__providers__rtmp__server="",
        appliance__publishers__llhls__muxer="",
        appliance__api__envelope="",
    )
    assert law_breaks(house) == []
    house[who] = parse(who, imports)
    assert len(law_breaks(house)) == 1


@pytest.mark.parametrize(
    "source", ["import av", "def probe():\n    import av.codec", "from appliance.transcoder import worker"]
)
def test_the_libav_check_finds_breaks(source: str) -> None:
    house = modules(appliance__transcoder__worker="import av")
    assert libav_breaks(house) == []
    house["appliance.transcoder.client"] = parse("appliance.transcoder.client", source)
    assert len(libav_breaks(house)) == 1


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("import trio", 1),
        ("from trio.lowlevel import X", 1),
        ("import socket", 1),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import trio", 0),
        ("import struct", 0),
    ],
)
def test_the_purity_check_finds_breaks(source: str, faults: int) -> None:
    assert len(purity_breaks({"x": parse("appliance.protocols.rtmp.chunks", source)})) == faults
    assert purity_breaks({"x": parse("appliance.media.stream", "import trio")}) == []


def test_the_circle_check_finds_circles() -> None:
    house = modules(
        appliance__media__a="from appliance.media import b",
        appliance__media__b="import appliance.media.c",
        appliance__media__c="from appliance.media.a import thing",
        appliance__media__d="def later():\n    import appliance.media.e",
        appliance__media__e="import appliance.media.d",
    )
    assert circles(house) == [["appliance.media.a", "appliance.media.b", "appliance.media.c"]]


def test_an_unknown_package_needs_a_floor() -> None:
    with pytest.raises(AssertionError, match="on no floor"):
        floor_of("elsewhere.thing")
