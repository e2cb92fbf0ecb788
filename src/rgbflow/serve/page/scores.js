/** The scores of all classes as a table of bars: fused above, rgb and flow below it. */

import { plain } from "./dom.js";

const FEW = 12; // up to so many classes keep their places; of more the likeliest are shown

const REORDER_MS = 700;
const NOTHING = { fused: 0, rgb: 0, flow: 0 };
const STREAMS = ["fused", "rgb", "flow"];

export class Scores extends EventTarget {
  #rows = new Map();
  #body;
  #more;
  #order = [];
  #ordered = 0;

  /** Tells "more" when another number of classes is shown: `wanted`. */
  constructor(box) {
    super();
    this.box = box;
    this.showsAll = false;
    this.classes = [];
  }

  /** Begin anew with these classes. streams: those that the bundle has; noAction: the class of none of them. */
  setClasses(classes, streams, noAction = null) {
    this.classes = classes;
    this.noAction = noAction;
    this.streams = STREAMS.filter((stream) => stream === "fused" || streams.includes(stream));
    this.#rows = new Map();
    this.#order = [...classes];
    this.box.replaceChildren();
    if (!classes.length) return;
    const table = document.createElement("table");
    table.className = "scores";
    const head = table.createTHead().insertRow();
    head.append(...["Action", ...this.streams].map((text, i) => cell("th", text, { scope: "col", className: i ? "number" : "" })));
    table.tHead.className = "unseen";
    this.#body = table.createTBody();
    for (const name of classes) this.#rows.set(name, this.#row(name));
    this.box.append(table);
    this.#addMore();
    this.#arrange();
  }

  /** rows: [{label, fused, rgb, flow}] of some classes, best first; the others have almost nothing. */
  show(rows, best) {
    const given = new Map(rows.map((row) => [row.label, row]));
    for (const [name, row] of this.#rows) this.#fill(row, given.get(name) ?? NOTHING, name === best);
    if (this.classes.length > FEW && performance.now() - this.#ordered > REORDER_MS) {
      this.#ordered = performance.now();
      const rest = this.classes.filter((name) => !given.has(name));
      this.#order = [...rows.map((row) => row.label).filter((name) => this.#rows.has(name)), ...rest];
      this.#arrange();
    }
  }

  /** No scores are known. */
  clear() {
    for (const row of this.#rows.values()) this.#fill(row, {}, false);
  }

  #fill(row, values, isBest) {
    for (const stream of this.streams) {
      const value = values[stream];
      row.bars[stream].style.transform = `scaleX(${value ?? 0})`;
      const text = percent(value);
      if (row.numbers[stream].textContent !== text) row.numbers[stream].textContent = text;
    }
    row.element.classList.toggle("best", isBest);
  }

  /** How many classes have to be known. */
  get wanted() {
    return this.showsAll || this.classes.length <= FEW ? Math.max(1, this.classes.length) : FEW;
  }

  #row(name) {
    const element = document.createElement("tr");
    const row = { element, bars: {}, numbers: {} };
    const title = cell("th", name === this.noAction ? "none of them" : plain(name), { scope: "row", title: name });
    const bars = document.createElement("span");
    bars.className = "bars";
    for (const stream of this.streams) {
      const bar = document.createElement("i");
      bar.className = stream;
      bars.append(bar);
      row.bars[stream] = bar;
      row.numbers[stream] = cell("td", "–", { className: `number ${stream}` });
    }
    title.append(bars);
    element.append(title, ...STREAMS.filter((s) => s in row.numbers).map((s) => row.numbers[s]));
    return row;
  }

  #arrange() {
    const shown = this.classes.length > FEW && !this.showsAll ? this.#order.slice(0, FEW) : this.#order;
    const elements = shown.map((name) => this.#rows.get(name).element);
    const present = [...this.#body.children];
    if (elements.length !== present.length || elements.some((element, i) => element !== present[i])) {
      this.#body.replaceChildren(...elements);
    }
  }

  #addMore() {
    if (this.classes.length <= FEW) return;
    this.#more = document.createElement("button");
    this.#more.type = "button";
    this.#more.className = "quiet";
    this.#more.onclick = () => {
      this.showsAll = !this.showsAll;
      this.#name();
      this.#arrange();
      this.dispatchEvent(new Event("more"));
    };
    this.#name();
    this.box.append(this.#more);
  }

  #name() {
    this.#more.textContent = this.showsAll ? `Show the ${FEW} likeliest` : `Show all ${this.classes.length}`;
    this.#more.setAttribute("aria-expanded", this.showsAll);
  }
}

/** A score as it is read; – where there is none. */
export function percent(value) {
  return value === undefined || value === null ? "–" : `${Math.round(100 * value)}\u2009%`;
}

function cell(tag, text, properties) {
  const element = Object.assign(document.createElement(tag), properties);
  const inner = document.createElement("span");
  inner.textContent = text;
  element.append(tag === "th" && properties.scope === "row" ? inner : text);
  return element;
}
