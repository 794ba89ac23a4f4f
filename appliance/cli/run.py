"""``kiln run``: from a configuration file to a box on the air, and in order off it again."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from appliance.access.tokens import AccessToken
from appliance.api.app import make_fronts
from appliance.cli.banner import banner
from appliance.cli.state_folder import default_state
from appliance.engine.configuration import Configuration
from appliance.engine.engine import Engine
from appliance.engine.pending import recover
from appliance.engine.server_file import NAME as SERVER_FILE
from appliance.engine.server_file import ServerFile, read
from appliance.errors import KilnError
from appliance.logs import set_up_logging
from appliance.settings.store import Store
from appliance.settings.xml import DEFAULT_XML, LARGEST_FILE, LoadedServer, load_xml

log = logging.getLogger("kiln.run")

STORE = "kiln.sqlite"
FAKE_HARDWARE = "fake-hardware"
#: How long the ordered stop may take before the process ends by itself (seconds).
STOP_WITHIN = 5.0
#: Short, so that a thread that holds the interpreter gives it back to the loop soon (seconds).
SWITCH_INTERVAL = 0.0005
#: New objects between two searches for reference cycles: a thousand waiting players alone hold some ten thousand.
GARBAGE_THRESHOLD = 20_000


def run(*, config: Path | None, state: Path | None, log_level: str, fake_hardware: bool = False) -> int:
    """Be on the air until SIGTERM or SIGINT. Raises KilnError when it can't start."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    set_up_logging(log_level, sys.stderr)
    folder = state or default_state()
    loaded = None
    if not (folder / STORE).exists():
        loaded = _load(config, folder)
        loaded[0].check()  # what is wrong with it is told before anything is made
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise KilnError(f"the state folder {folder} can't be made: {reason}") from error
    gc.set_threshold(GARBAGE_THRESHOLD)
    gc.enable()
    clean = trio.run(_serve, config, folder, loaded, folder / FAKE_HARDWARE if fake_hardware else None)
    if not clean:
        # What could not be stopped (a thread in a call that never returns) must not keep the box from restarting.
        logging.shutdown()
        os._exit(0)
    return 0


def _load(config: Path | None, state: Path) -> tuple[LoadedServer, bytes]:
    """What the box runs with, and its text: the file of the user, else its own in the state folder, else the default.

    Its own was checked when it was written: one that is refused now (by another version) is put aside, not obeyed.
    """
    own = state / SERVER_FILE
    if config is None and own.is_file():
        data = read(own) or b""
        loaded = load_xml(own, data=data)
        if not loaded.faults:
            return loaded, data
        for fault in loaded.faults:
            log.error("the settings of the box are refused: %s", fault)
        with suppress(OSError):
            own.replace(own.with_name(f"{SERVER_FILE}.refused"))
    path = config or DEFAULT_XML
    found = read(path) if path.is_file() else None
    return load_xml(path, data=found if found and len(found) <= LARGEST_FILE else None), found or b""


async def _serve(
    config: Path | None, state: Path, first: tuple[LoadedServer, bytes] | None, fake_hardware: Path | None
) -> bool:
    """Whether everything could be stopped."""
    store = await Store.open(state / STORE)
    try:
        for warning in [*store.warnings, *await recover(store)]:
            log.warning("%s", warning)
        loaded, data = first or _load(config, state)
        for doubt in loaded.warnings:
            log.warning("%s", doubt)
        settings, raw = loaded.model, loaded.raw
        seed_from = None if config else DEFAULT_XML.parent
        file = ServerFile(config or state / SERVER_FILE, data, raw, declared=config is not None)
        # What is there now stays: to look through it again and again would hold up the loop.
        gc.freeze()
        api = settings.managers.api
        token = await AccessToken.load(state, os.environ, api.access_token if api else "", store=store)
        configuration = await Configuration.load(store, settings, raw, seed_from=seed_from)
        engine = Engine(settings, raw, state=state, store=store, token=token, configuration=configuration, file=file)

        async def ready() -> None:
            sys.stdout.write(banner(engine))
            sys.stdout.flush()

        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_signals, engine.stop, engine.reload_certificates)
            await engine.run(partial(make_fronts, fake_hardware=fake_hardware), ready)
            nursery.cancel_scope.cancel()
        return not engine.supervisor.abandoned
    finally:
        with trio.CancelScope(shield=True):
            await store.close()


async def _obey_signals(
    stop: Callable[[], None],
    reload: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                reload()
            else:
                # The kernel ends us if the ordered stop hangs, whatever the loop does then.
                signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
                signal.setitimer(signal.ITIMER_REAL, STOP_WITHIN)
                stop()
