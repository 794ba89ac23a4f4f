"""Many viewers of one stream: CPU, and how late the last of them gets what all wait for."""

from __future__ import annotations

import datetime
import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.bench.figures import Figure, at_most, told
from tests.bench.stage import OTHER_CORE, application, cpu_share, engine, fetch, folder, media_playlists, publishing
from tests.kit.ffmpeg import FULL_HD, TINY
from tests.kit.kiln import AUTHORIZATION, ROOT, KilnProcess


@contextmanager
def load(
    kiln: KilnProcess, stream: str, viewers: int, seconds: float, *, parts: bool, tls: bool = False
) -> Iterator[Load]:
    """``viewers`` of ``stream``; the block begins when all are connected and runs beside them."""
    playlist = media_playlists(kiln, stream)[0]
    job = {
        "port": kiln.ports.tls if tls else kiln.ports.http, "path": urlsplit(playlist.url).path, "viewers": viewers,
        "seconds": seconds, "parts": parts, "tls": tls, "warm_up": 2, "core": OTHER_CORE,
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load", json.dumps(job)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            if process.stderr.readline().strip() != "ready":
                raise RuntimeError(f"no viewers: {process.stderr.read()}\n{kiln.said(20)}")
            yield Load(process)
        finally:
            if process.poll() is None:
                process.kill()


class Load:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def report(self) -> dict[str, Any]:
        """What the viewers saw; waits for their end."""
        said, errors = self._process.communicate(timeout=120)
        if not said:
            raise RuntimeError(f"the viewers failed: {errors}")
        return dict(json.loads(said))


def _ms(found: dict[str, float]) -> str:
    return f"p50 {found['p50']:.1f}, p99 {found['p99']:.1f}, max {found['max']:.1f} ms"


def _told(report: dict[str, Any]) -> list[Figure]:
    lines = [
        told("  viewers that failed", str(report["failed"]) + (f": {report['errors'][0]}" if report["errors"] else ""))
    ]
    own = report["own_cpu"] / report["lasted"] * 100
    lines.append(told("  CPU of the viewers themselves", f"{own:.0f} % of a core"))
    if report["parts"]["count"]:
        lines.append(told(f"  whole part of {report['part_bytes'] / 1000:.0f} kB in hand", _ms(report["parts"])))
    return lines


def _three_hundred(quick: bool, limit: float, *, tls: tuple[Path, Path] | None) -> list[Figure]:
    seconds = 8 if quick else 30
    with engine(pinned=True, tls=tls) as kiln, publishing(kiln, FULL_HD, "cam0"):
        alone = cpu_share({"kiln": [kiln.pid]}, 2)["kiln"]
        with load(kiln, "cam0", 300, seconds, parts=True, tls=tls is not None) as viewers:
            time.sleep(2)
            used = cpu_share({"kiln": [kiln.pid]}, seconds - 2)["kiln"]
            report = viewers.report()
    by = " over TLS and HTTP/2" if tls else ""
    late = report["playlists"]
    good = not report["failed"] and late["count"] > 0
    figures = [
        at_most(f"engine CPU, 300 viewers{by}", used, limit, "% of a core"),
        told("  of it without viewers", f"{alone:.1f} %"),
    ]
    if not tls:
        figures.append(
            Figure("lateness of the blocked playlist", _ms(late), "p99 <= 25 ms", good=good and late["p99"] <= 25)
        )
    else:
        figures.append(told("  lateness of the blocked playlist", _ms(late)))
    return figures + _told(report)


def three_hundred(quick: bool) -> list[Figure]:
    return _three_hundred(quick, 15, tls=None)


def three_hundred_tls(quick: bool) -> list[Figure]:
    with folder() as place:
        return _three_hundred(quick, 30, tls=certificate(place))


def thousand_parked(quick: bool) -> list[Figure]:
    """A stream with parts of 0.2 s and 100 kbit/s: all parked viewers are released five times a second."""
    seconds = 8 if quick else 30
    with (
        engine(application(part=0.2, segment=1, count=3), pinned=True) as kiln,
        publishing(kiln, TINY, "cam0"),
        load(kiln, "cam0", 1000, seconds, parts=False) as viewers,
    ):
        time.sleep(2)
        used = cpu_share({"kiln": [kiln.pid]}, seconds - 2)["kiln"]
        report = viewers.report()
    late = report["playlists"]
    good = not report["failed"] and late["count"] > 0
    return [
        at_most("engine CPU, 1 000 viewers released every 200 ms", used, 25, "% of a core"),
        Figure("lateness of the release", _ms(late), "p99 <= 100 ms", good=good and late["p99"] <= 100),
        told("  releases a second", f"{report['rounds'] / (seconds + 2):.1f}"),
        *_told(report),
    ]


def loop_lag(quick: bool) -> list[Figure]:
    """300 viewers, four ingests, and 50 API requests a second, at once."""
    seconds = 8 if quick else 30
    with (
        engine(pinned=True) as kiln,
        publishing(kiln, FULL_HD, "cam0", "cam1", "cam2", "cam3"),
        load(kiln, "cam0", 300, seconds, parts=True) as viewers,
    ):
        time.sleep(2)
        until = time.monotonic() + seconds - 2
        answers = []
        while time.monotonic() < until:
            asked = time.monotonic()
            kiln.api("/v1/vhosts/default/apps/app/streams/cam1")
            answers.append(time.monotonic() - asked)
            time.sleep(max(0.0, 0.02 - (time.monotonic() - asked)))
        lag = read_loop_lag(kiln)
        report = viewers.report()
    answers.sort()
    return [
        Figure("loop lag, 300 viewers + 4 ingests + API", _ms(lag), "p99 <= 5 ms", good=lag["p99"] <= 5),
        told("  API answer meanwhile", f"p50 {answers[len(answers) // 2] * 1000:.1f}, p99 "
                                       f"{answers[int(len(answers) * 0.99)] * 1000:.1f} ms"),
        *_told(report),
    ]  # fmt: skip


def read_loop_lag(kiln: KilnProcess) -> dict[str, float]:
    """Loop lag in milliseconds over the last while, as the engine measures it."""
    url = f"{kiln.api_url}/box/v1/system"
    found = json.loads(fetch(url, headers={"Authorization": AUTHORIZATION}))["response"]["loopLag"]
    return {"p50": found["p50Ms"], "p99": found["p99Ms"], "max": found["maxMs"]}


def certificate(place: Path) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = place / "cert.pem", place / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path
