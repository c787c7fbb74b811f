// Lines over time, by uPlot, in the colours of the page.

import { h, setText } from "./dom.js";
import * as format from "./format.js";

const made = new Set();

function styleOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// `series`: {label, colour: a CSS variable, fill}. Values come as columns: times, then one each.
export class Lines {
  constructor(series, { height = 190, value = format.short } = {}) {
    this.series = series;
    this.height = height;
    this.value = value;
    this.columns = [[], ...series.map(() => [])];
    this.legend = series.map((one) => h("b", {}, ""));
    this.key = h("div", { class: "legend" }, series.map((one, place) => h("span", {}, h("i", { vars: { "--c": `var(${one.colour})` } }), one.label, " ", this.legend[place])));
    this.box = h("div", { class: "chart" });
    this.element = h("div", {}, this.key, this.box);
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.box);
    made.add(this);
  }

  options() {
    const soft = styleOf("--faint");
    const line = styleOf("--line");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    return {
      width: Math.max(60, this.box.clientWidth),
      height: this.height,
      padding: [10, 6, 0, 0],
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      legend: { show: false },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, gap: 4, space: 84, values: (_, times) => times.map((time) => format.clock(time)) },
        { ...axis, size: 44, values: (_, values) => values.map(this.value) },
      ],
      series: [{}, ...this.series.map((one) => {
        const colour = styleOf(one.colour);
        return { label: one.label, stroke: colour, width: 2, fill: one.fill ? `${colour}26` : undefined, points: { show: false } };
      })],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    };
  }

  build() {
    this.plot = new uPlot(this.options(), this.columns, this.box);
  }

  fit() {
    if (!this.box.clientWidth) return;
    if (!this.plot) this.build();
    else if (this.plot.width !== this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: this.height });
  }

  point(index) {
    const at = index === null || index === undefined ? this.columns[0].length - 1 : index;
    this.legend.forEach((cell, place) => {
      const value = this.columns[place + 1][at];
      setText(cell, value === undefined || value === null ? "" : this.value(value));
    });
  }

  set(columns) {
    this.columns = columns;
    if (this.plot) this.plot.setData(columns);
    this.point(this.plot ? this.plot.cursor.idx : null);
  }

  close() {
    this.watch.disconnect();
    if (this.plot) this.plot.destroy();
    this.plot = null;
    made.delete(this);
  }
}

// Lines over a number that is no time, such as a load; its points are marked.
export class Curve extends Lines {
  constructor(xs, series, { value = format.short, x = format.short } = {}) {
    super(series, { value });
    this.across = x;
    this.set([xs, ...series.map((one) => one.values)]);
  }

  options() {
    const options = super.options();
    // Room at both ends, for the labels of the first and the last point.
    options.scales.x = { time: false, range: (_, low, high) => [low - 0.07 * (high - low || 1), high + 0.07 * (high - low || 1)] };
    options.axes[0].values = (_, numbers) => numbers.map(this.across);
    for (const one of options.series.slice(1)) one.points = { show: true, size: 6, fill: one.stroke };
    return options;
  }
}

export function recolour() {
  for (const one of made) {
    if (one.plot) one.plot.destroy();
    one.plot = null;
    one.fit();
  }
}

// Durations by powers of two, as bars.
export function histogram(buckets) {
  const most = Math.max(1, ...buckets.map(([, tasks]) => tasks));
  return h("div", { class: "histo", role: "img", "aria-label": "How many tasks took how long" },
    buckets.map(([upto, tasks]) => h("div", {},
      h("em", {}, tasks ? format.short(tasks) : ""),
      h("i", { vars: { "--h": `${(75 * tasks) / most}%` } }),
      h("span", {}, format.seconds(upto)))));
}

// The rise of a counter in a second, between points that have a time in column 0.
export function rises(points, column) {
  return points.map((point, place) => {
    if (!place) return null;
    const before = points[place - 1];
    const passed = point[0] - before[0];
    return passed > 0 ? Math.max(0, (point[column] - before[column]) / passed) : null;
  });
}
