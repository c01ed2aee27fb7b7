// Runs: what waits, what runs and how far it is, the maps that are there; chosen alone, or several side by side.
import { drop, get, post } from "./api.js";
import { ACTIVE } from "./desk.js";
import { byId, dot, fill, h } from "./dom.js";

const ENDS = { cancelled: "Cancelled; the network is as it was.", interrupted: "Interrupted when the viewer was closed." };

export function runs(desk) {
  const { app } = desk;
  const place = byId("runs");
  let [timer, drawn] = [0, ""];

  async function refresh() {
    clearTimeout(timer);
    if (!desk.scan || !desk.open) return;
    const { scan } = desk;
    const found = await app.attempt(() => get("runs", { scan: scan.id }));
    if (!found || desk.scan !== scan) return;
    const before = new Map(desk.maps.map((m) => [m.id, desk.verdict(m.id)]));
    desk.runs = found;
    draw();
    const fresh = desk.maps.filter((m) => !before.has(m.id));
    const examined = desk.shown.filter((id) => before.has(id) && before.get(id) !== desk.verdict(id));
    if (fresh.length && (before.size || !desk.shown.length) && desk.asked) await desk.show([fresh.at(-1).id]);
    else if (examined.length) await desk.tell("examined");
    if (found.some((r) => ACTIVE.has(r.state))) timer = setTimeout(refresh, document.hidden ? 2000 : 350);
  }

  const act = (work) => app.attempt(async () => (await work(), await refresh()));

  function progress(run) {
    const known = run.total ? { value: Math.min(run.done, run.total), max: run.total } : {};
    const bar = h("progress", { ...known, "aria-label": "progress" });
    const waits = run.ahead ? `waiting, ${run.ahead} before it` : "waiting";
    const far = run.total ? `${run.done} of ${run.total} passes` : run.done ? `${run.done} passes` : "";
    return h("div", { class: "going" }, h("span", { class: "phase" }, run.state === "waiting" ? waits : run.stopping ? `stopping at the next pass: ${run.phase} ${far}` : `${run.phase} ${far}`), bar,
      h("button", { type: "button", class: "quiet", disabled: run.stopping, onclick: () => act(() => post(`runs/${run.id}/cancel`)) }, "Cancel"));
  }

  // Alone, or beside the others (on) or no longer (off).
  function choose(id, on = null) {
    const others = desk.shown.filter((s) => s !== id);
    app.attempt(() => desk.show(on === null ? [id] : on ? [...others, id] : others));
  }

  function mapRow(m) {
    const on = desk.shown.includes(m.id);
    const where = m.site === "input" ? "" : ` · ${m.site}`;
    const side = h("input", { type: "checkbox", checked: on, "aria-label": `${m.name}, ${m.explained}: side by side`, onchange: (e) => choose(m.id, e.target.checked) });
    return h("li", { class: "map", "data-map": m.id }, side,
      h("button", { type: "button", "aria-pressed": String(on && desk.shown.length === 1), onclick: () => choose(m.id) },
        dot(desk.verdict(m.id)), h("span", {}, m.name), h("small", {}, `${m.explained}${where} · ${desk.verdict(m.id)}`)));
  }

  function runRow(run) {
    const error = run.error ? h("p", { class: "warning" }, `${run.error.asked}; got ${run.error.got}. ${run.error.fix}`) : null;
    const end = ENDS[run.state] ? h("p", { class: "hint" }, ENDS[run.state]) : null;
    const name = run.maps.length ? "" : h("p", { class: "what" }, run.question.methods.map((m) => m.name).join(", "));
    const remove = h("button", {
      type: "button", class: "quiet small", "aria-label": "Remove this run", title: "Remove this run",
      onclick: () => act(async () => {
        await drop(`runs/${run.id}`);
        const gone = run.maps.map((m) => m.id);
        if (desk.shown.some((s) => gone.includes(s))) await desk.show(desk.shown.filter((s) => !gone.includes(s)));
      }),
    }, "×");
    return h("li", { class: `run ${run.state}` }, h("div", {}, name, h("ul", {}, run.maps.map(mapRow)), ACTIVE.has(run.state) ? progress(run) : null, error, end),
      ACTIVE.has(run.state) ? null : remove);
  }

  // Drawn anew only where something has changed: whoever stands on a button with the keyboard stays there.
  function draw() {
    const now = JSON.stringify([desk.runs, desk.shown]);
    if (now === drawn) return;
    drawn = now;
    const held = document.activeElement && place.contains(document.activeElement) ? [...place.querySelectorAll("button,input")].indexOf(document.activeElement) : -1;
    const rows = desk.runs.map(runRow);
    fill(place, rows.length ? h("ul", {}, rows) : h("p", { class: "hint" }, "No maps yet. Ask a question."));
    if (held >= 0) [...place.querySelectorAll("button,input")][held]?.focus();
  }

  desk.on("scan", () => {
    [drawn, desk.asked] = ["", false];
    return refresh();
  });
  desk.on("asked", () => {
    desk.asked = true;
    return refresh();
  });
  desk.on("shown", draw);
}
