"""Rules about what playlists and media say, and how that goes on from one playlist to the next."""

from __future__ import annotations

import gzip
import math
from itertools import pairwise
from urllib.parse import urljoin

from tests.conformance.llhls.mp4 import parse_fragments
from tests.conformance.llhls.observe import Observation, Player, Rendition, observe
from tests.conformance.llhls.stage import EPSILON, Faults, Stage, every_playlist


async def rule_01_server_control(seen: Observation, stage: Stage) -> Faults:
    """EXT-X-SERVER-CONTROL says CAN-BLOCK-RELOAD and PART-HOLD-BACK, the same in every rendition."""
    controls = [playlist.server_control for _, playlist in every_playlist(seen)]
    faults = [f"SERVER-CONTROL {one}" for one in controls if one.get("CAN-BLOCK-RELOAD") != "YES"]
    faults += [f"no PART-HOLD-BACK in {one}" for one in controls if "PART-HOLD-BACK" not in one]
    if any(one != controls[0] for one in controls):
        faults.append(f"SERVER-CONTROL differs: {controls}")
    return faults


async def rule_02_part_hold_back(seen: Observation, stage: Stage) -> Faults:
    """PART-HOLD-BACK is at least three part targets."""
    return [
        f"PART-HOLD-BACK {playlist.server_control} for parts of {playlist.part_target}"
        for _, playlist in every_playlist(seen)
        if float(playlist.server_control.get("PART-HOLD-BACK", "0")) < 3 * playlist.part_target - EPSILON
    ]


async def rule_03_hold_back(seen: Observation, stage: Stage) -> Faults:
    """HOLD-BACK is at least three, CAN-SKIP-UNTIL at least six target durations."""
    faults = []
    for _, playlist in every_playlist(seen):
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
        for rendition, playlist in every_playlist(seen)
        for one in playlist.complete
        if math.floor(one.duration + 0.5) > playlist.target_duration
    ]
    targets = {playlist.target_duration for _, playlist in every_playlist(seen)}
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


async def rule_16_rendition_reports(seen: Observation, stage: Stage) -> Faults:
    """Every playlist reports every other rendition, as it stands at that moment."""
    faults = []
    others = {rendition.url for rendition in seen.renditions}
    for rendition, playlist in every_playlist(seen):
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
    for rendition, playlist in every_playlist(seen):
        behind = playlist.duration
        for segment in playlist.segments:
            if segment.parts and behind > reach + EPSILON:
                faults.append(f"parts of segment {segment.msn} are {behind:.3f} s from the end of {rendition.url}")
            behind -= segment.duration or sum(part.duration for part in segment.parts)
    for rendition in [one for one in seen.renditions if not one.text]:
        playlist = await stage.player.playlist(rendition.url)
        listed = [part.uri for one in playlist.segments for part in one.parts]
        removed = [part for part in rendition.parts.values() if part.uri not in listed]
        edge = await _end_of_part(stage.player, rendition, listed[-1])
        for part in removed:
            # Removed three target durations from the end, so six from it it must still be there.
            if edge - part.samples[0].dts / part.init.timescale < 2 * reach - seen.target_duration:
                answer = await stage.player.get(part.uri)
                if answer.status != 200:
                    faults.append(f"{answer.status} for {part.uri}, which left the playlist not long ago")
    return faults


async def _end_of_part(player: Player, rendition: Rendition, uri: str) -> float:
    """Where the newest part ends, in the media's own seconds."""
    init = next(reversed(rendition.inits.values()))
    (samples,) = parse_fragments(init, (await player.get(uri)).body)
    return (samples[-1].dts + samples[-1].duration) / init.timescale


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
            for before, after in pairwise(segment for segment in one.playlist.segments if not segment.gap):
                if before.map != after.map and before.discontinuity_sequence == after.discontinuity_sequence:
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
            if segment.parts and together != answer.body and not rendition.text:
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
