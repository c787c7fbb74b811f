// A flame graph that is zoomed by a click: the outermost calls on top, as wide as tasks were found there.

import { fill, h, setText } from "./dom.js";
import * as format from "./format.js";

const ROW = 22;
const MOST_BOXES = 3_000;
const MOST_ROWS = 60;
// Narrower boxes than this share of the width are left out.
const LEAST = 0.001;

function hue(text) {
  let sum = 7;
  for (let at = 0; at < text.length; at++) sum = (sum * 31 + text.charCodeAt(at)) % 9973;
  return 10 + (sum % 40);
}

// The tree of calls from a document of speedscope: what calls what, and how often it was found.
function tree(document_) {
  const { frames } = document_.shared;
  const [{ samples, weights }] = document_.profiles;
  const root = { frame: { name: "all", file: "" }, count: 0, inside: new Map(), above: null };
  samples.forEach((stack, place) => {
    let at = root;
    at.count += weights[place];
    for (const number of stack) {
      if (!at.inside.has(number)) at.inside.set(number, { frame: frames[number], count: 0, inside: new Map(), above: at });
      at = at.inside.get(number);
      at.count += weights[place];
    }
  });
  return root;
}

export class Flame {
  constructor(document_) {
    this.root = tree(document_);
    this.about = h("p", { class: "soft mono" });
    this.box = h("div", { class: "flame", role: "img", "aria-label": "Flame graph: in which functions tasks were" });
    this.element = h("div", {}, this.box, this.about);
    this.show(this.root);
  }

  words(node) {
    const where = node.frame.file ? ` (${node.frame.file})` : "";
    return `${node.frame.name}${where}: ${format.amount(node.count, "look")}, ${format.percent(node.count, this.root.count)}`;
  }

  // Show what is within a call, and the calls that lead to it.
  show(top) {
    const boxes = [];
    let deepest = 0;
    const path = [];
    for (let at = top; at; at = at.above) path.unshift(at);
    path.forEach((node, depth) => boxes.push([node, depth, 0, 1]));
    const waiting = [[top, path.length, 0, 1]];
    while (waiting.length && boxes.length < MOST_BOXES) {
      const [node, depth, left, width] = waiting.shift();
      deepest = Math.max(deepest, depth);
      let x = left;
      for (const inner of [...node.inside.values()].sort((a, b) => b.count - a.count)) {
        const share = (width * inner.count) / node.count;
        if (share >= LEAST && depth < MOST_ROWS) {
          boxes.push([inner, depth, x, share]);
          waiting.push([inner, depth + 1, x, share]);
        }
        x += share;
      }
    }
    this.box.style.setProperty("--rows", String(deepest));
    fill(this.box, boxes.map(([node, depth, left, width]) => h("button", {
      type: "button",
      class: depth < path.length - 1 ? "outside" : "",
      title: this.words(node),
      vars: { "--x": `${100 * left}%`, "--w": `${100 * width}%`, "--y": `${depth * ROW}px`, "--hue": String(hue(`${node.frame.name} ${node.frame.file}`)) },
      onclick: () => this.show(node),
      onpointerenter: () => setText(this.about, this.words(node)),
      onfocus: () => setText(this.about, this.words(node)),
    }, node.frame.name)));
    setText(this.about, `${this.words(top)}. A click shows what is within a call.`);
  }
}
