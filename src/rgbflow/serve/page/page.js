/** The page: its views, its link to the server, its theme. */

import { byId, make } from "./dom.js";
import { LiveView, isTaught } from "./live.js";
import { connect } from "./rgbflow.js";
import { TeachView } from "./teach.js";
import { VideoView } from "./video.js";
import { loadPreferences, openSettings, wishes } from "./settings.js";

const VIEWS = [...document.querySelectorAll(".top nav a")].map((link) => link.hash.slice(1));
const THEMES = [["", "as the system"], ["light", "light"], ["dark", "dark"]];
const TOKEN = "rgbflow.token";

const preferences = loadPreferences();
let suggested = null; // the score that starts an action, as the bundle has it
const puppetData = await (await fetch("puppet.json")).json();
const session = connect({
  token: sessionStorage.getItem(TOKEN) ?? "",
  settings: wishes(preferences),
  width: preferences.width,
  rate: preferences.rate,
});
const live = new LiveView(session, preferences, puppetData);
new VideoView(session);
new TeachView(session, preferences);

function showView() {
  const wanted = location.hash.slice(1);
  const current = VIEWS.includes(wanted) ? wanted : "live";
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== current;
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = current === "live" ? "rgbflow" : `${current[0].toUpperCase()}${current.slice(1)} · rgbflow`;
}
addEventListener("hashchange", () => {
  showView();
  byId("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
showView();

/* The link */

let countdown = 0;

session.addEventListener("state", ({ detail }) => {
  clearInterval(countdown);
  const texts = { open: "connected", connecting: "connecting", waiting: "server gone", refused: "token needed", closed: "closed" };
  byId("link").dataset.state = detail.state;
  byId("link-text").textContent = texts[detail.state];
  if (detail.state === "waiting") tellGone(detail);
  else if (detail.state === "open") byId("notice").hidden = true;
  if (detail.state === "refused") askForToken();
});

session.addEventListener("hello", ({ detail }) => describe(detail));
session.addEventListener("bundle", ({ detail }) => describe(detail));
session.addEventListener("notice", ({ detail }) => tell(detail.message));
session.addEventListener("error", ({ detail }) => tell(detail.message));

function describe({ bundle, fusion, classes, no_action }) {
  suggested = fusion?.threshold ?? null;
  const from = { given: "", demo: " (the demo's)", imagenet: "" }[bundle.source];
  const name = bundle.name.split("/").slice(-2).join("/");
  const what = !classes.length ? "Nothing is taught yet" : isTaught(bundle) ? "Taught here" : `Bundle ${name}${from}`;
  const parts = [what, classes.length && `${classes.filter((name) => name !== no_action).length} actions`, bundle.streams.join(" and "), fusion && `fused by ${fusion.method}`, bundle.engine, bundle.engine_note];
  byId("about").textContent = parts.filter(Boolean).join(" · ");
}

function tellGone({ retryIn, reason }) {
  const until = performance.now() + 1000 * retryIn;
  const left = make("span", { ariaHidden: "true" });
  const again = make("button", { type: "button", onclick: () => session.retry() }, "Try now");
  const tick = () => (left.textContent = ` Next attempt in ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s.`);
  tick();
  countdown = setInterval(tick, 500);
  const why = reason ? `The server ended the connection: ${reason}.` : "The server can't be reached. The page goes on by itself when the server is back.";
  tell(why, left, again);
}

function tell(text, ...more) {
  const box = byId("notice");
  box.replaceChildren(make("p", { role: "status" }, text), ...more);
  box.hidden = false;
}

function askForToken() {
  const dialog = byId("token");
  byId("token-wrong").textContent = session.token ? "The server does not know that token." : "";
  byId("token-input").value = "";
  dialog.showModal();
}
byId("token").addEventListener("close", () => {
  const token = byId("token-input").value.trim();
  if (!token) return;
  sessionStorage.setItem(TOKEN, token);
  session.retry(token);
});

/* Settings and theme */

byId("open-settings").onclick = () =>
  openSettings(preferences, suggested, (key) => {
    if (key in wishes(preferences)) session.set({ [key]: preferences[key] });
    if (key === "width" || key === "rate") session[key] = preferences[key];
    if (key === "camera" && live.source.kind === "camera") live.openCamera();
    live.applyPreferences();
  });

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const [, name] = THEMES.find(([key]) => key === theme) ?? THEMES[0];
  byId("theme").setAttribute("aria-label", `Theme: ${name}`);
  byId("theme").title = `Theme: ${name}`;
}
byId("theme").onclick = () => {
  const current = THEMES.findIndex(([key]) => key === document.documentElement.dataset.theme);
  const [next] = THEMES[(current + 1) % THEMES.length];
  localStorage.setItem("rgbflow.theme", next);
  setTheme(next);
};
setTheme(localStorage.getItem("rgbflow.theme") ?? "");
