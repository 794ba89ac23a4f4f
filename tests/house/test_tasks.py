"""Structured concurrency: who may start what, and what nobody may do."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.house.tree import Module, parse, product_modules, within

#: Modules that own a nursery, and so start tasks in it. All else is a child of a supervisor.
OWN_NURSERIES: Mapping[str, str] = {
    "appliance.api.ome.streams": "notices that the client is gone while a stream is pulled for it",
    "appliance.box.panel": "hears the keys beside showing",
    "appliance.cli.run": "hears signals beside the engine",
    "appliance.net.dispatcher": "answers what is released beside what is asked",
    "appliance.net.egress.guard": "tries the addresses of one host side by side",
    "appliance.net.http2": "a task a stream",
    "appliance.net.http_server": "accepts, and sweeps its connections",
    "appliance.net.tcp_server": "a task a connection",
    "appliance.net.websocket": "reads ahead beside the handler",
    "appliance.providers.mpegts.provider": "a task a port",
    "appliance.providers.multiplex.provider": "a task a source",
    "appliance.providers.hls.pull": "a task a playlist, and one that plays",
    "appliance.providers.rtmp.provider": "a task a listener",
    "appliance.providers.rtmp.tls": "what comes and what goes of a publisher within TLS",
    "appliance.providers.rtsp.session": "hears a server, its datagrams, and shows signs of life",
    "appliance.providers.schedule.provider": "keeps its alarm beside playing",
    "appliance.providers.srt.provider": "a task a listener, and one a publisher",
    "appliance.publishers.dump.runner": "waits for the stop beside the next segment",
    "appliance.publishers.hls.publisher": "reserves media sequence numbers beside the packaging of one stream",
    "appliance.publishers.llhls.delivery": "reads from the disk what is asked for, once for all who ask",
    "appliance.publishers.llhls.publisher": "reserves media sequence numbers beside the packaging of one stream",
    "appliance.publishers.push.runner": "waits for the stop and for the end of the stream beside one target",
    "appliance.publishers.push.session": "hears one target beside sending to it",
    "appliance.publishers.record.runner": "watches its session beside writing it",
    "appliance.publishers.srt.server": "a task a listener",
    "appliance.storage.client": "feeds, hears and watches the disk worker",
    "appliance.supervisor": "runs the children",
    "appliance.transcoder.client": "feeds, hears and watches one worker",
    "appliance.transcoder.playout.player": "prepares and reads ahead what follows beside playing",
    "appliance.transcoder.probe": "tries encoders side by side",
}

#: Modules that own a thread which sits in one C call.
OWN_THREADS: Mapping[str, str] = {
    "appliance.net.srt.poller": "one thread waits in srt_epoll_uwait for all SRT sockets",
    "appliance.storage.worker": "the disk worker process: repairs beside writing",
    "appliance.transcoder.worker.__main__": "the worker process: one thread feeds, one writes to the engine",
    "appliance.transcoder.worker.devices": "the worker process: one thread a device",
    "appliance.transcoder.worker.video": "the worker process: one thread a video encoder",
}

#: Where reset is a verb of the protocol: RST_STREAM, a TCP reset.
PROTOCOL_RESETS = ("appliance.net.http2", "appliance.net.http2_stream", "appliance.net.transport")

Finding = tuple[int, str]


def calls(module: Module) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted text of what is called."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def imported_from(module: Module, package: str, *names: str) -> set[str]:
    """What ``names`` are called here after a ``from package import …``."""
    return {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == package
        for alias in node.names
        if alias.name in names
    }


def bare_threads(module: Module) -> Iterator[Finding]:
    if module.name in OWN_THREADS:
        return
    names = imported_from(module, "threading", "Thread", "Timer")
    for call, text in calls(module):
        if text in names or text.endswith(("threading.Thread", "threading.Timer", "_thread.start_new_thread")):
            yield call.lineno, f"{text}: a thread that nobody supervises"


def blocking_sleep(module: Module) -> Iterator[Finding]:
    names = imported_from(module, "time", "sleep")
    for call, text in calls(module):
        if text in names or text == "time.sleep":
            yield call.lineno, "time.sleep: wait for what you wait for"


def swallowed_errors(module: Module) -> Iterator[Finding]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield node.lineno, "bare except"
        elif ast.unparse(node.type) in ("Exception", "BaseException") and all(map(_says_nothing, node.body)):
            yield node.lineno, "an error that nobody hears of"
    for call, text in calls(module):
        if text.endswith("suppress") and any(ast.unparse(each) in ("Exception", "BaseException") for each in call.args):
            yield call.lineno, "an error that nobody hears of"


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Return):
        return statement.value is None or isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass | ast.Continue | ast.Break) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def asyncio_outside_the_console(module: Module) -> Iterator[Finding]:
    if within(module.name, "appliance.console"):
        return
    for each in module.imports:
        if within(each.module, "asyncio"):
            yield each.line, "asyncio: this process runs on trio"


def unowned_tasks(module: Module) -> Iterator[Finding]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute):
            continue
        if node.attr == "spawn_system_task":
            yield node.lineno, "a task that belongs to nobody"
        starts = node.attr == "start_soon" or (node.attr == "start" and ast.unparse(node.value).endswith("nursery"))
        if starts and module.name not in OWN_NURSERIES:
            yield node.lineno, f"{node.attr}: give the supervisor a child, or list this module as a nursery's owner"


def reset_methods(module: Module) -> Iterator[Finding]:
    if module.name in PROTOCOL_RESETS:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.strip("_") == "reset":
            yield node.lineno, "reset: a restart makes a new object"


RULES: tuple[Callable[[Module], Iterator[Finding]], ...] = (
    bare_threads,
    blocking_sleep,
    swallowed_errors,
    asyncio_outside_the_console,
    unowned_tasks,
    reset_methods,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_is_kept(rule: Callable[[Module], Iterator[Finding]]) -> None:
    modules = product_modules()
    assert len(modules) > 25
    faults = [f"{module.path}:{line}: {text}" for module in modules.values() for line, text in rule(module)]
    assert faults == []


@pytest.mark.parametrize("listed", [*OWN_NURSERIES, *OWN_THREADS])
def test_the_lists_name_modules_that_need_it(listed: str) -> None:
    source = ast.unparse(product_modules()[listed].tree)
    assert re.search(r"\.start_soon\b|nursery\.start\b" if listed in OWN_NURSERIES else r"Thread\(", source)


@pytest.mark.parametrize(
    ("rule", "source", "count"),
    [
        (bare_threads, "import threading\nthreading.Thread(target=f)", 1),
        (bare_threads, "from threading import Thread as T, Lock\nT()\nLock()", 1),
        (bare_threads, "import trio\ntrio.to_thread.run_sync(f)", 0),
        (blocking_sleep, "import time\ntime.sleep(1)", 1),
        (blocking_sleep, "from time import sleep\nsleep(1)", 1),
        (blocking_sleep, "import trio\nasync def f(): await trio.sleep(1)", 0),
        (swallowed_errors, "try: f()\nexcept: raise", 1),
        (swallowed_errors, "try: f()\nexcept Exception: pass", 1),
        (swallowed_errors, "def g():\n try: f()\n except BaseException:\n  'why'\n  return None", 1),
        (swallowed_errors, "import contextlib\nwith contextlib.suppress(Exception): f()", 1),
        (swallowed_errors, "try: f()\nexcept Exception: log.exception('x')", 0),
        (swallowed_errors, "try: f()\nexcept OSError: pass", 0),
        (asyncio_outside_the_console, "def f():\n    from asyncio import run", 1),
        (unowned_tasks, "nursery.start_soon(f)", 1),
        (unowned_tasks, "start = nursery.start_soon", 1),
        (unowned_tasks, "await_it = self._nursery.start(f)", 1),
        (unowned_tasks, "engine.start()", 0),
        (unowned_tasks, "trio.lowlevel.spawn_system_task(f)", 1),
        (reset_methods, "class A:\n def reset(self): ...", 1),
        (reset_methods, "class A:\n def _reset(self): ...", 1),
        (reset_methods, "class A:\n def reset_peer(self): ...", 0),
    ],
)
def test_rule_finds_breaks(rule: Callable[[Module], Iterator[Finding]], source: str, count: int) -> None:
    assert len(list(rule(parse("appliance.engine.engine_test", source)))) == count
