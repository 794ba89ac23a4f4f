"""One engine that most of these tests share, as a user would run it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import LADDER, PATTERN, Application, ServerXml


@pytest.fixture(scope="session")
def kiln(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilnProcess]:
    """``app`` passes through and has the pattern; ``ladder`` makes three renditions."""
    applications = (
        Application("app", captures=(PATTERN,), segment=1, count=10),
        Application("ladder", profiles=LADDER, segment=1, count=10),
    )
    with KilnProcess(tmp_path_factory.mktemp("kiln"), ServerXml(applications)) as process:
        process.wait_stream("pattern")
        yield process


@pytest.fixture(autouse=True)
def engine_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the shared engine says during a test is in the report of a test that fails."""
    if "kiln" not in request.fixturenames:
        yield
        return
    process: KilnProcess = request.getfixturevalue("kiln")
    start = process.log.stat().st_size
    yield
    with process.log.open("rb") as log:
        log.seek(start)
        print(log.read().decode(errors="replace")[-20_000:])  # noqa: T201


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the players of the browser tests measured."""
    measured = [
        (report.nodeid.rpartition("::")[2], value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == "playback"
    ]
    if measured:
        terminalreporter.section("live latency in the browser")
        for test, value in measured:
            terminalreporter.line(f"{test}: {value}")
