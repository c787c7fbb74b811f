// The table of jobs, in the overview and on its own page.

import { badge, empty, h, progress } from "../dom.js";
import * as format from "../format.js";
import { Table } from "../table.js";

export function jobLink(job) {
  return h("a", { href: `#/job/${encodeURIComponent(job.id)}` }, job.name && job.name !== job.function ? job.name : format.shortName(job.function));
}

export function jobTable() {
  return new Table([
    { title: "Job", cell: jobLink, sort: (job) => job.function, class: "text" },
    { title: "State", cell: (job) => badge(job.state), sort: (job) => job.state },
    { title: "Progress", cell: (job) => progress(job), sort: (job) => (job.done + job.failed + job.cancelled) / Math.max(1, job.tasks) },
    { title: "Done", cell: (job) => [format.count(job.done), h("span", { class: "dim" }, ` / ${format.count(job.tasks)}`)], sort: (job) => job.done, num: true },
    { title: "Failed", cell: (job) => h("span", { class: job.failed ? "err" : "dim" }, format.count(job.failed)), sort: (job) => job.failed, num: true },
    { title: "Rate", cell: (job) => (job.rate ? `${format.rate(job.rate)}/s` : h("span", { class: "dim" }, "–")), sort: (job) => job.rate, num: true, class: "wide" },
    { title: "Left", cell: (job) => (job.eta === null ? h("span", { class: "dim" }, "–") : format.seconds(job.eta)), sort: (job) => job.eta, num: true },
    { title: "Submitted", cell: (job) => format.clock(job.submitted), sort: (job) => job.submitted, num: true, class: "wide" },
    { title: "Owner", cell: (job) => h("span", { class: "soft" }, job.owner || "–"), sort: (job) => job.owner, class: "text wide" },
    { title: "Id", cell: (job) => h("span", { class: "mono dim" }, job.id.slice(0, 8)), sort: (job) => job.id, class: "wide" },
  ], { empty: empty("No job has come yet. Submit one:", "manyhands map math:sqrt --input numbers.txt") });
}

// Rows by id, those that go on first and the latest first.
export function jobRows(data) {
  const rows = Object.entries(data.jobs).map(([id, row]) => {
    const job = { id };
    data.job_columns.forEach((name, place) => { job[name] = row[place]; });
    job.rate = Math.round(job.rate * 10) / 10;
    job.eta = job.eta === null ? null : job.eta > 10 ? Math.round(job.eta) : Math.round(job.eta * 10) / 10;
    return job;
  });
  const over = (job) => ["done", "failed", "cancelled"].includes(job.state);
  rows.sort((a, b) => over(a) - over(b) || b.submitted - a.submitted);
  return new Map(rows.map((job) => [job.id, job]));
}
