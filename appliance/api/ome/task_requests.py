"""What requests for records and pushes share."""

from __future__ import annotations

from typing import Any

from appliance.api.ome.fields import Fields, check_id
from appliance.engine.tasks.agenda import Agenda
from appliance.engine.tasks.calendar import Calendar
from appliance.errors import BadRequest, ConfigError
from appliance.settings.names import check_name


def require(given: dict[str, Any]) -> None:
    """Raises BadRequest that names those of ``given`` that are empty."""
    missing = "".join(f" {name}" for name, value in given.items() if not value)
    if missing:
        raise BadRequest(f"There is no required parameter [{missing}]")


def chosen_tracks(stream: Fields) -> dict[str, Any]:
    """The arguments of a Task that say which tracks. Raises BadRequest."""
    return {
        "track_ids": stream.integers("trackIds") or stream.integers("tracks"),
        "variant_names": stream.texts("variantNames"),
    }


def check_names(task_id: str, stream: str) -> None:
    """Raises BadRequest for an id or a stream name outside their grammar."""
    check_id(task_id)
    try:
        check_name("stream", stream)
    except ConfigError as error:
        raise BadRequest(str(error)) from error


def agenda_of(fields: Fields, now: int) -> Agenda | None:
    """Raises BadRequest for a calendar that is wrong or over."""
    if "calendar" not in fields:
        return None
    agenda = Agenda(Calendar.parse(fields.raw("calendar")), judged=now)
    if agenda.over(now):
        raise BadRequest("calendar: [stop] is in the past")
    return agenda
