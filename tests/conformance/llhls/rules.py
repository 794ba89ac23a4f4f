"""The rules of low-latency HLS that a program can check, one function each, for any live stream.

Sources: draft-pantos-hls-rfc8216bis section 6.2 and Apple's authoring specification; the numbers are those of the
reliability page. A rule takes what a player saw (``Observation``) and a ``Stage``, and gives the faults it found.

    faults = await check(master_url, http)          # {rule number: [fault, ...]}
"""

from __future__ import annotations

import httpx

from tests.conformance.llhls import rules_playlists, rules_requests
from tests.conformance.llhls.observe import Player, observe
from tests.conformance.llhls.stage import Faults, Rule, Stage

__all__ = ["RULES", "Faults", "Rule", "Stage", "check"]

RULES: dict[int, Rule] = {
    int(name[5:7]): rule
    for name, rule in sorted({**vars(rules_playlists), **vars(rules_requests)}.items())
    if name.startswith("rule_")
}


async def check(
    master_url: str, http: httpx.AsyncClient, *, seconds: float = 12.0, stage: Stage | None = None
) -> dict[int, Faults]:
    """All rules, on ``seconds`` of the stream at ``master_url`` and by requests of their own."""
    stage = stage or Stage(Player(http))
    seen = await observe(master_url, http, seconds)
    found: dict[int, Faults] = {}
    for number, rule in RULES.items():
        found[number] = await rule(seen, stage)
    return found
