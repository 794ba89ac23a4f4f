"""The rules of low-latency HLS that a program can check, one function each, for any live stream.

Sources: draft-pantos-hls-rfc8216bis section 6.2 and Apple's authoring specification; the numbers are those of the
reliability page. A rule takes what a player saw (``Observation``) and a ``Stage``, and gives the faults it found.

    faults = await check(master_url, http)          # {rule number: [fault, ...]}
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urljoin

import httpx
import trio

from tests.conformance.llhls.observe import Observation, Player, Rendition, Seen, observe, with_query
from tests.conformance.llhls.playlist import MediaPlaylist, parse_media

Faults = list[str]
Act = Callable[[], Awaitable[None]]
EPSILON = 1e-6


@dataclass
class Stage:
    """What the rules may do: ask, and where somebody controls the stream, provoke.

    ``late`` seconds are forgiven where a moment is measured (machine and network). ``freeze`` stops the source,
    ``thaw`` lets it go on; ``change`` gives the source another codec configuration, ``step_clock`` sets the wall clock
    by so many seconds, ``restart`` kills the server and starts it again. Rules whose provocation is missing check what
    can be seen without it.
    """

    player: Player
    late: float = 0.05
    freeze: Act | None = None
    thaw: Act | None = None
    change: Act | None = None
    step_clock: Callable[[float], Awaitable[None]] | None = None
    restart: Act | None = None


async def check(
    master_url: str, http: httpx.AsyncClient, *, seconds: float = 12.0, stage: Stage | None = None
) -> dict[int, Faults]:
    """All rules, on ``seconds`` of the stream at ``master_url`` and by requests of their own."""
    stage = stage or Stage(Player(http))
    seen = await observe(master_url, http, seconds)
    found: dict[int, Faults] = {}
    for number, rule in RULES.items():
        found[number] = await rule(seen, stage)
    return found


def _all(seen: Observation) -> list[tuple[Rendition, MediaPlaylist]]:
    return [(rendition, one.playlist) for rendition in seen.renditions for one in rendition.seen]


async def rule_01_server_control(seen: Observation, stage: Stage) -> Faults:
    """EXT-X-SERVER-CONTROL says CAN-BLOCK-RELOAD and PART-HOLD-BACK, the same in every rendition."""
    controls = [playlist.server_control for _, playlist in _all(seen)]
    faults = [f"SERVER-CONTROL {one}" for one in controls if one.get("CAN-BLOCK-RELOAD") != "YES"]
    faults += [f"no PART-HOLD-BACK in {one}" for one in controls if "PART-HOLD-BACK" not in one]
    if any(one != controls[0] for one in controls):
        faults.append(f"SERVER-CONTROL differs: {controls}")
    return faults


async def rule_02_part_hold_back(seen: Observation, stage: Stage) -> Faults:
    """PART-HOLD-BACK is at least three part targets."""
    return [
        f"PART-HOLD-BACK {playlist.server_control} for parts of {playlist.part_target}"
        for _, playlist in _all(seen)
        if float(playlist.server_control.get("PART-HOLD-BACK", "0")) < 3 * playlist.part_target - EPSILON
    ]


async def rule_03_hold_back(seen: Observation, stage: Stage) -> Faults:
    """HOLD-BACK is at least three, CAN-SKIP-UNTIL at least six target durations."""
    faults = []
    for _, playlist in _all(seen):
        for name, least in (("HOLD-BACK", 3), ("CAN-SKIP-UNTIL", 6)):
            value = playlist.server_control.get(name)
            if value is not None and float(value) < least * playlist.target_duration:
                faults.append(f"{name}={value} with target duration {playlist.target_duration}")
    return faults


async def rule_04_part_durations(seen: Observation, stage: Stage) -> Faults:
    """By their own boxes parts are never longer than the target, and 85 % of it at least but for a segment's last."""
    faults = []
    for rendition in seen.renditions:
        target = rendition.latest.part_target
        counts = {one.msn: len(one.parts) for each in rendition.seen for one in each.playlist.complete if one.parts}
        for part in rendition.parts.values():
            if part.duration > target + EPSILON:
                faults.append(f"{part.uri} lasts {part.duration}, target {target}")
            last = counts.get(part.msn) == part.index + 1
            unknown = part.msn not in counts and (part.msn, part.index + 1) not in rendition.parts
            if part.duration < 0.85 * target - EPSILON and not last and not unknown:
                faults.append(f"{part.uri} lasts only {part.duration}, target {target}")
            if abs(part.duration - part.tagged) > 0.001:
                faults.append(f"{part.uri} lasts {part.duration}, its tag says {part.tagged}")
    return faults


async def rule_05_target_duration(seen: Observation, stage: Stage) -> Faults:
    """Rounded, no segment is longer than the target duration, which never changes."""
    faults = [
        f"segment {one.msn} of {rendition.url} lasts {one.duration}, target {playlist.target_duration}"
        for rendition, playlist in _all(seen)
        for one in playlist.complete
        if math.floor(one.duration + 0.5) > playlist.target_duration
    ]
    targets = {playlist.target_duration for _, playlist in _all(seen)}
    return faults + ([f"target durations {targets}"] if len(targets) > 1 else [])


async def rule_06_pace(seen: Observation, stage: Stage) -> Faults:
    """A new part within a part target of the one before, a new segment within one and a half target durations."""
    faults = []
    for rendition in seen.renditions:
        target = rendition.latest.part_target
        times = sorted(rendition.appeared().values())
        faults += [
            f"no new part in {rendition.url} for {after - before:.3f} s, target {target}"
            for before, after in pairwise(times)
            if after - before > target + max(stage.late, 0.1)
        ]
        segments: dict[int, float] = {}
        for one in rendition.seen:
            for segment in one.playlist.complete:
                segments.setdefault(segment.msn, one.at)
        faults += [
            f"no new segment in {rendition.url} for {after - before:.3f} s"
            for before, after in pairwise(sorted(segments.values()))
            if after - before > 1.5 * seen.target_duration + stage.late
        ]
    return faults


async def rule_07_blocking_reload(seen: Observation, stage: Stage) -> Faults:
    """A reload for a part waits until exactly that part is there, one for a segment until it is whole."""
    faults: Faults = []
    for rendition in seen.renditions:
        for _ in range(3):
            msn, part = (await stage.player.playlist(rendition.url)).next
            answered: list[Seen] = []
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(_reload, stage.player, rendition.url, msn, part, answered)
            faults += [f"early: no part {msn}.{part}" for one in answered if not one.playlist.has(msn, part)]
            if abs(answered[0].at - answered[1].at) > stage.late:
                faults.append(f"two reloads for {msn}.{part} came {abs(answered[0].at - answered[1].at):.3f} s apart")
        msn = (await stage.player.playlist(rendition.url)).next[0]
        whole = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}")
        if not any(one.msn >= msn for one in whole.complete):
            faults.append(f"early: segment {msn} is not whole")
    return faults


async def _reload(player: Player, url: str, msn: int, part: int, into: list[Seen]) -> None:
    playlist = await player.playlist(url, f"_HLS_msn={msn}&_HLS_part={part}")
    into.append(Seen(trio.current_time(), playlist))


async def rule_08_part_behind_the_last(seen: Observation, stage: Stage) -> Faults:
    """A part that the segment will not have is taken as the first of the next segment."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        while playlist.segments[-1].uri or not playlist.segments[-1].parts:
            msn, part = playlist.next
            playlist = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}")
        msn, last = playlist.last
        behind = last + _advance_limit(playlist)
        reply = await stage.player.playlist(rendition.url, f"_HLS_msn={msn}&_HLS_part={behind}")
        if not (reply.last >= (msn + 1, 0) or reply.has(msn, behind)):
            faults.append(f"{msn}.{behind} answered with {reply.last}")
    return faults


def _advance_limit(playlist: MediaPlaylist) -> int:
    return math.ceil(3 / playlist.part_target) if playlist.part_target < 1 else 3


async def rule_09_part_without_segment(seen: Observation, stage: Stage) -> Faults:
    """_HLS_part without _HLS_msn is refused with 400."""
    answers = [await stage.player.get(with_query(one.url, "_HLS_part=0")) for one in seen.renditions]
    return [f"{answer.status} for {answer.url}" for answer in answers if answer.status != 400]


async def rule_10_too_far_ahead(seen: Observation, stage: Stage) -> Faults:
    """What is more than two segments, or more parts than the advance limit, ahead is refused at once with 400."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        msn, part = playlist.last
        far = [f"_HLS_msn={msn + 5}", f"_HLS_msn={msn + 5}&_HLS_part=0", "_HLS_msn=999999999999"]
        far.append(f"_HLS_msn={msn}&_HLS_part={part + 3 * _advance_limit(playlist) + 20}")
        for query in far:
            answer = await stage.player.get(with_query(rendition.url, query))
            if answer.status != 400:
                faults.append(f"{answer.status} for {answer.url}")
            if answer.took > 0.02 + stage.late:
                faults.append(f"{answer.url} took {answer.took:.3f} s")
    return faults


async def rule_11_blocked_too_long(seen: Observation, stage: Stage) -> Faults:
    """A reload that has waited three target durations is given up with 503. Needs a stage that can freeze."""
    if stage.freeze is None or stage.thaw is None:
        return []
    await stage.freeze()
    faults = []
    rendition = seen.renditions[0]
    # What was under way when the source stopped may still come.
    await trio.sleep(2 * rendition.latest.part_target)
    msn, part = (await stage.player.playlist(rendition.url)).next
    answer = await stage.player.get(with_query(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}"))
    limit = 3 * seen.target_duration
    if answer.status != 503 or not limit - stage.late <= answer.took <= limit + 1.5:
        faults.append(f"{answer.status} after {answer.took:.2f} s, expected 503 after {limit}")
    await stage.thaw()
    return faults


async def rule_12_old_and_ended(seen: Observation, stage: Stage) -> Faults:
    """For an old segment the whole playlist comes at once; behind an ENDLIST directives mean nothing."""
    faults = []
    for rendition in seen.renditions:
        for query in ("_HLS_msn=0", "_HLS_msn=0&_HLS_part=0", f"_HLS_msn={rendition.seen[0].playlist.media_sequence}"):
            answer = await stage.player.get(with_query(rendition.url, query))
            if answer.status != 200 or answer.took > 0.02 + stage.late:
                faults.append(f"{answer.status} after {answer.took:.3f} s for {answer.url}")
            elif parse_media(rendition.url, answer.text).skipped:
                faults.append(f"not the whole playlist for {answer.url}")
        if rendition.latest.ended:
            answer = await stage.player.get(with_query(rendition.url, "_HLS_msn=99999999&_HLS_part=9&_HLS_skip=YES"))
            if answer.status != 200 or parse_media(rendition.url, answer.text).skipped:
                faults.append(f"directives count behind ENDLIST: {answer.status}")
    return faults


async def rule_13_delta_updates(seen: Observation, stage: Stage) -> Faults:
    """A delta update with what it skips is the full playlist; nothing is skipped that must not be."""
    faults = []
    for rendition in seen.renditions:
        for value in ("YES", "v2"):
            delta, full = await _delta_and_full(stage.player, rendition.url, value)
            until = float(full.server_control.get("CAN-SKIP-UNTIL", "0"))
            if delta.skipped and (not until or full.ended):
                faults.append("skipped where it may not")
            if delta.skipped and delta.version < 9:
                faults.append(f"EXT-X-SKIP in version {delta.version}")
            kept = full.segments[delta.skipped :]
            if delta.media_sequence != full.media_sequence or [_shape(one) for one in delta.segments] != [
                _shape(one) for one in kept
            ]:
                faults.append(f"{value}: skipped and kept are not the full playlist of {rendition.url}")
            after = sum(one.duration or sum(part.duration for part in one.parts) for one in kept)
            if delta.skipped and after < until - EPSILON:
                faults.append(f"skips what is only {after} s from the end")
            due = [one for index, one in enumerate(full.complete) if _behind(full, index) >= until > 0]
            if len(due) != delta.skipped:
                faults.append(f"{len(due)} segments could be skipped, {delta.skipped} were")
    return faults


async def _delta_and_full(player: Player, url: str, value: str) -> tuple[MediaPlaylist, MediaPlaylist]:
    """Both of the same moment."""
    while True:
        before = await player.get(url)
        delta = await player.get(with_query(url, f"_HLS_skip={value}"))
        after = await player.get(url)
        if before.body == after.body:
            return parse_media(url, delta.text), parse_media(url, before.text)


def _behind(playlist: MediaPlaylist, index: int) -> float:
    """Seconds of media behind segment ``index``."""
    return sum(one.duration or sum(part.duration for part in one.parts) for one in playlist.segments[index + 1 :])


def _shape(segment: object) -> tuple[object, ...]:
    """What must be equal in a delta; the init section is not told again."""
    values = dict(vars(segment))
    values.pop("map")
    values["discontinuity_sequence"] = 0
    return tuple(str(value) for value in values.values())


async def rule_14_preload_hint(seen: Observation, stage: Stage) -> Faults:
    """One hint at most; asked for early, the part comes when it is whole, then at once."""
    faults = [f"hints {playlist.hints}" for _, playlist in _all(seen) if len(playlist.hints) > 1]
    for rendition in seen.renditions:
        kept = 0
        for _ in range(4):
            playlist = await stage.player.playlist(rendition.url)
            if not playlist.hint:
                continue
            fault = await _one_hint(playlist, stage)
            if fault is None:
                kept += 1
            elif fault:
                faults.append(fault)
        if not kept and rendition.latest.hint:
            faults.append(f"no hint of {rendition.url} was kept")
    return faults


async def _one_hint(playlist: MediaPlaylist, stage: Stage) -> str | None:
    """None when the hint was kept, "" when it was withdrawn, else the fault."""
    msn, part = playlist.next
    fault: str | None = None
    listed = -1.0

    async def watch() -> None:
        nonlocal listed
        query = f"_HLS_msn={msn}&_HLS_part={part}"
        reply = await stage.player.playlist(playlist.url, query)
        listed = trio.current_time()
        uris = {one.uri for segment in reply.segments for one in segment.parts}
        nonlocal fault
        if playlist.hint not in uris:
            fault = ""

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        answer = await stage.player.get(playlist.hint)
    if answer.status == 404:
        return ""
    if answer.status != 200:
        return f"{answer.status} for the hinted {playlist.hint}"
    if fault is None and abs(answer.began - listed) > 0.02 + stage.late:
        return f"the hinted part came {answer.began - listed:.3f} s after it was listed"
    if answer.ended - answer.began > 0.02 + stage.late:
        return f"the hinted part took {answer.ended - answer.began:.3f} s once it had begun"
    again = await stage.player.get(playlist.hint)
    return fault if again.body == answer.body else "the hinted part has other bytes than the listed one"


async def rule_15_unknown_parts(seen: Observation, stage: Stage) -> Faults:
    """A part that is not, and will not be, is 404 at once."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        known = next(part.uri for one in reversed(playlist.segments) for part in one.parts)
        name = known.rpartition("/")[2].split("_")
        for msn, part in ((playlist.last[0] + 50, 0), (playlist.last[0], 900), (playlist.last[0] + 1, 7)):
            url = urljoin(known, "_".join([*name[:2], str(msn), str(part), *name[4:]]))
            answer = await stage.player.get(url)
            if answer.status != 404 or answer.took > 0.02 + stage.late:
                faults.append(f"{answer.status} after {answer.took:.3f} s for {url}")
    return faults


async def rule_16_rendition_reports(seen: Observation, stage: Stage) -> Faults:
    """Every playlist reports every other rendition, as it stands at that moment."""
    faults = []
    others = {rendition.url for rendition in seen.renditions}
    for rendition, playlist in _all(seen):
        reported = {urljoin(rendition.url, report["URI"]).partition("?")[0] for report in playlist.reports}
        missing = {url.partition("?")[0] for url in others - {rendition.url}} - reported
        if missing and not playlist.ended:
            faults.append(f"{rendition.url} does not report {missing}")
            break
    for rendition in seen.renditions:
        before = {url: (await stage.player.playlist(url)).last for url in others}
        reports = (await stage.player.playlist(rendition.url)).reports
        after = {url: (await stage.player.playlist(url)).last for url in others}
        for report in reports:
            url = next(url for url in others if urljoin(rendition.url, report["URI"]).partition("?")[0] in url)
            told = int(report["LAST-MSN"]), int(report["LAST-PART"])
            if not before[url] <= told <= after[url]:
                faults.append(f"reported {told} for {url}, was {before[url]} before and {after[url]} after")
    return faults


async def rule_17_old_parts(seen: Observation, stage: Stage) -> Faults:
    """Parts are listed within three target durations of the end, and can be had as long again afterwards."""
    faults = []
    reach = 3 * seen.target_duration
    for rendition, playlist in _all(seen):
        behind = playlist.duration
        for segment in playlist.segments:
            if segment.parts and behind > reach + EPSILON:
                faults.append(f"parts of segment {segment.msn} are {behind:.3f} s from the end of {rendition.url}")
            behind -= segment.duration or sum(part.duration for part in segment.parts)
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        listed = {part.uri for one in playlist.segments for part in one.parts}
        removed = [part for part in rendition.parts.values() if part.uri not in listed]
        edge = max((one.samples[-1].dts / one.init.timescale for one in rendition.parts.values()), default=0.0)
        for part in removed:
            # Removed three target durations from the end, so six from it it must still be there.
            if edge - part.samples[0].dts / part.init.timescale < 2 * reach - seen.target_duration:
                answer = await stage.player.get(part.uri)
                if answer.status != 200:
                    faults.append(f"{answer.status} for {part.uri}, which left the playlist not long ago")
    return faults


async def rule_18_media_sequence(seen: Observation, stage: Stage) -> Faults:
    """MEDIA-SEQUENCE grows by what is removed, never shrinks, not even by a restart; a number has one name."""
    faults = []
    for rendition in seen.renditions:
        names: dict[int, str] = {}
        for before, after in pairwise(rendition.seen):
            step = after.playlist.media_sequence - before.playlist.media_sequence
            if step < 0:
                faults.append(f"MEDIA-SEQUENCE went back by {-step} in {rendition.url}")
        faults += [
            f"segment {segment.msn} was {names[segment.msn]}, now {segment.uri}"
            for one in rendition.seen
            for segment in one.playlist.complete
            if names.setdefault(segment.msn, segment.uri) != segment.uri
        ]
    if stage.restart is not None:
        last = {one.url: (await stage.player.playlist(one.url)) for one in seen.renditions}
        await stage.restart()
        for url, old in last.items():
            now = await stage.player.playlist(url)
            if now.media_sequence <= old.last[0]:
                faults.append(f"after a restart {url} begins at {now.media_sequence}, it was at {old.last}")
            if now.discontinuity_sequence <= old.segments[-1].discontinuity_sequence:
                faults.append(f"after a restart {url} has discontinuity sequence {now.discontinuity_sequence}")
    return faults


async def rule_19_shortest_playlist(seen: Observation, stage: Stage) -> Faults:
    """Once a playlist has been three target durations long it stays so; the oldest goes first."""
    faults = []
    for rendition in seen.renditions:
        shortest = 3 * seen.target_duration
        for before, after in pairwise(rendition.seen):
            old, new = before.playlist, after.playlist
            removed = [one.msn for one in old.segments if one.msn < new.media_sequence]
            if removed and new.duration < shortest - EPSILON:
                faults.append(f"{rendition.url} shrank to {new.duration:.3f} s")
            kept = [one.msn for one in old.segments if one.msn >= new.media_sequence]
            if kept != [one.msn for one in new.segments][: len(kept)]:
                faults.append(f"{rendition.url} lost a segment that was not the oldest")
    return faults


async def rule_20_discontinuities(seen: Observation, stage: Stage) -> Faults:
    """A change of the init section is a discontinuity, at the same number in every rendition."""
    renditions = seen.renditions
    if stage.change is not None:
        await stage.change()
        again = await observe(seen.master.url, stage.player.http, 4.0 * seen.target_duration)
        renditions = again.renditions
        if not any(one.discontinuity for each in renditions for one in each.latest.segments):
            return ["a change of the codec configuration left no discontinuity"]
    faults = []
    numbers: dict[int, set[int]] = {}
    for rendition in renditions:
        for one in rendition.seen:
            for before, after in pairwise(one.playlist.segments):
                if before.map != after.map and not after.discontinuity:
                    faults.append(f"segment {after.msn} of {rendition.url} has another init section, no discontinuity")
            for segment in one.playlist.segments:
                numbers.setdefault(segment.msn, set()).add(segment.discontinuity_sequence)
    faults += [f"segment {msn} has discontinuity sequences {found}" for msn, found in numbers.items() if len(found) > 1]
    return faults


async def rule_21_program_date_time(seen: Observation, stage: Stage) -> Faults:
    """Every segment has a date, it never goes back, and renditions agree on it, whatever the wall clock does."""
    renditions = list(seen.renditions)
    if stage.step_clock is not None:
        for step in (-3600.0, 7200.0):
            await stage.step_clock(step)
            renditions += (await observe(seen.master.url, stage.player.http, 3.0 * seen.target_duration)).renditions
    faults = []
    dates: dict[int, list[float]] = {}
    for rendition in renditions:
        told: dict[int, float] = {}
        for one in rendition.seen:
            for segment in one.playlist.segments:
                if segment.date_time is None:
                    faults.append(f"segment {segment.msn} of {rendition.url} has no date")
                elif told.setdefault(segment.msn, segment.date_time) != segment.date_time:
                    faults.append(f"segment {segment.msn} of {rendition.url} has two dates")
        faults += [
            f"the date goes back at segment {after} of {rendition.url}"
            for before, after in pairwise(sorted(told))
            if told[after] <= told[before]
        ]
        for msn, date in told.items():
            dates.setdefault(msn, []).append(date)
    faults += [f"segment {msn} is {found}" for msn, found in dates.items() if max(found) - min(found) > 0.15]
    return faults


async def rule_22_gaps(seen: Observation, stage: Stage) -> Faults:
    """What is listed without GAP can be had."""
    faults = []
    for rendition in seen.renditions:
        playlist = await stage.player.playlist(rendition.url)
        for segment in playlist.complete:
            answer = await stage.player.get(segment.uri)
            if answer.status != 200 and not segment.gap:
                faults.append(f"{answer.status} for {segment.uri}, which is no gap")
            together = b"".join([(await stage.player.get(part.uri)).body for part in segment.parts])
            if segment.parts and together != answer.body:
                faults.append(f"{segment.uri} is not its parts")
    return faults


async def rule_23_well_made(seen: Observation, stage: Stage) -> Faults:
    """The master tells all, gzip is the same text, segments of video start with a key frame that is marked."""
    faults: Faults = []
    master = seen.master
    if not master.independent:
        faults.append("no EXT-X-INDEPENDENT-SEGMENTS")
    for url, found in master.variants:
        video = "RESOLUTION" in found
        wanted = ["BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS"] + (["FRAME-RATE"] if video else [])
        faults += [f"no {name} for {url}" for name in wanted if name not in found]
        if "AUDIO" in found:
            if "," not in found.get("CODECS", ""):
                faults.append(f"CODECS {found.get('CODECS')} leaves the audio out")
            if not any(media["GROUP-ID"] == found["AUDIO"] for _, media in master.media):
                faults.append(f"no group {found['AUDIO']}")
    for rendition in seen.renditions:
        while True:
            plain, packed = [await _raw(stage.player, rendition.url, coding) for coding in ("identity", "gzip")]
            again = await _raw(stage.player, rendition.url, "identity")
            if plain[1] == again[1]:
                break
        if packed[0] != "gzip" or gzip.decompress(packed[1]) != plain[1]:
            faults.append(f"{rendition.url} as gzip is not the same")
        if plain[0]:
            faults.append(f"{rendition.url} is {plain[0]} where nothing was asked for")
        for part in rendition.parts.values():
            if part.independent != part.samples[0].sync and rendition.video:
                faults.append(f"{part.uri} says INDEPENDENT {part.independent}")
            if part.index == 0 and not part.samples[0].sync:
                faults.append(f"segment {part.msn} of {rendition.url} does not start with a key frame")
    return faults


async def _raw(player: Player, url: str, coding: str) -> tuple[str, bytes]:
    """Content-Encoding and the bytes as they came."""
    async with player.http.stream("GET", url, headers={"accept-encoding": coding}) as response:
        body = b"".join([chunk async for chunk in response.aiter_raw()])
    return response.headers.get("content-encoding", ""), body


async def rule_24_bandwidth(seen: Observation, stage: Stage) -> Faults:
    """The measured peak is within 125 % of BANDWIDTH, the average within 110 % of AVERAGE-BANDWIDTH."""
    faults = []
    by_url = {rendition.url: rendition for rendition in seen.renditions}
    for url, found in seen.master.variants:
        group = [one for one, media in seen.master.media if media["GROUP-ID"] == found.get("AUDIO")][:1]
        rates = [_rates(by_url[one], seen.target_duration) for one in (url, *group)]
        peak, average = sum(rate[0] for rate in rates), sum(rate[1] for rate in rates)
        if peak > 1.25 * float(found["BANDWIDTH"]):
            faults.append(f"{url} peaks at {peak:.0f} bit/s, BANDWIDTH {found['BANDWIDTH']}")
        if average > 1.10 * float(found.get("AVERAGE-BANDWIDTH", "inf")):
            faults.append(f"{url} averages {average:.0f} bit/s, AVERAGE-BANDWIDTH {found['AVERAGE-BANDWIDTH']}")
    return faults


def _rates(rendition: Rendition, target_duration: int) -> tuple[float, float]:
    """Peak of a segment and average of all, in bit/s."""
    segments: dict[int, list[tuple[int, float]]] = {}
    for part in rendition.parts.values():
        segments.setdefault(part.msn, []).append((part.size, part.duration))
    sums = [(sum(size for size, _ in parts), sum(length for _, length in parts)) for parts in segments.values()]
    whole = [size * 8 / length for size, length in sums if length >= target_duration / 2]
    size, length = sum(size for size, _ in sums), sum(length for _, length in sums)
    return max(whole, default=0.0), size * 8 / length if length else 0.0


async def rule_25_caching(seen: Observation, stage: Stage) -> Faults:
    """Answers to blocked reloads and parts may be cached, errors not for long; TLS comes with HTTP/2."""
    faults = []
    for rendition in seen.renditions:
        msn, part = (await stage.player.playlist(rendition.url)).next
        blocked = await stage.player.get(with_query(rendition.url, f"_HLS_msn={msn}&_HLS_part={part}"))
        if _max_age(blocked.headers) < 1:
            faults.append(f"a blocked reload has cache-control {blocked.headers.get('cache-control')}")
        faults += [
            f"{fetched.uri} has cache-control {fetched.headers.get('cache-control')}"
            for fetched in list(rendition.parts.values())[-2:]
            if _max_age(fetched.headers) < 1
        ]
        missing = await stage.player.get(urljoin(rendition.url, "seg_0_999999_video_nothing_llhls.m4s"))
        if missing.status != 404 or not 0 <= _max_age(missing.headers) <= 10:
            faults.append(f"{missing.status} with cache-control {missing.headers.get('cache-control')}")
        if rendition.url.startswith("https:"):
            response = await stage.player.http.get(rendition.url)
            if response.http_version != "HTTP/2":
                faults.append(f"{response.http_version} with TLS")
    return faults


def _max_age(headers: httpx.Headers) -> int:
    """-1 when nothing is said."""
    value = headers.get("cache-control", "")
    if "no-store" in value or "no-cache" in value:
        return 0
    ages = [item.partition("=")[2] for item in value.replace(" ", "").split(",") if item.startswith("max-age=")]
    return int(ages[0]) if ages else -1


Rule = Callable[[Observation, Stage], Awaitable[Faults]]
RULES: dict[int, Rule] = {
    int(name[5:7]): rule for name, rule in sorted(globals().items()) if name.startswith("rule_") and callable(rule)
}
