"use strict";
/* What a hand does on a panel. Click or drag: crosshair. Wheel: slices of a volume. Ctrl and wheel, or two fingers: zoom. Shift and drag, or the
 * middle button: move the picture. Keys: arrows move the crosshair (with Shift by 5), Page Up and Down scroll, + - 0 zoom, Home goes to
 * the largest relevance. */
function gestures(panel) {
  const { canvas, plane, scene } = panel;
  const fingers = new Map();
  let last = null;

  const shares = (from, to) => {
    const box = canvas.getBoundingClientRect();
    return [(to.clientX - from.clientX) / box.width, (to.clientY - from.clientY) / box.height];
  };
  const drag = (from, to) => {
    const [x, y] = shares(from, to);
    scene.pan(plane.x, -x);
    scene.pan(plane.y, plane.flipY ? y : -y);
  };

  canvas.addEventListener("pointerdown", (e) => {
    if (e.button > 1) return;
    fingers.set(e.pointerId, e);
    last = e;
    if (e.pointerType !== "touch") canvas.setPointerCapture(e.pointerId);
    if (e.button === 1) e.preventDefault();
    if (!e.shiftKey && e.button === 0 && fingers.size === 1) scene.change({ at: panel.under(e), hover: null });
  });

  canvas.addEventListener("pointermove", (e) => {
    if (fingers.size === 2 && fingers.has(e.pointerId)) {
      const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const apart = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
      scene.zoomAt(apart(e) / Math.max(1, apart(fingers.get(e.pointerId))), panel.under(other));
      fingers.set(e.pointerId, e);
    } else if (last && (e.buttons & 4 || (e.buttons & 1 && e.shiftKey))) {
      drag(last, e);
      last = e;
    } else if (e.buttons & 1 && e.pointerType !== "touch") {
      scene.change({ at: panel.under(e), hover: null });
    } else if (!e.buttons) {
      scene.view.hover = panel.under(e);
      for (const fn of scene.listeners) fn(scene.view);
    }
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    canvas.addEventListener(end, (e) => {
      fingers.delete(e.pointerId);
      if (end !== "pointerleave" || !scene.view.hover) return;
      scene.view.hover = null;
      for (const fn of scene.listeners) fn(scene.view);
    });
  }

  let turned = 0;
  canvas.addEventListener("wheel", (e) => {
    if (e.ctrlKey) {
      e.preventDefault();
      scene.zoomAt(Math.exp(-(e.deltaMode ? 40 * e.deltaY : e.deltaY) / 300), panel.under(e));
    } else if (plane.through !== null) {
      e.preventDefault();
      turned += e.deltaMode ? 40 * e.deltaY : e.deltaY;
      const steps = Math.trunc(turned / 40);
      turned -= 40 * steps;
      if (steps) scene.move(plane.through, scene.view.at[plane.through] + Math.max(-3, Math.min(3, steps)));
    }
  }, { passive: false });

  canvas.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const up = plane.flipY ? 1 : -1;
    const keys = {
      ArrowLeft: [plane.x, -1], ArrowRight: [plane.x, 1], ArrowUp: [plane.y, up], ArrowDown: [plane.y, -up],
      PageUp: [plane.through, 1], PageDown: [plane.through, -1],
    };
    const [axis, step] = keys[e.key] || [null, 0];
    if (e.key === "Home" && scene.maps.length) scene.toPeak(panel.map === null ? 0 : panel.map);
    else if (e.key === "+" || e.key === "=") scene.zoomAt(1.25);
    else if (e.key === "-") scene.zoomAt(0.8);
    else if (e.key === "0") scene.change({ zoom: 1 });
    else if (axis !== null && step) scene.move(axis, scene.view.at[axis] + step * (e.shiftKey ? 5 : 1));
    else return;
    e.preventDefault();
  });
}
