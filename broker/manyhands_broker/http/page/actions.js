// Orders from the page: asked again before what cannot be undone.

import { h, setText } from "./dom.js";
import { order } from "./live.js";

let hide = 0;

export function toast(text) {
  const box = document.getElementById("toast");
  setText(box, text);
  box.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => { box.hidden = true; }, 5000);
}

// A button that gives an order. With `sure`, the first click asks and the second gives it. `after` hears the answer.
export function orderButton(label, what, fields, { sure = "", done = "", danger = false, after = null } = {}) {
  let asked = 0;
  const button = h("button", { type: "button", class: danger ? "danger" : "", "data-order": what }, label);
  button.addEventListener("click", async () => {
    if (sure && !asked) {
      button.textContent = sure;
      asked = setTimeout(() => { asked = 0; button.textContent = label; }, 4000);
      return;
    }
    clearTimeout(asked);
    asked = 0;
    button.textContent = label;
    button.disabled = true;
    try {
      const made = await order(what, fields);
      toast(done || `${label}: done`);
      if (after) after(made);
    } catch (error) {
      toast(error.message);
    }
    button.disabled = false;
  });
  return button;
}
