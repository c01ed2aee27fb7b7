// Explain: open a scan, ask, look, compare, measure, take along. The parts know the desk, and not each other.
import { get } from "./api.js";
import { Desk } from "./desk.js";
import { byId } from "./dom.js";
import { evidence, verdict } from "./words.js";
import { concepts } from "./concepts.js";
import { findings } from "./findings.js";
import { influence } from "./influence.js";
import { marks } from "./marks.js";
import { question } from "./question.js";
import { runs } from "./runs.js";
import { screen } from "./screen.js";
import { shelf } from "./shelf.js";
import { similar } from "./similar.js";
import { take } from "./take.js";
import { way } from "./way.js";

let desk = null;

// desk.on("scan" | "model" | "look" | "runs" | "shown" | "examined" | "drawn" | "mark", fn)
class Explaining extends Desk {
  constructor(app) {
    super(app);
    Object.assign(this, { look: null, mark: null });
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
}

export async function mount(element, app) {
  element.append(byId("t-explain").content.cloneNode(true));
  desk = new Explaining(app);
  for (const part of [runs, screen, shelf, question, verdict, evidence, marks, way, take, similar, concepts, influence, findings]) part(desk);
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
