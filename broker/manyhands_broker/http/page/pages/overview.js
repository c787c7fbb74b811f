// The whole cluster on one page.

import { Lines, rises } from "../charts.js";
import { asMap, card, empty, fill, h, setText } from "../dom.js";
import * as format from "../format.js";
import { Lanes } from "../lanes.js";
import { jobRows, jobTable } from "./jobtable.js";

const MOST_BARS = 40;

function kpi(title) {
  const value = h("b", {}, "–");
  const remark = h("span", {}, "");
  const fill_ = h("i");
  const meter = h("div", { class: "meter", hidden: true }, fill_);
  const element = h("section", { class: "card kpi" }, h("h2", {}, title), value, remark, meter);
  return {
    element,
    set(text, unit, about, share = null) {
      const stamp = `${text}|${unit}`;
      if (element.dataset.stamp !== stamp) { element.dataset.stamp = stamp; fill(value, text, unit && h("small", {}, ` ${unit}`)); }
      setText(remark, about);
      meter.hidden = share === null;
      if (share !== null) { fill_.style.setProperty("--w", `${Math.round(100 * Math.min(1, share))}%`); fill_.className = share > 0.98 ? "" : ""; }
    },
  };
}

export function nodeBars(rows) {
  const names = [...rows.keys()].sort();
  if (names.length > MOST_BARS) {
    return h("div", { class: "heat" }, names.map((name) => {
      const node = rows.get(name);
      return h("a", {
        href: `#/node/${encodeURIComponent(name)}`, title: `${name}: ${node.busy} of ${format.amount(node.slots, "slot")} busy`, "aria-label": name,
        class: node.state === "ready" ? "" : "away", vars: { "--h": `${Math.round((100 * node.busy) / Math.max(1, node.slots))}%` },
      });
    }));
  }
  return h("div", { class: "bars" }, names.map((name) => {
    const node = rows.get(name);
    const cells = node.slots <= 32
      ? h("span", { class: "cells" }, Array.from({ length: node.slots }, (_, slot) => h("i", { class: slot < node.busy ? "on" : "" })))
      : h("span", { class: "meter" }, h("i", { vars: { "--w": `${(100 * node.busy) / node.slots}%` } }));
    const away = node.state === "ready" ? "" : ` · ${node.state}`;
    return h("a", { class: "row", href: `#/node/${encodeURIComponent(name)}` },
      h("span", { class: "name" }, name), cells,
      h("span", { class: "soft" }, `${node.cpu.toFixed(1)} cores · ${format.bytes(node.rss)}${away}`));
  }));
}

export function overviewPage() {
  const figures = { rate: kpi("Throughput"), queue: kpi("Waiting"), slots: kpi("Slots busy"), failed: kpi("Failures"), jobs: kpi("Jobs"), nodes: kpi("Nodes") };
  const done = new Lines([{ label: "done/s", colour: "--good", fill: true }, { label: "failed/s", colour: "--bad", fill: true }], { value: (value) => format.rate(value) });
  const queue = new Lines([{ label: "waiting", colour: "--warn", fill: true }, { label: "running", colour: "--run", fill: true }], { value: (value) => format.short(value) });
  const lanes = new Lanes({ seconds: 30, height: 260, onOpen: (run) => { location.hash = `#/job/${encodeURIComponent(run[0])}`; } });
  const nodes = h("div");
  const table = jobTable();
  const problems = h("section", { class: "card notice", hidden: true });
  const element = h("div", { class: "grid" },
    problems,
    h("div", { class: "grid kpis" }, Object.values(figures).map((one) => one.element)),
    h("div", { class: "grid two" }, card("Tasks each second", done.element), card("Tasks at hand", queue.element)),
    h("div", { class: "grid wide-left" },
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "Task stream, the last 30 seconds"), h("a", { href: "#/tasks" }, "open")), lanes.element, lanes.key),
      card("Nodes", nodes)),
    h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Latest jobs"), h("a", { href: "#/jobs" }, "all jobs")), table.element));

  let nodeStamp = "";

  function update(view, data) {
    if (view === "stream") { lanes.add(data); return; }
    const points = Object.entries(data.points).map(([at, row]) => [Number(at), ...row]).sort((a, b) => a[0] - b[0]).slice(-480);
    const place = (name) => data.point_columns.indexOf(name);
    const now = data.figures;
    const recent = points.filter((point) => points.length && point[0] >= points[points.length - 1][0] - 5);
    const over = (name) => {
      if (recent.length < 2) return 0;
      const [first, last] = [recent[0], recent[recent.length - 1]];
      return Math.max(0, (last[place(name)] - first[place(name)]) / Math.max(0.1, last[0] - first[0]));
    };
    const rate = over("done") + over("failed") + over("cancelled");
    const last = points[points.length - 1] || [];
    figures.rate.set(format.rate(rate), "tasks/s", last.length ? `${format.count(last[place("done")])} done since the start` : "");
    figures.queue.set(format.short(now.queued), now.queued === 1 ? "task" : "tasks", now.queued && rate ? `about ${format.seconds(now.queued / rate)} of work` : now.queued ? "nothing runs them yet" : "nothing waits");
    figures.slots.set(format.count(now.running), `of ${format.count(now.slots)}`, now.slots ? format.percent(now.running, now.slots) : "no node is connected", now.slots ? now.running / now.slots : null);
    const failed = last.length ? last[place("failed")] : 0;
    figures.failed.set(format.short(failed), failed === 1 ? "task" : "tasks", over("failed") ? `${format.rate(over("failed"))} each second now` : failed ? "none just now" : "none since the start");
    figures.failed.element.classList.toggle("bad", over("failed") > 0);
    figures.jobs.set(format.count(now.jobs), "at hand", `${format.count(data.all_jobs)} known · ${format.count(now.sessions)} ${now.sessions === 1 ? "client" : "clients"}`);
    const away = now.nodes.suspected + now.nodes.draining;
    figures.nodes.set(format.count(now.nodes.ready), away ? `+ ${away}` : "", away ? `${now.nodes.suspected} suspected, ${now.nodes.draining} draining` : `${now.node_cpu.toFixed(1)} cores · ${format.bytes(now.node_resident)}`);
    const times = points.map((point) => point[0]);
    done.set([times, rises(points, place("done")), rises(points, place("failed"))]);
    queue.set([times, points.map((point) => point[place("queued")]), points.map((point) => point[place("running")])]);
    problems.hidden = !data.problems.length;
    fill(problems, data.problems.map((text) => h("div", {}, text)));
    const rows = new Map(Object.entries(data.nodes).map(([name, row]) => [name, asMap(data.node_columns, row)]));
    const stamp = JSON.stringify([...rows].map(([name, node]) => [name, node.busy, node.slots, node.state, rows.size > MOST_BARS ? 0 : node.cpu.toFixed(1)]));
    if (stamp !== nodeStamp) {
      nodeStamp = stamp;
      fill(nodes, rows.size ? nodeBars(rows) : empty("No node is connected. Start one:", "manyhands worker --broker ADDRESS"));
    }
    table.update(jobRows(data));
  }

  return { title: "Overview", element, views: ["overview", "stream"], update, close: () => { done.close(); queue.close(); lanes.close(); } };
}
