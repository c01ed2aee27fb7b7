// The shelf: folders and scans of the served folder, uploads, and the scan that is open.
import { get, post, sendBytes } from "./api.js";
import { byId, fill, h } from "./dom.js";

const sizes = (n) => (n < 1e6 ? `${Math.max(1, Math.round(n / 1e3))} kB` : `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`);

export function shelf(desk) {
  const { app } = desk;
  const place = byId("scan");

  const open = (asked) => app.attempt(async () => {
    app.calm();
    fill(place, h("p", { class: "hint" }, "Reading the scan …"));
    try {
      await desk.take(await post("scans", asked));
    } catch (error) {
      await list(asked.upload ? "" : asked.path.split("/").slice(0, -1).join("/"));
      throw error;
    }
  });

  async function pick(entry) {
    if (entry.kind === "folder") return list(entry.path);
    if (entry.kind !== "DICOM" || entry.files < 2) return open({ path: entry.path });
    return series({ path: entry.path });
  }

  // A folder may hold several series: they are listed, the only one is opened.
  async function series(where) {
    const found = await app.attempt(() => get("series", where));
    if (!found) return undefined;
    if (found.length === 1) return open(where.upload ? where : { ...where, series: found[0].uid });
    const rows = found.map((s, n) => h("li", {}, h("button", { type: "button", class: "entry", onclick: () => open({ ...where, series: s.uid }) },
      h("span", {}, `Series ${n + 1}`), h("small", {}, `${s.modality}, ${s.slices} slices, ${s.shape.slice(0, 2).join(" × ")}`))));
    fill(place, h("p", { class: "hint" }, "Several series: choose one."), h("ul", { class: "entries" }, rows), back(where.path || ""));
    return undefined;
  }

  const back = (path) => h("button", { type: "button", class: "quiet", onclick: () => list(path) }, "Back to the folder");

  async function list(path) {
    const found = await app.attempt(() => get("files", { path }));
    if (!found) return;
    const up = found.parent === null ? null : h("li", {}, h("button", { type: "button", class: "entry up", onclick: () => list(found.parent) }, "↑ up"));
    const rows = found.entries.map((e) => h("li", {}, h("button", { type: "button", class: `entry ${e.kind === "folder" ? "folder" : ""}`, onclick: () => pick(e) },
      h("span", {}, e.name), h("small", {}, e.kind === "folder" ? "folder" : e.files > 1 ? "series" : `${e.kind}, ${sizes(e.size)}`))));
    const none = rows.length ? null : h("p", { class: "hint" }, "No scans here.");
    const skipped = found.skipped ? h("p", { class: "hint" }, `${found.skipped} other files are no scans.`) : null;
    fill(place, h("p", { class: "where-am-i" }, h("code", {}, [app.about.folder, found.path].filter(Boolean).join("/"))),
      h("ul", { class: "entries" }, up, rows), none, skipped, upload());
  }

  function upload() {
    const input = h("input", { type: "file", multiple: true, class: "unseen", id: "upload", onchange: () => send([...input.files]) });
    const label = h("label", { class: "drop", for: "upload" }, "Or choose a file; several for a DICOM series. Drop works too.");
    const over = (e) => (e.preventDefault(), label.classList.toggle("over", e.type === "dragover"));
    for (const type of ["dragover", "dragleave"]) label.addEventListener(type, over);
    label.addEventListener("drop", (e) => (over(e), send([...e.dataTransfer.files])));
    return [input, label];
  }

  const send = (files) => app.attempt(async () => {
    app.calm();
    let into = null;
    for (const [n, file] of files.entries()) {
      fill(place, h("p", { class: "hint" }, `Sending ${n + 1} of ${files.length} …`));
      into = (await sendBytes("uploads", file, { name: file.name, into })).id;
    }
    if (!into) return;
    if (files.length > 1) await series({ upload: into });
    else await open({ upload: into });
  }).then(() => desk.scan || list(""));

  desk.on("start", () => list(""));
  desk.on("scan", () => {
    const { scan } = desk;
    const facts = scan.rows.map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));
    fill(place, h("p", { class: "opened" }, h("strong", {}, scan.name), " ", h("small", {}, scan.format)),
      h("details", {}, h("summary", {}, "What is known of it"), h("dl", { class: "rows" }, facts)),
      h("button", { type: "button", class: "quiet", id: "another", onclick: () => list("") }, "Open another scan"));
  });
}
