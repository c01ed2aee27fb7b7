// The desk of a work mode: the scan that is open, its runs and their maps. Its parts hear of changes, and not of each other.
import { get } from "./api.js";

export const ACTIVE = new Set(["waiting", "running"]);
const SOON = { verdict: "being checked", sentence: "The checks are running. Wait for what they say before you rely on this map.", reasons: [], checking: true };

export class Desk {
  constructor(app) {
    Object.assign(this, { app, scan: null, runs: [], shown: [], scene: null, board: null, open: true, heard: {}, kept: new Map() });
  }

  on(what, fn) {
    (this.heard[what] ||= []).push(fn);
  }

  async tell(what) {
    for (const fn of this.heard[what] || []) await fn();
  }

  get maps() {
    return this.runs.flatMap((r) => r.maps);
  }

  line(id) {
    return this.maps.find((m) => m.id === id);
  }

  // Whether a map's checks were asked for and are still to come.
  checking(id) {
    const run = this.runs.find((r) => r.maps.some((m) => m.id === id));
    return Boolean(run) && ACTIVE.has(run.state) && run.question.evidence !== "none" && this.line(id).level === "none";
  }

  // The word of a map's checks.
  verdict(id) {
    return this.checking(id) ? SOON.verdict : (this.line(id) || {}).verdict || "not examined";
  }

  // Facts of a map, asked for again once it has been examined.
  async facts(id) {
    const level = (this.line(id) || {}).level;
    let known = this.kept.get(id);
    if (!known || known.level !== level) {
      known = { level, facts: get(`maps/${id}`) };
      this.kept.set(id, known);
      known.facts.catch(() => this.kept.delete(id));
    }
    const facts = await known.facts;
    return this.checking(id) ? { ...facts, ...SOON, label: { ...facts.label, verdict: SOON.verdict, slug: "being-checked" } } : facts;
  }
}
