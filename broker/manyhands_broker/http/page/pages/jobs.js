// All jobs that the broker knows of, the latest two hundred.

import { h, setText } from "../dom.js";
import * as format from "../format.js";
import { jobRows, jobTable } from "./jobtable.js";

export function jobsPage() {
  const table = jobTable();
  const about = h("p", { class: "sub" }, "");
  const filter = h("input", { type: "search", placeholder: "Filter  ( / )", "aria-label": "Filter jobs", oninput: (event) => { table.filter = event.target.value; table.order(); } });
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, h("h1", {}, "Jobs"), about), h("div", { class: "tools" }, filter)),
    h("section", { class: "card flush" }, table.element));
  return {
    title: "Jobs",
    element,
    views: ["jobs"],
    update(_, data) {
      const rows = jobRows(data);
      table.update(rows);
      setText(about, rows.size < data.all_jobs ? `The latest ${rows.size} of ${format.count(data.all_jobs)}; the others: manyhands jobs` : `${rows.size} known to the broker`);
    },
  };
}
