// Which page is shown, the link's state, light and dark, and keys.

import { recolour } from "./charts.js";
import { empty, fill, h } from "./dom.js";
import { Live } from "./live.js";
import { eventsPage } from "./pages/events.js";
import { jobPage } from "./pages/job.js";
import { jobsPage } from "./pages/jobs.js";
import { loadTestsPage } from "./pages/loadtests.js";
import { nodePage } from "./pages/node.js";
import { nodesPage } from "./pages/nodes.js";
import { overviewPage } from "./pages/overview.js";
import { programsPage } from "./pages/programs.js";
import { tasksPage } from "./pages/tasks.js";

const PAGES = { "": overviewPage, tasks: tasksPage, jobs: jobsPage, job: jobPage, nodes: nodesPage, node: nodePage, programs: programsPage, loadtests: loadTestsPage, events: eventsPage };
const TABS = { job: "jobs", node: "nodes", "": "overview" };
const KEYS = { o: "", s: "tasks", j: "jobs", n: "nodes", p: "programs", l: "loadtests", e: "events" };
const STATES = { live: "live", lost: "connecting again", refused: "no answer" };

const main = document.getElementById("main");
let shown = null;

function show() {
  const [, name = "", ...rest] = location.hash.split("/");
  const make = PAGES[name] || overviewPage;
  if (shown) { shown.live.close(); if (shown.page.close) shown.page.close(); }
  document.getElementById("tip").hidden = true;
  const page = make(decodeURIComponent(rest.join("/")));
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.dataset.page === (TABS[name] || name)) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${page.title} · manyhands`;
  fill(main, page.element);
  window.scrollTo(0, 0);
  const live = new Live(page.views, (view, data) => {
    main.dataset.ready = "true";
    if (data.error) fill(main, h("section", { class: "card" }, empty(data.error, page.hint)));
    else {
      if (!page.element.isConnected) fill(main, page.element);
      page.update(view, data);
    }
  }, state);
  delete main.dataset.ready;
  shown = { page, live };
}

function state(name) {
  const link = document.getElementById("link");
  link.dataset.state = name;
  link.textContent = STATES[name] || name;
}

function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  document.getElementById("theme").textContent = wanted === "dark" ? "☀" : "☾";
  recolour();
}

function stored() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  try { return localStorage.getItem("theme") || system; } catch { return system; }
}

function turn() {
  const wanted = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", wanted); } catch { /* then for this page alone */ }
  theme(wanted);
}

document.getElementById("theme").addEventListener("click", turn);
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "t") turn();
  else if (event.key === "/") { const box = main.querySelector("input"); if (box) { box.focus(); event.preventDefault(); } }
  else if (event.key in KEYS) location.hash = `#/${KEYS[event.key]}`;
});
window.addEventListener("hashchange", show);
theme(stored());
show();
