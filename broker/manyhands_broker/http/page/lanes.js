// The task stream: a lane for each slot, a bar for each run, drawn on one canvas.

import { h, setText } from "./dom.js";
import * as format from "./format.js";

const MOST_RUNS = 20_000;
const MOST_LANES = 400;
const LABEL = 118;
const AXIS = 22;

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Lanes {
  // `live`: the right end is now. Else the whole of what there is, as of a job that is over.
  constructor({ live = true, seconds = 60, height = 420, onOpen = null } = {}) {
    this.live = live;
    this.span = seconds;
    this.mostHeight = height;
    this.mostStep = height > 300 ? 40 : 26;
    this.onOpen = onOpen;
    this.end = null;
    this.runs = [];
    this.running = [];
    this.slots = {};
    this.filter = "";
    this.canvas = h("canvas", { class: "lanes", tabindex: "0", role: "img", "aria-label": "Which slot ran what when" });
    this.key = h("div", { class: "legend" });
    this.note = h("span", { class: "dim" });
    this.element = h("div", {}, this.canvas);
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.element);
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointerleave", () => this.tip(null));
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    this.offset = null;
    if (live) this.timer = setInterval(() => { if (!document.hidden && this.end === null) this.draw(); }, 100);
  }

  // Runs: [job, function, node, slot, attempt, first, tasks, begun, seconds, failed].
  // Running: [job, function, node, slot, attempt, first, begun] by slot and node; `now`: the broker's time.
  add({ runs, slots, running, now }) {
    for (const run of runs) this.runs.push(run);
    if (this.runs.length > MOST_RUNS) this.runs.splice(0, this.runs.length - MOST_RUNS);
    if (slots) this.slots = slots;
    this.running = Object.values(running || {}).map((one) => [...one.slice(0, 6), 1, one[6], null, false]);
    if (this.live && now) {
      const offset = now - performance.now() / 1000;
      this.offset = this.offset === null ? offset : Math.max(this.offset, offset);
    }
    this.legend();
    this.draw();
  }

  // When a run ended; of one that is under way, now.
  finish(run) { return run[8] === null ? Math.max(run[7], this.now()) : run[7] + run[8]; }

  set(runs) {
    this.runs = runs;
    if (runs.length) {
      const first = Math.min(...runs.map((run) => run[7]));
      const last = Math.max(...runs.map((run) => run[7] + run[8]));
      if (this.end === null || this.followed) {
        this.span = Math.max(0.05, (last - first) * 1.04);
        this.end = last + this.span * 0.02;
        this.followed = true;
      }
    }
    this.legend();
    this.draw();
  }

  now() {
    return this.offset === null ? Date.now() / 1000 : performance.now() / 1000 + this.offset;
  }

  legend() {
    const names = [...new Set([...this.running, ...this.runs.slice(-2_000)].map((run) => run[1]))].slice(0, 12);
    const stamp = names.join("\n");
    if (stamp === this.names) return;
    this.names = stamp;
    this.key.replaceChildren(...names.map((name) => h("span", {}, h("i", { vars: { "--c": format.colour(name) } }), format.shortName(name))),
      h("span", {}, h("i", { vars: { "--c": "var(--bad)" } }), "failed"),
      ...(this.live ? [h("span", {}, h("i", { class: "grows" }), "runs now")] : []));
  }

  lanes() {
    const wanted = this.filter.toLowerCase();
    const names = new Map();
    for (const [node, slots] of Object.entries(this.slots)) names.set(node, slots);
    for (const run of [...this.runs, ...this.running]) if (!names.has(run[2]) || names.get(run[2]) <= run[3]) names.set(run[2], run[3] + 1);
    const found = [];
    for (const node of [...names.keys()].sort()) {
      if (wanted && !node.toLowerCase().includes(wanted)) continue;
      for (let slot = 0; slot < names.get(node); slot++) {
        if (found.length >= MOST_LANES) return found;
        found.push([node, slot]);
      }
    }
    return found;
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const lanes = this.lanes();
    const step = Math.max(2, Math.min(this.mostStep, Math.floor((this.mostHeight - AXIS) / Math.max(1, lanes.length))));
    const height = Math.max(80, lanes.length * step + AXIS);
    const ratio = window.devicePixelRatio || 1;
    const canvas = this.canvas;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const label = width < 520 ? 70 : LABEL;
    const end = this.end === null ? this.now() : this.end;
    const begin = end - this.span;
    const scale = (width - label - 4) / this.span;
    const places = new Map(lanes.map(([node, slot], place) => [`${slot}\n${node}`, place]));
    this.shape = { label, begin, scale, step, places, height, lanes };
    this.axis(context, width, height);
    this.names2(context, lanes, step, label, width);
    const bad = style("--bad");
    const drawn = (run) => {
      const finish = this.finish(run);
      if (finish < begin || run[7] > end) return;
      const place = places.get(`${run[3]}\n${run[2]}`);
      if (place === undefined) return;
      const x = Math.max(label, label + (run[7] - begin) * scale);
      const w = Math.max(1, Math.min(width - 4, label + (finish - begin) * scale) - x - ((finish - run[7]) * scale > 4 ? 0.6 : 0));
      const gap = step > 6 ? 2 : step > 3 ? 1 : 0;
      context.fillStyle = run[9] ? bad : format.colour(run[1]);
      const y = place * step + gap / 2;
      const tall = step - gap;
      // What runs is pale, with a full edge where it grows.
      if (run[8] === null) {
        context.globalAlpha = 0.45;
        context.fillRect(x, y, w, tall);
        context.globalAlpha = 1;
        if (this.end === null || finish < end) context.fillRect(x + Math.max(0, w - 3), y, Math.min(w, 3), tall);
      } else if (w > 5 && step > 8) { context.beginPath(); context.roundRect(x, y, w, tall, 3); context.fill(); }
      else context.fillRect(x, y, w, tall);
    };
    this.runs.forEach(drawn);
    this.running.forEach(drawn);
  }

  axis(context, width, height) {
    const { label, begin, scale } = this.shape;
    const wanted = this.span / Math.max(2, (width - label) / 110);
    const unit = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= wanted);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = style("--faint");
    context.strokeStyle = style("--line");
    context.lineWidth = 1;
    context.textAlign = "center";
    for (let at = Math.ceil(begin / step) * step; at < begin + this.span; at += step) {
      const x = label + (at - begin) * scale;
      context.beginPath(); context.moveTo(x, 0); context.lineTo(x, height - AXIS + 4); context.stroke();
      const text = step >= 1 ? format.clock(at) : `${format.clock(at)}${(at % 1).toFixed(Math.min(3, Math.ceil(-Math.log10(step)))).slice(1)}`;
      if (x > label + 24 && x < width - 30) context.fillText(text, x, height - 6);
    }
  }

  names2(context, lanes, step, label, width) {
    context.textAlign = "left";
    let before = null;
    lanes.forEach(([node], place) => {
      if (node === before) return;
      before = node;
      const y = place * step;
      if (place) { context.strokeStyle = style("--line"); context.beginPath(); context.moveTo(0, y - 0.5); context.lineTo(width, y - 0.5); context.stroke(); }
      if (step * lanes.filter((lane) => lane[0] === node).length < 10) return;
      context.fillStyle = style("--soft");
      context.font = "12px system-ui, sans-serif";
      let text = format.printable(node);
      while (text.length > 3 && context.measureText(text).width > label - 12) text = `${text.slice(0, -2)}…`;
      context.fillText(text, 2, y + Math.min(16, step / 2 + 4 + (step > 18 ? 2 : 0)));
    });
  }

  zoom(factor, at = 0.5) {
    const end = this.end === null ? this.now() : this.end;
    const middle = end - this.span * (1 - at);
    const span = Math.min(7_200, Math.max(0.005, this.span * factor));
    if (!(this.live && this.end === null)) this.end = middle + span * (1 - at);
    this.span = span;
    this.followed = false;
    this.draw();
  }

  follow() { this.end = null; this.draw(); }

  pause() { this.end = this.end === null ? this.now() : null; this.draw(); }

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey && Math.abs(event.deltaX) < Math.abs(event.deltaY) && !this.zooms) return;
    event.preventDefault();
    const { label } = this.shape;
    const at = (event.offsetX - label) / (this.element.clientWidth - label);
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(event.deltaX / this.shape.scale);
    else this.zoom(event.deltaY > 0 ? 1.25 : 0.8, Math.min(1, Math.max(0, at)));
  }

  pan(seconds) {
    this.end = (this.end === null ? this.now() : this.end) + seconds;
    this.followed = false;
    this.draw();
  }

  press(event) {
    const steps = { "+": () => this.zoom(0.7), "-": () => this.zoom(1.4), ArrowLeft: () => this.pan(-this.span / 8), ArrowRight: () => this.pan(this.span / 8), End: () => this.follow() };
    if (steps[event.key]) { steps[event.key](); event.preventDefault(); }
  }

  grab(event) { this.grabbed = { x: event.clientX, moved: false }; this.canvas.setPointerCapture(event.pointerId); }

  release() {
    const grabbed = this.grabbed;
    this.grabbed = null;
    if (grabbed && !grabbed.moved && this.over && this.onOpen) this.onOpen(this.over);
  }

  move(event) {
    if (this.grabbed && this.shape) {
      const by = event.clientX - this.grabbed.x;
      if (Math.abs(by) > 3 || this.grabbed.moved) { this.grabbed.moved = true; this.grabbed.x = event.clientX; this.pan(-by / this.shape.scale); }
    }
    this.tip(this.find(event.offsetX, event.offsetY), event);
  }

  find(x, y) {
    if (!this.shape || x < this.shape.label) return null;
    const { label, begin, scale, step, lanes } = this.shape;
    const lane = lanes[Math.floor(y / step)];
    if (!lane) return null;
    const at = begin + (x - label) / scale;
    const slack = 2 / scale;
    const there = (run) => run[3] === lane[1] && run[2] === lane[0] && run[7] - slack <= at && at <= this.finish(run) + slack;
    return this.running.find(there) || this.runs.findLast(there) || null;
  }

  tip(run, event) {
    const tip = document.getElementById("tip");
    this.over = run;
    tip.hidden = !run;
    if (!run) return;
    const many = run[6] > 1 ? `tasks ${run[5]} to ${run[5] + run[6] - 1}` : `task ${run[5]}`;
    const took = run[8] === null ? `runs for ${format.seconds(this.finish(run) - run[7])}` : format.seconds(run[8]);
    setText(tip, `${format.shortName(run[1])}\n${many} of job ${run[0]}\n${took} on ${run[2]}, slot ${run[3]}${run[4] > 1 ? `, attempt ${run[4]}` : ""}${run[9] ? "\nfailed" : ""}`);
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - 300)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - 100)}px`;
  }

  close() {
    clearInterval(this.timer);
    this.watch.disconnect();
    this.tip(null);
  }
}
