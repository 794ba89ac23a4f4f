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
