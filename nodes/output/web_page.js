// The page: pictures in the layout that is chosen, and how the run goes.
import { Controls } from "/controls.js";
import { Plot, short } from "/plot.js";
import { Stream } from "/stream.js";

const STATE_MS = 500;
const SLOW_MS = 2000; // for what changes slowly: history, controls
const PATIENCE_MS = 3000; // for an answer

const find = (id) => document.getElementById(id);
const streams = new Map(); // view -> Stream
const controls = new Controls(find("controls-panel"), find("controls"), find("answer"));
const plots = {
  skew: new Plot("Skew", "ms", 5),
  drift: new Plot("Drift", "ppm", 5),
  fps: new Plot("Frames a second", "frames/s", 10),
  latency: new Plot("Latency", "ms", 20),
};
let layout = "";
let boot = "";
let lostAt = null; // since when the server does not answer

function hideToken() {
  const address = new URL(location.href);
  if (!address.searchParams.has("token")) return; // the server has put it into a cookie
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

// What to show:

function build(views) {
  for (const [view, stream] of streams) {
    stream.watch(false);
    stream.figure.remove();
    streams.delete(view);
  }
  for (const view of views) {
    const stream = new Stream(view);
    streams.set(view, stream);
    find("stage").insertBefore(stream.figure, find("divider"));
  }
  const words = [...views.map((view) => [view, view])];
  if (views.length > 1) words.push(["*side", "side by side"], ["*wipe", "wipe"]);
  find("layouts").replaceChildren(find("layouts").querySelector("legend"), ...words.map(radio));
  find("layouts").hidden = words.length < 2;
  for (const [side, index] of [["left", 0], ["right", Math.min(1, views.length - 1)]]) {
    find(side).replaceChildren(...views.map((view) => new Option(view, view)));
    find(side).selectedIndex = index;
  }
  find("snapshots").replaceChildren(...views.map(snapshotLink));
  choose(views.includes(layout) || (layout && views.length > 1) ? layout : views[0]);
}

function radio([value, text]) {
  const label = document.createElement("label");
  label.className = "choice";
  const input = document.createElement("input");
  Object.assign(input, { type: "radio", name: "layout", value });
  input.addEventListener("change", () => choose(value));
  const span = document.createElement("span");
  span.textContent = text;
  label.append(input, span);
  return label;
}

function snapshotLink(view) {
  const link = document.createElement("a");
  link.className = "button";
  link.href = `/snapshot/${view}.png`;
  link.download = "";
  link.textContent = `Snapshot of ${view}`;
  return link;
}

function choose(wanted) {
  layout = wanted;
  for (const input of find("layouts").querySelectorAll("input")) input.checked = input.value === wanted;
  const wipe = wanted === "*wipe";
  find("stage").className = `stage ${wipe ? "wipe" : wanted === "*side" ? "side-by-side" : "single"}`;
  find("sides").hidden = find("divider").hidden = !wipe;
  follow();
}

function shown() {
  if (layout === "*side") return [...streams.keys()];
  if (layout === "*wipe") return [find("left").value, find("right").value];
  return [layout];
}

// Only what is seen is watched; a page in the background watches nothing.
function follow() {
  const wanted = shown();
  for (const [view, stream] of streams) {
    stream.figure.hidden = !wanted.includes(view);
    stream.figure.classList.toggle("over", layout === "*wipe" && view === wanted[1] && wanted[0] !== wanted[1]);
    stream.watch(wanted.includes(view) && !document.hidden);
  }
}

function cut(percent) {
  const share = Math.min(100, Math.max(0, percent));
  find("stage").style.setProperty("--cut", `${share}%`);
  find("divider").setAttribute("aria-valuenow", Math.round(share));
}

function moveDivider(event) {
  const box = find("stage").getBoundingClientRect();
  cut(((event.clientX - box.left) / box.width) * 100);
}

function wire() {
  const divider = find("divider");
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) moveDivider(event);
  });
  divider.addEventListener("keydown", (event) => {
    const now = Number(divider.getAttribute("aria-valuenow"));
    const to = { ArrowLeft: now - 2, ArrowRight: now + 2, ArrowDown: now - 2, ArrowUp: now + 2, Home: 0, End: 100,
      PageDown: now - 10, PageUp: now + 10 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    cut(to);
  });
  find("bar").addEventListener("submit", (event) => event.preventDefault());
  find("left").addEventListener("change", follow);
  find("right").addEventListener("change", follow);
  document.addEventListener("visibilitychange", follow);
  find("plots").append(...Object.values(plots).map((plot) => plot.figure));
}

// How it goes:

function write(id, text) {
  if (find(id).textContent !== text) find(id).textContent = text; // a status that is the same is not read out again
}

function badge(state) {
  if (!state.ready) return ["bad", "no picture"];
  if (state.state === null) return ["good", "running"];
  if (state.state === "fused") return ["good", "fused"];
  if (state.state === "held") return ["held", "held"];
  return ["bad", state.state.replace(/_only$/, " only")];
}

function showState(state) {
  if (state.boot !== boot) {
    boot = state.boot;
    build(Object.keys(state.views));
  }
  const [kind, text] = badge(state);
  find("badge").dataset.kind = kind;
  write("badge", text);
  write("reason", state.ready ? "" : state.reason);
  write("fps", state.views[state.main].fps.toFixed(1));
  for (const share of ["p50", "p95", "p99"]) write(share, figure(state.latency_ms[share], "ms"));
  write("skew", figure(state.skew_ms, "ms"));
  showNodes(state.nodes);
}

function figure(value, unit = "") {
  return value === null || value === undefined ? "-" : `${short(value)} ${unit}`.trim();
}

function showNodes(nodes) {
  const entries = Object.entries(nodes);
  rows("nodes", entries.map(([name, node]) =>
    [name, node.emitted, figure(node.p50_ms), figure(node.p95_ms), figure(node.p99_ms)]));
  const drops = entries.flatMap(([name, node]) =>
    Object.entries(node.dropped).map(([reason, count]) => [name, reason, count]));
  rows("drops", drops.length ? drops : [["none", "", ""]]);
}

function rows(id, cells) {
  find(id).replaceChildren(...cells.map((texts) => {
    const row = document.createElement("tr");
    for (const text of texts) row.insertCell().textContent = text;
    return row;
  }));
}

function showHistory(history) {
  plots.skew.show(history.seconds, [["skew", history.skew_ms]]);
  plots.drift.show(history.seconds, Object.entries(history.drift_ppm).map(([name, some]) => [`drift ${name}`, some]));
  plots.fps.show(history.seconds, [["rate", history.fps]]);
  plots.latency.show(history.seconds, [["latency", history.latency_ms]]);
}

function showLost(error) {
  lostAt ??= performance.now();
  find("badge").dataset.kind = "bad";
  write("badge", "no connection");
  const why = error instanceof TypeError || error.name === "TimeoutError" ? "the server does not answer" : error.message;
  write("reason", `${why}, for ${Math.floor((performance.now() - lostAt) / 1000)} s; trying again`);
}

// Asks again and again, one question at a time; the answers' time is not added up.
async function repeat(pause, act) {
  for (;;) {
    if (!document.hidden) await act();
    await new Promise((done) => setTimeout(done, pause));
  }
}

async function slowly() {
  try {
    showHistory(await ask("/api/history"));
    controls.show(await ask("/api/controls"));
  } catch {
    // told by what asks for the state
  }
}

async function quickly() {
  try {
    showState(await ask("/api/state"));
    lostAt = null;
  } catch (error) {
    showLost(error);
  }
  for (const stream of streams.values()) stream.tell();
  const left = streams.get(shown()[0])?.canvas; // a wipe has the shape of its left picture
  if (left) find("stage").style.setProperty("--aspect", left.width / left.height);
}

hideToken();
wire();
repeat(STATE_MS, quickly);
repeat(SLOW_MS, slowly);
