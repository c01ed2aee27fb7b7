// Boxes over the panels of a scene: seen in every plane that they reach; moved, resized and drawn with a pointer, nudged with keys.
const REACH = 8; // pixels from an edge within which it is taken hold of
const COLORS = { proposed: "#ffd166", accepted: "#5cffa0", rejected: "#b9c2cc" };
const SIGNS = { proposed: "?", accepted: "✓", rejected: "×" };

export class Boxes {
  // heard: { choose(number), change(finding, action), add(start, stop) }
  constructor(scene, heard) {
    Object.assign(this, { scene, heard, findings: [], chosen: null, adding: false, held: null, asleep: false, deep: 5, rejected: true });
    scene.listen(() => this.draw());
  }

  show(findings, chosen) {
    Object.assign(this, { findings, chosen });
    this.scene.redraw();
  }

  get seen() {
    return this.findings.filter((f) => this.rejected || f.state !== "rejected");
  }

  at(number) {
    return this.findings.find((f) => f.number === number);
  }

  #reaches(panel, f) {
    const { through } = panel.plane;
    const at = this.scene.view.at[through];
    return through === null || (f.start[through] <= at && at < f.stop[through]);
  }

  // The box on a panel in CSS pixels: left, top, right, bottom.
  rect(panel, f) {
    const { plane, canvas } = panel;
    const corner = (edges) => {
      const at = [...this.scene.view.at];
      for (const a of [plane.x, plane.y]) at[a] = edges[a] - 0.5;
      const [x, y] = panel.spot(at);
      return [x * canvas.clientWidth, y * canvas.clientHeight];
    };
    const [[ax, ay], [bx, by]] = [corner(f.start), corner(f.stop)];
    return [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];
  }

  // Where the pointer is, in samples along the plane's axes, edges of samples being whole numbers.
  #place(panel, e) {
    const box = panel.canvas.getBoundingClientRect();
    const [left, top, w, h] = panel.seen;
    const row = top + ((e.clientY - box.top) / box.height) * h;
    return [left + ((e.clientX - box.left) / box.width) * w, panel.plane.flipY ? panel.tall - row : row];
  }

  // What is under the pointer: the finding, and which of its edges; the chosen one first, then the smallest.
  #under(panel, e) {
    const box = panel.canvas.getBoundingClientRect();
    const [x, y] = [e.clientX - box.left, e.clientY - box.top];
    const area = (f) => (f.number === this.chosen ? 0 : f.stop.reduce((p, b, a) => p * (b - f.start[a]), 1));
    for (const f of this.seen.filter((one) => this.#reaches(panel, one)).sort((a, b) => area(a) - area(b))) {
      const [l, t, r, b] = this.rect(panel, f);
      if (x < l - REACH || x > r + REACH || y < t - REACH || y > b + REACH) continue;
      const near = (v, edge, size) => Math.abs(v - edge) <= Math.min(REACH, Math.max(3, size / 3));
      return { f, left: near(x, l, r - l), right: near(x, r, r - l), top: near(y, t, b - t), bottom: near(y, b, b - t) };
    }
    return null;
  }

  #cursor(hit) {
    if (this.adding) return "crosshair";
    if (!hit) return "";
    const [h, v] = [hit.left || hit.right, hit.top || hit.bottom];
    if (h && v) return (hit.left && hit.top) || (hit.right && hit.bottom) ? "nwse-resize" : "nesw-resize";
    return h ? "ew-resize" : v ? "ns-resize" : "move";
  }

  #layer(panel) {
    if (panel.boxes) return panel.boxes;
    const canvas = Object.assign(document.createElement("canvas"), { className: "boxes" });
    panel.canvas.after(canvas);
    panel.boxes = canvas;
    this.#hear(panel);
    return canvas;
  }

  #hear(panel) {
    const { frame } = panel;
    // Before the panel hears it: what lies on a box is ours, everything else moves the crosshair as always.
    frame.addEventListener("pointerdown", (e) => {
      if (this.asleep || e.button || e.shiftKey) return;
      const hit = this.adding ? null : this.#under(panel, e);
      if (!hit && !this.adding) return;
      e.preventDefault();
      e.stopPropagation();
      frame.setPointerCapture(e.pointerId);
      const from = this.#place(panel, e);
      this.held = { panel, from, to: from, hit, moved: false };
      if (hit && hit.f.number !== this.chosen) this.heard.choose(hit.f.number);
    }, true);
    frame.addEventListener("pointermove", (e) => {
      if (this.asleep) return;
      if (!this.held || this.held.panel !== panel) {
        const cursor = this.#cursor(e.buttons ? null : this.#under(panel, e));
        panel.canvas.style.cursor = cursor;
        return;
      }
      e.stopPropagation();
      this.held.to = this.#place(panel, e);
      const box = panel.canvas.getBoundingClientRect();
      const [w, h] = [panel.seen[2] / box.width, panel.seen[3] / box.height];
      const far = Math.hypot((this.held.to[0] - this.held.from[0]) / w, (this.held.to[1] - this.held.from[1]) / h);
      this.held.moved ||= far > 3;
      this.draw();
    }, true);
    for (const type of ["pointerup", "pointercancel"]) {
      frame.addEventListener(type, (e) => {
        const { held } = this;
        if (!held || held.panel !== panel) return;
        e.stopPropagation();
        this.held = null;
        if (type === "pointerup" && held.moved) this.#done(held);
        this.scene.redraw();
      }, true);
    }
  }

  // The box as it would be if the pointer were let go now.
  #draft(held) {
    const { shape } = this.scene;
    const { plane } = held.panel;
    const axes = [plane.x, plane.y];
    if (!held.hit) {
      const [start, stop] = [[], []];
      axes.forEach((a, k) => {
        const [p, q] = [held.from[k], held.to[k]].sort((u, v) => u - v);
        start[a] = Math.max(0, Math.min(shape[a] - 1, Math.floor(p)));
        stop[a] = Math.max(start[a] + 1, Math.min(shape[a], Math.ceil(q)));
      });
      if (plane.through !== null) {
        const at = this.scene.view.at[plane.through];
        const half = Math.floor((this.deep - 1) / 2);
        start[plane.through] = Math.max(0, at - half);
        stop[plane.through] = Math.min(shape[plane.through], at - half + this.deep);
      }
      return { start, stop };
    }
    const { f } = held.hit;
    const [start, stop] = [[...f.start], [...f.stop]];
    // which edge of the samples is at the left and at the top of the screen
    const ends = [[held.hit.left, held.hit.right], plane.flipY ? [held.hit.bottom, held.hit.top] : [held.hit.top, held.hit.bottom]];
    const whole = !ends.flat().some(Boolean);
    axes.forEach((a, k) => {
      const by = Math.round(held.to[k] - held.from[k]);
      if (whole) {
        const step = Math.max(-f.start[a], Math.min(shape[a] - f.stop[a], by));
        [start[a], stop[a]] = [f.start[a] + step, f.stop[a] + step];
      } else if (ends[k][0]) start[a] = Math.max(0, Math.min(f.stop[a] - 1, f.start[a] + by));
      else if (ends[k][1]) stop[a] = Math.max(f.start[a] + 1, Math.min(shape[a], f.stop[a] + by));
    });
    return { start, stop, action: whole ? "move" : "resize" };
  }

  #done(held) {
    const { start, stop, action } = this.#draft(held);
    if (!held.hit) return void this.heard.add(start, stop);
    const { f } = held.hit;
    if (String([start, stop]) !== String([f.start, f.stop])) this.heard.change({ ...f, start, stop }, action);
  }

  // By keys: along the screen's axes of the first plane; far: the later edge alone.
  nudge(key, far) {
    const f = this.at(this.chosen);
    if (!f) return null;
    const plane = this.scene.planes[0];
    const up = plane.flipY ? 1 : -1;
    const [axis, step] = { ArrowLeft: [plane.x, -1], ArrowRight: [plane.x, 1], ArrowUp: [plane.y, up], ArrowDown: [plane.y, -up], PageUp: [plane.through, 1], PageDown: [plane.through, -1] }[key];
    if (axis === null) return null;
    const [start, stop] = [[...f.start], [...f.stop]];
    stop[axis] += step;
    if (!far) start[axis] += step;
    if (start[axis] < 0 || stop[axis] > this.scene.shape[axis] || stop[axis] <= start[axis]) return null;
    return { ...f, start, stop };
  }

  // Around the crosshair, for hands that use no pointer.
  around(side) {
    const { shape, view } = this.scene;
    const start = view.at.map((p, a) => Math.max(0, Math.min(shape[a] - side, p - Math.floor(side / 2))));
    this.heard.add(start, start.map((p, a) => Math.min(shape[a], p + side)));
  }

  draw() {
    for (const panel of this.scene.panels) this.#paint(panel, this.#layer(panel));
  }

  #paint(panel, canvas) {
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== panel.canvas.width) canvas.width = panel.canvas.width;
    if (canvas.height !== panel.canvas.height) canvas.height = panel.canvas.height;
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const held = this.held && this.held.panel === panel && this.held.moved ? this.held : null;
    const draft = held ? this.#draft(held) : null;
    for (const f of this.seen) {
      const shown = draft && held.hit && held.hit.f.number === f.number ? { ...f, ...draft } : f;
      if (this.#reaches(panel, shown)) this.#box(pen, this.rect(panel, shown), f, f.number === this.chosen);
    }
    if (draft && !held.hit) this.#box(pen, this.rect(panel, draft), { state: "accepted", number: "new" }, true);
  }

  #box(pen, [l, t, r, b], f, chosen) {
    const path = (color, wide) => {
      Object.assign(pen, { strokeStyle: color, lineWidth: wide });
      pen.strokeRect(l, t, r - l, b - t);
    };
    pen.setLineDash([]);
    path("rgba(0, 0, 0, .65)", chosen ? 5 : 3.5); // so that it is seen on white tissue too
    pen.setLineDash({ proposed: [6, 4], accepted: [], rejected: [1.5, 4] }[f.state]);
    path(COLORS[f.state], chosen ? 2.5 : 1.5);
    pen.setLineDash([]);
    const text = `${f.number} ${SIGNS[f.state]}`;
    pen.font = "600 12px system-ui, sans-serif";
    const wide = pen.measureText(text).width + 8;
    const y = t >= 17 ? t - 17 : b + 1;
    pen.fillStyle = COLORS[f.state];
    pen.fillRect(l - 1, y, wide, 16);
    pen.fillStyle = "#10181f";
    pen.fillText(text, l + 3, y + 12);
    if (!chosen) return;
    pen.fillStyle = COLORS[f.state];
    for (const x of [l, r]) for (const v of [t, b]) pen.fillRect(x - 3.5, v - 3.5, 7, 7);
  }
}
