// Taking along: files of a map, one report of several.
import { fileOf } from "/static/viewer/api.js";
import { byId, fill, h } from "/static/viewer/dom.js";

export function take(desk) {
  async function draw() {
    const place = byId("take");
    if (!desk.shown.length) {
      fill(place, h("p", { class: "hint" }, "Choose a map."));
      return;
    }
    const facts = await Promise.all(desk.shown.map((id) => desk.facts(id)));
    const link = (text, href, title) => h("a", { class: "quiet button", href, download: "", title }, text);
    const kinds = [["NIfTI", "nii.gz", "On the scan's own grid"], ["NPZ", "npz", "Exact, with provenance and evidence"], ["PNG", "png", "Laid over the scan"], ["JSON", "json", "Provenance and evidence alone"]];
    const rows = facts.map((f) => h("div", { class: "taking" }, facts.length > 1 ? h("h3", {}, f.name, " ", h("small", {}, f.target)) : null,
      h("div", { class: "buttons" }, kinds.map(([text, kind, title]) => link(text, fileOf(`maps/${f.id}/file`, { kind }), title)))));
    const query = new URLSearchParams(desk.shown.map((id) => ["maps", id]));
    fill(place, rows, h("div", { class: "buttons" }, link(desk.shown.length > 1 ? "Report of all shown (HTML)" : "Report (HTML)", `/api/report?${query}`, "One page that opens anywhere, without a network")),
      h("p", { class: "hint" }, "These files hold the picture of the scan: handle them as you handle the scan."));
  }
  for (const what of ["scan", "shown", "examined"]) desk.on(what, draw);
}
