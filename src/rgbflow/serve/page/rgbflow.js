/**
 * Live recognition for a page: send frames, receive scores and events.
 *
 *     import { connect } from "/rgbflow.js";
 *     const session = connect();
 *     session.addEventListener("update", (e) => console.log(e.detail.label));
 *     session.addEventListener("event", (e) => console.log(e.detail.kind, e.detail.label));
 *     session.follow(document.querySelector("video"));
 *
 * Messages are those of docs/protocol.md. Each arrives as an event of its type ("hello", "update", "event", "bundle",
 * "error") whose `detail` is the message; "flow" carries {number, time, picture: Blob}; "state" carries {state, retryIn}.
 * A session reconnects by itself until `close` is called.
 */

const PROTOCOL = "rgbflow.v1";
const HEADER_BYTES = 16;
const FIRST_WAIT = 0.25; // seconds before the first new attempt; doubled after each failure
const LONGEST_WAIT = 8;
const EARLY = 0.25; // of a step: how much too early a frame may come
const KEPT = 256; // frames whose time of sending is known

/** Open a session; see `Session` for the options. */
export function connect(options) {
  return new Session(options);
}

/** The header of a frame, then the picture: an ArrayBuffer as the protocol wants it. */
export function pack(number, time, picture) {
  const message = new Uint8Array(HEADER_BYTES + picture.byteLength);
  const header = new DataView(message.buffer);
  header.setUint32(0, number, true);
  header.setFloat64(8, time, true);
  message.set(new Uint8Array(picture), HEADER_BYTES);
  return message.buffer;
}

/** {number, time, picture} of a binary message. */
export function unpack(buffer) {
  const header = new DataView(buffer);
  const picture = new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: "image/jpeg" });
  return { number: header.getUint32(0, true), time: header.getFloat64(8, true), picture };
}

/** Seconds on the clock that a session stamps its frames with. */
export function now() {
  return performance.now() / 1000;
}

/**
 * A connection that mends itself.
 *
 * Options:
 *   server   address of the service; the one this module came from if not given
 *   token    what `rgbflow serve --token-file` was given; "" where none is asked for
 *   settings what the server shall do for this session: {flow_picture: true, ...}
 *   width    frames are sent at most so many pixels wide
 *   rate     at most so many frames a second
 *   quality  of the JPEG pictures, 0 to 1
 *
 * Properties: `state` ("connecting", "open", "waiting", "refused" or "closed"), `hello` (the server's last greeting).
 */
export class Session extends EventTarget {
  #socket = null;
  #timer = 0;
  #wait = FIRST_WAIT;
  #number = 0;
  #encoding = false;
  #canvas = null;
  #sentAt = new Map();
  #settings;

  constructor({ server = import.meta.url, token = "", settings = {}, width = 320, rate = 25, quality = 0.85 } = {}) {
    super();
    this.server = new URL("/", server);
    Object.assign(this, { token, width, rate, quality });
    this.#settings = { ...settings };
    this.state = "closed";
    this.hello = null;
    this.sent = 0;
    this.skipped = 0; // frames that were not sent because the one before was still on its way
    this.#open();
  }

  /** Change what the server does for this session; kept over reconnections. */
  set(settings) {
    Object.assign(this.#settings, settings);
    if (this.state === "open") this.#sendSettings();
  }

  /** Whether the link can take a frame now: open, and nothing is waiting in it. */
  get isFree() {
    return this.state === "open" && !this.#encoding && this.#socket.bufferedAmount === 0;
  }

  /**
   * Send one frame; returns its number, or null where the link is busy: the newest frame is then the next to be sent.
   *
   * picture: a video, canvas, image or ImageBitmap, or a Blob of JPEG or WebP. time: when it was shown, in seconds.
   */
  async send(picture, time = now()) {
    if (!this.isFree) {
      this.skipped += 1;
      return null;
    }
    this.#encoding = true;
    try {
      const bytes = picture instanceof Blob ? await picture.arrayBuffer() : this.#encode(picture);
      if (!bytes || this.state !== "open") return null;
      this.#number = (this.#number + 1) >>> 0;
      this.#socket.send(pack(this.#number, time, bytes));
      this.sent += 1;
      this.#sentAt.set(this.#number, now());
      if (this.#sentAt.size > KEPT) this.#sentAt.delete(this.#sentAt.keys().next().value);
      return this.#number;
    } finally {
      this.#encoding = false;
    }
  }

  /** When one of the newest frames was sent, in seconds of `now`; undefined of others. */
  sentAt(number) {
    return this.#sentAt.get(number);
  }

  /** Send the frames of a video element as they are shown; returns a function that ends it. */
  follow(video) {
    let due = -Infinity; // of the next frame: on average no more than `rate` a second are sent
    let stopped = false;
    let handle = 0;
    const byFrame = "requestVideoFrameCallback" in video;
    const next = () => (handle = byFrame ? video.requestVideoFrameCallback(take) : requestAnimationFrame((t) => take(t)));
    const take = (shown, frame) => {
      if (stopped) return;
      next();
      const time = (frame?.captureTime ?? shown) / 1000;
      if (video.readyState < 2 || time < due - EARLY / this.rate) return;
      if (this.isFree) due = Math.max(due + 1 / this.rate, time);
      this.send(video, time);
    };
    next();
    return () => {
      stopped = true;
      if (byFrame) video.cancelVideoFrameCallback(handle);
      else cancelAnimationFrame(handle);
    };
  }

  /** Try again at once, with another token if one is given. */
  retry(token = this.token) {
    this.token = token;
    this.#wait = FIRST_WAIT;
    this.#drop();
    this.#open();
  }

  /** End the session for good. */
  close() {
    this.#drop();
    this.#become("closed");
  }

  #drop() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #open() {
    this.#become("connecting");
    const address = new URL("live", this.server);
    address.protocol = address.protocol.replace("http", "ws");
    const protocols = this.token ? [PROTOCOL, `rgbflow.bearer.${base64url(this.token)}`] : [PROTOCOL];
    const socket = new WebSocket(address, protocols);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      this.#become("open");
      this.#sendSettings();
    };
    socket.onmessage = (message) => socket === this.#socket && this.#receive(message.data);
    socket.onclose = (end) => socket === this.#socket && this.#ended(end);
  }

  async #ended(end) {
    this.#socket = null;
    const wasOpen = this.state === "open";
    if (!wasOpen && (await this.#isRefused())) return this.#become("refused", { reason: end.reason });
    if (this.state === "closed" || this.#socket) return;
    const wait = this.#wait * (0.75 + Math.random() / 2); // not all clients of a server in the same moment
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
    this.#become("waiting", { retryIn: wait, code: end.code, reason: end.reason });
    this.#timer = setTimeout(() => this.#open(), 1000 * wait);
  }

  /** A browser does not say why a socket was refused; a plain request does. */
  async #isRefused() {
    try {
      return (await this.request("classes")).status === 401;
    } catch {
      return false;
    }
  }

  /** `fetch` of a path of the server, with the token. */
  request(path, options = {}) {
    const headers = new Headers(options.headers);
    if (this.token) headers.set("Authorization", `Bearer ${this.token}`);
    return fetch(new URL(path, this.server), { ...options, headers });
  }

  #receive(data) {
    if (typeof data !== "string") return this.#tell("flow", unpack(data));
    const message = JSON.parse(data);
    if (message.type === "hello") {
      this.hello = message;
      this.#wait = FIRST_WAIT;
    }
    this.#tell(message.type, message);
  }

  #sendSettings() {
    this.#socket.send(JSON.stringify({ type: "settings", ...this.#settings }));
  }

  #become(state, more = {}) {
    this.state = state;
    this.#tell("state", { state, ...more });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** The picture as JPEG. `toBlob` would wait for the browser to be idle, up to half a second on a busy machine. */
  #encode(picture) {
    const width = picture.videoWidth ?? picture.naturalWidth ?? picture.width;
    const height = picture.videoHeight ?? picture.naturalHeight ?? picture.height;
    if (!width || !height) return null;
    const scale = Math.min(1, this.width / width);
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    this.#canvas ??= document.createElement("canvas");
    const canvas = this.#canvas;
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
    canvas.getContext("2d", { alpha: false, willReadFrequently: true }).drawImage(picture, 0, 0, w, h);
    const [, text] = canvas.toDataURL("image/jpeg", this.quality).split(",");
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }
}

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
