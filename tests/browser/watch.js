// Runs in the page: follows the first <video> and, where hls.js plays, its instance.
(() => {
  const samples = [];
  const stalls = [];
  const problems = [];
  let startedAt = 0;
  let watched = null;
  let instance = null;
  let Base;

  // Whoever makes an hls.js, here or in OvenPlayer, makes it known.
  Object.defineProperty(window, "Hls", {
    configurable: true,
    get: () => Base,
    set(value) {
      Base = class extends value {
        constructor(config) {
          super({ ...config, lowLatencyMode: true });
          instance = this;
          this.on(value.Events.ERROR, (_, data) => problems.push(`${data.details}${data.fatal ? " fatal" : ""}`));
        }
      };
    },
  });

  const now = () => performance.now() / 1000;
  const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

  function video() {
    const found = document.querySelector("video");
    if (found && found !== watched) {
      watched = found;
      found.addEventListener("waiting", () => startedAt && stalls.push({ at: now() - startedAt, time: found.currentTime }));
      found.addEventListener("error", () => problems.push(`video: ${found.error?.message}`));
    }
    return found;
  }

  function playing() {
    const element = video();
    if (!element || element.paused || element.readyState < 3 || element.currentTime === 0) return false;
    if (!startedAt) startedAt = now();
    return true;
  }

  function sample() {
    const element = video();
    const quality = element.getVideoPlaybackQuality();
    const buffered = element.buffered;
    const date = instance?.playingDate;
    samples.push({
      at: now() - startedAt,
      time: element.currentTime,
      ready: element.readyState,
      paused: element.paused,
      ahead: buffered.length ? buffered.end(buffered.length - 1) - element.currentTime : 0,
      height: element.videoHeight,
      frames: quality.totalVideoFrames,
      dropped: quality.droppedVideoFrames,
      latency: instance ? instance.latency : null,
      behindClock: date ? (Date.now() - date.getTime()) / 1000 : null,
    });
  }

  async function run(seconds) {
    const end = now() + seconds;
    while (now() < end) {
      sample();
      await sleep(0.25);
    }
    sample();
  }

  // Goes to each level by hand and waits until a picture of its height is on the screen.
  async function visitLevels() {
    const seen = [];
    for (let level = 0; level < instance.levels.length; level++) {
      instance.nextLevel = level;
      const wanted = instance.levels[level].height;
      const end = now() + 10;
      while (video().videoHeight !== wanted && now() < end) await sleep(0.1);
      seen.push({ level, wanted, height: video().videoHeight, time: video().currentTime });
    }
    return seen;
  }

  // What the text tracks hold: subtitles as text, timed metadata as key and value.
  const tracks = () => [...(video()?.textTracks ?? [])].map((track) => ({
    kind: track.kind,
    label: track.label,
    mode: track.mode,
    cues: [...(track.cues ?? [])].map((cue) => ({
      start: cue.startTime,
      text: cue.text ?? "",
      type: cue.type ?? "",
      key: cue.value?.key ?? "",
      info: cue.value?.info ?? "",
      data: typeof cue.value?.data === "string" ? cue.value.data : "",
    })),
  }));

  const report = () => ({ tracks: tracks(), samples, stalls, problems, version: Base?.version ?? null, mse: Boolean(instance?.media) });
  window.watch = { playing, run, report, visitLevels };
})();
