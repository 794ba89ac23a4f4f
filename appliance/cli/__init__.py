"""The ``kiln`` command: ``kiln run | check | doctor | version``."""

from __future__ import annotations

import argparse
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
    run.set_defaults(command=_run)

    check = commands.add_parser("check", help="every fault in a Server.xml at once, with its line")
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    doctor = commands.add_parser("doctor", help="what this machine can do")
    doctor.add_argument("--state", type=Path, metavar="DIR", help="the folder whose free space counts")
    doctor.set_defaults(command=_doctor)

    version = commands.add_parser("version", help="the version")
    version.set_defaults(command=_version)
    return parser


# Each command imports what it needs: `kiln version` must not load the engine.


def _run(options: argparse.Namespace) -> int:
    from appliance.cli.run import run

    return run(config=options.config, state=options.state, log_level=options.log_level)


def _check(options: argparse.Namespace) -> int:
    from appliance.cli.check import check

    return check(options.file)


def _doctor(options: argparse.Namespace) -> int:
    from appliance.cli.doctor import doctor

    return doctor(options.state)


def _version(options: argparse.Namespace) -> int:
    from appliance.version import VERSION

    print(f"kiln {VERSION}")
    return 0
