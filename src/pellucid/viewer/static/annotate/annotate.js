// Annotate: maps propose boxes and masks; the reader accepts, moves, rejects, adds. Every action is on the server's disk before the page shows it.
import { bytes, drop, fileOf, get, post, sendBytes } from "../api.js";
import { Desk } from "../desk.js";
import { byId, fill, h, options } from "../dom.js";
import { Ink } from "../ink.js";
import { screen } from "../screen.js";
import { shelf } from "../shelf.js";
import { link } from "../take.js";
import { badge } from "../words.js";
import { Boxes } from "./boxes.js";

const PAUSE = 450; // milliseconds after which a row of key presses is one movement
const card = (id, title, inside) => h("section", { class: "card", "aria-labelledby": `h-${id}` }, h("h2", { id: `h-${id}` }, title), inside || h("div", { id }));
const button = (text, onclick, more = {}) => h("button", { type: "button", class: "quiet", onclick, ...more }, text);

let desk = null;

// The desk, and the session that is open.
class Annotating extends Desk {
  constructor(app) {
    super(app);
    Object.assign(this, { session: null, chosen: null });
  }

  async take(scan) {
    if (this.app.place.scan !== scan.id) this.app.go({ annotation: null, show: null });
    Object.assign(this, { scan, runs: [], shown: [], session: null, chosen: null });
    this.kept.clear();
    this.app.go({ scan: scan.id });
    await this.tell("scan");
    await this.tell("there");
  }
}

export async function mount(element, app) {
  if (!byId("annotate-css")) document.head.append(h("link", { id: "annotate-css", rel: "stylesheet", href: "static/viewer/annotate/annotate.css" }));
  element.append(h("div", { class: "desk annotate" },
    h("div", { class: "left" }, card("scan", "Scan"), card("sessions", "Proposals")),
    h("div", { class: "middle" }, card("screen-card", "Findings on the scan", [h("div", { id: "tools", class: "tools over-scan" }), h("div", { id: "screen" })])),
    h("div", { class: "right" }, card("findings", "Findings"), card("exports", "Take along"))));
  desk = new Annotating(app);
  for (const part of [screen, shelf, sessions, work]) part(desk);
  await desk.tell("start");
  const { scan } = app.place;
  if (!scan) return;
  const found = await app.attempt(() => get(`scans/${scan}`));
  if (found) await desk.take(found);
}

export function unmount() {
  desk.open = false;
  document.removeEventListener("keydown", desk.keys);
  desk = null;
}

// What the checks said of a map, before anything that it proposes is relied on.
const trust = (f) => [badge(f.verdict, "small"), " ", f.sentence];

// ---------------------------------------------------------------------------------------------------- sessions of the scan
function sessions(desk) {
  const { app } = desk;
  const place = byId("sessions");
  let [known, timer] = [[], 0];

  const field = (text, input, hint) => h("label", { class: "ask" }, h("span", {}, text), input, hint ? h("small", {}, hint) : null);
  const input = (id, value, more = {}) => h("input", { id, type: "text", value, spellcheck: "false", ...more });

  async function begin(asked) {
    app.calm();
    const made = await post("annotations", { scan: desk.scan.id, ...asked });
    known.push(made);
    await open(made);
  }

  async function open(session) {
    desk.session = session;
    desk.chosen = session.findings.find((f) => f.state === "proposed")?.number ?? session.findings[0]?.number ?? null;
    app.go({ annotation: session.id });
    draw();
    desk.shown = desk.line(session.map) ? [session.map] : [];
    await desk.tell("shown");
    await desk.tell("session");
  }

  const titled = (id) => `${desk.line(id).name} · ${desk.line(id).explained} · ${desk.verdict(id)}`;

  function form() {
    const map = h("select", { id: "from-map" }, options([["nothing: draw all by hand", ""], ...desk.maps.map((m) => [titled(m.id), m.id])], desk.maps.at(-1)?.id ?? ""));
    const says = h("div", { class: "hint", id: "map-says", "aria-live": "polite" });
    const kind = h("select", { id: "kind" }, options([["boxes", "boxes"], ["masks", "mask"]], "boxes"));
    const label = input("label", "finding", { maxlength: 60 });
    const cut = input("cut", "otsu", { list: "cuts" });
    const smooth = input("smooth", "0");
    const smallest = h("input", { id: "smallest", type: "number", min: 0, step: "any", value: 0 });
    const most = h("input", { id: "most", type: "number", min: 1, max: 200, step: 1, value: 20 });
    const made = h("form", { class: "propose", autocomplete: "off" }, field("From the map", map), says, h("div", { class: "pair" }, field("As", kind), field("Called", label)),
      h("details", {}, h("summary", {}, "How the map is cut"), h("div", { class: "fields" },
        field("Threshold", cut, "otsu, adaptive (twice the mean), or 0 to 1 of the map's range"), h("datalist", { id: "cuts" }, ["otsu", "adaptive", "0.5"].map((c) => h("option", { value: c }))),
        field("Blurred by", smooth, "2mm or 3px; maps of gradients fall apart without"), h("div", { class: "pair" }, field("Smallest", smallest, "mm², mm³ or samples"), field("At most", most)))),
      h("button", { type: "submit", class: "main", id: "propose" }, "Propose"));
    made.addEventListener("submit", (e) => {
      e.preventDefault();
      const threshold = Number.isNaN(Number(cut.value)) || cut.value.trim() === "" ? cut.value.trim() : Number(cut.value);
      const more = map.value ? { map: map.value, kind: kind.value, threshold, smooth: smooth.value || "0", smallest: Number(smallest.value) || 0, most: Number(most.value) || 20 } : {};
      app.attempt(() => begin({ label: label.value, ...more }));
    });
    const chosen = () => {
      made.querySelector("#propose").textContent = map.value ? "Propose" : "Begin";
      app.attempt(async () => {
        const id = map.value;
        const facts = id ? await desk.facts(id) : null;
        if (map.value === id) fill(says, facts ? trust(facts) : null);
      });
    };
    map.addEventListener("change", chosen);
    chosen();
    return made;
  }

  const told = (s) => `${s.accepted} accepted, ${s.open} open · ${s.actions} actions`;

  function draw() {
    const rows = known.map((s, n) => h("li", { class: "run" }, h("div", { class: "map" },
      h("button", { type: "button", "aria-pressed": String(desk.session?.id === s.id), onclick: () => app.attempt(async () => open(await get(`annotations/${s.id}`))) },
        h("span", {}, `Session ${n + 1}`), h("small", {}, told(s)))),
      button("×", () => app.attempt(async () => {
        await drop(`annotations/${s.id}`);
        if (desk.session?.id === s.id) desk.session = null;
        await refresh();
      }), { "aria-label": `Remove session ${n + 1}`, title: `Remove session ${n + 1}`, class: "quiet small" })));
    const hint = desk.maps.length ? null : h("p", { class: "hint" }, "No maps of this scan yet: ask for one under Explain, or draw by hand.");
    fill(place, rows.length ? h("ul", { class: "runs sessions" }, rows) : null, hint, form());
  }

  // Checks that are still running: their words are awaited.
  async function watch() {
    clearTimeout(timer);
    if (!desk.open || !desk.maps.some((m) => desk.checking(m.id))) return;
    timer = setTimeout(() => app.attempt(async () => {
      const { scan } = desk;
      const found = await get("runs", { scan: scan.id });
      if (!desk.open || desk.scan !== scan) return;
      const before = desk.maps.map((m) => desk.verdict(m.id)).join();
      desk.runs = found;
      if (before !== desk.maps.map((m) => desk.verdict(m.id)).join()) {
        for (const one of byId("from-map").options) if (desk.line(one.value)) one.textContent = titled(one.value);
        byId("from-map").dispatchEvent(new Event("change"));
        await desk.tell("examined");
      }
      await watch();
    }), 1000);
  }

  async function refresh() {
    const [all, runs] = await Promise.all([get("annotations", { scan: desk.scan.id }), get("runs", { scan: desk.scan.id })]);
    known = all;
    desk.runs = runs;
    watch();
    const wanted = known.find((s) => s.id === app.place.annotation) || known.at(-1);
    if (wanted) {
      await post(`annotations/${wanted.id}/actions`, { action: "open" });
      await open(wanted);
    } else {
      app.go({ annotation: null });
      draw();
      await desk.tell("session");
    }
  }

  desk.on("start", () => fill(place, h("p", { class: "hint" }, "First open a scan.")));
  desk.on("there", () => app.attempt(refresh));
  desk.on("acted", () => {
    known = known.map((s) => (s.id === desk.session.id ? desk.session : s));
    const row = place.querySelectorAll(".sessions small")[known.findIndex((s) => s.id === desk.session.id)];
    if (row) row.textContent = told(desk.session);
  });
}

// ---------------------------------------------------------------------------------------------------- what the reader does
function work(desk) {
  const { app } = desk;
  const [list, tools, exports] = [byId("findings"), byId("tools"), byId("exports")];
  const whence = h("div", { id: "whence" });
  list.before(whence);
  let [boxes, ink, painting, soon, waiting] = [null, null, false, 0, null];
  let turn = Promise.resolve();

  // One action after the other, in the order in which the hand did them.
  const act = (body, more) => {
    const mine = desk.session.id;
    turn = turn.then(() => app.attempt(async () => {
      app.calm();
      const session = await post(`annotations/${mine}/actions`, body);
      if (desk.session?.id === mine) await taken(session, more);
    }));
    return turn;
  };

  // Proposals are worth what their map is worth: its word stands above them, also when the map itself is gone.
  async function worth() {
    const { session } = desk;
    if (!session?.map) return fill(whence);
    const facts = desk.line(session.map) ? await desk.facts(session.map) : { verdict: session.verdict || "not examined", sentence: "So it was when this was proposed; the map itself has been removed since." };
    if (desk.session !== session) return undefined;
    return fill(whence, h("p", { class: "hint", id: "worth" }, "Proposed by a map: ", trust(facts)));
  }

  async function taken(session, choose) {
    const before = new Set(desk.session.findings.map((f) => f.number));
    desk.session = session;
    const fresh = session.findings.find((f) => !before.has(f.number));
    if (fresh) desk.chosen = fresh.number;
    else if (choose === "next") desk.chosen = next();
    if (!session.findings.some((f) => f.number === desk.chosen)) desk.chosen = session.findings[0]?.number ?? null;
    await show();
    await desk.tell("acted");
  }

  // The next proposal that nobody has judged, after the chosen one and then from the start.
  function next() {
    const all = desk.session.findings;
    const from = all.findIndex((f) => f.number === desk.chosen);
    const order = [...all.slice(from + 1), ...all.slice(0, from + 1)];
    return (order.find((f) => f.state === "proposed") || all[from])?.number ?? null;
  }

  const judge = (number, state) => {
    const now = desk.session.findings.find((f) => f.number === number).state;
    const action = now === state ? "reset" : { accepted: "accept", rejected: "reject" }[state];
    return act({ action, number }, number === desk.chosen && action !== "reset" ? "next" : null);
  };

  // By key: what is so already stays so.
  const settle = (state) => (desk.session.findings.find((f) => f.number === desk.chosen).state === state ? along(1) : judge(desk.chosen, state));

  const change = (f, action) => {
    desk.session.findings = desk.session.findings.map((one) => (one.number === f.number ? { ...one, start: f.start, stop: f.stop } : one));
    boxes.show(desk.session.findings, desk.chosen);
    return act({ action, number: f.number, start: f.start, stop: f.stop });
  };

  const add = (start, stop) => {
    boxes.adding = false;
    draw();
    return act({ action: "add", start, stop, label: byId("label")?.value || "finding" });
  };

  async function choose(number, look = false) {
    desk.chosen = number;
    const f = desk.session.findings.find((one) => one.number === number);
    if (look && f) desk.scene.change({ at: f.start.map((a, k) => Math.floor((a + f.stop[k] - 1) / 2)), hover: null });
    if (painting) await paint(false);
    draw();
    boxes.show(desk.session.findings, number);
  }

  // ------------------------------------------------------------------ masks
  async function paint(on) {
    painting = on;
    boxes.asleep = on;
    if (!on) {
      ink.use("");
      await masks();
    } else {
      ink.load(await bytes(`annotations/${desk.session.id}/samples?number=${desk.chosen}`));
      ink.use("brush");
    }
    draw();
  }

  async function painted() {
    if (!painting) return;
    const mine = desk.session.id;
    await app.attempt(async () => taken(await sendBytes(`annotations/${mine}/paint`, ink.mask, { number: desk.chosen })));
  }

  // Masks of all findings, faintly, where there are any.
  async function masks() {
    if (painting) return;
    const any = desk.session?.findings.some((f) => f.mask && f.state !== "rejected");
    ink.load(any ? (await bytes(`annotations/${desk.session.id}/samples`)).map((v) => (v ? 1 : 0)) : new Uint8Array(ink.mask.length));
  }

  // ------------------------------------------------------------------ drawing
  async function show() {
    draw();
    app.attempt(worth);
    if (!boxes) return;
    boxes.show(desk.session ? desk.session.findings : [], desk.chosen);
    await masks();
  }

  function row(f) {
    const chosen = f.number === desk.chosen;
    const by = f.origin === "reader" ? "drawn" : f.touched ? "corrected" : "proposed";
    const score = f.score === null ? "" : ` · ${percent(f.score)} of the relevance`;
    const pressed = (state) => ({ class: "quiet judge", "aria-pressed": String(f.state === state) });
    return h("li", { class: `finding ${f.state}${chosen ? " chosen" : ""}`, "data-number": f.number },
      h("button", { type: "button", class: "pick", "aria-pressed": String(chosen), onclick: () => choose(f.number, true) },
        h("span", {}, `${f.number}  ${f.label}`), h("small", {}, `${f.state}, ${by} · ${f.unit === "mm³" && f.size > 1000 ? `${number(f.size / 1000)} ml` : `${number(f.size)} ${f.unit}`}${score}`)),
      button("✓", () => judge(f.number, "accepted"), { ...pressed("accepted"), "aria-label": `Accept finding ${f.number}`, title: "Accept (A)" }),
      button("×", () => judge(f.number, "rejected"), { ...pressed("rejected"), "aria-label": `Reject finding ${f.number}`, title: "Reject (R)" }));
  }

  function held() {
    const one = document.activeElement;
    if (!one || !list.contains(one)) return null;
    return { number: one.closest(".finding")?.dataset.number, at: [...(one.closest(".finding") || list).querySelectorAll("button")].indexOf(one) };
  }

  function draw() {
    const { session } = desk;
    if (!session) {
      fill(list, h("p", { class: "hint" }, desk.scan ? "Begin with the proposals of a map, or by hand." : "First open a scan."));
      fill(tools);
      fill(exports, h("p", { class: "hint" }, "Nothing to take along yet."));
      return;
    }
    const focus = held();
    const minutes = `${Math.floor(session.seconds / 60)}:${String(Math.floor(session.seconds % 60)).padStart(2, "0")}`;
    fill(list, h("p", { class: "worked", id: "worked", "aria-live": "polite" }, h("strong", {}, session.open), " open, ", h("strong", {}, session.accepted), " accepted · ", h("strong", {}, session.actions), " actions in ", h("strong", {}, minutes)),
      session.findings.length ? h("ol", { class: "findings", tabindex: "-1" }, session.findings.map(row)) : h("p", { class: "hint" }, "No findings. Draw one, if there is any."), keys());
    if (focus) {
      const place = focus.number ? list.querySelector(`[data-number="${focus.number}"]`) : null;
      place?.querySelectorAll("button")[Math.max(0, focus.at)]?.focus();
    }
    const chosen = session.findings.find((f) => f.number === desk.chosen);
    const name = h("input", { type: "text", id: "rename", value: chosen?.label || "", maxlength: 60, disabled: !chosen, "aria-label": "Name of the chosen finding", onchange: (e) => act({ action: "label", number: desk.chosen, label: e.currentTarget.value }) });
    const pressed = (on) => ({ "aria-pressed": String(on) });
    fill(tools, h("div", { class: "buttons" },
      button("Draw a box", () => ((boxes.adding = !boxes.adding), draw()), { id: "add-box", ...pressed(boxes?.adding), disabled: painting }),
      desk.scene?.volume ? h("label", { class: "pick" }, "slices ", h("input", { type: "number", min: 1, max: 500, value: boxes?.deep || 5, id: "deep", onchange: (e) => (boxes.deep = Math.max(1, Number(e.currentTarget.value) || 1)) })) : null,
      button("Paint its mask", () => app.attempt(() => paint(!painting)), { id: "paint", ...pressed(painting), disabled: !chosen }),
      painting ? [button("Brush", () => (ink.use("brush"), draw()), pressed(ink.tool === "brush")), button("Erase", () => (ink.use("erase"), draw()), pressed(ink.tool === "erase")),
        h("label", { class: "pick" }, "radius ", h("input", { type: "number", min: 1, max: 60, value: ink.radius, onchange: (e) => (ink.radius = Math.max(1, Number(e.currentTarget.value) || 1)) }))] : null,
      button("Undo", () => act({ action: "undo" }), { id: "undo", disabled: !session.undo }),
      h("label", { class: "check" }, h("input", { type: "checkbox", id: "with-rejected", checked: boxes ? boxes.rejected : true, onchange: (e) => ((boxes.rejected = e.currentTarget.checked), boxes.show(session.findings, desk.chosen)) }), " Rejected too"), name));
    fill(exports, h("div", { class: "buttons" }, link(app, "COCO", fileOf(`annotations/${session.id}/file`, { kind: "coco" }), "Boxes and masks as JSON"),
      link(app, "NIfTI", fileOf(`annotations/${session.id}/file`, { kind: "nii.gz" }), "Numbered findings on the scan's own grid"),
      desk.scan.dicom ? link(app, "DICOM SEG", fileOf(`annotations/${session.id}/dicom`), "A segment for each finding; under a pseudonym") : null,
      link(app, "Session", fileOf(`annotations/${session.id}/file`, { kind: "json" }), "Every action with its time")),
    h("p", { class: "hint" }, session.accepted ? "Files hold what was accepted, corrected or drawn." : "Nothing is accepted yet: the files would hold no finding."),
    h("details", {}, h("summary", {}, "How it was proposed"), h("p", { class: "hint" }, session.made ? h("code", {}, session.made) : "By nobody: all is drawn by hand.")));
  }

  const keys = () => h("details", {}, h("summary", {}, "Keys"), h("div", { class: "keys-list" }, [["A / R", "accept or reject the chosen finding, and on to the next"], ["J / K", "next, previous"], ["arrows", "on a finding: move it; with Shift: its far edge"],
    ["N", "a new box around the crosshair"], ["Ctrl Z", "undo"]].map(([k, says]) => [h("kbd", {}, k), h("span", {}, says)])));

  function nudge(key, far) {
    const f = boxes.nudge(key, far);
    if (!f) return;
    if (waiting && waiting.far !== far) flush();
    desk.session.findings = desk.session.findings.map((one) => (one.number === f.number ? f : one));
    boxes.show(desk.session.findings, desk.chosen);
    waiting = { f, far };
    clearTimeout(soon);
    soon = setTimeout(flush, PAUSE);
  }

  function flush() {
    if (!waiting) return;
    const { f, far } = waiting;
    waiting = null;
    clearTimeout(soon);
    change(f, far ? "resize" : "move");
  }

  function along(step) {
    const all = desk.session.findings;
    if (!all.length) return;
    const at = all.findIndex((f) => f.number === desk.chosen);
    choose(all[(at + step + all.length) % all.length].number, true);
  }

  desk.keys = (e) => {
    if (!desk.open || !desk.session || !boxes || e.target.matches("input, select, textarea") || e.altKey) return;
    const control = e.ctrlKey || e.metaKey;
    const onFinding = Boolean(e.target.closest?.(".finding .pick"));
    const arrows = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown"].includes(e.key);
    if (control && e.key === "z") act({ action: "undo" });
    else if (control) return;
    else if (e.key === "a" && desk.chosen) settle("accepted");
    else if (e.key === "r" && desk.chosen) settle("rejected");
    else if (e.key === "n") boxes.around(Math.max(5, Math.round(Math.min(...desk.scene.shape) / 8)));
    else if (e.key === "j") along(1);
    else if (e.key === "k") along(-1);
    else if (e.key === "Escape") ((boxes.adding = false), draw());
    else if (arrows && onFinding) nudge(e.key, e.shiftKey);
    else return;
    e.preventDefault();
  };
  document.addEventListener("keydown", desk.keys);

  let mine = null;
  desk.on("start", draw);
  desk.on("examined", worth);
  desk.on("drawn", () => {
    if (mine === desk.scene) return;
    mine = desk.scene;
    painting = false;
    ink = new Ink(desk.scene, painted);
    boxes = new Boxes(desk.scene, { choose, change, add });
  });
  desk.on("session", async () => {
    if (painting) await paint(false);
    await show();
    if (desk.chosen) await choose(desk.chosen, true);
  });
}
