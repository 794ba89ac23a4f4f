"""A GPS receiver that stands still: what it says each second."""

from __future__ import annotations

from datetime import datetime

from hw.nmea import checksum


class FakeGps:
    """It takes no commands."""

    def receive_data(self, data: bytes) -> bytes:
        return b""


def sentence(body: str) -> bytes:
    data = body.encode()
    return b"$%s*%02X\r\n" % (data, checksum(data))


def sentences(now: datetime) -> bytes:
    clock = now.strftime("%H%M%S.00")
    return b"".join(
        map(
            sentence,
            (
                "GPGSA,A,3,04,05,09,12,24,,,,,,,,2.5,1.3,2.1",
                "GPGSV,1,1,04,04,40,083,46,05,17,308,41,09,07,344,39,12,22,228,45",
                f"GPGGA,{clock},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
                f"GPRMC,{clock},A,4807.038,N,01131.000,E,000.0,084.4,{now.strftime('%d%m%y')},,",
            ),
        )
    )
