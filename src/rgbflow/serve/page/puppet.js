/** The demo's puppet on a canvas: `rgbflow.demo.puppet` gives the joints (puppet.json), `rgbflow.demo.painting` the shapes. */

const TORSO_TOP = 0.045;
const HEAD = 0.078;
const BLEND_SECONDS = 0.25; // from one motion to the next

const add = (a, b, factor = 1) => [a[0] + factor * b[0], a[1] + factor * b[1]];
const mix = (a, b, part) => [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])];
const turned = (a, angle) => {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  return [a[0] * c - a[1] * s, a[0] * s + a[1] * c];
};
const css = (colour, light = 1) => `rgb(${colour.map((channel) => Math.min(255, Math.round(channel * light))).join(" ")})`;

/** The words of a name: "drink_red_cup" and "drinkRedCup" are drink, red, cup. */
export function words(name) {
  return name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
}

export class Puppet {
  /** data: what puppet.json holds. */
  constructor(canvas, data) {
    this.canvas = canvas;
    this.data = data;
    this.isMirrored = false;
    this.#started = performance.now();
    this.#motion = this.find(null).motion;
  }

  #motion;
  #held = null;
  #started;
  #last = null; // the pose drawn last, which the next motion starts from
  #from = null;

  /** The motion of an action and what the hand holds; idle where the puppet does not know it. */
  find(action) {
    const spoken = action ? words(action) : [];
    const motion = this.data.motions.find((one) => one.words.length && one.words.every((word) => spoken.includes(word)));
    const held = Object.keys(this.data.held).find((thing) => thing.split(" ").every((word) => spoken.includes(word)));
    const idle = this.data.motions.find((one) => !one.words.length);
    return { motion: motion ?? idle, held: motion ? (held ?? null) : null, isKnown: Boolean(motion) };
  }

  /** Begin to do an action; null idles. Returns whether the puppet knows it. */
  act(action) {
    const { motion, held, isKnown } = this.find(action);
    if (motion !== this.#motion || held !== this.#held) {
      this.#from = this.#last;
      this.#motion = motion;
      this.#held = held;
      this.#started = performance.now();
    }
    return isKnown;
  }

  draw(at = performance.now()) {
    const { width, height } = fitted(this.canvas);
    const context = this.canvas.getContext("2d");
    const scale = Math.min(height / 1.3, width / 1.3);
    const mirror = this.isMirrored ? -1 : 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(mirror * scale, 0, 0, -scale, width / 2, height / 2 + 0.54 * scale);
    const pose = this.#poseAt((at - this.#started) / 1000);
    this.#last = pose;
    paint(context, this.data, pose, this.#held);
  }

  /** Key frames are equally far apart; a motion rests for a moment and begins again. */
  #poseAt(seconds) {
    const { frames, seconds: length, words: name } = this.#motion;
    const rest = name.length ? 0.35 : 0;
    const part = Math.min(1, (seconds % (length + rest)) / length) * (frames.length - 1);
    const index = Math.min(Math.floor(part), frames.length - 2);
    const pose = between(frames[index], frames[index + 1], part - index);
    const blend = seconds / BLEND_SECONDS;
    return this.#from && blend < 1 ? between(this.#from, pose, blend) : pose;
  }
}

function between(a, b, part) {
  if (a.facing !== b.facing) return b;
  const limbs = (one, other) => one.map((limb, i) => limb.map((joint, j) => mix(joint, other[i][j], part)));
  const pose = { body: a.body.map((joint, i) => mix(joint, b.body[i], part)), facing: b.facing };
  Object.assign(pose, { arms: limbs(a.arms, b.arms), legs: limbs(a.legs, b.legs), held_side: b.held_side });
  if (b.held) {
    pose.held = mix(a.held ?? b.held, b.held, part);
    pose.held_angle = (a.held_angle ?? b.held_angle) * (1 - part) + b.held_angle * part;
  }
  return pose;
}

/** Make a canvas as many pixels large as the screen shows of it. */
export function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (width && height && (canvas.width !== width || canvas.height !== height)) Object.assign(canvas, { width, height });
  return canvas;
}

/** Fill the convex hull of circles: a disc for one, a limb for two, a trunk for four. */
function hull(context, centres, radii, colour) {
  const points = centres.flatMap((centre, i) =>
    Array.from({ length: 24 }, (_, k) => add(centre, turned([radii[i], 0], (k * Math.PI) / 12))),
  );
  polygon(context, convex(points), colour);
}

function polygon(context, points, colour) {
  context.fillStyle = colour;
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.closePath();
  context.fill();
}

/** The convex hull by Andrew's monotone chain. */
function convex(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (ordered) => {
    const chain = [];
    for (const p of ordered) {
      while (chain.length > 1) {
        const [a, b] = chain.slice(-2);
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        chain.pop();
      }
      chain.push(p);
    }
    return chain.slice(0, -1);
  };
  return [...half(sorted), ...half(sorted.reverse())];
}

function paint(context, { person, held: colours }, pose, held) {
  const feet = pose.legs.map((leg) => leg[2][0]);
  const middle = (feet[0] + feet[1]) / 2;
  context.fillStyle = "rgb(0 0 0 / 0.14)";
  context.beginPath();
  context.ellipse(middle, 0, Math.abs(feet[1] - feet[0]) / 2 + 0.13, 0.032, 0, 0, 2 * Math.PI);
  context.fill();

  const { facing } = pose;
  const thing = held && pose.held ? () => paintHeld(context, held, colours[held], pose) : () => {};
  if (facing) paintArm(context, person, pose.arms[0], 0.85);
  pose.legs.forEach((leg, i) => paintLeg(context, person, leg, facing, facing && !i ? 0.85 : 1));
  paintTrunk(context, person, pose);
  paintHead(context, person, pose);
  if (facing) thing();
  for (const arm of facing ? pose.arms.slice(1) : pose.arms) paintArm(context, person, arm, 1);
  if (!facing && held && pose.held) {
    thing();
    hull(context, [pose.arms[pose.held_side > 0 ? 1 : 0][2]], [0.028], css(person.skin));
  }
}

function chain(context, limb, radii, colours) {
  hull(context, limb.slice(1), radii.slice(1), colours[1]);
  hull(context, limb.slice(0, 2), radii.slice(0, 2), colours[0]);
}

function paintLeg(context, person, leg, facing, light) {
  const cloth = css(person.trousers, light);
  const heel = add(leg[2], [0, -0.012]);
  const out = facing ? facing * 0.075 : 0.022 * Math.sign(leg[2][0] - leg[0][0] || 1);
  hull(context, [heel, add(heel, [out, -0.004])], [0.03, 0.025], css(person.shoes, 0.9 * light));
  chain(context, leg, [0.06, 0.047, 0.036], [cloth, cloth]);
}

function paintArm(context, person, arm, light) {
  hull(context, [arm[2]], [0.031], css(person.skin, light));
  chain(context, arm, [0.045, 0.034, 0.026], [css(person.shirt, 0.92 * light), css(person.skin, light)]);
}

function paintTrunk(context, person, { body: [pelvis, neck, head], facing }) {
  const length = Math.hypot(neck[0] - pelvis[0], neck[1] - pelvis[1]);
  const along = [(neck[0] - pelvis[0]) / length, (neck[1] - pelvis[1]) / length];
  const across = [along[1], -along[0]];
  const [shoulder, hip] = [add(neck, along, -TORSO_TOP), add(pelvis, along, 0.035)];
  const [wide, narrow, top] = facing ? [0.015, 0.01, 0.07] : [0.085, 0.05, 0.05];
  const corners = [add(shoulder, across, -wide), add(shoulder, across, wide)];
  const waist = [add(hip, across, narrow), add(hip, across, -narrow)];
  hull(context, waist.map((w) => add(w, along, -0.045)), [0.064, 0.064], css(person.trousers));
  hull(context, [...corners, ...waist], [top, top, 0.064, 0.064], css(person.shirt));
  hull(context, [add(neck, along, -0.02), head], [0.035, 0.035], css(person.skin, 0.85));
}

function paintHead(context, person, { body: [, neck, head], facing }) {
  const length = Math.hypot(head[0] - neck[0], head[1] - neck[1]);
  const up = [(head[0] - neck[0]) / length, (head[1] - neck[1]) / length];
  const right = [up[1], -up[0]];
  const at = (x, y) => add(add(head, right, x * HEAD), up, y * HEAD);
  const chin = at(0.12 * facing, -0.25);
  hull(context, [head, chin], [HEAD, 0.85 * HEAD], css(person.skin));
  if (facing) hull(context, [at(facing, -0.1)], [0.2 * HEAD], css(person.skin));
  const [front, back] = facing ? [0.35 * Math.PI, 1.05 * Math.PI] : [0.12 * Math.PI, 0.88 * Math.PI];
  const arc = Array.from({ length: 16 }, (_, i) => front + ((back - front) * i) / 15);
  const side = facing < 0 ? -1 : 1;
  polygon(context, arc.map((angle) => at(1.08 * side * Math.cos(angle), 1.08 * Math.sin(angle))), css(person.hair));
  for (const x of facing ? [0.5 * facing] : [-0.38, 0.38]) hull(context, [at(x, -0.02)], [0.12 * HEAD], css([30, 26, 26]));
  const lip = (x) => at(0.6 * facing + x, -0.45 - 0.15 * (1 - (x / 0.3) ** 2));
  const smile = Array.from({ length: 7 }, (_, i) => lip(-0.3 + 0.1 * i));
  smile.slice(1).forEach((point, i) => hull(context, [smile[i], point], [0.006, 0.006], css(person.skin, 0.55)));
}

function paintHeld(context, held, colour, { held: centre, held_angle: angle, held_side: side }) {
  const at = (x, y) => add(centre, turned([x, y], angle));
  if (held.endsWith("cup")) {
    hull(context, [at(0.07 * side, 0)], [0.042], css(colour, 0.7));
    polygon(context, [at(-0.068, 0.085), at(0.068, 0.085), at(0.055, -0.085), at(-0.055, -0.085)], css(colour));
    hull(context, [at(-0.06, 0.082), at(0.06, 0.082)], [0.009, 0.009], css(colour, 0.55));
  } else if (held.endsWith("flag")) {
    hull(context, [at(0, -0.06), at(0, 0.27)], [0.011, 0.011], css([92, 78, 62]));
    const edge = Array.from({ length: 9 }, (_, i) => [0.03 * i * side, 0.022 * (i / 8) * Math.sin((Math.PI * i) / 4 + 3 * angle)]);
    const rim = (lift) => edge.map(([x, y]) => at(x, y + lift));
    polygon(context, [...rim(0.27), ...rim(0.09).reverse()], css(colour));
  } else {
    hull(context, [centre], [0.085], css(colour, 0.6));
    hull(context, [centre], [0.077], css(colour));
    const lines = held === "ball" ? [[-0.85, 0, 0.85, 0], [0, -0.85, 0, 0.85]] : [-0.5, 0, 0.5].map((x) => [x, -0.65, x, 0.65]);
    for (const [a, b, c, d] of lines) hull(context, [add(centre, [a, b], 0.085), add(centre, [c, d], 0.085)], [0.006, 0.006], css(colour, 0.45));
  }
}
