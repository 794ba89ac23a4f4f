"""What an operator should know now: open alarms, and the last ones that are over."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from enum import StrEnum

from appliance.errors import NotFound
from appliance.logs import redact
from appliance.media.clock import Clock

#: So many that are over are remembered.
MOST_CLOSED = 200


class Severity(StrEnum):
    """NOTICE: nothing is wrong, something has no effect. WARNING: something is missing, the rest goes on. ERROR: a part
    of the box does not do its work."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


class AlarmChange(StrEnum):
    """What happened to an alarm. CHANGED: it has another text, or came again."""

    OPENED = "opened"
    CHANGED = "changed"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


#: How bad an alarm is when nobody says it, by the beginning of its id; those of children (``kiln/…``) are errors.
SEVERITIES = (
    ("settings:", Severity.NOTICE), ("port:", Severity.ERROR), ("kiln/", Severity.ERROR), ("task:", Severity.ERROR),
)  # fmt: skip


@dataclass(slots=True)
class OpenAlarm:
    """``id`` is the path of what it is about. ``since``, ``last`` (when it came last) and ``closed`` (0: it is not) are
    nanoseconds since 1970; ``count`` is how often it came. No secret is in ``text``."""

    id: str
    text: str
    severity: Severity
    since: int
    last: int
    count: int = 1
    acknowledged: bool = False
    closed: int = 0


Listener = Callable[[AlarmChange, OpenAlarm], None]


class Alarms(MutableMapping[str, str]):
    """Open alarms by id, in the order in which they came; as a mapping, id to text.

    ``alarms[id] = text`` opens one, or says that it is there still; ``del`` or ``pop`` closes it. For one thread.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._open: dict[str, OpenAlarm] = {}
        self._listeners: list[Listener] = []
        self.closed: deque[OpenAlarm] = deque(maxlen=MOST_CLOSED)

    @property
    def open(self) -> list[OpenAlarm]:
        return list(self._open.values())

    def raise_alarm(self, id: str, text: str, severity: Severity | None = None) -> OpenAlarm:
        """Open ``id``, or count it once more. An acknowledged one stays so, unless it has got worse."""
        text = redact(text)
        now = self._clock.wall()
        alarm = self._open.get(id)
        if alarm is None:
            alarm = self._open[id] = OpenAlarm(id, text, severity or _severity(id), now, now)
            self._tell(AlarmChange.OPENED, alarm)
            return alarm
        worse = severity is Severity.ERROR and alarm.severity is not Severity.ERROR
        alarm.text, alarm.last, alarm.count = text, now, alarm.count + 1
        alarm.severity = severity or alarm.severity
        alarm.acknowledged = alarm.acknowledged and not worse
        self._tell(AlarmChange.CHANGED, alarm)
        return alarm

    def acknowledge(self, id: str) -> OpenAlarm:
        """Somebody has seen it. It stays open until its cause is gone. Raises NotFound."""
        alarm = self._open.get(id)
        if alarm is None:
            raise NotFound(f"There is no open alarm: [{id}]")
        if not alarm.acknowledged:
            alarm.acknowledged = True
            self._tell(AlarmChange.ACKNOWLEDGED, alarm)
        return alarm

    def on_change(self, listener: Listener) -> None:
        """``listener`` is called with each change; it must be quick and never raise."""
        self._listeners.append(listener)

    def _tell(self, change: AlarmChange, alarm: OpenAlarm) -> None:
        for listener in self._listeners:
            listener(change, alarm)

    def __getitem__(self, id: str) -> str:
        return self._open[id].text

    def __setitem__(self, id: str, text: str) -> None:
        self.raise_alarm(id, text)

    def __delitem__(self, id: str) -> None:
        alarm = self._open.pop(id)
        alarm.closed = self._clock.wall()
        self.closed.append(alarm)
        self._tell(AlarmChange.CLOSED, alarm)

    def __iter__(self) -> Iterator[str]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)


def _severity(id: str) -> Severity:
    return next((severity for prefix, severity in SEVERITIES if id.startswith(prefix)), Severity.WARNING)
