// Explain: open a scan, ask, look, compare, measure, take along. The parts know the desk, and not each other.
import { get } from "./api.js";
import { byId } from "./dom.js";
import { evidence, verdict } from "./words.js";
import { marks } from "./marks.js";
import { question } from "./question.js";
import { runs } from "./runs.js";
import { screen } from "./screen.js";
import { shelf } from "./shelf.js";
import { take } from "./take.js";
import { way } from "./way.js";

let desk = null;

class Desk {
  constructor(app) {
    Object.assign(this, { app, scan: null, look: null, runs: [], shown: [], mark: null, scene: null, board: null, open: true });
    this.heard = {};
    this.kept = new Map();
  }

  // on("scan" | "look" | "runs" | "shown" | "drawn" | "mark", fn)
  on(what, fn) {
    (this.heard[what] ||= []).push(fn);
  }

  async tell(what) {
    for (const fn of this.heard[what] || []) await fn();
  }

  async take(scan) {
    Object.assign(this, { scan, look: null, runs: [], shown: [], mark: null });
    this.kept.clear();
    this.app.go({ scan: scan.id });
    await this.tell("scan");
  }

  async show(ids) {
    this.shown = ids;
    this.app.go({ show: ids.join(",") });
    await this.tell("shown");
  }

  line(id) {
    return this.runs.flatMap((r) => r.maps).find((m) => m.id === id);
  }

  // Facts of a map, asked for again once it has been examined.
  facts(id) {
    const level = (this.line(id) || {}).level;
    const known = this.kept.get(id);
    if (known && known.level === level) return known.facts;
    const facts = get(`maps/${id}`);
    this.kept.set(id, { level, facts });
    facts.catch(() => this.kept.delete(id));
    return facts;
  }
}

export async function mount(element, app) {
  element.append(byId("t-explain").content.cloneNode(true));
  desk = new Desk(app);
  for (const part of [runs, screen, shelf, question, verdict, evidence, marks, way, take]) part(desk);
  const { scan, show } = app.place;
  await desk.tell("start");
  if (!scan) return;
  const found = await app.attempt(() => get(`scans/${scan}`));
  if (!found) return app.go({ scan: null, show: null });
  const wanted = (show || "").split(",").filter(Boolean);
  await desk.take(found);
  const there = wanted.filter((id) => desk.line(id));
  if (there.length) await desk.show(there);
}

export function unmount() {
  desk.open = false;
  desk = null;
}
