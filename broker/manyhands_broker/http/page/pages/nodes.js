// All nodes.

import { asMap, badge, empty, h, setText } from "../dom.js";
import * as format from "../format.js";
import { Table } from "../table.js";

export function nodesPage() {
  const table = new Table([
    { title: "Node", cell: (node) => h("a", { href: `#/node/${encodeURIComponent(node.name)}` }, node.name), sort: (node) => node.name, class: "text" },
    { title: "State", cell: (node) => badge(node.state), sort: (node) => node.state },
    { title: "Slots busy", cell: (node) => h("div", { class: "progress", title: `${node.busy} of ${node.slots}` }, h("i", { vars: { "--w": `${(100 * node.busy) / Math.max(1, node.slots)}%` } })), sort: (node) => node.busy / Math.max(1, node.slots) },
    { title: "Slots", cell: (node) => [String(node.busy), h("span", { class: "dim" }, ` / ${node.slots}`)], sort: (node) => node.slots, num: true },
    { title: "Active", cell: (node) => format.count(node.active), sort: (node) => node.active, num: true, class: "wide" },
    { title: "Done", cell: (node) => format.count(node.done), sort: (node) => node.done, num: true },
    { title: "CPU", cell: (node) => `${node.cpu.toFixed(1)} cores`, sort: (node) => node.cpu, num: true },
    { title: "Memory", cell: (node) => format.bytes(node.rss), sort: (node) => node.rss, num: true },
    { title: "Free", cell: (node) => format.bytes(node.available), sort: (node) => node.available, num: true, class: "wide" },
    { title: "Load", cell: (node) => node.load.toFixed(1), sort: (node) => node.load, num: true, class: "wide" },
    { title: "Pressure", cell: (node) => (node.pressure ? h("span", { class: "hot-text" }, node.pressure) : h("span", { class: "dim" }, "–")), sort: (node) => node.pressure },
    { title: "Heartbeat", cell: (node) => h("span", { class: node.beat > 5 ? "err" : "" }, `${node.beat} s ago`), sort: (node) => node.beat, num: true, class: "wide" },
    { title: "Version", cell: (node) => h("span", { class: "soft" }, node.version || "–"), sort: (node) => node.version, class: "wide" },
  ], { sort: 0, empty: empty("No node is connected. Start one, here or on any host:", "manyhands worker --broker ADDRESS") });
  const about = h("p", { class: "sub" });
  const filter = h("input", { type: "search", placeholder: "Filter  ( / )", "aria-label": "Filter nodes", oninput: (event) => { table.filter = event.target.value; table.order(); } });
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Nodes"), about), h("div", { class: "tools" }, filter)),
    h("section", { class: "card flush" }, table.element));
  return {
    title: "Nodes",
    element,
    views: ["nodes"],
    update(_, data) {
      const rows = new Map(Object.entries(data.nodes).map(([name, row]) => [name, { name, ...asMap(data.node_columns, row) }]));
      table.update(rows);
      const nodes = [...rows.values()];
      const sum = (of) => nodes.reduce((total, node) => total + of(node), 0);
      setText(about, `${format.amount(nodes.length, "node")}, ${format.count(sum((node) => node.busy))} of ${format.amount(sum((node) => node.slots), "slot")} busy`);
    },
  };
}
