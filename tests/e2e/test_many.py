"""A box with a thousand stored things starts about as fast as an empty one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from appliance.api.ome.applications import FILLED
from appliance.engine.configuration import APPLICATION, VHOST, Stored
from appliance.settings.store import Store, Transaction
from tests.kit.kiln import KilnProcess
from tests.kit.server_xml import ServerXml

VHOSTS = 10
APPLICATIONS = 99


async def fill(state: Path) -> None:
    """A thousand entries, as the API would have made them."""
    state.mkdir(parents=True)  # noqa: ASYNC240 - before anything runs
    store = await Store.open(state / "kiln.sqlite")

    def put(transaction: Transaction) -> None:
        for number in range(VHOSTS):
            vhost = {"name": f"v{number}", "host": {"names": [f"v{number}.local"]}}
            transaction.put(VHOST, f"v{number}", msgspec.json.encode(Stored(number, vhost)))
            for index in range(APPLICATIONS):
                application = Stored(1000 * number + index, {"name": f"a{index}", "type": "live", **FILLED})
                transaction.put(APPLICATION, f"v{number}/a{index}", msgspec.json.encode(application))

    await store.transaction(put)
    await store.close()


def test_a_thousand_stored_things_cost_less_than_a_second(tmp_path: Path) -> None:
    with KilnProcess(tmp_path / "empty", ServerXml()) as kiln:
        empty = kiln.cpu()
    full = KilnProcess(tmp_path / "full", ServerXml())
    trio.run(fill, full.state)
    with full as kiln:
        # Processor time: the start is one thread's work, and the machine may be busy with other things.
        assert kiln.cpu() - empty < 1.0
        assert len(kiln.api("/v1/vhosts")) == 1 + VHOSTS
        assert len(kiln.api("/v1/vhosts/v9/apps")) == APPLICATIONS
        assert kiln.call("PATCH", "/v1/vhosts/v9/apps/a5", {"providers": {"srt": None}})[0] == 200
