"""``kiln config export | check | import | confirm``: the whole configuration of a box that runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import trio

from appliance.cli.state_folder import SOCKET, default_state
from appliance.errors import KilnError

PATH = "/box/v1/config"


def config(
    action: str, *, file: Path | None, form: str, dry_run: bool, confirm_within: int, url: str, token: str,
    state: Path | None, insecure: bool,
) -> int:  # fmt: skip
    """Do ``action``. The exit status is 0, or 1 when the box refuses the document: every fault is printed.

    ``export`` writes to ``file`` (None: standard output), ``check`` and ``import`` read it (``-``: standard input).
    Raises KilnError when nothing answers, and when the file can't be read or written.
    """
    # httpx is not for the engine, which has this package too.
    from appliance.console.client import Client, NotReachable, Reply

    url = url or os.environ.get("KILN_URL", "")
    token = token or os.environ.get("KILN_ACCESS_TOKEN", "")
    client = Client(url=url, token=token, socket=(state or default_state()) / SOCKET, verify=not insecure)

    async def ask(method: str, path: str, body: bytes | None = None) -> Reply:
        async with client:
            return await client.ask(method, path, body)

    body = _read(file) if action in ("check", "import") and file is not None else None
    try:
        if action == "export":
            return _exported(trio.run(ask, "GET", f"{PATH}?format={form}"), form, file)
        if action == "confirm":
            return _confirmed(trio.run(ask, "POST", f"{PATH}:confirm"))
        query = "dry-run=yes" if dry_run or action == "check" else f"confirm-within={confirm_within}"
        return _changed(trio.run(ask, "POST", f"{PATH}?{query}", body), confirm_within)
    except NotReachable as error:
        hint = "Is that the box?" if url else "Is `kiln run` running with this --state? From elsewhere use --url."
        raise KilnError(str(error), hint=hint) from error


def _read(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise KilnError(f"{file} can't be read: {error.strerror}") from error


def _exported(reply: Any, form: str, file: Path | None) -> int:
    if reply.status != 200:
        return _refused(reply)
    text = reply.body
    if form == "json":
        text = json.dumps(reply.value["response"], indent=2, ensure_ascii=False).encode() + b"\n"
    if file is None or str(file) == "-":
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        return 0
    try:
        # There are secrets in it.
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as opened:
            opened.write(text)
    except OSError as error:
        raise KilnError(f"{file} can't be written: {error.strerror}") from error
    return 0


def _confirmed(reply: Any) -> int:
    if reply.status != 200:
        return _refused(reply)
    print("confirmed")
    return 0


def _changed(reply: Any, confirm_within: int) -> int:
    if reply.status != 200:
        return _refused(reply)
    told = reply.value["response"]
    for change in told["changes"]:
        before, after = (json.dumps(change[key]) if key in change else "nothing" for key in ("before", "after"))
        print(f"{change['path']}: {before} -> {after}")
    kinds = (("warning", "warnings"), ("opens its port anew", "restarts"), ("needs a restart", "needsRestart"))
    for what, key in kinds:
        for text in told[key]:
            print(f"{what}: {text}")
    if not told["changes"]:
        print("nothing changes")
    elif told["dryRun"]:
        print("nothing was done")
    elif confirm_within:
        print(f"done, and undone in {confirm_within} s without `kiln config confirm`")
    else:
        print("done")
    return 0


def _refused(reply: Any) -> int:
    response = reply.value.get("response") if isinstance(reply.value, dict) else None
    faults = response.get("faults", []) if isinstance(response, dict) else []
    for fault in faults:
        line = f" (line {fault['line']})" if fault["line"] else ""
        hint = f" {fault['hint']}" if fault.get("hint") else ""
        print(f"{fault['path']}: {fault['message']}{line}{hint}", file=sys.stderr)
    if not faults:
        print(f"kiln config: {reply.reason}", file=sys.stderr)
    return 1 if reply.status < 500 else 2
