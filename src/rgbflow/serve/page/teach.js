/** The view Teach: takes of own actions are recorded or dropped, trained on, and used at once. */

import { Source, filePicker, takesDrops } from "./camera.js";
import { byId, make, plain, reasonOf } from "./dom.js";

const COUNTDOWN = 3; // seconds before the first take
const PAUSE = 1; // before each further one
const LENGTHS = [1.5, 2, 3, 4, 6];
const COUNTS = [1, 3, 5, 10];
const KINDS = ["video/webm;codecs=vp8", "video/webm", "video/mp4"]; // the first that the browser can record

const FEW_NAMED = 60; // percent: below it the visitor is told what helps
const NONE = "none"; // the name of recordings that show none of the actions

/* Figures of the report: key, unit, what it is, how it was measured. */
const FIGURES = [
  ["accuracy", "\u2009%", "told apart", "of the takes, each left out in turn"],
  ["found", "\u2009%", "named", "too: the answer is sure enough to count"],
  ["false_names", "\u2009%", "wrongly named", "of the takes of an action that was left out"],
  ["false_starts_per_hour", "", "false starts", "an hour, while nothing happens"],
];

const shown = (name) => (name === NONE ? "none of them" : plain(name));
const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export class TeachView {
  #session;
  #preferences;
  #state = null; // what the server said last
  #busy = ""; // what is being done
  #isStopped = false; // the visitor wants no more takes

  constructor(session, preferences) {
    this.#session = session;
    this.#preferences = preferences;
    this.#build();
    this.source = new Source(this.video);
    this.source.addEventListener("change", () => this.#sourceChanged());
    this.#sourceChanged();
    session.addEventListener("hello", () => this.refresh());
    session.addEventListener("bundle", () => this.refresh());
  }

  /** Read from the server what is taught. */
  async refresh() {
    if (await this.#ask("GET", "")) return;
    this.list.replaceChildren(make("li", { className: "soft" }, "What is taught is not known."));
  }

  /* What is on the page */

  #build() {
    this.video = make("video", { muted: true, playsInline: true });
    this.overlay = make("div", { className: "countdown", ariaHidden: "true", hidden: true });
    this.empty = make("div", { className: "empty" });
    this.screen = make("div", { className: "screen recorder" }, this.video, this.overlay, this.empty);
    this.trouble = make("p", { className: "wrong", role: "alert" });
    this.list = make("ul", { className: "taught" });
    this.total = make("span", { className: "soft" });
    this.report = make("div", { className: "report" });
    this.trainButton = button("Train", () => this.#train(), "primary");
    this.undoButton = button("Undo", () => this.#ask("POST", "/undo"));
    this.saveButton = button("Save as a bundle", () => this.#save());
    byId("teach-source").replaceChildren(this.undoButton);
    byId("teach-body").replaceChildren(
      make("section", { className: "card", ariaLabel: "Record" }, this.screen, this.#form(), this.trouble),
      make("div", { className: "stack" },
        make("section", { className: "card", ariaLabel: "Actions" }, make("div", { className: "card-head" }, make("h2", {}, "Actions"), this.total), this.list),
        make("section", { className: "card", ariaLabel: "Training" },
          make("div", { className: "card-head" }, make("h2", {}, "Training"), make("div", { className: "actions" }, this.saveButton, this.trainButton)), this.report),
      ),
    );
    takesDrops(byId("view-teach"), (files) => this.#addFiles(files));
  }

  #form() {
    this.name = make("input", { type: "text", maxLength: 60, autocomplete: "off", spellcheck: false, placeholder: "wave" });
    this.name.setAttribute("list", "teach-names");
    this.name.oninput = () => this.#enable();
    this.names = make("datalist", { id: "teach-names" });
    this.length = select(LENGTHS, (seconds) => `${seconds} s`, 2);
    this.count = select(COUNTS, (count) => (count === 1 ? "1 take" : `${count} takes`), 3);
    this.recordText = make("span", {}, "Record");
    this.recordButton = make("button", { type: "submit", className: "record" }, make("i", {}), this.recordText);
    this.files = filePicker("Add videos", (files) => this.#addFiles(files), { multiple: true });
    const field = (text, control, className = "") => make("label", { className: `field ${className}` }, text, control);
    const form = make("form", { className: "take-form" },
      field("Name of the action", this.name, "name"), this.names,
      field("Length", this.length), field("Number", this.count),
      make("div", { className: "actions" }, this.recordButton, this.files),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      if (this.#busy === "recording") this.#isStopped = true;
      else this.#record();
    };
    return form;
  }

  #sourceChanged() {
    const { kind, trouble } = this.source;
    this.empty.hidden = Boolean(kind);
    this.screen.classList.toggle("mirrored", this.#preferences.mirror);
    const [title, text] = trouble ?? ["Show it what you mean", "Stand where the camera sees all of the movement. Takes are kept by the server until they are deleted here."];
    this.empty.replaceChildren(
      make("h2", {}, title), make("p", {}, text),
      make("div", { className: "actions" }, button(trouble ? "Try again" : "Start the camera", () => this.source.openCamera(this.#preferences.camera), "primary")),
    );
    this.#enable();
  }

  #show(state) {
    this.#state = state;
    const { actions } = state;
    const takes = actions.reduce((sum, action) => sum + action.takes.length, 0);
    this.total.textContent = actions.length ? `${counted(takes, "take")} of ${counted(actions.length, "action")}` : "";
    this.list.replaceChildren(...(actions.length ? actions.map((action) => this.#item(action)) : [firstSteps()]));
    this.names.replaceChildren(...actions.map((action) => make("option", { value: action.name })));
    this.report.replaceChildren(...reportOf(state, () => this.#choose(NONE)));
    this.#enable();
  }

  #enable() {
    const { actions = [], can_undo = false, report = null } = this.#state ?? {};
    const isBusy = Boolean(this.#busy);
    this.recordButton.disabled = this.#busy === "recording" ? this.#isStopped : isBusy || !this.source.kind || !this.name.value.trim();
    this.recordButton.classList.toggle("on", this.#busy === "recording");
    this.recordText.textContent = this.#busy === "recording" ? "Stop" : "Record";
    this.files.firstChild.disabled = isBusy || !this.name.value.trim();
    this.trainButton.disabled = isBusy || actions.length < 2;
    this.trainButton.textContent = this.#busy === "training" ? "Training …" : "Train";
    this.undoButton.disabled = isBusy || !can_undo;
    this.undoButton.hidden = !actions.length && !can_undo;
    this.saveButton.hidden = !report;
    this.saveButton.disabled = isBusy;
  }

  #item(action) {
    const path = `/actions/${encodeURIComponent(action.name)}`;
    const title = make("b", { title: action.name }, shown(action.name));
    const rename = button("Rename", () => this.#rename(action, item), "quiet");
    rename.setAttribute("aria-label", `Rename ${shown(action.name)}`);
    const remove = button("Delete", () => this.#ask("DELETE", path, { said: `${shown(action.name)} is deleted. Undo brings it back.` }), "quiet");
    remove.setAttribute("aria-label", `Delete ${shown(action.name)}`);
    const takes = action.takes.map((take, i) => {
      const drop = button("×", () => this.#ask("DELETE", `${path}/takes/${encodeURIComponent(take.id)}`, { said: `Take ${i + 1} is deleted. Undo brings it back.` }));
      drop.setAttribute("aria-label", `Delete take ${i + 1} of ${shown(action.name)}`);
      return make("li", {}, make("span", {}, `${i + 1}`), drop);
    });
    const more = button("+", () => this.#choose(action.name), "more");
    more.setAttribute("aria-label", `More takes of ${shown(action.name)}`);
    const item = make("li", {}, make("div", { className: "row" }, title, rename, remove), make("ul", { className: "takes" }, ...takes, make("li", {}, more)));
    return item;
  }

  #choose(name) {
    this.name.value = name;
    this.#enable();
    this.name.focus();
  }

  #rename(action, item) {
    const field = make("input", { type: "text", value: action.name, maxLength: 60, ariaLabel: `New name of ${shown(action.name)}` });
    const finish = async (isWanted) => {
      field.onblur = field.onkeydown = null;
      const name = field.value.trim();
      const isNew = isWanted && name && name !== action.name;
      if (!isNew || !(await this.#ask("PATCH", `/actions/${encodeURIComponent(action.name)}`, { json: { name } }))) this.#show(this.#state);
    };
    field.onkeydown = (event) => {
      if (event.key === "Enter") finish(true);
      if (event.key === "Escape") finish(false);
    };
    field.onblur = () => finish(true);
    item.querySelector("b").replaceWith(field);
    field.focus();
    field.select();
  }

  /* What is done */

  /** Ask the server to change what is taught; returns whether it did. */
  async #ask(method, path, { json, body, said } = {}) {
    const headers = json ? { "Content-Type": "application/json" } : body ? { "Content-Type": body.type || "application/octet-stream" } : {};
    this.trouble.textContent = "";
    try {
      const response = await this.#session.request(`teach${path}`, { method, headers, body: json ? JSON.stringify(json) : body });
      if (!response.ok) throw new Error(await reasonOf(response));
      this.#show(await response.json());
      if (said) this.#say(said);
      return true;
    } catch (error) {
      this.trouble.textContent = error instanceof TypeError ? "The server can't be reached." : error.message;
      return false;
    }
  }

  async #while(what, work) {
    this.#busy = what;
    this.#enable();
    try {
      await work();
    } finally {
      this.#busy = "";
      this.#enable();
    }
  }

  async #record() {
    const [name, seconds, count] = [this.name.value.trim(), Number(this.length.value), Number(this.count.value)];
    this.#isStopped = false;
    await this.#while("recording", async () => {
      for (let i = 0; i < count && !this.#isStopped && this.source.stream; i++) {
        this.overlay.dataset.take = count === 1 ? "" : `take ${i + 1} of ${count}`;
        await this.#countDown(i ? PAUSE : COUNTDOWN);
        if (this.#isStopped) break;
        this.#say(count === 1 ? "Recording" : `Recording take ${i + 1} of ${count}`);
        const take = await this.#take(seconds);
        if (!take || !(await this.#add(name, take, `Take ${i + 1} is kept`))) break;
      }
    });
    this.overlay.hidden = true;
  }

  async #countDown(seconds) {
    this.overlay.hidden = false;
    this.overlay.className = "countdown";
    this.#say(`Recording starts in ${seconds} seconds`);
    for (let left = seconds; left > 0 && !this.#isStopped; left--) {
      this.overlay.textContent = left;
      await sleep(1);
    }
  }

  /** Record for so many seconds: a Blob, or null where the camera went away. */
  async #take(seconds) {
    const recorder = new MediaRecorder(this.source.stream, { mimeType: KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)), videoBitsPerSecond: 2_500_000 });
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const ended = new Promise((done) => (recorder.onstop = done));
    this.overlay.className = "countdown running";
    this.overlay.style.setProperty("--seconds", `${seconds}s`);
    this.overlay.replaceChildren(make("i", {}));
    recorder.start();
    await sleep(seconds);
    if (recorder.state !== "inactive") recorder.stop();
    await ended;
    this.overlay.hidden = true;
    const take = new Blob(parts, { type: recorder.mimeType.split(";")[0] });
    return take.size && this.source.stream ? take : null;
  }

  #add(name, take, said) {
    return this.#ask("POST", `/actions/${encodeURIComponent(name)}/takes`, { body: take, said });
  }

  async #addFiles(files) {
    const name = this.name.value.trim();
    if (!name) {
      this.trouble.textContent = "Name the action first, then add its videos.";
      this.name.focus();
      return;
    }
    await this.#while("adding", async () => {
      for (const [i, file] of files.entries()) {
        if (!(await this.#add(name, file, `${i + 1} of ${files.length} videos are added`))) {
          this.trouble.prepend(`${file.name}: `);
          break;
        }
      }
    });
  }

  async #train() {
    this.#say("Training");
    await this.#while("training", () => this.#ask("POST", "/fit", { said: "Training is done. The new actions are recognised now." }));
  }

  async #save() {
    const response = await this.#session.request("teach/bundle");
    if (!response.ok) {
      this.trouble.textContent = await reasonOf(response);
      return;
    }
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: "my-actions.zip" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  #say(text) {
    byId("teach-said").textContent = text;
  }
}

const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

function button(text, act, className = "") {
  return make("button", { type: "button", onclick: act, className }, text);
}

function select(values, name, chosen) {
  const element = make("select", {}, ...values.map((value) => make("option", { value }, name(value))));
  element.value = chosen;
  return element;
}

function firstSteps() {
  const steps = [
    ["Name an action", "and record three takes of it. Move a little differently each time."],
    ["Teach a second one", "so that there is something to tell apart."],
    ["Train", "takes seconds, says how sure it can be, and is used at once."],
  ];
  return make("li", { className: "steps" }, make("ol", {}, ...steps.map(([what, how]) => make("li", {}, make("b", {}, what), ` ${how}`))));
}

/** The honest part: what was measured on takes that were left out, and what was not measured. */
function reportOf({ actions, report, is_current }, recordNone) {
  const names = actions.map((action) => action.name);
  const hint = names.length && !names.includes(NONE) ? [noneHint(recordNone)] : [];
  if (!report) {
    const missing = 2 - actions.length;
    const text = missing > 0 ? `${missing === 2 ? "Two actions are" : "One more action is"} needed.` : "Ready to train.";
    return [make("p", { className: "soft" }, text), ...hint];
  }
  const figures = FIGURES.filter(([key]) => report[key] !== null && report[key] !== undefined).map(([key, unit, what, how]) =>
    make("div", {}, make("dt", {}, make("b", {}, what), ` ${how}`), make("dd", {}, make("span", { className: "big" }, report[key].toFixed(unit ? 0 : 1)), unit)),
  );
  const notes = report.notes.map((note) => make("li", {}, note));
  return [
    make("dl", { className: "figures" }, ...figures),
    ...(notes.length ? [make("h3", {}, "What these figures do not say"), make("ul", { className: "notes" }, ...notes)] : []),
    is_current
      ? make("p", {}, `Fitted in ${report.seconds.toFixed(1)} s. `, make("a", { href: "#live" }, "See it live"))
      : make("p", {}, "The takes have changed since: train again."),
    ...(report.found !== null && report.found < FEW_NAMED ? [make("p", { className: "soft" }, "Live, much of this will stay “unknown”: answers are not sure enough for a name. More takes of each action help, of several people if you can; or accept less sure answers in the settings.")] : []),
    ...hint,
  ];
}

function noneHint(recordNone) {
  const choose = button("Record none", recordNone, "quiet");
  return make("p", { className: "soft" }, "Fewer false starts: also record what is none of the actions, such as sitting and walking about. ", choose);
}
