// Marks: draw a finding, and read at once how well the maps point at it, beside chance.
import { bytes, drop, fileOf, get, post, sendBytes } from "./api.js";
import { byId, fill, h, icon, options } from "./dom.js";
import { Ink } from "./ink.js";
import { link } from "./take.js";
import { badge } from "./words.js";

// What a metric says here is where the map points, and no more: no word of praise, and no green beside a map that is not to be relied on.
const AGAINST_CHANCE = { pass: "better than chance", fail: "no better than chance", inconclusive: "not clearly better", void: "void" };

function sign(r, facts, short) {
  const word = AGAINST_CHANCE[r.status] || r.status;
  if (!short) return h("span", { class: `chip ${facts.verdict === "supported" ? r.status : "plain"}` }, word);
  const one = icon(facts.verdict === "supported" ? r.status : "open");
  one.classList.add(facts.verdict === "supported" ? r.status : "plain");
  return [one, h("span", { class: "unseen" }, word)];
}

// What a number is counted in; lengths stand behind the value of chance too.
const LENGTHS = new Set(["mm", "samples"]);
const unitOf = (r) => h("small", {}, LENGTHS.has(r.unit) ? ` ${r.unit}` : ` (${r.unit})`);

const TOOLS = [["Look", ""], ["Box", "box"], ["Brush", "brush"], ["Polygon", "polygon"], ["Eraser", "erase"]];

export function marks(desk) {
  const { app } = desk;
  const place = byId("marks");
  let [ink, known, saving] = [null, [], 0];
  const parts = { tools: h("div", { class: "tools", role: "group", "aria-label": "Drawing tools" }), list: h("div", {}), numbers: h("div", { id: "numbers", "aria-live": "polite" }) };

  const unit = (m) => (m.unit === "px" ? "samples" : m.space === 3 ? "mm³" : "mm²");
  const size = (m) => (m.space === 3 && m.unit === "mm" && m.size > 1000 ? `${number(m.size / 1000)} ml` : `${number(m.size)} ${unit(m)}`);

  function tools() {
    const volume = desk.scene.volume;
    const buttons = TOOLS.map(([name, tool]) => h("button", { type: "button", class: "quiet", "data-tool": tool, "aria-pressed": String(ink.tool === tool), onclick: () => (ink.use(tool), tools()) }, name));
    const count = (text, key, most) => h("label", { class: "pick" }, `${text} `, h("input", { type: "number", min: 1, max: most, value: ink[key], oninput: (e) => (ink[key] = Math.max(1, Number(e.target.value) || 1)) }));
    const side = h("input", { type: "number", id: "side", min: 1, value: Math.max(3, Math.round(Math.min(...desk.scene.shape) / 8)) });
    fill(parts.tools, h("div", { class: "buttons" }, buttons),
      h("div", { class: "buttons" }, ["brush", "erase"].includes(ink.tool) ? count("Radius", "radius", 200) : null, volume && ink.tool ? count("Slices deep", "deep", 200) : null,
        ink.tool === "polygon" ? h("button", { type: "button", class: "quiet", onclick: () => ink.close() }, "Close the polygon") : null,
        h("button", { type: "button", class: "quiet", onclick: () => ink.undo() }, "Undo"), h("button", { type: "button", class: "quiet", onclick: () => ink.clear() }, "Clear")),
      h("div", { class: "buttons" }, h("button", { type: "button", class: "quiet", id: "around", onclick: () => ink.around(Math.max(1, Number(side.value) || 1)) }, volume ? "Cube at the crosshair" : "Box at the crosshair"),
        h("label", { class: "pick" }, "of side ", side)));
  }

  function list() {
    const current = known.find((m) => m.id === desk.mark);
    const pick = h("select", { id: "mark", "aria-label": "Mark", onchange: (e) => app.attempt(() => choose(e.target.value || null)) }, options([["new mark", ""], ...known.map((m) => [`${m.name}, ${size(m)}`, m.id])], desk.mark || ""));
    const file = h("input", { type: "text", id: "mask-path", placeholder: "lesion.nii.gz", "aria-label": "Mask file in the folder", spellcheck: "false" });
    const take = () => app.attempt(async () => {
      const m = await post("marks/file", { scan: desk.scan.id, path: file.value.trim(), name: file.value.trim().split("/").at(-1) });
      await refresh();
      await choose(m.id);
    });
    const remove = async () => {
      await drop(`marks/${desk.mark}`);
      await refresh();
      await choose(null);
    };
    fill(parts.list, h("div", { class: "buttons" }, pick,
      current ? link(app, "NIfTI", fileOf(`marks/${current.id}/file`), "On the scan's own grid") : null,
      current ? h("button", { type: "button", class: "quiet", onclick: () => app.attempt(remove) }, "Remove") : null),
      h("details", {}, h("summary", {}, "Take a mask from the folder"), h("div", { class: "buttons" }, file, h("button", { type: "button", class: "quiet", onclick: take }, "Take"))));
  }

  async function refresh() {
    known = await get("marks", { scan: desk.scan.id });
    list();
  }

  async function choose(id) {
    desk.mark = id;
    app.go({ mark: id });
    ink.load(id ? await bytes(`marks/${id}/samples`) : new Uint8Array(ink.mask.length));
    list();
    await numbers();
  }

  // Saved a moment after the hand is lifted, so that a refresh loses nothing; the numbers follow.
  function changed() {
    clearTimeout(saving);
    saving = setTimeout(() => app.attempt(async () => {
      const { scan } = desk;
      if (!ink.count && !desk.mark) return;
      const saved = await sendBytes("marks", ink.mask, { scan: scan.id, name: `region ${known.findIndex((m) => m.id === desk.mark) + 1 || known.length + 1}`, id: desk.mark });
      if (desk.scan !== scan) return;
      desk.mark = saved.id;
      app.go({ mark: saved.id });
      await refresh();
      await numbers();
    }), 250);
  }

  async function numbers() {
    const mark = known.find((m) => m.id === desk.mark);
    if (!mark || !mark.samples || !desk.shown.length) {
      const what = !desk.shown.length ? "Choose a map, then draw a finding over the scan." : "Draw the finding over the scan: box, brush or polygon.";
      fill(parts.numbers, h("p", { class: "hint" }, what));
      return;
    }
    const { shown } = desk;
    const { rows } = await post("localization", { mark: mark.id, maps: shown });
    const names = await Promise.all(shown.map((id) => desk.facts(id)));
    if (desk.shown !== shown || desk.mark !== mark.id) return;
    const metrics = rows[desk.shown[0]].map((r) => r.title);
    const several = names.length > 1;
    const interval = (r) => (r.low === null || r.high === null ? null : h("small", {}, ` 95 %: ${number(r.low)} to ${number(r.high)} `));
    const chance = (r) => (r.held ? h("small", {}, `chance ${r.held}${LENGTHS.has(r.unit) ? ` ${r.unit}` : ""} `) : null);
    const cell = (r, f) => h("td", { title: r.text }, h("strong", {}, r.shown), unitOf(r), " ", several ? [sign(r, f, true), interval(r), chance(r)] : [chance(r), h("div", {}, interval(r), sign(r, f))]);
    const head = several ? h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Metric"), names.map((f) => h("th", { scope: "col" }, f.name, h("small", {}, ` ${f.verdict}`))))) : null;
    const reserve = names.some((f) => f.verdict !== "supported") ? h("p", { class: "hint" }, several ? "" : [badge(names[0].verdict, "small"), " "], "These numbers say where a map points. Whether it can be relied on is said above.") : null;
    const said = !several ? h("p", { class: "hint" }, rows[desk.shown[0]][0].text) : null;
    fill(parts.numbers, h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Localization" }, h("table", { class: several ? "numbers several" : "numbers" }, head,
      h("tbody", {}, metrics.map((name, k) => h("tr", {}, h("th", { scope: "row" }, name), desk.shown.map((id, n) => cell(rows[id][k], names[n]))))))), said, reserve);
  }

  desk.on("examined", () => app.attempt(numbers));
  document.addEventListener("keydown", (e) => {
    if (!desk.open || !ink || !ink.tool || e.target.matches("input, select, textarea")) return;
    if (e.key === "Escape") ink.use(ink.tool);
    else if (e.key === "Enter") ink.close();
    else if (e.key === "z" && (e.ctrlKey || e.metaKey)) ink.undo();
    else return;
    e.preventDefault();
  });

  desk.on("start", () => fill(place, h("p", { class: "hint" }, "First open a scan.")));
  let mine = null;
  desk.on("drawn", async () => {
    if (mine !== desk.scene) {
      mine = desk.scene;
      ink = new Ink(desk.scene, changed);
      fill(place, parts.tools, parts.list, parts.numbers);
      tools();
      await refresh();
      const wanted = app.place.mark;
      await choose(known.some((m) => m.id === wanted) ? wanted : null);
    } else {
      await numbers();
    }
  });
}
