// Elements and tables. Text is only ever set as text: names and messages come from other people.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export function setText(element, text) {
  const value = String(text);
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
  for (const state of ["done", "failed", "cancelled", "running"]) {
    if (counts[state]) bar.append(h("i", { class: state, vars: { "--w": `${(100 * counts[state]) / total}%` } }));
  }
  return bar;
}

export function asMap(columns, row) {
  const found = {};
  columns.forEach((name, place) => { found[name] = row[place]; });
  return found;
}

// A table whose rows are kept by key, so that an update touches what has changed.
// Columns: {title, cell(row) -> text or node, sort(row), num, class}.
export class Table {
  constructor(columns, { sort = null, descending = false, empty: none = null } = {}) {
    this.columns = columns;
    this.sort = sort;
    this.descending = descending;
    this.rows = new Map();
    this.data = new Map();
    this.filter = "";
    this.none = none;
    this.head = h("tr");
    columns.forEach((column, place) => {
      const label = column.sort ? h("button", { type: "button", onclick: () => this.by(place) }, column.title) : column.title;
      this.head.append(h("th", { class: [column.num && "num", column.class].filter(Boolean).join(" "), scope: "col" }, label));
    });
    this.body = h("tbody");
    this.table = h("table", {}, h("thead", {}, this.head), this.body);
    this.blank = h("div", { hidden: true }, none);
    this.element = h("div", { class: "scroll", tabindex: "0" }, this.table, this.blank);
  }

  by(place) {
    if (this.sort === place) this.descending = !this.descending;
    else { this.sort = place; this.descending = Boolean(this.columns[place].num); }
    this.order();
  }

  // `rows`: key -> row. A row whose text is as before is left alone.
  update(rows) {
    for (const key of [...this.rows.keys()]) {
      if (!rows.has(key)) { this.rows.get(key).element.remove(); this.rows.delete(key); }
    }
    for (const [key, row] of rows) {
      const stamp = JSON.stringify(row);
      const there = this.rows.get(key);
      if (there && there.stamp === stamp) continue;
      const cells = this.columns.map((column) => h("td", { class: [column.num && "num", column.class].filter(Boolean).join(" ") }, column.cell(row)));
      if (there) { there.element.replaceChildren(...cells); there.stamp = stamp; there.row = row; }
      else this.rows.set(key, { element: h("tr", {}, cells), stamp, row });
    }
    this.order();
  }

  order() {
    let entries = [...this.rows.values()];
    if (this.sort !== null) {
      const of = this.columns[this.sort].sort;
      const sign = this.descending ? -1 : 1;
      const worth = (value) => (value === null || value === undefined ? -Infinity : value);
      entries.sort((a, b) => {
        const [x, y] = [worth(of(a.row)), worth(of(b.row))];
        return x < y ? -sign : x > y ? sign : 0;
      });
    }
    [...this.head.children].forEach((cell, place) => {
      if (place === this.sort) cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const wanted = this.filter.toLowerCase();
    if (wanted) entries = entries.filter((entry) => entry.stamp.toLowerCase().includes(wanted));
    const present = [...this.body.children];
    if (present.length !== entries.length || entries.some((entry, place) => entry.element !== present[place])) {
      this.body.replaceChildren(...entries.map((entry) => entry.element));
    }
    this.table.hidden = !this.rows.size && Boolean(this.none);
    this.blank.hidden = Boolean(this.rows.size);
  }
}
