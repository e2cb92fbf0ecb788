/** Where the time goes between the capture of a frame and its label on the screen: medians of the last updates. */

const KEPT = 60;
const NEWEST = 12;

/** The stages in the order in which a frame passes them, and the colour of each. */
const STAGES = [
  ["encoding", "capture and JPEG", "soft"],
  ["network", "network", "deep"],
  ["wait", "waiting", "track"],
  ["decode", "decoding", "line-strong"],
  ["flow", "flow", "mist"],
  ["flow network", "flow network", "flow"],
  ["rgb network", "rgb network", "rgb"],
  ["fusion", "fusion", "fused"],
  ["drawing", "drawing", "warm"],
];

export class Timing {
  #records = [];
  #arrivals = [];

  constructor(box, rate) {
    Object.assign(this, { box, rate });
    this.drops = 0;
    this.#build();
  }

  /** stages: seconds by stage; total: seconds from capture to label. */
  push(stages, total) {
    this.#records.push({ ...stages, total });
    this.box.dispatchEvent(new CustomEvent("timed", { detail: { ...stages, total } })); // benchmarks/browser.py listens
    this.#arrivals.push(performance.now());
    if (this.#records.length > KEPT) this.#records.shift();
    while (this.#arrivals[0] < performance.now() - 3000) this.#arrivals.shift();
  }

  clear() {
    this.#records = [];
    this.#arrivals = [];
  }

  /** Median milliseconds from capture to label. */
  get median() {
    return 1000 * median(this.#records.map((record) => record.total));
  }

  /** Median seconds that the newest labels waited outside the server: a browser that can't keep up lets them wait. */
  get lag() {
    return median(this.#records.slice(-NEWEST).map((record) => record.network + record.drawing));
  }

  draw() {
    this.rate.textContent = this.#records.length ? `${(this.#arrivals.length / 3).toFixed(0)} updates a second` : "";
    this.total.textContent = this.#records.length ? this.median.toFixed(0) : "–";
    this.lost.textContent = this.drops;
    for (const [key, item] of this.items) {
      const values = this.#records.map((record) => record[key]).filter((value) => value !== undefined);
      const value = values.length ? 1000 * median(values) : 0;
      item.part.style.flexGrow = value;
      item.figure.textContent = values.length ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : "–";
    }
  }

  #build() {
    const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
    const figures = make("dl", "figures");
    const figure = (name, unit) => {
      const box = make("div", "");
      const value = make("span", "big", "–");
      const shown = make("dd", "");
      shown.append(value, unit);
      box.append(make("dt", "", name), shown);
      figures.append(box);
      return value;
    };
    this.total = figure("capture to label", " ms");
    this.lost = figure("frames dropped", "");
    const bar = make("div", "stages");
    bar.setAttribute("aria-hidden", "true");
    const list = make("dl", "stage-list");
    this.items = new Map(
      STAGES.map(([key, name, colour]) => {
        const part = make("i", "");
        part.style.background = `var(--${colour})`;
        const mark = make("i", "");
        mark.style.background = `var(--${colour})`;
        const term = make("dt", "");
        term.append(mark, name);
        const value = make("dd", "", "–");
        const row = make("div", "");
        row.append(term, value);
        bar.append(part);
        list.append(row);
        return [key, { part, figure: value }];
      }),
    );
    this.box.append(figures, bar, list);
  }
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : NaN;
}
