"""``kiln run``: from a configuration file to a box on the air, and in order off it again."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from appliance.access.tokens import AccessToken
from appliance.api.app import make_fronts
from appliance.cli.banner import banner
from appliance.cli.state_folder import default_state
from appliance.engine.configuration import Configuration
from appliance.engine.engine import Engine
from appliance.errors import KilnError
from appliance.logs import set_up_logging
from appliance.settings import models
from appliance.settings.schema import Raw
from appliance.settings.store import Store
from appliance.settings.xml import DEFAULT_XML, load_xml

log = logging.getLogger("kiln.run")

#: How long the ordered stop may take before the process ends by itself (seconds).
STOP_WITHIN = 5.0
#: Short, so that a thread that holds the interpreter gives it back to the loop soon (seconds).
SWITCH_INTERVAL = 0.0005
#: New objects between two searches for reference cycles: a thousand waiting players alone hold some ten thousand.
GARBAGE_THRESHOLD = 20_000


def run(*, config: Path | None, state: Path | None, log_level: str) -> int:
    """Be on the air until SIGTERM or SIGINT. Raises KilnError when it can't start."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    set_up_logging(log_level, sys.stderr)
    loaded = load_xml(config or DEFAULT_XML)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    settings = loaded.model
    folder = state or default_state()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise KilnError(f"the state folder {folder} can't be made: {reason}") from error
    # What is there now stays: to look through it again and again would hold up the loop.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    gc.enable()
    clean = trio.run(_serve, settings, loaded.raw, folder, None if config else DEFAULT_XML.parent)
    if not clean:
        # What could not be stopped (a thread in a call that never returns) must not keep the box from restarting.
        logging.shutdown()
        os._exit(0)
    return 0


async def _serve(settings: models.Server, raw: Raw, state: Path, seed_from: Path | None) -> bool:
    """Whether everything could be stopped. ``seed_from``: as in ``Configuration.load``."""
    store = await Store.open(state / "kiln.sqlite")
    try:
        for warning in store.warnings:
            log.warning("%s", warning)
        api = settings.managers.api
        token = await AccessToken.load(state, os.environ, api.access_token if api else "", store=store)
        configuration = await Configuration.load(store, settings, raw, seed_from=seed_from)
        engine = Engine(settings, raw, state=state, store=store, token=token, configuration=configuration)

        async def ready() -> None:
            sys.stdout.write(banner(engine))
            sys.stdout.flush()

        async with trio.open_nursery() as nursery:
            await nursery.start(_obey_signals, engine.stop, engine.reload_certificates)
            await engine.run(make_fronts, ready)
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
