"""What tests of the API share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.box import Box, open_box


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    """The recorded Server.xml as ``--config``, and an empty store."""
    async with open_box(tmp_path) as made:
        yield made
