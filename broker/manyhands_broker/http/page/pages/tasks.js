// The task stream in full.

import { empty, h } from "../dom.js";
import { Lanes } from "../lanes.js";

const SPANS = [[10, "10 s"], [30, "30 s"], [60, "1 min"], [300, "5 min"]];

export function tasksPage() {
  const lanes = new Lanes({ seconds: 60, height: Math.max(320, window.innerHeight - 260), onOpen: (run) => { location.hash = `#/job/${encodeURIComponent(run[0])}`; } });
  lanes.zooms = true;
  const buttons = SPANS.map(([seconds, label]) => h("button", { type: "button", onclick: () => { lanes.span = seconds; lanes.end = null; mark(); lanes.draw(); } }, label));
  const hold = h("button", { type: "button", title: "Space", onclick: () => { lanes.pause(); mark(); } }, "Pause");
  const filter = h("input", { type: "search", placeholder: "Nodes called …  ( / )", "aria-label": "Show nodes called", oninput: (event) => { lanes.filter = event.target.value; lanes.draw(); } });
  const nothing = h("div", { hidden: true }, empty("No task has run yet. What runs shows up here within a second.", "manyhands map math:sqrt --input numbers.txt"));
  const element = h("div", { class: "grid" },
    h("div", { class: "head" },
      h("div", {}, h("h1", {}, "Task stream"), h("p", { class: "sub" }, "A lane for each slot, a colour for each function; pale is what still runs. Scroll to zoom, drag to go back, click for the job. Of busy slots it is a sample.")),
      h("div", { class: "tools" }, filter, buttons, hold)),
    h("section", { class: "card" }, lanes.key, nothing, lanes.element));

  function mark() {
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(lanes.end === null && lanes.span === SPANS[place][0])));
    hold.textContent = lanes.end === null ? "Pause" : "Follow";
  }

  function press(event) {
    if (event.key === " " && !event.target.closest("input, button")) { lanes.pause(); mark(); event.preventDefault(); }
  }
  document.addEventListener("keydown", press);
  mark();

  return {
    title: "Tasks",
    element,
    views: ["stream"],
    update: (_, data) => { lanes.add(data); nothing.hidden = lanes.runs.length + lanes.running.length > 0; mark(); },
    close: () => { lanes.close(); document.removeEventListener("keydown", press); },
  };
}
