// Reports of load tests of this cluster, as `manyhands loadtest --broker` leaves them.

import { Curve } from "../charts.js";
import { badge, card, empty, fill, h, setText } from "../dom.js";
import * as format from "../format.js";

// Texts of a table whose first column names the row.
function textTable({ title, about, headings, rows }) {
  const cells = (texts, tag) => texts.map((text, place) => h(tag, { class: place ? "num" : "" }, text));
  return h("section", { class: "card flush" },
    h("header", {}, h("h2", {}, title)), h("p", { class: "soft inset" }, about),
    h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, cells(headings, "th"))), h("tbody", {}, rows.map((row) => h("tr", {}, cells(row, "td")))))));
}

function figure([what, value, remark]) {
  return h("section", { class: "card kpi" }, h("h2", {}, what), h("b", {}, value), h("span", {}, remark));
}

export function loadTestsPage() {
  const about = h("p", { class: "sub" }, "");
  const choice = h("select", { "aria-label": "Which report", hidden: true, onchange: () => show() });
  const body = h("div", { class: "grid" });
  const element = h("div", { class: "grid" }, h("div", { class: "head" }, h("div", {}, h("h1", {}, "Load tests"), about), h("div", { class: "tools" }, choice)), body);
  let reports = [];
  let curves = [];

  function close() {
    for (const one of curves) one.close();
    curves = [];
  }

  function show() {
    close();
    const chosen = reports[Math.max(0, choice.selectedIndex)];
    if (!chosen) {
      fill(body, h("section", { class: "card" }, empty("No load test of this cluster has left a report since the broker\u2019s start. Run one:", "manyhands loadtest --broker ADDRESS")));
      return;
    }
    let told = null;
    try { told = JSON.parse(chosen.text); } catch { /* said below */ }
    if (!told || told.version !== 1) {
      fill(body, h("section", { class: "card" }, empty("This report is of another version of manyhands.")));
      return;
    }
    const column = (place) => told.points.map((point) => point[place]);
    if (told.points.length > 1) {
      curves = [
        new Curve(column(0), [{ label: "done/s", colour: "--good", values: column(1) }, { label: "offered/s", colour: "--grey", values: column(0) }], { value: format.short, x: (value) => `${format.short(value)}/s` }),
        new Curve(column(0), [{ label: "50 %", colour: "--run", values: column(2) }, { label: "99 %", colour: "--warn", values: column(3) }], { value: format.seconds, x: (value) => `${format.short(value)}/s` }),
      ];
    }
    fill(body,
      h("section", { class: told.bad ? "card notice" : "card" }, h("div", {}, badge(told.bad ? "failed" : "done"), " ", told.verdict), h("p", { class: "soft" }, told.setting)),
      h("div", { class: "grid kpis" }, told.headline.map(figure)),
      curves.length ? h("div", { class: "grid two" }, card("Done, against the load that was offered", curves[0].element), card("Latency, against the load that was offered", curves[1].element)) : null,
      told.tables.map(textTable),
      told.notes.length ? card("To know", told.notes.map((note) => h("p", {}, note))) : null);
  }

  return {
    title: "Load tests",
    element,
    views: ["loadtests"],
    update(_, data) {
      reports = data.reports;
      const before = Math.max(0, choice.selectedIndex);
      fill(choice, reports.map((one) => h("option", {}, `${format.clock(one.at)}${one.by ? `, by ${one.by}` : ""}`)));
      choice.hidden = reports.length < 2;
      choice.selectedIndex = Math.min(before, reports.length - 1);
      setText(about, reports.length ? `The latest ended at ${format.clock(reports[0].at)}.` : "How much work this cluster takes, and how long callers wait.");
      show();
    },
    close,
  };
}
