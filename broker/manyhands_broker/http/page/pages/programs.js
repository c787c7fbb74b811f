// Processes of programs that use manyhands.multiprocessing, and what each waits for.

import { badge, empty, h, setText } from "../dom.js";
import * as format from "../format.js";
import { Table } from "../table.js";

// Of the file in which an object was made, the name; the whole path is in the title.
function short(text) {
  return text.replace(/made at \S*\/([^/\s]+:\d+)/g, "made at $1");
}

export function programsPage() {
  const table = new Table([
    { title: "Program", cell: (one) => one.program_name || one.program.slice(0, 8), sort: (one) => one.program_name, class: "text" },
    { title: "Process", cell: (one) => one.name || one.id.slice(0, 8), sort: (one) => one.name, class: "text" },
    { title: "Node", cell: (one) => one.node || "–", sort: (one) => one.node, class: "text" },
    { title: "Pid", cell: (one) => one.pid, sort: (one) => one.pid, num: true },
    { title: "State", cell: (one) => badge(one.code === null ? one.state : `ended (${one.code})`), sort: (one) => one.state },
    { title: "Since", cell: (one) => format.clock(one.since), sort: (one) => one.since, num: true },
    { title: "Waits for", cell: (one) => (one.waits.length ? h("span", { title: one.waits.join("\n") }, short(one.waits.join("; "))) : h("span", { class: "dim" }, "–")), class: "wrap" },
  ], { sort: 0, empty: empty("No program of several processes runs. They use locks, queues and processes over the cluster:", "from manyhands.multiprocessing import Process, Queue, Lock") });
  const about = h("p", { class: "sub" }, "Who holds and who waits, in programs that use manyhands.multiprocessing.");
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Programs"), about)),
    h("section", { class: "card flush" }, table.element));
  return {
    title: "Programs",
    element,
    views: ["programs"],
    update(_, data) {
      table.update(new Map(data.members.map((one) => [one.id, one])));
      const waiting = data.members.filter((one) => one.waits.length).length;
      if (data.members.length) setText(about, `${format.amount(data.members.length, "process", "processes")}, ${waiting} of them waiting for something.`);
    },
  };
}
