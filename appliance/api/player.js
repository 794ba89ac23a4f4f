// A small LL-HLS player on Media Source Extensions: video and audio playlists side by side, blocking reloads, parts.
// Source: RFC 8216 with its second edition's draft. Where there is no Media Source, the browser's own HLS plays.
"use strict";

const KEEP_BEHIND = 30; // seconds of played media that stay in the buffers
const JUMP_BEYOND = 4; // seconds behind the target that are skipped instead of caught up

function attributes(text) {
  const found = {};
  for (const [, name, quoted, bare] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^,]*))/g)) found[name] = quoted ?? bare;
  return found;
}

function parseMaster(text, base) {
  const master = { audio: {}, variants: [] };
  let next = null;
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#EXT-X-MEDIA:")) {
      const media = attributes(line.slice(13));
      if (media.TYPE !== "AUDIO" || !media.URI) continue;
      const group = (master.audio[media["GROUP-ID"]] ??= []);
      const entry = { name: media.NAME, uri: new URL(media.URI, base).href };
      media.DEFAULT === "YES" ? group.unshift(entry) : group.push(entry);
    } else if (line.startsWith("#EXT-X-STREAM-INF:")) {
      next = attributes(line.slice(18));
    } else if (line && !line.startsWith("#") && next) {
      const codecs = (next.CODECS || "").split(",").map((codec) => codec.trim());
      const of = (kind) => codecs.filter((codec) => kind.test(codec)).join(",");
      master.variants.push({
        uri: new URL(line, base).href, bandwidth: Number(next.BANDWIDTH) || 0, audioGroup: next.AUDIO || "",
        video: of(/^(avc|hev|hvc|vp0|vp8|vp9|av01)/), audio: of(/^(mp4a|opus|ac-3|ec-3|fLaC)/i),
      });
      next = null;
    }
  }
  return master;
}

function parseMedia(text, base) {
  const list = { chunks: [], target: 2, partTarget: 0, holdBack: 0, blocks: false, ended: false };
  let msn = 0, part = 0, map = "", duration = 0, date = null, discontinuity = 0;
  const add = (uri, chunk) => {
    list.chunks.push({ msn, map, discontinuity, date, uri: new URL(uri, base).href, ...chunk });
    if (date !== null) date += chunk.duration * 1000;
  };
  for (const line of text.split(/\r?\n/)) {
    const [tag, rest] = line.startsWith("#EXT") ? [line.split(":", 1)[0], line.slice(line.indexOf(":") + 1)] : ["", ""];
    if (tag === "#EXT-X-MEDIA-SEQUENCE") msn = Number(rest);
    else if (tag === "#EXT-X-DISCONTINUITY-SEQUENCE") discontinuity = Number(rest);
    else if (tag === "#EXT-X-DISCONTINUITY") discontinuity += 1;
    else if (tag === "#EXT-X-TARGETDURATION") list.target = Number(rest);
    else if (tag === "#EXT-X-PART-INF") list.partTarget = Number(attributes(rest)["PART-TARGET"]);
    else if (tag === "#EXT-X-SERVER-CONTROL") {
      const control = attributes(rest);
      list.blocks = control["CAN-BLOCK-RELOAD"] === "YES";
      list.holdBack = Number(control["PART-HOLD-BACK"] || control["HOLD-BACK"]) || 0;
    } else if (tag === "#EXT-X-MAP") map = new URL(attributes(rest).URI, base).href;
    else if (tag === "#EXT-X-PROGRAM-DATE-TIME") date = Date.parse(rest);
    else if (tag === "#EXT-X-ENDLIST") list.ended = true;
    else if (tag === "#EXTINF") duration = parseFloat(rest);
    else if (tag === "#EXT-X-PART") {
      const given = attributes(rest);
      add(given.URI, { part: part++, duration: Number(given.DURATION), independent: given.INDEPENDENT === "YES" });
    } else if (line && !line.startsWith("#")) {
      if (part === 0) add(line, { part, duration, whole: true, independent: true });
      msn += 1;
      part = 0;
    }
  }
  list.next = { msn, part };
  return list;
}

// What of a playlist comes after `next`; at first the newest independent chunk that is `behind` seconds from the edge.
function wanted(list, next, behind) {
  if (next) {
    return list.chunks.filter((chunk) => chunk.msn > next.msn || (chunk.msn === next.msn && chunk.part >= next.part &&
      !(chunk.whole && next.part > 0)));
  }
  let start = 0, distance = 0;
  for (let index = list.chunks.length - 1; index >= 0; index -= 1) {
    distance += list.chunks[index].duration;
    if (list.chunks[index].independent) start = index;
    if (list.chunks[index].independent && distance >= behind) break;
  }
  return list.chunks.slice(start);
}

class Feed {
  // One playlist into one source buffer.
  constructor(player, uri, mime) {
    Object.assign(this, { player, uri, mime, dates: [], next: null, map: "", discontinuity: null, list: null });
  }

  async run() {
    for (;;) {
      const list = (this.list = await this.load());
      for (const chunk of wanted(list, this.next, list.holdBack || 3 * list.target)) await this.take(chunk);
      if (list.ended) return;
      // A segment that went by only half loaded is left behind.
      if (this.next && list.next.msn > this.next.msn) this.next = { msn: list.next.msn, part: 0 };
      if (!list.blocks) await new Promise((done) => setTimeout(done, list.target * 500));
    }
  }

  async load() {
    const url = new URL(this.uri);
    if (this.list?.blocks && this.next) {
      url.searchParams.set("_HLS_msn", this.next.msn);
      if (this.list.partTarget) url.searchParams.set("_HLS_part", this.next.part);
    }
    return parseMedia(await (await this.player.fetch(url)).text(), url);
  }

  async take(chunk) {
    if (this.discontinuity !== null && chunk.discontinuity !== this.discontinuity) throw new Error("discontinuity");
    this.discontinuity = chunk.discontinuity;
    if (chunk.map !== this.map) {
      this.map = chunk.map;
      await this.append(await (await this.player.fetch(chunk.map)).arrayBuffer());
    }
    const data = await (await this.player.fetch(chunk.uri)).arrayBuffer();
    const before = this.end();
    await this.append(data);
    if (chunk.date !== null && this.end() !== before) this.dates.push([this.end() - chunk.duration, chunk.date]);
    if (this.dates.length > 200) this.dates.splice(0, 100);
    this.next = chunk.whole ? { msn: chunk.msn + 1, part: 0 } : { msn: chunk.msn, part: chunk.part + 1 };
    this.player.arrived();
  }

  end() {
    const ranges = this.buffer.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) : 0;
  }

  async append(data) {
    const old = this.player.video.currentTime - KEEP_BEHIND;
    if (this.buffer.buffered.length && this.buffer.buffered.start(0) < old - 10) {
      await this.change(() => this.buffer.remove(0, old));
    }
    await this.change(() => this.buffer.appendBuffer(data));
  }

  change(action) {
    return new Promise((done, failed) => {
      this.buffer.addEventListener("updateend", done, { once: true });
      this.buffer.addEventListener("error", () => failed(new Error("media refused")), { once: true });
      action();
    });
  }
}

class LivePlayer {
  // Plays the master playlist `url` in the element `video`, again and again until `stop`. `tell(text)` hears what goes on.
  constructor(video, url, tell = () => {}) {
    Object.assign(this, { video, url, tell, feeds: [], stopped: false, offset: 0, abort: new AbortController() });
  }

  async start() {
    if (!window.MediaSource) {
      this.video.src = this.url;
      this.video.play().catch(() => {});
      return this.tell("played by the browser");
    }
    const timer = setInterval(() => this.steer(), 250);
    while (!this.stopped) {
      try {
        await this.play();
      } catch (error) {
        if (!this.stopped) this.tell(`waiting: ${error.message}`);
      }
      this.abort.abort(); // what the other feed still loads
      this.abort = new AbortController();
      if (!this.stopped) await new Promise((done) => setTimeout(done, 1000));
    }
    clearInterval(timer);
  }

  stop() {
    this.stopped = true;
    this.abort.abort();
    this.video.removeAttribute("src");
    this.video.load();
  }

  async play() {
    const master = parseMaster(await (await this.fetch(this.url)).text(), new URL(this.url, location.href));
    const plays = (codecs, kind) => !codecs || MediaSource.isTypeSupported(`${kind}/mp4; codecs="${codecs}"`);
    const known = master.variants.filter((each) => plays(each.video, "video") && plays(each.audio, "audio"));
    const variant = known.sort((one, other) => other.bandwidth - one.bandwidth)[0];
    if (!variant) throw new Error("no rendition that this browser plays");
    const audio = master.audio[variant.audioGroup]?.[0];
    this.feeds = [];
    if (variant.video) {
      const codecs = audio || !variant.audio ? variant.video : `${variant.video},${variant.audio}`;
      this.feeds.push(new Feed(this, variant.uri, `video/mp4; codecs="${codecs}"`));
    }
    if (audio || !variant.video) {
      this.feeds.push(new Feed(this, audio ? audio.uri : variant.uri, `audio/mp4; codecs="${variant.audio}"`));
    }
    const source = new MediaSource();
    this.started = false;
    this.video.src = URL.createObjectURL(source);
    await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
    URL.revokeObjectURL(this.video.src);
    for (const feed of this.feeds) feed.buffer = source.addSourceBuffer(feed.mime);
    await Promise.all(this.feeds.map((feed) => feed.run()));
    source.endOfStream();
    throw new Error("the stream has ended");
  }

  async fetch(url) {
    const answer = await fetch(url, { signal: this.abort.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status} for ${new URL(url, location.href).pathname}`);
    return answer;
  }

  arrived() {
    if (this.started || this.feeds.some((feed) => !feed.buffer.buffered.length)) return;
    this.started = true;
    this.video.currentTime = Math.max(...this.feeds.map((feed) => feed.buffer.buffered.start(0)));
    this.video.play().catch(() => {
      this.video.muted = true; // without a click only silent video may start
      this.video.play().catch(() => {});
    });
  }

  // Stay near the live edge: a little faster when behind, a jump when far behind or when there is a hole.
  steer() {
    if (!this.started || this.stopped || this.video.paused) return;
    const ranges = this.video.buffered;
    if (!ranges.length) return;
    const edge = ranges.end(ranges.length - 1), now = this.video.currentTime;
    const target = Math.max(...this.feeds.map((feed) => feed.list?.holdBack || 1)) - 0.3;
    const behind = edge - now;
    if (behind > target + JUMP_BEYOND || (behind > 0.3 && now < ranges.start(ranges.length - 1))) {
      this.video.currentTime = Math.max(ranges.start(ranges.length - 1), edge - target);
    }
    this.video.playbackRate = behind > target + 0.3 ? 1.08 : behind < target / 3 ? 0.95 : 1;
    const latency = this.latency();
    this.tell(`${behind.toFixed(1)} s in the buffer${latency === null ? "" : `, ${latency.toFixed(1)} s behind the source`}`);
  }

  // Seconds from the source to the screen: the picture's date against the box's clock (`offset` ms from ours).
  latency() {
    const dates = this.feeds[0]?.dates || [];
    const at = dates.findLast(([start]) => start <= this.video.currentTime);
    return at ? (Date.now() + this.offset - at[1]) / 1000 - (this.video.currentTime - at[0]) : null;
  }
}
