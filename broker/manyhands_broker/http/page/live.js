// Views of the broker as they change: server-sent events with patches, and again after a lost link.

function patched(old, patch) {
  const fresh = { ...old };
  for (const key of patch.d || []) delete fresh[key];
  for (const [key, value] of Object.entries(patch.s || {})) fresh[key] = value;
  for (const [key, inside] of Object.entries(patch.p || {})) fresh[key] = patched(fresh[key], inside);
  return fresh;
}

export class Live {
  // `views`: names, or "name:argument". `changed(name, data)` is called at most once a frame and view.
  constructor(views, changed, onState) {
    this.changed = changed;
    this.onState = onState;
    this.data = new Map();
    this.dirty = new Set();
    this.query = views.map((view) => `view=${encodeURIComponent(view)}`).join("&");
    // A page that is not seen holds no connection: a browser has six for one server, all tabs together.
    this.see = () => (document.hidden ? this.stop() : this.start());
    this.hide = () => this.stop();
    document.addEventListener("visibilitychange", this.see);
    window.addEventListener("pagehide", this.hide);
    window.addEventListener("pageshow", this.see);
    this.see();
  }

  start() {
    if (this.source) return;
    const source = new EventSource(`/api/events?${this.query}`);
    this.source = source;
    source.onmessage = (event) => this.take(JSON.parse(event.data));
    source.onopen = () => this.onState("live");
    source.onerror = () => this.onState(source.readyState === EventSource.CLOSED ? "refused" : "lost");
  }

  stop() {
    if (this.source) this.source.close();
    this.source = null;
  }

  take(message) {
    const name = message.view;
    if (message.whole) this.data.set(name, message.whole);
    else if (message.patch) this.data.set(name, patched(this.data.get(name) || {}, message.patch));
    else if (message.runs) {
      // Runs are handed on as they come: a page that draws them keeps its own.
      const data = this.data.get(name) || {};
      const running = patched(data.running || {}, message.runs.running || {});
      this.data.set(name, { ...data, ...message.runs, running, runs: [...(this.dirty.has(name) ? data.runs || [] : []), ...message.runs.runs] });
    }
    this.dirty.add(name);
    if (this.frame) return;
    const draw = () => {
      this.frame = 0;
      const names = [...this.dirty];
      this.dirty.clear();
      const began = performance.now();
      for (const one of names) this.changed(one, this.data.get(one));
      // For those who measure: observers get it, and nothing piles up.
      performance.measure("update", { start: began });
      performance.clearMeasures("update");
    };
    this.frame = document.hidden ? setTimeout(draw, 200) : requestAnimationFrame(draw);
  }

  close() {
    this.stop();
    document.removeEventListener("visibilitychange", this.see);
    window.removeEventListener("pagehide", this.hide);
    window.removeEventListener("pageshow", this.see);
    if (this.frame) { cancelAnimationFrame(this.frame); clearTimeout(this.frame); }
    this.dirty.clear();
  }
}

async function post(path, fields) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(fields),
  });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the server answers ${answer.status}`);
  return answer.json();
}

export function order(what, fields) {
  return post("/api/order", { what, ...fields });
}

// What tasks do just now: takes as long as nodes need to look.
export function look(what, fields) {
  return post("/api/look", { what, ...fields });
}
