"use strict";
/* Solid: a scene's volume and one map in NiiVue: three planes and a rendering, WebGL 2. It takes the arrays of the scene as they lie (the
 * last axis runs fastest, so that the axes of the NIfTI are the scene's, reversed). The crosshair is one with the scene's.
 *   if (Solid.works()) { const solid = new Solid(scene, canvas, niivue); await solid.show(0); } */
const FADE = 0.2; // share of full color below which the map fades out

class Solid {
  static works() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl2"));
    } catch {
      return false;
    }
  }

  constructor(scene, canvas, niivue) {
    Object.assign(this, { scene, canvas, niivue, map: undefined, quiet: false });
    this.matrix = [2, 1, 0].map((a) => scene.affine.slice(0, 3).map((row) => row[a])); // columns of the NIfTI's affine
  }

  async #start() {
    const sided = this.scene.sided;
    this.nv = new this.niivue.Niivue({
      isRadiologicalConvention: sided, sagittalNoseLeft: true, isOrientationTextVisible: sided, show3Dcrosshair: true, crosshairColor: [1, 1, 1, 0.6], crosshairWidthUnit: "mm",
      crosshairWidth: 0.004 * Math.max(...this.scene.shape.map((n, a) => n * this.scene.spacing[a])),
      backColor: [0.043, 0.055, 0.071, 1], dragAndDropEnabled: false, logLevel: "error", isColorbar: false, loadingText: "",
    });
    await this.nv.attachToCanvas(this.canvas);
    const ramp = ([a, b]) => {
      const along = Array.from({ length: 9 }, (_, k) => k / 8);
      const { strength, bend } = this.scene.colors;
      const part = (c) => along.map((s) => Math.round(a[c] + (b[c] - a[c]) * s));
      return { R: part(0), G: part(1), B: part(2), A: along.map((s) => Math.round(255 * strength * s ** bend)), I: along.map((s) => Math.round(255 * s)) };
    };
    this.nv.addColormap("for", ramp(this.scene.colors.for));
    this.nv.addColormap("against", ramp(this.scene.colors.against));
    this.nv.opts.multiplanarShowRender = 1; // always
    this.nv.setSliceType(this.nv.sliceTypeMultiplanar);
    this.nv.onLocationChange = (at) => this.#moved(at);
    this.scene.listen(() => this.#follow());
  }

  // A NIfTI file in memory: 352 bytes of header, then the samples.
  #file(samples, code, slope, inter) {
    const { shape } = this.scene;
    const buffer = new ArrayBuffer(352 + samples.byteLength);
    const head = new DataView(buffer);
    head.setInt32(0, 348, true);
    [3, shape[2], shape[1], shape[0], 1, 1, 1, 1].forEach((n, k) => head.setInt16(40 + 2 * k, n, true));
    head.setInt16(70, code, true);
    head.setInt16(72, 8 * samples.BYTES_PER_ELEMENT, true);
    [1, ...this.matrix.map((c) => Math.hypot(...c))].forEach((d, k) => head.setFloat32(76 + 4 * k, d, true));
    head.setFloat32(108, 352, true);
    head.setFloat32(112, slope, true);
    head.setFloat32(116, inter, true);
    head.setUint8(123, 2); // mm
    head.setInt16(254, 1, true);
    for (let row = 0; row < 3; row++) {
      [...this.matrix.map((c) => c[row]), this.scene.affine[row][3]].forEach((v, k) => head.setFloat32(280 + 16 * row + 4 * k, v, true));
    }
    [0x6e, 0x2b, 0x31, 0].forEach((b, k) => head.setUint8(344 + k, b));
    new samples.constructor(buffer, 352).set(samples);
    return buffer;
  }

  #image(buffer, name, colormap, low, high, negative = "") {
    const { NVImage } = this.niivue;
    return NVImage.new(buffer, name, colormap, 1, null, low, high, true, 0.02, false, false, negative, 0, undefined, NaN, NaN, false, null, 0, null);
  }

  async show(map) {
    if (!this.nv) await this.#start();
    if (map === this.map) return;
    const { scene } = this;
    const base = scene.channels[scene.view.channel];
    const code = (samples) => (samples.BYTES_PER_ELEMENT === 1 ? 2 : 512);
    const images = [await this.#image(this.#file(base.samples, code(base.samples), base.step, base.low), "scan.nii", "gray", ...scene.view.windows[scene.view.channel])];
    if (map !== null) {
      await scene.load("maps", map);
      const { full, most } = scene.maps[map];
      const signed = Int16Array.from(scene.maps[map].samples, (_, i) => Math.round((32767 * scene.relevance(map, i)) / (most || 1)));
      images.push(await this.#image(this.#file(signed, 4, (most || 1) / 32767, 0), "map.nii", "for", 0, full, "against"));
    }
    for (const old of [...this.nv.volumes]) this.nv.removeVolume(old);
    for (const image of images) this.nv.addVolume(image);
    this.map = map;
    this.#follow(true);
  }

  #moved(at) {
    if (this.quiet || !at.mm) return;
    const { affine } = this.scene;
    const off = affine.slice(0, 3).map((row, w) => at.mm[w] - row[3]);
    const cofactor = (r, c) => { // of the 3 x 3 part: its inverse takes millimeters back to samples, whatever NiiVue calls a voxel
      const [a, b, p, q] = [(r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3];
      return affine[a][p] * affine[b][q] - affine[a][q] * affine[b][p];
    };
    const size = [0, 1, 2].reduce((sum, c) => sum + affine[0][c] * cofactor(0, c), 0);
    this.scene.change({ at: [0, 1, 2].map((c) => [0, 1, 2].reduce((sum, r) => sum + cofactor(r, c) * off[r], 0) / size), hover: null });
  }

  #follow(now = false) {
    const { nv, scene } = this;
    if (!nv || !nv.volumes.length || !(now || this.canvas.offsetParent)) return;
    const { at, threshold, opacity, overlay } = scene.view;
    const told = JSON.stringify([at, threshold, opacity, overlay]);
    if (told === this.told) return;
    this.quiet = true; // what follows must not come back as a move
    nv.scene.crosshairPos = nv.mm2frac(scene.world(at));
    const over = nv.volumes[1];
    if (over) {
      over.colormapType = threshold > 0 ? 1 : 2; // clear below what is hidden; or fading out toward zero
      over.cal_min = Math.max(threshold, threshold > 0 ? 0 : FADE) * scene.maps[this.map].full;
      over.opacity = overlay ? opacity : 0;
      const look = JSON.stringify([threshold, opacity, overlay]);
      if (look !== this.look) nv.updateGLVolume();
      this.look = look;
    }
    nv.drawScene();
    this.quiet = false;
    this.told = told;
  }
}
