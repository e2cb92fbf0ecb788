/** The scores of all classes as a table of bars: fused above, rgb and flow below it. */

const FEW = 12; // up to so many classes keep their places; of more the likeliest are shown

const STREAMS = ["fused", "rgb", "flow"];

export class Scores {
  #rows = new Map();
  #body;
  #more;
  #order = [];
  #ordered = 0;

  constructor(box) {
    this.box = box;
    this.showsAll = false;
    this.classes = [];
  }

  /** Begin anew with these classes. streams: those that the bundle has. */
  setClasses(classes, streams) {
    this.classes = classes;
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

  /** scores: {fused: {class: 0..1}, rgb: …, flow: …}; label: the class to lift out, null where there are no scores. */
  show(scores, label) {
    for (const [name, row] of this.#rows) {
      for (const stream of this.streams) {
        const value = scores[stream]?.[name] ?? 0;
        row.bars[stream].style.transform = `scaleX(${value})`;
        const text = label === null ? "–" : percent(value);
        if (row.numbers[stream].textContent !== text) row.numbers[stream].textContent = text;
      }
      row.element.classList.toggle("best", name === label);
    }
    if (this.classes.length > FEW && performance.now() - this.#ordered > 700) {
      this.#ordered = performance.now();
      this.#order = [...this.classes].sort((a, b) => (scores.fused[b] ?? 0) - (scores.fused[a] ?? 0));
      this.#arrange();
    }
  }

  clear() {
    if (this.classes.length) this.show({ fused: {}, rgb: {}, flow: {} }, null);
  }

  #row(name) {
    const element = document.createElement("tr");
    const row = { element, bars: {}, numbers: {} };
    const title = cell("th", name.replaceAll("_", " "), { scope: "row", title: name });
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
    };
    this.#name();
    this.box.append(this.#more);
  }

  #name() {
    this.#more.textContent = this.showsAll ? `Show the ${FEW} likeliest` : `Show all ${this.classes.length}`;
    this.#more.setAttribute("aria-expanded", this.showsAll);
  }
}

export function percent(value) {
  return `${Math.round(100 * value)}\u2009%`;
}

function cell(tag, text, properties) {
  const element = Object.assign(document.createElement(tag), properties);
  const inner = document.createElement("span");
  inner.textContent = text;
  element.append(tag === "th" && properties.scope === "row" ? inner : text);
  return element;
}
