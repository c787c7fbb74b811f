// One job: how it goes, how long its tasks take, what failed and why.

import { orderButton } from "../actions.js";
import { histogram, Lines } from "../charts.js";
import { badge, card, empty, fill, h, progress, setText } from "../dom.js";
import * as format from "../format.js";
import { Lanes } from "../lanes.js";
import { looksCard, profileOf, stacksOf } from "../looks.js";
import { Table } from "../table.js";

// Of no use to people, or told elsewhere.
const HIDDEN = new Set(["name", "durable", "python", "direct", "fetch_key"]);

function fact(title, value) {
  return h("div", {}, h("dt", {}, title), h("dd", {}, value));
}

function errorGroup(group) {
  const named = group.tasks.slice(0, 12).join(", ") + (group.count > group.tasks.length || group.tasks.length > 12 ? ", …" : "");
  return h("details", { class: "error" },
    h("summary", {}, h("span", { class: "count" }, `${format.count(group.count)} ×`),
      h("span", { class: "what" }, h("b", {}, group.type.split(".").pop()), " ", group.message)),
    h("p", { class: "soft" }, `Tasks ${named}. First at ${format.clock(group.first)}, last at ${format.clock(group.last)}.`),
    h("pre", {}, group.traceback || "There is no traceback."));
}

export function jobPage(id) {
  const name = h("h1", {}, id);
  const sub = h("p", { class: "sub" });
  const actions = h("div", { class: "tools" });
  const bar = h("div");
  const facts = h("dl", { class: "facts" });
  const waits = h("section", { class: "card notice", hidden: true });
  const counts = new Lines([
    { label: "done", colour: "--good", fill: true }, { label: "waiting", colour: "--warn" }, { label: "active", colour: "--run" }, { label: "failed", colour: "--bad" },
  ]);
  const durations = h("div");
  const uncounted = empty("The counts of a job of one task are not kept.");
  const lanes = new Lanes({ live: false, height: 240 });
  const unseen = empty("Nodes tell where a task ran within a second of its end.");
  const errors = h("div");
  const slow = new Table([
    { title: "Task", cell: (run) => (run.tasks > 1 ? `${run.first} … ${run.first + run.tasks - 1}` : run.first), num: true },
    { title: "Took", cell: (run) => format.seconds(run.seconds), num: true },
    { title: "CPU", cell: (run) => (run.cpu ? format.seconds(run.cpu) : "–"), num: true },
    { title: "Peak", cell: (run) => (run.peak ? format.bytes(run.peak * 1024) : "–"), num: true },
    { title: "Node", cell: (run) => h("a", { href: `#/node/${encodeURIComponent(run.node)}` }, run.node), class: "text" },
    { title: "Slot", cell: (run) => run.slot, num: true },
  ], { empty: empty("No run was told of yet.") });
  const failed = new Table([
    { title: "Task", cell: (one) => one.task, num: true },
    { title: "What", cell: (one) => h("span", { class: one.what === "retried" ? "hot-text" : "err" }, one.what) },
    { title: "Attempt", cell: (one) => one.attempt, num: true },
    { title: "At", cell: (one) => format.clock(one.at), num: true },
    { title: "Node", cell: (one) => one.node || "–", class: "text" },
    { title: "Error", cell: (one) => one.error, class: "text" },
  ], { empty: empty("Nothing has failed.") });
  const output = h("pre", { class: "output" });
  const silent = h("div", { class: "empty" });
  const ofTask = h("input", { type: "number", min: "0", placeholder: "task, or all", "aria-label": "Output of one task", oninput: () => showOutput() });
  const printed = h("section", { class: "card" }, h("header", {}, h("h2", {}, "Printed, the latest"), h("div", { class: "tools" }, ofTask)), silent, output);
  const [stacks, profile] = [stacksOf({ id }), profileOf(id)];
  const looks = looksCard("What its tasks do now", [stacks, profile]);
  const element = h("div", { class: "grid" },
    h("div", { class: "head" }, h("div", {}, name, sub), actions),
    waits,
    h("section", { class: "card" }, bar, h("div", { vars: { height: "14px" } }), facts),
    h("div", { class: "grid two" }, card("Its tasks over time", counts.element, uncounted), card("How long its tasks took", durations)),
    card("Where its tasks ran", lanes.element, unseen),
    looks,
    h("div", { class: "grid two" },
      h("section", { class: "card" }, h("header", {}, h("h2", {}, "What its tasks raised")), errors),
      h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Slowest tasks")), slow.element)),
    h("section", { class: "card flush" }, h("header", {}, h("h2", {}, "Attempts that failed, the first hundred")), failed.element),
    printed);
  let stamp = "";
  let lines = [];
  let shownErrors = "";
  let shownDurations = "";

  function showOutput() {
    const wanted = ofTask.value === "" ? lines : lines.filter((one) => one.index === Number(ofTask.value));
    const text = format.printable(wanted.map((one) => `${one.index}: ${one.text}`).join(""));
    output.hidden = ofTask.hidden = !lines.length;
    if (output.textContent !== text) { output.textContent = text; output.scrollTop = output.scrollHeight; }
  }

  function buttons(job, may) {
    const fresh = `${job.state}|${may}|${job.failed + job.cancelled}`;
    if (fresh === stamp) return;
    stamp = fresh;
    const over = ["done", "failed", "cancelled"].includes(job.state);
    // What was found stays on the page when the job is over.
    if (may && !over) looks.hidden = false;
    if (over) for (const control of looks.querySelectorAll("header button, header select, header input")) control.disabled = true;
    fill(actions, badge(job.state), may && !over && [
      job.state === "paused" ? orderButton("Resume", "resume", { id: job.id }, { done: "It goes on." }) : orderButton("Pause", "pause", { id: job.id }, { done: "It is held back; what runs ends." }),
      orderButton("Cancel", "cancel", { id: job.id }, { sure: "Really cancel?", done: "It is cancelled.", danger: true }),
    ], may && over && job.durable && job.failed + job.cancelled > 0 && orderButton(`Run ${format.count(job.failed + job.cancelled)} again`, "retry", { id: job.id }, {
      sure: "Really run them again?",
      done: "They run again, as this new job.",
      after: (made) => { location.hash = `#/job/${encodeURIComponent(made.id)}`; },
    }));
  }

  function update(_, data) {
    const { job, history } = data;
    setText(name, job.name || format.shortName(job.function));
    setText(sub, `${job.function} · ${job.id}${job.owner || job.session ? ` · by ${job.owner || job.session}` : ""} · submitted at ${format.clock(job.submitted)}`);
    buttons(job, data.may);
    fill(bar, progress(job, true));
    const speed = history.progress || {};
    fill(facts,
      fact("Done", `${format.count(job.done)} of ${format.count(job.tasks)}`), fact("Active", format.count(job.active)),
      fact("Waiting", format.count(job.queued)), fact("Failed", format.count(job.failed)),
      speed.rate ? fact("Rate", `${format.rate(speed.rate)} tasks/s`) : null,
      speed.eta ? fact("Left", `about ${format.seconds(speed.eta)}`) : null,
      job.ended ? fact("Took", format.seconds(job.ended - job.submitted)) : null,
      fact("Run time of its tasks", format.seconds(job.seconds)),
      history.peak ? fact("Peak memory of a process", format.bytes(history.peak * 1024)) : null,
      fact("Kept", job.durable ? "by the journal" : "by its client"),
      Object.entries(job.options).filter(([key]) => !HIDDEN.has(key)).map(([key, value]) => fact(key, typeof value === "object" ? JSON.stringify(value) : String(value))));
    waits.hidden = !data.waits.length || (job.state === "running" && !job.queued);
    waits.classList.toggle("notice", job.state !== "running");
    fill(waits, h("h2", {}, job.state === "running" ? "What the rest of it waits for" : "What it waits for"), data.waits.map((text) => h("div", {}, text)));
    const rows = history.timeline || [];
    const column = (wanted) => rows.map((row) => row[data.columns.indexOf(wanted)]);
    counts.element.hidden = rows.length < 2;
    uncounted.hidden = rows.length >= 2;
    counts.set([column("at"), column("done"), column("queued"), column("active"), column("failed")]);
    const shape = JSON.stringify(history.durations || []);
    if (shape !== shownDurations) {
      shownDurations = shape;
      fill(durations, (history.durations || []).length
        ? [histogram(history.durations), h("p", { class: "soft" }, `Of ${format.amount(history.sampled.tasks, "attempt")} that nodes have told of, each bar up to its time.`)]
        : empty("Nodes tell how long tasks took within a second of their end."));
    }
    const runs = (data.runs || []).map(([node, slot, attempt, first, tasks, begun, seconds]) => [job.id, job.function, node, slot, attempt, first, tasks, begun, seconds, false]);
    const bad = new Set(((history.failures || {}).first || []).map((one) => one.task));
    for (const run of runs) run[9] = run[6] === 1 && bad.has(run[5]);
    lanes.element.hidden = !runs.length;
    unseen.hidden = runs.length > 0;
    lanes.set(runs);
    slow.update(new Map((history.slowest || []).slice(0, 10).map((run) => [run.seq, run])));
    const failures = history.failures || { groups: [], first: [], others: 0 };
    failed.update(new Map(failures.first.map((one, place) => [place, one])));
    const groups = JSON.stringify(failures.groups.map((group) => [group.message, group.count]));
    if (groups !== shownErrors) {
      shownErrors = groups;
      const open = new Set([...errors.querySelectorAll("details[open] .what")].map((one) => one.textContent));
      fill(errors, failures.groups.map(errorGroup), failures.others ? h("p", { class: "soft" }, `${format.count(failures.others)} more were counted, and not looked into.`) : null);
      for (const one of errors.querySelectorAll("details")) if (open.has(one.querySelector(".what").textContent)) one.open = true;
    }
    if (!failures.groups.length) fill(errors, empty(data.private ? "No task has raised anything." : "What tasks raised is for the job's owner and for admins."));
    lines = data.output;
    showOutput();
    silent.hidden = lines.length > 0;
    setText(silent, !job.durable ? "What its tasks print goes to its client. The broker keeps what tasks of durable jobs print."
      : data.private ? "Its tasks have printed nothing." : "What tasks print is for the job's owner and for admins.");
  }

  return { title: `Job ${id.slice(0, 8)}`, element, views: [`job:${id}`], update, hint: "manyhands jobs", close: () => { counts.close(); lanes.close(); } };
}
