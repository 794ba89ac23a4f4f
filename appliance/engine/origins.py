"""Streams that are fetched when somebody wants them: the Origins of a virtual host (catalogue 6.3).

The first Origin whose Location is a prefix of ``/app/stream`` (or equal to it, with StrictLocation) says where from.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

from appliance.engine.pulls import Pulls, PullSpec
from appliance.engine.virtual_host import VirtualHost
from appliance.errors import KilnError
from appliance.settings import models
from appliance.settings.names import check_name

log = logging.getLogger("kiln.origins")

#: A stream that could not be fetched is not tried again for so long (s), however many ask for it.
REST = 2.0
#: Fetched at once on demand: whoever invents names must not fill the box.
MOST_AT_ONCE = 64
MOST_REMEMBERED = 1024


class Origins:
    """``now`` is monotonic seconds."""

    def __init__(self, vhosts: Mapping[str, VirtualHost], pulls: Pulls, now: Callable[[], float]) -> None:
        self._vhosts = vhosts
        self._pulls = pulls
        self._now = now
        self._asked: OrderedDict[str, float] = OrderedDict()

    def wanted(self, vhost: str, app: str, name: str, query: str = "") -> bool:
        """Somebody wants the output stream ``name``, which is not there. Whether it is on its way."""
        if self._pulls.find(vhost, app, name) is not None:
            return True
        host = self._vhosts.get(vhost)
        if host is None or app not in host.applications:
            return False
        origin = matching(host.settings.origins.origins, f"/{app}/{name}")
        if origin is None or self._resting(f"{vhost}/{app}/{name}"):
            return False
        if sum(pull.on_demand for pull in self._pulls) >= MOST_AT_ONCE:
            log.warning("not fetched, too many are stream=%s/%s/%s", vhost, app, name)
            return False
        try:
            check_name("stream", name)
            self._pulls.begin(
                PullSpec(
                    vhost=vhost, app=app, name=name, urls=tuple(addresses(origin, f"/{app}/{name}", query)),
                    persistent=origin.persistent, ignore_rtcp_sr_timestamp=origin.ignore_rtcp_sr_timestamp,
                )
            )  # fmt: skip
        except KilnError as error:
            log.warning("not fetched stream=%s/%s/%s reason=%s", vhost, app, name, error)
            return False
        return True

    def _resting(self, key: str) -> bool:
        """Whether it was asked for a moment ago; from now on it was."""
        now = self._now()
        if now - self._asked.get(key, -REST) < REST:
            return True
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > MOST_REMEMBERED:
            self._asked.popitem(last=False)
        return False


def matching(origins: tuple[models.Origin, ...], path: str) -> models.Origin | None:
    """The Origin for ``/app/stream``."""
    for origin in origins:
        if path == origin.location or (not origin.strict_location and path.startswith(origin.location)):
            return origin
    return None


def addresses(origin: models.Origin, path: str, query: str) -> list[str]:
    """The URLs to try in order: what ``path`` has behind the Location goes before each one's ``?``."""
    rest = path[len(origin.location) :]
    made = []
    for url in origin.pass_.urls:
        base, _, own = url.partition("?")
        asked = query if origin.pass_.forward_query_params else ""
        queries = "&".join(filter(None, (own, asked)))
        made.append(f"{origin.pass_.scheme.lower()}://{base}{rest}{'?' if queries else ''}{queries}")
    return made
