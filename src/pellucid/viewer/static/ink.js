// Ink: what is drawn over a scene, one byte a sample in viewing order; tools on every panel; undone step by step.
const STEPS = 20;

export class Ink {
  constructor(scene, changed) {
    Object.assign(this, { scene, changed, tool: "", radius: 4, deep: 1, corners: [], draft: null, past: [] });
    this.mask = new Uint8Array(scene.strides[0] * scene.shape[0]);
    scene.listen(() => this.draw());
  }

  get count() {
    let n = 0;
    for (const v of this.mask) n += v;
    return n;
  }

  load(mask) {
    this.mask = mask;
    this.past = [];
    this.scene.redraw();
  }

  use(tool) {
    Object.assign(this, { tool, corners: [], draft: null });
    this.scene.redraw();
  }

  // ------------------------------------------------------------------ shapes, in samples (x, y) of a plane
  #slices(plane) {
    if (plane.through === null) return [0];
    const at = this.scene.view.at[plane.through];
    const half = Math.floor((this.deep - 1) / 2);
    return Array.from({ length: this.deep }, (_, k) => at - half + k).filter((s) => s >= 0 && s < this.scene.shape[plane.through]);
  }

  #set(plane, inside, box, value) {
    const { strides, shape } = this.scene;
    const [x0, y0, x1, y1] = [Math.max(0, box[0]), Math.max(0, box[1]), Math.min(shape[plane.x] - 1, box[2]), Math.min(shape[plane.y] - 1, box[3])];
    const step = this.past.at(-1);
    for (const s of this.#slices(plane)) {
      const start = plane.through === null ? 0 : s * strides[plane.through];
      for (let y = y0; y <= y1; y++) {
        for (let x = x0; x <= x1; x++) {
          const i = start + y * strides[plane.y] + x * strides[plane.x];
          if (this.mask[i] === value || !inside(x, y)) continue;
          step.push(i);
          this.mask[i] = value;
        }
      }
    }
  }

  begin() {
    this.past.push([]);
    if (this.past.length > STEPS) this.past.shift();
  }

  end() {
    this.scene.redraw();
    if (this.past.length && this.past.at(-1).length) this.changed();
    else this.past.pop();
  }

  box(plane, [x0, y0], [x1, y1]) {
    this.#set(plane, () => true, [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)], 1);
  }

  round(plane, [x, y], value) {
    const r = this.radius - 0.5;
    const [sx, sy] = [this.scene.spacing[plane.x], this.scene.spacing[plane.y]];
    const reach = r * Math.min(sx, sy); // round in the patient, whatever the samples
    const [dx, dy] = [Math.ceil(reach / sx), Math.ceil(reach / sy)];
    this.#set(plane, (a, b) => Math.hypot((a - x) * sx, (b - y) * sy) <= reach + 1e-6, [x - dx, y - dy, x + dx, y + dy], value);
  }

  polygon(plane, corners) {
    const inside = (x, y) => {
      let odd = false;
      for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
        const [[ax, ay], [bx, by]] = [corners[i], corners[j]];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
      }
      return odd;
    };
    const [xs, ys] = [corners.map((c) => c[0]), corners.map((c) => c[1])];
    this.#set(plane, inside, [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)].map(Math.round), 1);
  }

  // For hands that use no pointer: a box, or a cube, of a side around the crosshair.
  around(side) {
    const { scene } = this;
    const half = Math.floor(side / 2);
    const kept = this.deep;
    this.begin();
    if (scene.volume) this.deep = side;
    const plane = scene.planes[0];
    const [x, y] = [scene.view.at[plane.x], scene.view.at[plane.y]];
    this.box(plane, [x - half, y - half], [x - half + side - 1, y - half + side - 1]);
    this.deep = kept;
    this.end();
  }

  undo() {
    const step = this.past.pop();
    if (!step) return;
    for (const i of step) this.mask[i] ^= 1;
    this.scene.redraw();
    this.changed();
  }

  clear() {
    this.begin();
    const step = this.past.at(-1);
    this.mask.forEach((v, i) => v && step.push(i));
    this.mask.fill(0);
    this.end();
  }

  // ------------------------------------------------------------------ on the panels
  #layer(panel) {
    if (panel.ink) return panel.ink;
    const canvas = document.createElement("canvas");
    canvas.className = "ink";
    panel.canvas.after(canvas);
    panel.ink = { canvas, pen: canvas.getContext("2d"), spare: Object.assign(document.createElement("canvas"), { width: panel.wide, height: panel.tall }) };
    this.#hear(panel, canvas);
    return panel.ink;
  }

  #hear(panel, canvas) {
    const { plane } = panel;
    const place = (e) => {
      const at = panel.under(e);
      return [at[plane.x], at[plane.y]];
    };
    canvas.addEventListener("pointerdown", (e) => {
      if (!this.tool || e.button) return;
      e.preventDefault();
      canvas.setPointerCapture(e.pointerId);
      const at = place(e);
      if (this.tool === "polygon") {
        if (this.draft && this.draft.panel !== panel) this.corners = [];
        const first = this.corners[0];
        const near = first && this.corners.length > 2 && Math.hypot(at[0] - first[0], at[1] - first[1]) <= Math.max(2, panel.seen[2] / 60);
        if (near) return void this.close();
        this.corners.push(at);
        this.draft = { panel, to: at };
      } else {
        this.begin();
        this.draft = { panel, from: at, to: at, held: true };
        if (this.tool !== "box") this.round(plane, at, this.tool === "erase" ? 0 : 1);
      }
      this.scene.redraw();
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!this.draft || this.draft.panel !== panel) return;
      const [from, to] = [this.draft.to, place(e)];
      this.draft.to = to;
      if (this.draft.held && this.tool !== "box") {
        const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1])));
        for (let k = 1; k <= steps; k++) {
          const at = from.map((f, c) => Math.round(f + ((to[c] - f) * k) / steps));
          this.round(plane, at, this.tool === "erase" ? 0 : 1);
        }
      }
      this.scene.redraw();
    });
    const up = () => {
      if (!this.draft || !this.draft.held) return;
      if (this.tool === "box") this.box(plane, this.draft.from, this.draft.to);
      this.draft = null;
      this.end();
    };
    for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, up);
    canvas.addEventListener("dblclick", () => this.close());
    canvas.addEventListener("wheel", (e) => panel.canvas.dispatchEvent(new WheelEvent("wheel", e)) || e.preventDefault(), { passive: false });
  }

  close() {
    if (this.tool !== "polygon" || !this.draft || this.corners.length < 3) return;
    this.begin();
    this.polygon(this.draft.panel.plane, this.corners);
    Object.assign(this, { corners: [], draft: null });
    this.end();
  }

  draw() {
    for (const panel of this.scene.panels) this.#paint(panel, this.#layer(panel));
  }

  #paint(panel, { canvas, pen, spare }) {
    const { scene } = this;
    const { plane, wide, tall } = panel;
    canvas.classList.toggle("on", Boolean(this.tool));
    if (canvas.width !== panel.canvas.width) canvas.width = panel.canvas.width;
    if (canvas.height !== panel.canvas.height) canvas.height = panel.canvas.height;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const start = plane.through === null ? 0 : scene.view.at[plane.through] * scene.strides[plane.through];
    const [sx, sy] = [scene.strides[plane.x], scene.strides[plane.y]];
    const at = (x, y) => x >= 0 && y >= 0 && x < wide && y < tall && this.mask[start + y * sy + x * sx];
    const pixels = new ImageData(wide, tall);
    let any = false;
    for (let row = 0; row < tall; row++) {
      const y = plane.flipY ? tall - 1 - row : row;
      for (let x = 0; x < wide; x++) {
        if (!at(x, y)) continue;
        any = true;
        const edge = !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1));
        pixels.data.set([92, 255, 160, edge ? 230 : 46], 4 * (row * wide + x));
      }
    }
    if (any) {
      spare.getContext("2d").putImageData(pixels, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(spare, ...panel.seen, 0, 0, canvas.width, canvas.height);
    }
    if (this.draft && this.draft.panel === panel) this.#sketch(panel, pen, canvas);
  }

  #sketch(panel, pen, canvas) {
    const { plane } = panel;
    const spot = ([x, y]) => {
      const at = [...this.scene.view.at];
      [at[plane.x], at[plane.y]] = [x, y];
      const [a, b] = panel.spot(at);
      return [a * canvas.width, b * canvas.height];
    };
    Object.assign(pen, { strokeStyle: "#5cffa0", lineWidth: Math.max(1.5, window.devicePixelRatio) });
    pen.beginPath();
    if (this.tool === "box") {
      const [[ax, ay], [bx, by]] = [spot(this.draft.from), spot(this.draft.to)];
      pen.rect(Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay));
    } else {
      for (const [n, c] of [...this.corners, this.draft.to].entries()) pen[n ? "lineTo" : "moveTo"](...spot(c));
    }
    pen.stroke();
  }
}
