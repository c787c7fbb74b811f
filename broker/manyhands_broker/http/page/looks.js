// What runs now: stacks of tasks, and a profile of a job with its flame graph, for those whose role may.

import { toast } from "./actions.js";
import { empty, fill, h } from "./dom.js";
import { Flame } from "./flame.js";
import * as format from "./format.js";
import { look } from "./live.js";
import { Table } from "./table.js";

const SPANS = [2, 10, 30, 60];

// A button behind which nodes are asked; `busy` is what it says meanwhile.
function asking(label, busy, act) {
  const button = h("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = busy();
    try { await act(); } catch (error) { toast(error.message); }
    button.disabled = false;
    button.textContent = label;
  });
  return button;
}

function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function oneStack(stack, open) {
  return h("details", { class: "error", open },
    h("summary", {}, h("span", { class: "count run" }, `task ${stack.index}`),
      h("span", { class: "what" }, `job ${stack.job.slice(0, 8)}, attempt ${stack.attempt}, node ${stack.node}, slot ${stack.slot}, process ${stack.pid}`)),
    h("pre", { class: "stack" }, stack.text));
}

export function stacksOf(fields) {
  const shown = h("div", { class: "soft" }, "The nodes are asked for the Python stacks of what runs. Nothing is needed in your code.");
  const task = h("input", { type: "number", min: "0", placeholder: "task, or all", "aria-label": "Number of a task" });
  const button = asking("Show stacks", () => "Asking …", async () => {
    const wanted = fields.id && task.value !== "" ? { ...fields, task: Number(task.value) } : fields;
    const found = await look("stacks", wanted);
    fill(shown,
      found.notes.map((note) => h("p", { class: "soft" }, note)),
      found.stacks.length
        ? [h("p", { class: "soft" }, `As of ${format.clock(Date.now() / 1000)}. The latest call comes first.`), found.stacks.map((one, place) => oneStack(one, place < 3))]
        : empty("No task runs here just now."));
  });
  return { tools: [fields.id && task, button], element: shown };
}

export function profileOf(id) {
  const shown = h("div", { class: "gap" });
  const span = h("select", { "aria-label": "For how long" }, SPANS.map((one) => h("option", { value: String(one), selected: one === 10 }, `${one} s`)));
  const button = asking("Profile", () => `Looking for ${span.value} s …`, async () => {
    const found = await look("profile", { id, seconds: Number(span.value) });
    const table = new Table([
      { title: "Itself", cell: (one) => format.percent(one.itself, found.looks), num: true },
      { title: "With what it calls", cell: (one) => format.percent(one.whole, found.looks), num: true },
      { title: "Function", cell: (one) => h("span", { class: "mono" }, one.function), class: "text" },
      { title: "File", cell: (one) => h("span", { class: "soft", title: one.file }, one.file.split("/").slice(-2).join("/")), class: "text wide" },
    ]);
    table.update(new Map(found.functions.map((one, place) => [place, one])));
    fill(shown,
      h("div", { class: "head" },
        h("p", { class: "soft" }, `${format.amount(found.looks, "look")} on ${format.amount(found.nodes, "node")} in ${found.seconds} s.`, found.notes.map((note) => ` ${note}.`)),
        h("div", { class: "tools" },
          h("button", { type: "button", "data-save": "svg", onclick: () => save(`${found.name}.svg`, "image/svg+xml", found.svg) }, "Save as SVG"),
          h("button", { type: "button", "data-save": "speedscope", onclick: () => save(`${found.name}.speedscope.json`, "application/json", JSON.stringify(found.speedscope)) }, "Save for speedscope"))),
      new Flame(found.speedscope).element, table.element);
  });
  return { tools: [span, button], element: shown };
}

// The card of a page. `looks`: what `stacksOf` and `profileOf` return.
export function looksCard(title, looks) {
  return h("section", { class: "card", hidden: true },
    h("header", {}, h("h2", {}, title), h("div", { class: "tools" }, looks.map((one) => one.tools))),
    looks.map((one) => one.element));
}
