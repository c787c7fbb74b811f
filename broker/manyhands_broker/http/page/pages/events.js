// What nodes told of that an operator should know.

import { empty, h } from "../dom.js";
import * as format from "../format.js";
import { Table } from "../table.js";

export function eventTable(none) {
  return new Table([
    { title: "At", cell: (event) => format.clock(event.at), sort: (event) => event.at, num: true },
    { title: "Node", cell: (event) => h("a", { href: `#/node/${encodeURIComponent(event.node)}` }, event.node), sort: (event) => event.node, class: "text" },
    { title: "What", cell: (event) => h("span", { class: "badge" }, event.kind), sort: (event) => event.kind },
    { title: "More", cell: (event) => event.text, class: "wrap" },
  ], { sort: 0, descending: true, empty: none });
}

export function eventRows(events) {
  return new Map(events.map((event) => [`${event.at} ${event.node} ${event.kind} ${event.text.slice(0, 40)}`, event]));
}

export function eventsPage() {
  const table = eventTable(empty("Nothing unusual has happened. Deaths of processes, lack of memory and the like show up here."));
  const filter = h("input", { type: "search", placeholder: "Filter  ( / )", "aria-label": "Filter events", oninput: (event) => { table.filter = event.target.value; table.order(); } });
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Events"), h("p", { class: "sub" }, "The latest two hundred.")), h("div", { class: "tools" }, filter)),
    h("section", { class: "card flush" }, table.element));
  return { title: "Events", element, views: ["events"], update: (_, data) => table.update(eventRows(data.events)) };
}
