"""The ``kiln`` command: ``kiln run | check | doctor | api | token | config | version``."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import KilnError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit status is 0, 1 for a fault that is reported, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KilnError as error:
        print(f"kiln: {error}", file=sys.stderr)
        if error.hint:
            print(f"      {error.hint}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kiln", description="A live video encoder box: capture, encode, deliver.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="be on the air until SIGTERM or Ctrl-C")
    run.add_argument("--config", type=Path, metavar="FILE", help="a Server.xml; without it the built-in default")
    where = "store, access token, keys, recordings (default: $KILN_STATE, else ~/.local/state/kiln)"
    run.add_argument("--state", type=Path, metavar="DIR", help=where)
    run.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    played = "programs play camera, panel, GPS, sensors, lamps and buttons, in a folder of the state"
    run.add_argument("--fake-hardware", action="store_true", help=played)
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="every fault in a Server.xml at once, with its line")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    doctor = commands.add_parser("doctor", help="what this machine can do")
    doctor.add_argument("--state", type=Path, metavar="DIR", help="the folder whose free space counts")
    doctor.set_defaults(command=_doctor)

    api = commands.add_parser("api", help="ask the API of a running box")
    api.add_argument("method", metavar="METHOD", help="GET, POST, PATCH, DELETE …")
    api.add_argument("path", metavar="PATH", help="such as /v1/vhosts")
    api.add_argument("--data", metavar="JSON", help="the body; - reads it from standard input")
    _add_connection(api)
    api.set_defaults(command=_api)

    token = commands.add_parser("token", help="who else may call the API")
    actions = token.add_subparsers(metavar="ACTION", required=True, dest="action")
    add = actions.add_parser("add", help="make a token, and print it: it is shown this once")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", required=True, choices=("admin", "operator", "viewer"))
    listing = actions.add_parser("list", help="names and roles")
    revoke = actions.add_parser("revoke", help="it opens nothing from now on")
    revoke.add_argument("name", metavar="NAME")
    for action in (add, listing, revoke):
        _add_connection(action)
        action.set_defaults(command=_token)

    config = commands.add_parser("config", help="the whole configuration of a running box")
    deeds = config.add_subparsers(metavar="ACTION", required=True, dest="action")
    export = deeds.add_parser("export", help="Server.xml and what the API made, as one document, secrets and all")
    export.add_argument("--format", default="xml", choices=("xml", "json"), dest="form")
    export.add_argument("--output", type=Path, metavar="FILE", dest="file", help="instead of standard output")
    examine = deeds.add_parser("check", help="what a document would change; nothing is done")
    take = deeds.add_parser("import", help="be as a document says, from now on")
    for deed in (examine, take):
        deed.add_argument("file", type=Path, metavar="FILE", help="XML or JSON; - reads it from standard input")
    take.add_argument("--dry-run", action="store_true", help="only tell what would change")
    within = "undo it after so many seconds without `kiln config confirm`"
    take.add_argument("--confirm-within", type=int, default=0, metavar="N", help=within)
    for deed in (export, examine, take, deeds.add_parser("confirm", help="the last import holds")):
        _add_connection(deed)
        deed.set_defaults(command=_config)

    version = commands.add_parser("version", help="the version")
    version.set_defaults(command=_version)
    return parser


def _add_connection(command: argparse.ArgumentParser) -> None:
    """How a running box is reached."""
    command.add_argument("--url", default="", help="http://box:8081 … (default: $KILN_URL, else the local socket)")
    command.add_argument("--token", default="", help="the access token or a named one (default: $KILN_ACCESS_TOKEN)")
    command.add_argument("--state", type=Path, metavar="DIR", help="whose socket is used where there is no URL")
    command.add_argument("--insecure", action="store_true", help="take any certificate of an https URL")


# Each command imports what it needs: `kiln version` must not load the engine.


def _run(options: argparse.Namespace) -> int:
    # What is loaded stays: to look through it for garbage again and again takes a tenth of the start.
    gc.disable()
    from appliance.cli.run import run

    return run(
        config=options.config, state=options.state, log_level=options.log_level, fake_hardware=options.fake_hardware
    )


def _check(options: argparse.Namespace) -> int:
    from appliance.cli.check import check

    return check(options.file)


def _doctor(options: argparse.Namespace) -> int:
    from appliance.cli.doctor import doctor

    return doctor(options.state)


def _api(options: argparse.Namespace) -> int:
    from appliance.cli.api import api

    return api(
        options.method, options.path, data=options.data, url=options.url, token=options.token, state=options.state,
        insecure=options.insecure,
    )  # fmt: skip


def _token(options: argparse.Namespace) -> int:
    from appliance.cli.token import token

    return token(
        options.action, getattr(options, "name", ""), getattr(options, "role", ""), url=options.url,
        token=options.token, state=options.state, insecure=options.insecure,
    )  # fmt: skip


def _config(options: argparse.Namespace) -> int:
    from appliance.cli.config import config

    return config(
        options.action, file=getattr(options, "file", None), form=getattr(options, "form", "json"),
        dry_run=getattr(options, "dry_run", False), confirm_within=getattr(options, "confirm_within", 0),
        url=options.url, token=options.token, state=options.state, insecure=options.insecure,
    )  # fmt: skip


def _version(options: argparse.Namespace) -> int:
    from appliance.version import VERSION

    print(f"kiln {VERSION}")
    return 0
