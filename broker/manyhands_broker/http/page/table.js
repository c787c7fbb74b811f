// A table that sorts and filters. Of a long one only the rows that are seen are in the page.

import { h } from "./dom.js";

// Longer tables show a part; rows beyond what is seen, above and below.
const LONG = 120;
const BEYOND = 12;

// Columns: {title, cell(row) -> text or node, sort(row), num, class}.
export class Table {
  constructor(columns, { sort = null, descending = false, empty: none = null } = {}) {
    this.columns = columns;
    this.sort = sort;
    this.descending = descending;
    this.entries = new Map();
    this.shown = [];
    this.painted = new Map();
    this.filter = "";
    this.none = none;
    this.rowHeight = 0;
    this.head = h("tr");
    columns.forEach((column, place) => {
      const label = column.sort ? h("button", { type: "button", onclick: () => this.by(place) }, column.title) : column.title;
      this.head.append(h("th", { class: this.classes(column), scope: "col" }, label));
    });
    this.above = this.space();
    this.below = this.space();
    this.body = h("tbody");
    this.table = h("table", {}, h("thead", {}, this.head), this.body);
    this.blank = h("div", { hidden: true }, none);
    this.element = h("div", { class: "scroll", tabindex: "0", onscroll: () => this.scrolled() }, this.table, this.blank);
  }

  classes(column) { return [column.num && "num", column.class].filter(Boolean).join(" "); }

  space() { return h("tr", { class: "space", "aria-hidden": "true" }, h("td", { colspan: String(this.columns.length) })); }

  by(place) {
    if (this.sort === place) this.descending = !this.descending;
    else { this.sort = place; this.descending = Boolean(this.columns[place].num); }
    this.order();
  }

  // `rows`: key -> row.
  update(rows) {
    const fresh = new Map();
    for (const [key, row] of rows) fresh.set(key, { key, row, stamp: JSON.stringify(row) });
    this.entries = fresh;
    this.order();
  }

  order() {
    let entries = [...this.entries.values()];
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
    this.shown = entries;
    this.table.setAttribute("aria-rowcount", String(entries.length));
    this.table.hidden = !this.entries.size && Boolean(this.none);
    this.blank.hidden = Boolean(this.entries.size);
    this.paint();
  }

  scrolled() {
    if (this.frame || this.shown.length <= LONG) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.paint(); });
  }

  // The first and the last row to be in the page.
  part() {
    if (this.shown.length <= LONG) return [0, this.shown.length];
    const height = this.rowHeight || 38;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - BEYOND);
    const seen = Math.ceil((this.element.clientHeight || 700) / height);
    return [Math.min(first, this.shown.length), Math.min(this.shown.length, first + seen + 2 * BEYOND)];
  }

  paint() {
    const [first, stop] = this.part();
    const painted = new Map();
    const wanted = this.shown.slice(first, stop).map((entry) => {
      const there = this.painted.get(entry.key);
      const element = there ? there.element : h("tr");
      // A row whose text is as before is left alone.
      if (!there || there.stamp !== entry.stamp) element.replaceChildren(...this.columns.map((column) => h("td", { class: this.classes(column) }, column.cell(entry.row))));
      painted.set(entry.key, { element, stamp: entry.stamp });
      return element;
    });
    this.painted = painted;
    if (stop - first < this.shown.length) {
      this.above.firstChild.style.setProperty("--h", `${first * this.rowHeight}px`);
      this.below.firstChild.style.setProperty("--h", `${(this.shown.length - stop) * this.rowHeight}px`);
      wanted.unshift(this.above);
      wanted.push(this.below);
    }
    const present = [...this.body.children];
    if (present.length !== wanted.length || wanted.some((element, place) => element !== present[place])) this.body.replaceChildren(...wanted);
    const any = painted.values().next().value;
    if (any && !this.rowHeight && any.element.offsetHeight) {
      this.rowHeight = any.element.offsetHeight;
      if (this.shown.length > LONG) this.paint();
    }
  }
}
