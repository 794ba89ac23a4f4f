"""A miniature of ``/dev``, ``/sys`` and ``/proc``, with sensors that can be heated and lamps that can be looked at."""

from __future__ import annotations

import os
from pathlib import Path

from hw.paths import DevicePaths

#: Lines of the one GPIO chip: outputs are files, buttons pipes.
OUTPUTS = ("gpiochip0-17", "gpiochip0-27")
BUTTONS = ("gpiochip0-5", "gpiochip0-6")
LEDS = ("front:red:tally", "front:green:status")


class FakeTree:
    """Below ``root``. The methods set what the sensors read."""

    def __init__(self, root: Path) -> None:
        self.paths = DevicePaths(root)
        self._hwmon = self.paths.sys / "class/hwmon/hwmon0"
        self._write(self._hwmon / "name", "cpu_thermal")
        self._write(self._hwmon / "temp1_label", "SoC")
        self._write(self._hwmon / "temp1_crit", "110000")
        self._write(self._hwmon / "fan1_label", "case")
        self._write(self._hwmon / "pwm1", "128")
        self.set_temperature(48.5)
        self.set_fan(2400)
        self.set_throttled(0)
        for core in range(2):
            folder = self.paths.sys / f"devices/system/cpu/cpu{core}/cpufreq"
            self._write(folder / "scaling_max_freq", "1800000")
            self._write(folder / "cpuinfo_max_freq", "1800000")
        supply = self.paths.sys / "class/power_supply/usb-c"
        self._write(supply / "type", "USB")
        self._write(supply / "online", "1")
        self._make_disk()
        for name in LEDS:
            self._write(self.paths.sys / f"class/leds/{name}/max_brightness", "255")
            self._write(self.paths.sys / f"class/leds/{name}/brightness", "0")
            self._write(self.paths.sys / f"class/leds/{name}/trigger", "none")
        lines = self.paths.dev / "gpio-lines"
        for name in OUTPUTS:
            self._write(lines / name, "0")
        for name in BUTTONS:
            pipe = lines / f"{name}.button"
            if not pipe.exists():
                os.mkfifo(pipe)

    def set_temperature(self, celsius: float) -> None:
        self._write(self._hwmon / "temp1_input", str(round(celsius * 1000)))

    def set_fan(self, rpm: int) -> None:
        self._write(self._hwmon / "fan1_input", str(rpm))

    def set_throttled(self, flags: int) -> None:
        """As the Raspberry Pi tells it: bit 0 under-voltage, 1 capped, 2 throttled, 3 soft limit, 16 to 19 since the
        start."""
        self._write(self.paths.sys / "devices/platform/soc/soc:firmware/get_throttled", f"{flags:x}")

    def press(self, line: str) -> None:
        """Of BUTTONS."""
        pipe = os.open(self.paths.dev / "gpio-lines" / f"{line}.button", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, b"1")
        finally:
            os.close(pipe)

    def plug_serial(self, name: str, node: Path) -> str:
        """``node`` is there as ``/dev/serial/by-id/<name>`` from now on; that is returned."""
        folder = self.paths.dev / "serial/by-id"
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(node)
        return f"/dev/serial/by-id/{name}"

    def unplug_serial(self, name: str) -> None:
        (self.paths.dev / "serial/by-id" / name).unlink(missing_ok=True)

    def _make_disk(self) -> None:
        disk = self.paths.sys / "block/mmcblk0"
        self._write(disk / "stat", "100 0 2048 40 50 0 4096 60 0 90 100")
        self._write(disk / "size", "62333952")
        self._write(disk / "ro", "0")
        self._write(disk / "device/name", "FAKE32")
        self._write(disk / "device/life_time", "0x02 0x01")
        self._write(disk / "device/pre_eol_info", "0x01")

    @staticmethod
    def _write(file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
