// The screen: scan and maps on the report's Scene and Board, with its controls; palettes; the 3D view.
import { samples } from "./api.js";
import { byId, fill, h, options } from "./dom.js";

// Diverging, readable without red-green vision, zero clear: against first, for second.
const PALETTES = {
  "blue and orange": null, // the report's own
  "purple and green": { against: [[118, 42, 131], [205, 160, 215]], for: [[27, 120, 55], [166, 219, 160]] },
  "teal and pink": { against: [[1, 102, 94], [128, 215, 205]], for: [[197, 27, 125], [250, 180, 220]] },
};

export function gradient(colors) {
  const stops = [];
  for (let k = -10; k <= 10; k++) {
    const share = Math.abs(k) / 10;
    const [a, b] = k > 0 ? colors.for : colors.against;
    const cover = colors.strength * share ** colors.bend;
    const rgb = a.map((p, c) => Math.round((p + (b[c] - p) * share) * cover + 22 * (1 - cover)));
    stops.push(`rgb(${rgb.join(", ")}) ${50 + 5 * k}%`);
  }
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

// A map of the server on a scene: its samples are fetched once.
export async function onScene(scene, facts) {
  const place = () => scene.maps.findIndex((m) => m.id === facts.id);
  const { label } = facts;
  if (place() >= 0) scene.maps[place()].label = label; // checks may have ended since
  if (place() >= 0) return place();
  const map = { id: facts.id, ...facts.layer, label, samples: await samples(`maps/${facts.id}/samples`, facts.layer.bits) };
  return place() >= 0 ? place() : scene.addMap(map);
}

export async function sceneOf(scan, colors) {
  const { display } = scan;
  const channels = display.channels.map((c) => ({ ...c }));
  const needed = display.color ? channels : channels.slice(0, 1);
  await Promise.all(needed.map(async (c, n) => (c.samples = await samples(`scans/${scan.id}/channels/${n}`, c.bits))));
  const scene = new Scene({ ...display, channels, maps: [], colors });
  const load = scene.load.bind(scene);
  scene.load = async (kind, n) => {
    if (kind === "channels" && !channels[n].samples) channels[n].samples = await samples(`scans/${scan.id}/channels/${n}`, channels[n].bits);
    await load(kind, n);
  };
  return scene;
}

export function screen(desk) {
  const { app } = desk;
  let [controls, solid] = [null, null];

  desk.on("scan", async () => {
    const place = byId("screen");
    fill(place, byId("t-screen").content.cloneNode(true));
    const { display, remarks } = desk.scan;
    for (const [name, hide] of [["gray", display.color], ["color", !display.color], ["many", display.color || display.channels.length < 2]]) {
      for (const one of place.querySelectorAll(`.${name}-only`)) one.hidden = hide;
    }
    fill(byId("remarks"), remarks.map((r) => h("li", {}, r)));
    fill(byId("palette"), options(Object.keys(PALETTES).map((p) => [p, p]), app.palette));
    byId("controls").addEventListener("submit", (e) => e.preventDefault());
    desk.scene = await sceneOf(desk.scan, { ...app.about.colors });
    desk.board = new Board(desk.scene, byId("stage"));
    window.pellucid = { scene: desk.scene, board: desk.board }; // for whoever works with the console
    controls = new Controls(desk.scene, desk.board);
    solid = null;
    byId("palette").addEventListener("change", () => paint(byId("palette").value));
    byId("in-3d").addEventListener("click", () => app.attempt(toggle));
    byId("in-3d").hidden = !(desk.scene.volume && webgl2());
    paint(app.palette || "blue and orange");
    await controls.show(null);
    await desk.tell("drawn");
  });

  function paint(name) {
    app.palette = name;
    Object.assign(desk.scene.colors, app.about.colors, PALETTES[name] || {});
    byId("gradient").style.background = gradient(desk.scene.colors);
    desk.scene.redraw();
    if (solid && !byId("volume").hidden) app.attempt(inside);
  }

  desk.on("shown", async () => {
    const { scene, board, shown } = desk;
    const facts = await Promise.all(shown.map((id) => desk.facts(id)));
    const maps = [];
    for (const f of facts) maps.push(await onScene(scene, f));
    if (desk.shown !== shown) return; // another choice was made meanwhile
    const which = maps.length === 0 ? null : maps.length === 1 ? maps[0] : maps;
    const first = board.shown === null && maps.length > 0;
    await controls.show(which, maps.length > 1 ? board.plane : undefined);
    byId("plane-label").hidden = !(scene.volume && maps.length > 1);
    if (first) scene.toPeak(maps[0]);
    await desk.tell("drawn");
    if (solid && !byId("volume").hidden) await app.attempt(inside);
  });

  // What the checks said since stands on the pictures at once.
  desk.on("examined", async () => {
    for (const f of await Promise.all(desk.shown.map((id) => desk.facts(id)))) await onScene(desk.scene, f);
    desk.scene.redraw();
  });

  async function toggle() {
    const open = byId("in-3d").getAttribute("aria-pressed") !== "true";
    byId("in-3d").setAttribute("aria-pressed", String(open));
    byId("volume").hidden = !open;
    if (open) await inside();
  }

  // NiiVue is fetched when it is first wanted; a palette that has changed since needs it anew.
  async function inside() {
    const place = byId("volume");
    for (const src of ["vendor/niivue-0.69.0.umd.js", "scene/solid.js"]) await script(`static/report/${src}`);
    const colors = JSON.stringify(desk.scene.colors);
    if (!solid || solid.colors !== colors) {
      const canvas = h("canvas", { role: "img", "aria-label": "Volume with its map in three dimensions" });
      fill(place, canvas);
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      solid = { view: new Solid(desk.scene, canvas, window.niivue), colors };
    }
    await solid.view.show(desk.board.maps.length ? desk.board.maps[0] : null);
    place.dataset.ready = "yes";
  }
}

const scripts = new Map();

function script(src) {
  if (!scripts.has(src)) {
    scripts.set(src, new Promise((done, fail) => {
      document.head.append(h("script", { src, onload: done, onerror: () => fail(new Error(`${src} could not be read`)) }));
    }));
  }
  return scripts.get(src);
}

function webgl2() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}
