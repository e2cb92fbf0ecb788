/** What a visitor can choose; kept in this browser. */

import { cameras } from "./camera.js";
import { byId, make } from "./dom.js";
import { percent } from "./scores.js";

const KEY = "rgbflow.settings";
const DEFAULTS = { flow_picture: true, mirror: true, camera: "", width: 320, rate: 25, window_seconds: null, start_score: null, min_seconds: null };

export function loadPreferences() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

function save(preferences) {
  localStorage.setItem(KEY, JSON.stringify(preferences));
}

/** What the server does for this session: the chosen settings; null is its usual value. */
export function wishes({ flow_picture, window_seconds, start_score, min_seconds }) {
  return { flow_picture, window_seconds, start_score, min_seconds };
}

/**
 * The dialog. suggested: the score that starts an action unless another is chosen; null where it is not known.
 * `changed(key)` is called after each change of `preferences`.
 */
export async function openSettings(preferences, suggested, changed) {
  const dialog = byId("settings");
  const set = (key, value) => {
    preferences[key] = value;
    save(preferences);
    changed(key);
  };
  const close = make("button", { type: "button", className: "icon", ariaLabel: "Close", onclick: () => dialog.close() }, "×");
  const found = [{ id: "", name: "The usual one" }, ...(await cameras()).filter((camera) => camera.id)];
  dialog.replaceChildren(
    make("div", { className: "card-head" }, make("h2", { id: "settings-title" }, "Settings"), close),
    group("Picture",
      choice("Camera", preferences.camera, found.map(({ id, name }) => [id, name]), (value) => set("camera", value)),
      tick("Mirror the camera", "As in a mirror, on this page only. What the networks read is never mirrored.", preferences.mirror, (value) => set("mirror", value)),
      tick("Show the flow", "The server sends its picture of each frame's motion: about 100 kB a second.", preferences.flow_picture, (value) => set("flow_picture", value)),
    ),
    group("Recognition",
      choice("Scores are of the last", preferences.window_seconds, usual("as usual", [1, 1.5, 2, 3, 4], (value) => `${value} seconds`), (value) => set("window_seconds", number(value))),
      choice("An action starts when it is this sure", preferences.start_score, usual(`as the bundle suggests${suggested === null ? "" : ` (${percent(suggested)})`}`, [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], percent), (value) => set("start_score", number(value))),
      make("p", { className: "soft" }, "Lower: more is named, and more of it wrongly."),
      choice("and lasts at least", preferences.min_seconds, usual("as usual", [0.2, 0.5, 1, 2], (value) => `${value} seconds`), (value) => set("min_seconds", number(value))),
    ),
    group("What is sent",
      choice("Width of the frames", preferences.width, [[192, "192 pixels"], [256, "256 pixels"], [320, "320 pixels"], [480, "480 pixels"], [640, "640 pixels"]], (value) => set("width", Number(value))),
      choice("Frames a second, at most", preferences.rate, [[5, "5"], [10, "10"], [15, "15"], [25, "25"], [30, "30"]], (value) => set("rate", Number(value))),
    ),
  );
  dialog.showModal();
}

function group(title, ...fields) {
  return make("fieldset", {}, make("legend", {}, title), ...fields);
}

function choice(name, value, options, take) {
  const select = make("select", { onchange: () => take(select.value) }, ...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value ?? "";
  return make("label", { className: "field" }, name, select);
}

function usual(unchosen, values, name) {
  return [["", unchosen], ...values.map((value) => [value, name(value)])];
}

const number = (text) => (text === "" ? null : Number(text));

function tick(name, text, value, take) {
  const input = make("input", { type: "checkbox", checked: value, onchange: () => take(input.checked) });
  return make("label", { className: "tick" }, input, make("span", {}, name, make("small", {}, text)));
}
