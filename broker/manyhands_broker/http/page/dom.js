// Elements and tables. Text is only ever set as text: names and messages come from other people.

import { printable } from "./format.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : printable(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(printable(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export function setText(element, text) {
  const value = printable(text);
  if (element.textContent !== value) element.textContent = value;
}

export function card(title, ...children) {
  return h("section", { class: "card" }, title && h("header", {}, h("h2", {}, title)), children);
}

export function empty(text, command) {
  return h("div", { class: "empty" }, h("div", {}, text), command && h("code", {}, command));
}

export function badge(state) {
  return h("span", { class: `badge ${/^[a-z]+$/.test(state) ? state : ""}` }, state);
}

// A stacked bar of a job's tasks by state.
export function progress(counts, tall = false) {
  const total = Math.max(1, counts.tasks);
  const bar = h("div", { class: tall ? "progress tall" : "progress", role: "img" });
  bar.setAttribute("aria-label", `${counts.done} of ${counts.tasks} done, ${counts.failed} failed`);
  for (const state of ["done", "failed", "cancelled", "active"]) {
    if (counts[state]) bar.append(h("i", { class: state, vars: { "--w": `${(100 * counts[state]) / total}%` } }));
  }
  return bar;
}

export function asMap(columns, row) {
  const found = {};
  columns.forEach((name, place) => { found[name] = row[place]; });
  return found;
}
