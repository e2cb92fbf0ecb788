/** The view Live: the picture, its flow, the avatar, scores, events and times. */

import { Source, filePicker, takesDrops } from "./camera.js";
import { byId, make, plain } from "./dom.js";
import { Puppet } from "./puppet.js";
import { now } from "./rgbflow.js";
import { Scores, percent } from "./scores.js";
import { Timeline } from "./timeline.js";
import { Timing } from "./timing.js";

const ANIMATION_MS = 45;
const SCROLL_MS = 200;
const LATE_SECONDS = 0.05; // that a label may wait outside the server before fewer frames are sent
const SLOWEST = 8; // frames a second
const UNSURE_SECONDS = 4; // without a name, until the page says what helps

export class LiveView {
  #session;
  #preferences;
  #stopFollowing = () => {};
  #latest = null; // the newest update that is not drawn yet
  #flow = null; // the newest picture of flow that is not drawn yet
  #label = null;
  #action = null;
  #best = null; // the likeliest class
  #score = 0;
  #needed = 0; // the score that starts an action
  #isTaught = false; // in this page
  #unsureSince = null; // time of the frame since which nothing gets a name
  #needsHelp = false;
  #animated = 0; // ms, when the avatar was drawn last
  #scrolled = 0; // ms, when the time line was
  #clock = 0; // the newest frame's time minus ours

  constructor(session, preferences, puppetData) {
    this.#session = session;
    this.#preferences = preferences;
    this.source = new Source(byId("video"));
    this.scores = new Scores(byId("scores"));
    this.timeline = new Timeline(byId("timeline"), byId("events"));
    this.timing = new Timing(byId("timing"), byId("timing-rate"));
    this.puppet = new Puppet(byId("avatar"), puppetData);
    this.source.addEventListener("change", () => this.#sourceChanged());
    byId("video").addEventListener("resize", () => this.#shape());
    takesDrops(byId("stage"), ([file]) => this.source.openFile(file));
    this.scores.addEventListener("more", () => session.set({ num_scores: this.scores.wanted }));
    session.addEventListener("hello", (e) => this.#greet(e.detail));
    session.addEventListener("bundle", (e) => this.#greet(e.detail));
    session.addEventListener("settings", (e) => (this.#needed = e.detail.settings.start_score));
    session.addEventListener("update", (e) => this.#update(e.detail));
    session.addEventListener("event", (e) => this.#event(e.detail));
    session.addEventListener("flow", (e) => this.#showFlow(e.detail));
    session.addEventListener("state", (e) => e.detail.state === "waiting" && this.#gone());
    this.#sourceChanged();
    this.applyPreferences();
    drawWheel(byId("wheel"));
    requestAnimationFrame(() => this.#frame());
    setInterval(() => this.#adapt(), 500);
  }

  /** Twice a second. Fewer frames are sent while labels wait in the browser, since those that wait grow old. */
  #adapt() {
    this.timing.draw();
    const { lag } = this.timing;
    if (lag > LATE_SECONDS) this.#session.rate = Math.max(SLOWEST, 0.85 * this.#session.rate);
    else if (lag < LATE_SECONDS / 2) this.#session.rate = Math.min(this.#preferences.rate, 1.05 * this.#session.rate);
  }

  applyPreferences() {
    const isMirrored = this.source.kind === "camera" && this.#preferences.mirror;
    byId("stage").classList.toggle("mirrored", isMirrored);
    this.puppet.isMirrored = isMirrored;
    byId("flow-box").hidden = !this.#preferences.flow_picture;
  }

  #greet({ classes, bundle, no_action, settings }) {
    this.classes = classes;
    this.#needed = settings.start_score;
    this.#isTaught = isTaught(bundle);
    this.scores.setClasses(classes, bundle.streams, no_action);
    for (const item of document.querySelectorAll("#legend li")) item.hidden = !["fused", ...bundle.streams].includes(item.textContent);
    if (!classes.length) this.scores.box.append(noActions());
    this.#session.set({ num_scores: this.scores.wanted });
    this.#label = this.#action = null;
    this.#caption();
  }

  #sourceChanged() {
    this.#stopFollowing();
    this.#stopFollowing = this.source.kind ? this.#session.follow(this.source.video) : () => {};
    this.#clear();
    const box = byId("picture-empty");
    box.hidden = Boolean(this.source.kind);
    byId("flow-empty").hidden = Boolean(this.source.kind);
    byId("wheel").hidden = !this.source.kind;
    box.replaceChildren(...this.#invitation());
    byId("live-source").replaceChildren(...this.#controls());
    this.applyPreferences();
  }

  /** All screens get the shape of the picture. */
  #shape() {
    const { videoWidth, videoHeight } = byId("video");
    const ratio = Math.min(2, Math.max(1, videoWidth / videoHeight || 4 / 3));
    byId("stage").style.setProperty("--ratio", ratio);
  }

  #invitation() {
    const [title, text] = this.source.trouble ?? [
      "See yourself recognised",
      "Pictures go to the machine that runs rgbflow and nowhere else. It keeps none of them.",
    ];
    const start = make("button", { type: "button", className: "primary", onclick: () => this.openCamera() }, this.source.trouble ? "Try again" : "Start the camera");
    return [make("h2", {}, title), make("p", {}, text), make("div", { className: "actions" }, start, filePicker("Choose a video", (file) => this.source.openFile(file)))];
  }

  #controls() {
    if (!this.source.kind) return [];
    const name = this.source.kind === "file" ? this.source.name : "Camera";
    const stop = make("button", { type: "button", onclick: () => this.source.close() }, "Stop");
    return [make("span", { className: "soft", title: name }, name), stop];
  }

  openCamera() {
    return this.source.openCamera(this.#preferences.camera);
  }

  #clear() {
    this.#latest = this.#flow = null;
    this.scores.clear();
    this.timeline.clear();
    this.timing.clear();
    this.puppet.act(null);
    this.#label = this.#action = null;
    this.#caption();
  }

  #gone() {
    this.#latest = null; // what came just before is not drawn after
    this.scores.clear();
    this.timeline.close(now() + this.#clock);
    this.#label = this.#action = null;
    this.puppet.act(null);
    this.#caption();
  }

  #update(message) {
    this.#latest = { ...message, arrived: now() };
  }

  #event(message) {
    this.timeline.add(message);
    if (message.kind === "start") byId("said").textContent = `${plain(message.label)} starts`;
  }

  async #showFlow({ picture }) {
    if (this.#flow === "decoding") return;
    this.#flow = "decoding";
    this.#flow = await createImageBitmap(picture).catch(() => null);
  }

  /** What came since the last frame of the screen is drawn in the next one. */
  #frame() {
    requestAnimationFrame(() => this.#frame());
    if (byId("view-live").hidden) return;
    if (this.#latest) this.#draw(this.#latest);
    this.#latest = null;
    if (this.#flow && this.#flow !== "decoding") {
      drawPicture(byId("flow"), this.#flow);
      this.#flow = null;
    }
    this.#animate(performance.now());
  }

  /** What moves by itself needs fewer pictures than the screen shows, and without a GPU each one costs. */
  #animate(at) {
    if (at - this.#animated < ANIMATION_MS) return;
    this.#animated = at;
    this.puppet.draw(at);
    if (at - this.#scrolled < SCROLL_MS) return;
    this.#scrolled = at;
    this.timeline.draw(now() + this.#clock);
  }

  #draw(update) {
    const { scores, label, time } = update;
    this.#clock = time - now();
    this.#action = update.action;
    this.#label = label;
    this.#best = scores[0].label;
    this.#score = scores.find((row) => row.label === update.action)?.fused ?? update.score;
    const isUnsure = label === "unknown" && !update.action && this.#best !== this.scores.noAction;
    this.#unsureSince = isUnsure ? (this.#unsureSince ?? time) : null;
    this.#needsHelp = isUnsure && time - this.#unsureSince > UNSURE_SECONDS;
    this.scores.show(scores, label);
    this.timeline.push(time, scores[0]);
    this.timing.drops = update.dropped + this.#session.skipped;
    const isKnown = this.puppet.act(update.action);
    byId("avatar-note").textContent = update.action && !isKnown ? `has not learnt to ${plain(update.action)}` : "does what both say";
    this.#caption();
    const drawn = () => this.timing.push(stagesOf(update, this.#session.sentAt(update.number), now()), now() - time);
    afterPaint(drawn);
  }

  #caption() {
    const label = byId("label");
    const sub = byId("label-sub");
    const help = byId("label-help");
    const shown = this.#action ?? this.#label; // an action in progress keeps its name while its score dips
    const text = shown ? plain(shown) : this.source.kind ? "…" : "Nothing yet";
    if (label.textContent !== text) label.textContent = text;
    label.classList.toggle("faint", !shown || shown === "unknown");
    if (this.#label) sub.textContent = this.#certainty();
    else if (this.source.kind && this.#session.state !== "open") sub.textContent = "Waiting for the server.";
    else if (!this.source.kind) sub.textContent = "Start the camera, or drop a video on the picture.";
    else if (this.classes && !this.classes.length) sub.textContent = "There is no action to recognise yet: teach the first one.";
    else sub.textContent = "The first stack of motion is filling.";
    const isHelped = Boolean(this.#label) && this.#needsHelp;
    if (isHelped && help.hidden) help.replaceChildren(...whatHelps(this.#isTaught));
    help.hidden = !isHelped;
  }

  #certainty() {
    const sure = `${percent(this.#score)} sure`;
    if (this.#action) return `going on · ${sure}`;
    if (this.#best === this.scores.noAction) return `none of the actions · ${sure}`;
    const least = `${percent(this.#needed)} is the least for an action`;
    if (this.#label === "unknown") return `most like ${plain(this.#best)} · ${sure}, ${least}`;
    return this.#score < this.#needed ? `${sure}, ${least}` : `${sure}, not long enough to call it an action`;
  }
}

/** Seconds by stage. sent: when the frame left the browser; what the server did not spend after it was spent between. */
function stagesOf({ seconds, latency_seconds: atServer, time, arrived }, sent, drawn) {
  const network = Math.max(0, arrived - sent - atServer);
  return { encoding: sent - time, ...seconds, network, drawing: drawn - arrived };
}

/** Called while a frame of the screen is made: `act` runs once it was painted. */
function afterPaint(act) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = act;
  port2.postMessage(null);
}

function drawPicture(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

/** The legend of flow's colours: `rgbflow.flow.flow_picture`, right is red, down yellow-green. */
function drawWheel(canvas) {
  const context = canvas.getContext("2d");
  const [size, radius] = [canvas.width, canvas.width / 2];
  const hue = context.createConicGradient(0, radius, radius);
  for (let i = 0; i <= 12; i++) hue.addColorStop(i / 12, `hsl(${30 * i} 100% 50%)`);
  const pale = context.createRadialGradient(radius, radius, 0, radius, radius, radius);
  pale.addColorStop(0, "white");
  pale.addColorStop(1, "rgb(255 255 255 / 0)");
  for (const fill of [hue, pale]) {
    context.fillStyle = fill;
    context.beginPath();
    context.arc(radius, radius, size / 2, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Whether the networks were taught in a page. */
export const isTaught = ({ name }) => name === "taught";

/** What a visitor can do who gets no name. */
function whatHelps(isTaught) {
  const lower = make("button", { type: "button", className: "quiet", onclick: () => byId("open-settings").click() }, "Accept less sure answers");
  if (!isTaught) return [lower];
  return [make("a", { href: "#teach" }, "Record more takes"), ", of several people if you can, or ", lower, "."];
}

function noActions() {
  const link = make("a", { href: "#teach", className: "button primary" }, "Teach the first action");
  return make("div", { className: "hint" }, make("p", {}, "No bundle is loaded, so there is nothing to recognise yet."), link);
}
