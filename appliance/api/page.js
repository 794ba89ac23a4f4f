// The status page: which streams are on, their links, and the player.
"use strict";

const AGAIN = 2000; // milliseconds between two looks
const byId = (id) => document.getElementById(id);
const make = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

let player = null;
let playing = null; // null: nobody has chosen yet, so the first stream plays, silently
let shown = "";
let offset = 0;

function base(ports) {
  const port = location.protocol === "https:" ? ports.https : ports.http;
  return port && String(port) !== location.port ? `${location.protocol}//${location.hostname}:${port}` : location.origin;
}

function play(url, name) {
  player?.stop();
  player = null;
  const same = playing === url;
  playing = same ? "" : url;
  byId("screen").hidden = same;
  shown = "";
  if (same) return;
  player = new LivePlayer(byId("video"), url, (text) => (byId("told").textContent = `${name}: ${text}`));
  player.offset = offset;
  player.start();
}

function row(stream, root) {
  const line = document.createElement("tr");
  const name = line.appendChild(make("td"));
  name.append(make("code", stream.path.slice(1)), document.createElement("br"));
  name.append(make("span", stream.source, { className: "quiet" }));
  const tracks = line.appendChild(make("td"));
  for (const track of stream.tracks) tracks.append(make("div", track));
  const links = line.appendChild(make("td"));
  for (const file of stream.playlists) {
    const url = `${root}${stream.path}/${file}`;
    links.append(make("a", url, { href: url }), document.createElement("br"));
  }
  const last = line.appendChild(make("td"));
  if (stream.playlists.length) {
    const url = `${root}${stream.path}/${stream.playlists[0]}`;
    const button = make("button", playing === url ? "Stop" : "Play", { onclick: () => (play(url, stream.name), look()) });
    button.setAttribute("aria-pressed", String(playing === url));
    last.append(button);
  }
  return line;
}

async function look() {
  try {
    const before = Date.now();
    const answer = await fetch("/-/streams", { cache: "no-store" });
    if (!answer.ok) throw new Error(`the box answers ${answer.status}`);
    const box = await answer.json();
    offset = box.now - (before + Date.now()) / 2;
    if (player) player.offset = offset;
    const count = box.streams.length;
    byId("state").textContent = count === 1 ? "1 stream on the air" : `${count} streams on the air`;
    const first = box.streams.find((stream) => stream.playlists.length);
    if (playing === null && first) {
      byId("video").muted = true;
      play(`${base(box.ports)}${first.path}/${first.playlists[0]}`, first.name);
    }
    const text = JSON.stringify([box.streams, box.ports, playing]);
    if (text === shown) return;
    shown = text;
    byId("streams").replaceChildren(...box.streams.map((stream) => row(stream, base(box.ports))));
    byId("send").replaceChildren();
    for (const app of box.ports.rtmp ? box.applications : []) {
      const port = box.ports.rtmp === 1935 ? "" : `:${box.ports.rtmp}`;
      byId("send").append("Send to ", make("code", `rtmp://${location.hostname}${port}/${app}/<name>`), make("br"));
    }
  } catch (error) {
    byId("state").textContent = `the box does not answer (${error.message})`;
  }
}

look();
setInterval(look, AGAIN);
