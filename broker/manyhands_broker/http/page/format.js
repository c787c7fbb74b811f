// Numbers and times as people read them.

const LETTERS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 100_000) return Math.round(value).toLocaleString("en");
  return short(value);
}

// Text in which what is not to be seen is replaced, but lines and tabs: some of that turns other text round.
export function printable(text) {
  return String(text).replace(/[^\P{C}\n\t]|[\u2028\u2029]/gu, "\ufffd");
}

export function amount(value, thing, things = `${thing}s`) {
  return `${count(value)} ${value === 1 ? thing : things}`;
}

export function short(value) {
  for (const [size, letter] of LETTERS) {
    if (Math.abs(value) >= size) {
      const part = value / size;
      return (part >= 100 ? part.toFixed(0) : part.toFixed(1).replace(/\.0$/, "")) + letter;
    }
  }
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.abs(value) < 10 ? 1 : 0).replace(/\.0$/, "");
}

export function rate(value) {
  return value ? short(value) : "0";
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1e-3) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${trim(value * 1e3)} ms`;
  if (value < 60) return `${trim(value)} s`;
  // Rounded before they are taken apart: there is no minute of 60 seconds.
  const [whole, minutes, hours] = [1, 60, 3600].map((unit) => Math.round(value / unit));
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function trim(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1).replace(/\.0$/, "") : value.toFixed(2).replace(/\.?0+$/, "");
}

export function bytes(value) {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= size) return `${trim(value / size)} ${unit}`;
  }
  return `${value || 0} B`;
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString("en-GB");
}

export function ago(unix) {
  const passed = Math.max(0, Date.now() / 1000 - unix);
  return passed < 1 ? "now" : `${seconds(passed < 60 ? Math.round(passed) : passed)} ago`;
}

export function percent(part, whole) {
  return whole ? `${Math.round((100 * part) / whole)} %` : "–";
}

const PALETTE = ["#4c8dff", "#f2994a", "#22b08a", "#a56be0", "#e0b527", "#3fbfe0", "#8d7bff", "#7cc36a", "#b08968", "#8fa3bf", "#a8c64a"];
const chosen = new Map();

// Functions get colours in the order in which they are seen, so that the first twelve differ.
export function colour(name) {
  if (!chosen.has(name)) chosen.set(name, PALETTE[chosen.size % PALETTE.length]);
  return chosen.get(name);
}

export function shortName(name) {
  return name.replace(/^__main__\./, "") || "task";
}
