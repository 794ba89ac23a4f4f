"""What stands on the front of the box and hangs on its serial lines. All of it is Kiln's own."""

from __future__ import annotations

from typing import Annotated

from appliance.settings.schema import Listed, Named, Node, Port


class PtzCamera(Node, frozen=True, kw_only=True):
    """``device`` (a serial line) or ``host``; ``address`` on that line, 1 to 7. ``baudrate`` Bd."""

    name: str
    device: str = ""
    baudrate: int = 9600
    address: int = 1
    host: str = ""
    port: Port = 52381


class FrontPanel(Node, frozen=True, kw_only=True):
    """``make`` crystalfontz or matrixorbital; ``baudrate`` 0 is what the make comes with."""

    make: str
    device: str
    baudrate: int = 0


class GpsDevice(Node, frozen=True, kw_only=True):
    device: str
    baudrate: int = 4800


class GpioLine(Node, frozen=True, kw_only=True):
    """``role``: on-air, recording, output, record-button or push-button."""

    name: str
    chip: str = "gpiochip0"
    offset: int
    role: str
    active_low: bool = False


class FrontLed(Node, frozen=True, kw_only=True):
    """``shows``: on-air or recording."""

    name: str
    shows: str


class Shedding(Node, frozen=True, kw_only=True):
    """``temperature`` °C, ``load`` per cent of all cores."""

    enable: bool = True
    temperature: float = 85.0
    load: float = 97.0


class Box(Node, frozen=True, kw_only=True):
    """``stream`` is ``vhost/app/stream``: what the keys record, and push to ``push_url``."""

    stream: str = ""
    push_url: Annotated[str, Named("PushURL", "pushURL")] = ""
    cameras: Annotated[tuple[PtzCamera, ...], Listed("Camera", "PTZ", json="ptz")] = ()
    panel: FrontPanel | None = None
    gps: Annotated[GpsDevice | None, Named("GPS", "gps")] = None
    lines: Annotated[tuple[GpioLine, ...], Listed("Line", "GPIO", json="gpio")] = ()
    leds: Annotated[tuple[FrontLed, ...], Listed("LED", "LEDs", json="leds")] = ()
    shedding: Shedding = Shedding()
