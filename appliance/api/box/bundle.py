"""Makes a support bundle: ``python -m appliance.api.box.bundle``, a process of its own, behind all that is on the air.

Standard input holds a ``BundleJob``, standard output gets the zip. No secret that the job names, and nothing that looks
like one, is in it.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus

import msgspec

from appliance.logs import MASK, redact

NICE = 15
#: Secrets that are shorter are masked where they stand under their name, and not wherever their letters come up.
SHORTEST = 4
#: What a setting is called that nobody else may know.
SECRET_NAME = re.compile(
    r"(?:token|secret|pass(?:word|wd|_?phrase)|credentials?|(?:secret|stream|publish|api|user|private|license)_?key|auth)$",
    re.IGNORECASE,
)
_PUBLIC = frozenset({"certPath", "keyPath"})


class BundleJob(msgspec.Struct, frozen=True):
    """``documents`` become JSON files, ``texts`` text files. ``logs`` are batches of (seconds since 1970, level,
    logger, text). ``secrets`` are the values themselves. ``doctor`` is the command line, which may take ``seconds``."""

    documents: dict[str, Any]
    texts: dict[str, str]
    logs: list[list[tuple[float, int, str, str]]]
    secrets: list[str]
    doctor: list[str]
    seconds: float


class Mask:
    """Takes secrets out of values and texts, by what they are, by their name, and by what they look like."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        ordered = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        known = self._secrets.sub(MASK, text) if self._secrets is not None else text
        return redact(known)

    def value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.text(str(key)): self._member(str(key), each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return self.text(value) if isinstance(value, str) else value

    def _member(self, name: str, value: Any) -> Any:
        if value and isinstance(value, str | int | float) and not isinstance(value, bool) and is_secret(name):
            return MASK
        return self.value(value)


def is_secret(name: str) -> bool:
    """Whether a setting of that name (JSON or Python) holds a secret."""
    return name not in _PUBLIC and SECRET_NAME.search(name) is not None


def _forms(secret: str) -> Iterator[str]:
    """As it is, and as it may stand in JSON, in a URL, in a header."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield base64.b64encode(secret.encode()).decode()


def make(job: BundleJob) -> bytes:
    """The zip."""
    mask = Mask(job.secrets)
    folder = time.strftime("kiln-support-%Y%m%d-%H%M%S", time.gmtime())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, value in job.documents.items():
            text = json.dumps(mask.value(value), indent=1, ensure_ascii=False, sort_keys=True)
            bundle.writestr(f"{folder}/{name}.json", text)
        for name, text in job.texts.items():
            bundle.writestr(f"{folder}/{name}.txt", mask.text(text))
        lines = "".join(_log_line(line) for batch in job.logs for line in batch)
        bundle.writestr(f"{folder}/logs.txt", mask.text(lines))
        bundle.writestr(f"{folder}/doctor.txt", mask.text(doctor(job.doctor, job.seconds)))
    return made.getvalue()


def _log_line(line: tuple[float, int, str, str]) -> str:
    at, level, logger, text = line
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"
    return f"time={when} level={logging.getLevelName(level).lower()} logger={logger} {text}\n"


def doctor(command: list[str], seconds: float) -> str:
    """What it says, or why it says nothing."""
    if not command:
        return ""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode("utf-8", "replace")
        return f"{said}\n(nothing more within {seconds:g} s)\n"
    except OSError as error:
        return f"does not start: {error}\n"
    return (done.stdout + done.stderr).decode("utf-8", "replace") + f"\n(exit status {done.returncode})\n"


def _end(number: int, frame: object) -> NoReturn:
    """Nobody waits any more: the doctor ends too."""
    raise SystemExit(1)


def main() -> None:
    os.nice(NICE)
    signal.signal(signal.SIGTERM, _end)
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=BundleJob)
    sys.stdout.buffer.write(make(job))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
