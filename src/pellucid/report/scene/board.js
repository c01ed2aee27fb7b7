"use strict";
// Board: which panels stand in an element. One map: the scan beside it, or its three planes. "all": maps side by side, in one plane or in three.
class Board {
  constructor(scene, element) {
    Object.assign(this, { scene, element, shown: null, plane: 0 });
    new ResizeObserver(() => scene.redraw()).observe(element);
    window.addEventListener("beforeprint", () => scene.draw());
  }

  // which: the number of a map, "all", a list of maps, or null for the scan alone. plane: a number, or "three" (maps side by side only).
  async show(which, plane = this.plane) {
    const { scene } = this;
    const several = which === "all" || Array.isArray(which);
    const maps = which === null ? [] : which === "all" ? scene.maps.map((_, n) => n) : [which].flat();
    await Promise.all([scene.needed(), ...maps.map((n) => scene.load("maps", n))]);
    Object.assign(this, { shown: which, plane });
    scene.panels = several ? this.#sideBySide(maps) : this.#single(which);
    this.element.classList.toggle("all", several);
    this.element.classList.toggle("three", several && scene.volume && plane === "three");
    this.element.classList.toggle("flat", !scene.volume);
    this.element.replaceChildren(...scene.panels.map((p) => p.figure));
    scene.draw();
  }

  get maps() {
    return this.shown === null ? [] : this.shown === "all" ? this.scene.maps.map((_, n) => n) : [this.shown].flat();
  }

  #single(map) {
    const { scene } = this;
    if (scene.volume) return scene.planes.map((plane) => new Panel(scene, plane, { map }));
    const bare = new Panel(scene, scene.planes[0], { name: "Image" });
    return map === null ? [bare] : [bare, new Panel(scene, scene.planes[0], { map, name: scene.maps[map].label.name })];
  }

  #sideBySide(maps) {
    const { scene } = this;
    const planes = scene.volume && this.plane === "three" ? scene.planes : [scene.planes[scene.volume ? this.plane : 0]];
    const found = scene.volume ? [] : [new Panel(scene, planes[0], { name: "Image", note: "" })];
    for (const map of maps) {
      const { label, full } = scene.maps[map];
      const name = `${label.name} · ${label.target}`;
      found.push(...planes.map((plane, k) => new Panel(scene, plane, { map, name: k ? plane.name : name, note: k ? null : `full ± ${number(full)}` })));
    }
    return found;
  }
}
