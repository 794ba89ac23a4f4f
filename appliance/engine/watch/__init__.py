"""What watches the box: its figures, the state of all that runs on it, and the feed of what changes."""

from __future__ import annotations

from appliance.engine.watch.feed import Feed
from appliance.engine.watch.machine import Machine
from appliance.engine.watch.state import State

__all__ = ["Feed", "Machine", "State"]
