/** What happened when: actions as blocks on a strip, and as a list that can be read. */

import { plain } from "./dom.js";
import { fitted } from "./puppet.js";
import { percent } from "./scores.js";

const PALETTE = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2"]; // Okabe and Ito
const MOST_LISTED = 30;

/** Colours of labels in the order in which they appear, so that those seen together differ. */
class Colours {
  #labels = [];

  of(label) {
    if (!this.#labels.includes(label)) this.#labels.push(label);
    return PALETTE[this.#labels.indexOf(label) % PALETTE.length];
  }
}

/** The last minute of a live session. */
export class Timeline {
  #blocks = []; // {label, start, end (null while it goes on), score}
  #colours = new Colours();
  #trace = []; // {time, fused, rgb, flow}: scores of the likeliest class

  constructor(canvas, list, seconds = 60) {
    Object.assign(this, { canvas, list, seconds });
    this.clear();
  }

  clear() {
    this.#blocks = [];
    this.#trace = [];
    this.list.replaceChildren(Object.assign(document.createElement("li"), { className: "none", textContent: "Nothing has happened yet." }));
  }

  /** A moment of the scores. */
  push(time, values) {
    this.#trace.push({ time, ...values });
    while (this.#trace.length && this.#trace[0].time < time - this.seconds) this.#trace.shift();
  }

  /** An event as the server sends it; times are those of the frames. */
  add(event) {
    if (event.kind === "start") {
      this.#blocks.push({ label: event.label, start: event.start_seconds, end: null, score: event.score });
      if (this.#blocks.length > 200) this.#blocks.shift();
    } else {
      const open = this.#blocks.findLast((block) => block.label === event.label && block.end === null);
      const block = open ?? { label: event.label, start: event.start_seconds };
      if (!open) this.#blocks.push(block);
      Object.assign(block, { start: event.start_seconds, end: event.end_seconds, score: event.score });
    }
    this.#listBlocks();
  }

  /** The connection is gone: what went on has no end that is known. */
  close(time) {
    for (const block of this.#blocks) block.end ??= time;
    this.#listBlocks();
  }

  draw(now) {
    const { width, height } = fitted(this.canvas);
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const x = (time) => width * (1 - (now - time) / this.seconds);
    context.clearRect(0, 0, width, height);
    const lane = 22 * ratio;
    this.#drawTrace(context, x, lane + 6 * ratio, height - 16 * ratio, ratio);
    for (const block of this.#blocks) {
      const [left, right] = [x(block.start), x(block.end ?? now)];
      if (right < 0) continue;
      drawBlock(context, block.label, this.#colours.of(block.label), left, Math.max(right, left + 3 * ratio), lane, ratio);
    }
    drawTicks(context, x, now, this.seconds, width, height, ratio, ink(this.canvas, "--soft"));
  }

  #drawTrace(context, x, top, bottom, ratio) {
    const y = (value) => bottom - value * (bottom - top);
    context.strokeStyle = ink(this.canvas, "--line");
    context.lineWidth = ratio;
    for (const value of [0, 0.5, 1]) {
      context.beginPath();
      context.moveTo(0, y(value));
      context.lineTo(this.canvas.width, y(value));
      context.stroke();
    }
    for (const [stream, width] of [["rgb", 1.25], ["flow", 1.25], ["fused", 2]]) {
      context.strokeStyle = ink(this.canvas, `--${stream}`);
      context.lineWidth = width * ratio;
      context.lineJoin = "round";
      context.beginPath();
      let before = -Infinity;
      for (const point of this.#trace) {
        if (point[stream] === undefined) continue;
        if (point.time - before > 2) context.moveTo(x(point.time), y(point[stream]));
        else context.lineTo(x(point.time), y(point[stream]));
        before = point.time;
      }
      context.stroke();
    }
  }

  #listBlocks() {
    const items = this.#blocks.slice(-MOST_LISTED).reverse().map((block) => {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = this.#colours.of(block.label);
      const name = Object.assign(document.createElement("b"), { textContent: block.label.replaceAll("_", " "), title: block.label });
      const seconds = block.end === null ? "goes on" : `${(block.end - block.start).toFixed(1)} s`;
      const length = Object.assign(document.createElement("span"), { textContent: seconds });
      const score = Object.assign(document.createElement("span"), { textContent: percent(block.score ?? 0) });
      item.append(mark, name, length, score);
      return item;
    });
    if (items.length) this.list.replaceChildren(...items);
  }
}

/** A whole video on a strip, with the place where it is played. */
export class Strip {
  #colours = new Colours();

  constructor(canvas, segments, length) {
    Object.assign(this, { canvas, segments, length });
  }

  colour(label) {
    return label === "unknown" ? "transparent" : this.#colours.of(label);
  }

  draw(time) {
    const { width, height } = fitted(this.canvas);
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    const x = (seconds) => (seconds / this.length) * width;
    context.clearRect(0, 0, width, height);
    for (const { label, start_seconds: start, end_seconds: end } of this.segments) {
      if (label !== "unknown") drawBlock(context, label, this.colour(label), x(start), x(end) - ratio, height, ratio);
    }
    context.fillStyle = ink(this.canvas, "--ink");
    context.fillRect(x(time) - ratio, 0, 2 * ratio, height);
  }
}

function drawBlock(context, label, colour, left, right, height, ratio) {
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(left, 0, right - left, height, 3 * ratio);
  context.fill();
  context.save();
  context.clip();
  context.fillStyle = isDark(colour) ? "#ffffff" : "#14171a";
  context.font = `600 ${11.5 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "middle";
  const room = Math.max(left, 0) + 6 * ratio;
  if (right - room > 26 * ratio) context.fillText(fitting(context, plain(label), right - room - 3 * ratio), room, height / 2 + ratio / 2);
  context.restore();
}

/** As much of a text as there is room for, with … for the rest; nothing where that is too little to be read. */
function fitting(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > room) length -= 1;
  return length < 4 ? "" : `${text.slice(0, length).trimEnd()}…`;
}

function isDark(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.18;
}

function drawTicks(context, x, now, seconds, width, height, ratio, colour) {
  context.fillStyle = colour;
  context.font = `${10.5 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "bottom";
  for (let ago = 0; ago <= seconds; ago += seconds / 4) {
    const text = ago ? `${ago} s` : "now";
    context.textAlign = ago === 0 ? "right" : ago === seconds ? "left" : "center";
    context.fillText(text, x(now - ago), height);
  }
  context.textAlign = "left";
}

const probes = new Map();

/** A colour of the style sheet as it is in the theme that is shown; canvases don't know `var` and `light-dark`. */
export function ink(element, name) {
  const key = `${name} ${getComputedStyle(document.documentElement).colorScheme} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
  if (!probes.has(key)) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    element.parentElement.append(probe);
    probes.set(key, getComputedStyle(probe).color);
    probe.remove();
  }
  return probes.get(key);
}
