"""Records what real encoders send, into the captures beside this file (run it from the root of the repository).

Each capture is everything that one publisher sent on its connection. The broken ones are made of the good ones.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from appliance.protocols.rtmp import Publish, RtmpServer, server
from tests.kit.ffmpeg import Ffmpeg

HERE = Path(__file__).parent
SOURCES = ("-f", "lavfi", "-i", "testsrc2=size=128x72:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-b:v", "60k")
AAC = ("-c:a", "aac", "-b:a", "32k")
X265 = ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=25")

#: Name, encoder options, our chunk size (which ffmpeg takes over), URL path.
CAPTURES: tuple[tuple[str, Sequence[str], int, str], ...] = (
    ("h264-aac", (*X264, *AAC), 60_000, "app/cam?key=secret"),
    ("h264-aac-chunks-of-128", (*X264, *AAC), 128, "app/cam"),
    ("h265-aac", (*X265, *AAC, "-rtmp_enhanced_codecs", "hvc1,av01,vp09"), 60_000, "app/cam"),
    ("av1-opus", ("-c:v", "libsvtav1", "-g", "25", "-c:a", "libopus", "-b:a", "32k"), 4096, "app/cam"),
    ("vp9-aac", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "60k", *AAC), 4096, "app/cam"),
    ("multitrack", ("-map", "0:v", "-map", "1:a", "-map", "0:v", "-map", "1:a", *X264, *AAC), 4096, "app/cam"),
    ("audio-alone", ("-vn", *AAC), 60_000, "app/radio"),
)


def record(options: Sequence[str], chunk_size: int, path: str) -> bytes:
    """What ffmpeg sends in two seconds."""
    server.CHUNK_SIZE = chunk_size  # type: ignore[misc]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtmp://127.0.0.1:{listener.getsockname()[1]}/{path}"
        with Ffmpeg([*SOURCES, "-t", "2", "-pix_fmt", "yuv420p", *options, "-f", "flv", url]):
            connection, _ = listener.accept()
            with connection:
                return receive(connection)


def receive(connection: socket.socket) -> bytes:
    session, captured = RtmpServer(), bytearray()
    while data := connection.recv(65536):
        captured += data
        events = session.receive_data(data)
        if any(isinstance(event, Publish) for event in events):
            session.accept_publish()
        connection.sendall(session.data_to_send())
    return bytes(captured)


def broken(good: bytes) -> dict[str, bytes]:
    """Captures with one fault each, made of a good one."""
    return {
        "version-six": b"\x06" + good[1:],
        "cut-in-a-message": good[:9000],
        "bytes-lost-in-a-frame": good[:6000] + good[6100:],
        "chunk-size-zero": good[:3073] + b"\x02\0\0\0\0\0\x04\x01\0\0\0\0" + bytes(4) + good[3073:],
        "length-of-16-mib": good[:3073] + b"\x04\0\0\0\xff\xff\xff\x09\x01\0\0\0" + good[3073:],
        "type-three-first": good[:3073] + b"\xc7" + good[3073:],
        "http": b"GET / HTTP/1.1\r\nHost: box\r\n\r\n" * 200,
    }


def main() -> None:
    for name, options, chunk_size, path in CAPTURES:
        captured = record(options, chunk_size, path)
        (HERE / f"{name}.bin").write_bytes(captured)
        if name == "h264-aac":
            for fault, data in broken(captured).items():
                (HERE / f"broken-{fault}.bin").write_bytes(data[:12_000])


if __name__ == "__main__":
    main()
