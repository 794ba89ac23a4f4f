"""`python -m tests.bench [ROW …] [--quick]`: every figure that is promised, measured here and now."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback

from tests.bench import api, encoding, ingests, passing, rates, rules, speed, tasks, viewers
from tests.bench.figures import Figure, Row, table

ROWS = (
    Row("cpu1", "engine CPU of one bypassed stream, beside ffmpeg", passing.cpu_one),
    Row("cpu4", "engine CPU of four bypassed streams, beside four ffmpeg", passing.cpu_four),
    Row("memory", "memory with one stream and of each further one", passing.memory),
    Row("viewers300", "300 viewers, playlist and part twice a second", viewers.three_hundred),
    Row("parked1000", "1 000 parked viewers, released every 200 ms", viewers.thousand_parked),
    Row("tls300", "300 viewers over TLS and HTTP/2", viewers.three_hundred_tls),
    Row("lag", "loop lag with 300 viewers, four ingests and API load", viewers.loop_lag),
    Row("rates", "requests a second on one core", rates.rates),
    Row("api", "the API during a 1080p encode; start-up with 1 000 stored objects", api.api),
    Row("encode", "frames a CPU second of the pattern, beside ffmpeg", encoding.encode),
    Row("srt16", "16 SRT ingests of 8 Mbit/s to LL-HLS, beside srt-live-transmit", ingests.srt_sixteen),
    Row("rtmp20", "20 RTMP ingests of 6 Mbit/s before packaging", ingests.rtmp_twenty),
    Row("tasks", "one stream recorded, dumped and pushed to three, beside ffmpeg's tee", tasks.all_at_once),
    Row("killed", "what a recording loses when the box is killed", tasks.killed),
    Row("flap", "how soon a push is back after its target was away", tasks.flapped),
    Row("start", "start to API answer and to first part", speed.start),
    Row("publish", "RTMP publish to playlist and to part", speed.publish),
    Row("rules", "LL-HLS rules kept on a live stream", rules.kept),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(row.name for row in ROWS))
    parser.add_argument("--quick", action="store_true", help="short runs: seconds instead of half a minute a row")
    parser.add_argument("--list", action="store_true", help="only say which rows there are")
    options = parser.parse_args()
    if options.list:
        for row in ROWS:
            print(f"{row.name:<12}{row.what}")
        return 0
    known = {row.name: row for row in ROWS}
    if unknown := [name for name in options.rows if name not in known]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
    wanted = [known[name] for name in options.rows] or list(ROWS)
    results: list[tuple[str, list[Figure]]] = []
    for row in wanted:
        load = os.getloadavg()[0]
        print(f"{row.name}: {row.what} (load {load:.1f})", flush=True)
        started = time.monotonic()
        try:
            figures = row.run(options.quick)
        except Exception as error:
            traceback.print_exc()
            figures = [Figure(f"{row.what}: {type(error).__name__}", str(error).splitlines()[0][:80], good=False)]
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
        results.append((row.name, figures))
    print()
    print(table(results))
    missed = sum(figure.good is False for _, figures in results for figure in figures)
    print(f"\n{missed} missed" if missed else "\nall reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
