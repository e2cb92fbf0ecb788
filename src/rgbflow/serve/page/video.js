/** The view Video: a whole video is sent to the server, which answers with what happens when. */

import { filePicker, takesDrops } from "./camera.js";
import { byId, make, plain, reasonOf } from "./dom.js";
import { Strip } from "./timeline.js";
import { percent } from "./scores.js";

export class VideoView {
  #session;
  #request = null;
  #address = null; // of the file, for the player

  constructor(session) {
    this.#session = session;
    takesDrops(byId("view-video"), ([file]) => this.open(file));
    this.#invite();
  }

  #invite(trouble = null) {
    byId("video-source").replaceChildren();
    byId("video-label").textContent = "What happens when?";
    byId("video-sub").textContent = "Every frame is read, so the times are more exact than live ones.";
    const text = trouble ?? "MP4, WebM, MKV, AVI and more. The server reads the video and then deletes it.";
    const box = make("div", { className: "drop" },
      make("h2", {}, trouble ? "That did not work" : "Drop a video here"),
      make("p", { role: trouble ? "alert" : "none" }, text),
      filePicker(trouble ? "Choose another one" : "Choose a video", (file) => this.open(file), { isPrimary: true }),
    );
    byId("video-body").replaceChildren(box);
  }

  async open(file) {
    this.#request?.abort();
    this.#caption(file.name, "Sending …", [make("button", { type: "button", onclick: () => this.#cancel() }, "Cancel")]);
    const bar = make("progress", { max: 1, value: 0, ariaLabel: "Sent" });
    const note = make("p", { role: "status" }, "The video is on its way to the server.");
    byId("video-body").replaceChildren(make("div", { className: "drop" }, bar, note));
    try {
      const answer = await this.#send(file, (share) => {
        bar.value = share;
        if (share < 1) return;
        bar.removeAttribute("value");
        byId("video-sub").textContent = "Looking at it …";
        note.textContent = "The server looks at every frame. This takes about as long as the video, or less.";
      });
      this.#show(file, answer.segments);
    } catch (error) {
      if (error.name !== "AbortError") this.#invite(`${file.name}: ${error.message}`);
    }
  }

  #cancel() {
    this.#request?.abort();
    this.#invite();
  }

  /** `fetch` can't say how much was sent; this can. */
  #send(file, progress) {
    const request = new XMLHttpRequest();
    this.#request = request;
    request.open("POST", new URL("predict?timeline=true", this.#session.server));
    if (this.#session.token) request.setRequestHeader("Authorization", `Bearer ${this.#session.token}`);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.upload.onload = () => progress(1);
    return new Promise((resolve, reject) => {
      request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
      request.onerror = () => reject(new Error("The server can't be reached. Is it still running?"));
      request.onload = async () => {
        const response = new Response(request.response, { status: request.status, statusText: request.statusText });
        if (response.ok) resolve(await response.json());
        else reject(new Error(await reasonOf(response)));
      };
      request.send(file);
    });
  }

  #caption(name, sub, controls) {
    byId("video-label").textContent = name;
    byId("video-sub").textContent = sub;
    byId("video-source").replaceChildren(...controls);
  }

  #show(file, segments) {
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = URL.createObjectURL(file);
    const named = segments.filter((segment) => segment.label !== "unknown");
    const length = segments.at(-1)?.end_seconds ?? 0;
    const found = { 0: "No action", 1: "1 action" }[named.length] ?? `${named.length} actions`;
    this.#caption(file.name, `${found} in ${length.toFixed(1)} s`, [filePicker("Another video", (next) => this.open(next))]);

    const player = make("video", { src: this.#address, controls: true, muted: true, playsInline: true });
    const strip = new Strip(make("canvas", { className: "strip", role: "img", ariaLabel: "The same as the list" }), segments, length);
    const items = segments.map((segment) => this.#item(segment, player, strip));
    const list = make("ol", { className: "segments" }, ...items);
    const unplayable = make("p", { className: "soft", hidden: true }, "This browser can't play the video; the server could read it.");
    player.onerror = () => {
      player.hidden = true;
      unplayable.hidden = false;
    };
    const follow = () => {
      if (!player.isConnected) return;
      strip.draw(player.currentTime);
      items.forEach((item, i) => item.firstChild.classList.toggle("now", within(segments[i], player.currentTime)));
      requestAnimationFrame(follow);
    };
    strip.canvas.onclick = (event) => (player.currentTime = (event.offsetX / strip.canvas.clientWidth) * length);
    byId("video-body").replaceChildren(
      make("div", { className: "columns" },
        make("div", { className: "card player" }, player, unplayable, strip.canvas),
        make("section", { className: "card" }, make("div", { className: "card-head" }, make("h2", {}, "What happens when")), list),
      ),
    );
    follow();
  }

  #item(segment, player, strip) {
    const mark = make("i", {});
    mark.style.background = strip.colour(segment.label);
    const isKnown = segment.label !== "unknown";
    const button = make("button", { type: "button", className: isKnown ? "" : "unknown", onclick: () => this.#play(player, segment) },
      mark,
      make("span", { className: "span" }, `${clock(segment.start_seconds)} – ${clock(segment.end_seconds)}`),
      make("b", { title: segment.label }, isKnown ? plain(segment.label) : "unknown"),
      make("span", {}, isKnown ? percent(segment.score) : ""),
    );
    return make("li", {}, button);
  }

  #play(player, segment) {
    player.currentTime = segment.start_seconds + 0.001;
    player.play().catch(() => {}); // what can't be played was said already
  }
}

const within = (segment, time) => time >= segment.start_seconds && time < segment.end_seconds;

/** Seconds as a clock shows them: 1:04.5. */
function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  return `${Math.floor(tenths / 600)}:${String(Math.floor((tenths % 600) / 10)).padStart(2, "0")}.${tenths % 10}`;
}
