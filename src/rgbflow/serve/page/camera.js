/** What a view looks at: the camera or a video file, shown in one video element. */

import { make } from "./dom.js";

/** Why a camera can't be used, in words that say what to do. */
const TROUBLES = {
  NotAllowedError: ["The camera is not allowed", "Allow it beside the address above, then try again. A video can be dropped here instead."],
  NotFoundError: ["No camera was found", "Plug one in and try again, or drop a video here."],
  NotReadableError: ["The camera is in use", "Another program has it. Close that program and try again."],
  OverconstrainedError: ["This camera is gone", "Choose another one in the settings."],
  InsecureContext: ["The browser gives no camera to this address", "Open the page as http://localhost or by https. A video can be dropped here instead."],
};

export class Source extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.kind = null; // "camera" or "file"
    this.trouble = null; // [what, remedy]
  }

  get stream() {
    return this.kind === "camera" ? this.video.srcObject : null;
  }

  async openCamera(deviceId = "") {
    this.close();
    try {
      if (!navigator.mediaDevices) throw Object.assign(new Error(), { name: "InsecureContext" });
      const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
      if (deviceId) wanted.deviceId = { exact: deviceId };
      else wanted.facingMode = "user";
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      for (const track of stream.getTracks()) track.onended = () => this.close(TROUBLES.NotFoundError);
      this.video.srcObject = stream;
      this.video.loop = false;
      this.kind = "camera";
      await this.video.play();
    } catch (error) {
      this.close(TROUBLES[error.name] ?? ["The camera can't be opened", error.message]);
      return;
    }
    this.#changed();
  }

  async openFile(file) {
    this.close();
    this.video.src = URL.createObjectURL(file);
    this.video.loop = true;
    this.kind = "file";
    this.name = file.name;
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== "AbortError") {
        this.close(["This browser can't play that video", "The view Video sends it to the server, which reads more kinds."]);
        return;
      }
    }
    this.#changed();
  }

  close(trouble = null) {
    for (const track of this.video.srcObject?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    this.kind = null;
    this.trouble = trouble;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The cameras of this machine: [{id, name}]; names are there once a camera was allowed. */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter((device) => device.kind === "videoinput")
    .map((device, i) => ({ id: device.deviceId, name: device.label || `Camera ${i + 1}` }));
}

/** Let files be dropped on an element; `take` gets those that are videos. */
export function takesDrops(element, take) {
  const over = (isOver) => element.classList.toggle("dropping", isOver);
  element.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  element.addEventListener("dragleave", (event) => element.contains(event.relatedTarget) || over(false));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  });
}

/** A button that opens the files of this machine; `take` gets the chosen file, or a list of them with {multiple: true}. */
export function filePicker(text, take, { multiple = false, isPrimary = false } = {}) {
  const input = make("input", { type: "file", accept: "video/*,.mkv,.avi,.ts", multiple, hidden: true, ariaLabel: text });
  input.onchange = () => {
    if (input.files.length) take(multiple ? [...input.files] : input.files[0]);
    input.value = "";
  };
  const button = make("button", { type: "button", className: isPrimary ? "primary" : "", onclick: () => input.click() }, text);
  return make("span", { className: "picker" }, button, input);
}
