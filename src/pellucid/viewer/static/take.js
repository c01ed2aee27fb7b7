// Taking along: files of a map, one report of several.
import { fileOf, save } from "./api.js";
import { byId, fill, h } from "./dom.js";

const saved = (app) => (e) => {
  e.preventDefault();
  app.calm();
  app.attempt(() => save(e.currentTarget.getAttribute("href")));
};

export const link = (app, text, href, title) => h("a", { class: "quiet button", href, download: "", title, onclick: saved(app) }, text);

export function take(desk) {
  const { app } = desk;

  async function draw() {
    const place = byId("take");
    if (!desk.shown.length) {
      fill(place, h("p", { class: "hint" }, "Choose a map."));
      return;
    }
    const { shown } = desk;
    const facts = await Promise.all(shown.map((id) => desk.facts(id)));
    if (desk.shown !== shown) return;
    const kinds = [["NIfTI", "nii.gz", "On the scan's own grid"], ["NPZ", "npz", "Exact, with provenance and evidence"], ["PNG", "png", "Laid over the scan"], ["JSON", "json", "Provenance and evidence alone"]];
    const rows = facts.map((f) => h("div", { class: "taking" }, facts.length > 1 ? h("h3", {}, f.name, " ", h("small", {}, f.label.target)) : null,
      h("div", { class: "buttons" }, kinds.map(([text, kind, title]) => link(app, text, fileOf(`maps/${f.id}/file`, { kind }), title)),
        desk.scan.dicom ? link(app, "DICOM", fileOf(`maps/${f.id}/dicom`), "Parametric Map, Segmentation, Secondary Capture, report; under a pseudonym") : null)));
    const query = new URLSearchParams(desk.shown.map((id) => ["maps", id]));
    fill(place, rows, h("div", { class: "buttons" }, link(app, desk.shown.length > 1 ? "Report of all shown (HTML)" : "Report (HTML)", `api/report?${query}`, "One page that opens anywhere, without a network")),
      h("p", { class: "hint" }, "These files hold the picture of the scan: handle them as you handle the scan."));
  }
  for (const what of ["scan", "shown", "examined"]) desk.on(what, draw);
}
