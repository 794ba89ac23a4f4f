// Plays a live stream in a headless Chromium and prints what happened as one JSON object.
//   node play.mjs '{"url": "…m3u8 or page", "player": "hls" | "ovenplayer" | "page", "seconds": 20, "switch": false}'
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const modules = path.join(here, "node_modules");
const files = {
  "/hls.js": [path.join(modules, "hls.js/dist/hls.min.js"), "text/javascript"],
  "/ovenplayer.js": [path.join(modules, "ovenplayer/dist/ovenplayer.js"), "text/javascript"],
  "/hls": [path.join(here, "hls.html"), "text/html"],
  "/ovenplayer": [path.join(here, "ovenplayer.html"), "text/html"],
};

function serve(request, response) {
  const found = files[new URL(request.url, "http://page").pathname];
  if (!found) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": found[1] });
  fs.createReadStream(found[0]).pipe(response);
}

const job = JSON.parse(process.argv[2]);
const server = http.createServer(serve);
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`;
const profile = fs.mkdtempSync(path.join(os.tmpdir(), "kiln-chromium-"));
const said = [];
let browser;
try {
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: job.chromium,
    headless: true,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--mute-audio",
    ],
  });
  const page = await browser.newPage();
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${error.message}`));
  await page.addInitScript({ path: path.join(here, "watch.js") });
  const query = `?url=${encodeURIComponent(job.url)}`;
  await page.goto(job.player === "page" ? job.url : `${origin}/${job.player}${query}`);
  if (job.player === "page" && job.click) await page.click(job.click);
  await page.waitForFunction(() => window.watch.playing(), null, { timeout: 20000 });
  const levels = job.switch ? await page.evaluate(() => window.watch.visitLevels()) : [];
  await page.evaluate((seconds) => window.watch.run(seconds), job.seconds);
  const report = await page.evaluate(() => window.watch.report());
  console.log(JSON.stringify({ ...report, levels, said: said.slice(-40) }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error), said: said.slice(-40) }));
  process.exitCode = 1;
} finally {
  await browser?.close();
  server.close();
  fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
