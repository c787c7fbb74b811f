// One node: what it is, what it does, what it told of.

import { orderButton } from "../actions.js";
import { badge, card, empty, fill, h, setText } from "../dom.js";
import * as format from "../format.js";
import { Lanes } from "../lanes.js";
import { looksCard, stacksOf } from "../looks.js";
import { eventTable, eventRows } from "./events.js";

export function nodePage(name) {
  const sub = h("p", { class: "sub" });
  const actions = h("div", { class: "tools" });
  const facts = h("dl", { class: "facts" });
  const lanes = new Lanes({ seconds: 60, height: 260, onOpen: (run) => { location.hash = `#/job/${encodeURIComponent(run[0])}`; } });
  lanes.zooms = true;
  const table = eventTable(empty("This node has told of nothing unusual."));
  const looks = looksCard("What runs on it now", [stacksOf({ node: name })]);
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, name), sub), actions),
    card(null, facts),
    h("section", { class: "card" }, h("header", {}, h("h2", {}, "What its slots run, and ran in the last minute")), lanes.element, lanes.key),
    looks,
    h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Events")), table.element));
  let stamp = "";

  function update(view, data) {
    if (view === "stream") {
      const slots = Object.hasOwn(data.slots, name) ? { [name]: data.slots[name] } : {};
      const here = (runs) => runs.filter((run) => run[2] === name);
      lanes.add({ ...data, runs: here(data.runs), running: here(Object.values(data.running)), slots });
      return;
    }
    const node = data.node;
    setText(sub, `${node.host || "?"} · process ${node.pid} · Python ${node.python} · manyhands ${node.manyhands}`);
    looks.hidden = !data.may;
    if (stamp !== `${node.state}|${data.may}`) {
      stamp = `${node.state}|${data.may}`;
      fill(actions, badge(node.state), data.may && node.state !== "draining" && orderButton("Drain", "drain", { node: name }, { sure: "Really drain?", done: "It finishes what runs, and leaves.", danger: true }));
    }
    const fact = (title, value) => h("div", {}, h("dt", {}, title), h("dd", {}, value));
    fill(facts,
      fact("Slots busy", `${node.running} of ${node.slots}`), fact("Active tasks", format.count(node.active)), fact("Tasks done", format.count(node.done)),
      fact("CPU", `${(node.cpu || 0).toFixed(1)} of ${node.cores} cores`), fact("Its memory", format.bytes(node.rss || 0)), fact("Free on its machine", format.bytes(node.available || 0)),
      fact("Load of its machine", (node.load || 0).toFixed(2)), fact("Pressure", node.pressure || "none"), fact("Heartbeat", `${Math.round(node.last_beat || 0)} s ago`),
      fact("Here for", format.seconds(node.age)), fact("Lease", format.seconds(node.lease)), node.key ? fact("Key", node.key) : null,
      Object.keys(node.resources).length ? fact("Resources", Object.entries(node.resources).map(([key, value]) => `${key} ${key === "memory" ? format.bytes(value) : value}`).join(", ")) : null,
      node.labels.length ? fact("Labels", node.labels.join(", ")) : null, node.lacks.length ? fact("Lacks what jobs need", node.lacks.join(", ")) : null);
    table.update(eventRows(data.events));
  }

  return { title: name, element, views: [`node:${name}`, "stream"], update, hint: "manyhands nodes", close: () => lanes.close() };
}
