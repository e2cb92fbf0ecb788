// A shape that shows what rgbflow recognises: each action has a colour of its own, and the shape jumps when one starts.
import * as THREE from "three";
import { VRButton } from "three/addons/webxr/VRButton.js";
import { connect } from "rgbflow"; // the service's own module; it reconnects by itself

const RATE = 25; // frames a second that are sent
const IDLE = new THREE.Color("#8a949e");
const said = document.querySelector("#said");
const video = document.querySelector("#seen");
const start = document.querySelector("#start");

// The scene.
const scene = new THREE.Scene();
const camera = new THREE.PerspectiveCamera(60, innerWidth / innerHeight, 0.1, 20);
camera.position.set(0, 1.5, 2);
const shape = new THREE.Mesh(
  new THREE.IcosahedronGeometry(0.3, 0),
  new THREE.MeshStandardMaterial({ color: IDLE, flatShading: true }),
);
const sun = new THREE.DirectionalLight("white", 2.5);
sun.position.set(1, 3, 2);
scene.add(shape, sun, new THREE.HemisphereLight("white", "#334", 1.2), new THREE.GridHelper(6, 12, "#555", "#333"));
const renderer = new THREE.WebGLRenderer({ antialias: true });
renderer.xr.enabled = true;
renderer.setSize(innerWidth, innerHeight);
document.body.append(renderer.domElement, VRButton.createButton(renderer));
addEventListener("resize", () => {
  camera.aspect = innerWidth / innerHeight;
  camera.updateProjectionMatrix();
  renderer.setSize(innerWidth, innerHeight);
});

// The recognition. A service with a token: connect({ token: "..." }).
const session = connect();
const wanted = { colour: IDLE.clone(), size: 1 };
let jump = 0; // 1 when an action starts, then falls to 0

session.addEventListener("state", ({ detail }) => (said.textContent = detail.state));
session.addEventListener("hello", ({ detail }) => (said.textContent = `ready for ${detail.classes.join(", ")}`));
session.addEventListener("update", ({ detail }) => (wanted.size = 0.7 + 0.6 * detail.score));
session.addEventListener("event", ({ detail }) => {
  const { kind, label } = detail;
  said.textContent = kind === "start" ? label : `${label} ended`;
  if (kind === "start") jump = 1;
  wanted.colour.copy(kind === "start" ? colourOf(label) : IDLE);
});

/** A hue for each class: the same one every time. */
function colourOf(label) {
  const classes = session.hello?.classes ?? [label];
  return new THREE.Color().setHSL(Math.max(0, classes.indexOf(label)) / classes.length, 0.8, 0.55);
}

// Frames are sent from the animation loop, because it is the only one that runs on inside a headset.
let sentAt = -Infinity;
function sendFrame(milliseconds) {
  if (video.readyState < 2 || !session.isFree || milliseconds - sentAt < 900 / RATE) return;
  sentAt = milliseconds;
  session.send(video, milliseconds / 1000);
}

const clock = new THREE.Clock();
renderer.setAnimationLoop((milliseconds) => {
  const step = Math.min(clock.getDelta(), 0.1);
  sendFrame(milliseconds);
  jump = Math.max(0, jump - 1.5 * step);
  shape.position.set(0, 1.3 + 0.4 * Math.sin(Math.PI * jump), -0.5);
  shape.rotation.y += step * (0.4 + 6 * jump);
  shape.scale.setScalar(THREE.MathUtils.damp(shape.scale.x, wanted.size, 6, step));
  shape.material.color.lerp(wanted.colour, 1 - Math.exp(-8 * step));
  renderer.render(scene, camera);
});

start.hidden = false;
start.addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
    await video.play();
    start.hidden = true;
  } catch (error) {
    said.textContent = `no camera: ${error.message}`;
  }
});
