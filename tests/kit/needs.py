"""What some tests need that pip can't bring: they skip with the reason where it is missing.

Use ``@pytest.mark.needs("chromium", "npm")``. ``make system-packages`` installs all of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from tests.kit import rtsp_server


def _program(*names: str) -> bool:
    return any(shutil.which(name) for name in names)


def _libsrt() -> bool:
    from appliance.net import srt

    return srt.installed()


def _writable_device(path: str) -> bool:
    return Path(path).exists() and os.access(path, os.R_OK | os.W_OK)


def _nginx_module(name: str) -> bool:
    return _program("nginx") and (NGINX_MODULES / name).exists()


#: Where Debian's packages of modules put them.
NGINX_MODULES = Path("/usr/lib/nginx/modules")

NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "chromium": (partial(_program, "chromium", "chromium-browser"), "no Chromium"),
    "node": (partial(_program, "node", "nodejs"), "no Node.js"),
    "npm": (partial(_program, "npm"), "no npm"),
    "libsrt": (_libsrt, "no libsrt"),
    "srt-tools": (partial(_program, "srt-live-transmit"), "no srt-live-transmit"),
    "h2load": (partial(_program, "h2load"), "no h2load"),
    "wrk": (partial(_program, "wrk"), "no wrk"),
    "curl": (partial(_program, "curl"), "no curl"),
    "nginx-rtmp": (partial(_nginx_module, "ngx_rtmp_module.so"), "no nginx with its RTMP module"),
    "rtsp-server": (rtsp_server.installed, "no RTSP server of GStreamer"),
    "gstreamer": (partial(_program, "gst-launch-1.0"), "no GStreamer"),
    "redis": (partial(_program, "redis-server"), "no Redis"),
    "kvm": (partial(_writable_device, "/dev/kvm"), "no KVM"),
    "qemu": (partial(_program, "qemu-system-x86_64"), "no QEMU"),
}


@cache
def missing(name: str) -> str:
    """Why ``name`` can't be used here, "" when it can. Raises KeyError for what is not in the table."""
    there, reason = NEEDS[name]
    return "" if there() else f"{reason} on this machine (`make system-packages` installs it)"
