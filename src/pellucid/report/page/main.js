"use strict";
// The page of a report: the scene is drawn first, everything else afterwards.
(async () => {
  theme(byId("theme"));
  try {
    const scene = new Scene(JSON.parse(byId("samples").textContent));
    const board = new Board(scene, byId("stage"));
    const controls = new Controls(scene, board);
    document.documentElement.classList.remove("still");
    await controls.show(byId("stage").dataset.first === "all" ? "all" : 0);
    document.documentElement.dataset.ready = "yes";
    inside(scene, board);
    await processes();
    document.documentElement.dataset.whole = "yes";
  } catch (error) {
    document.documentElement.classList.add("still");
    byId("trouble").hidden = false;
    byId("trouble").textContent = `Only the still picture can be shown: ${error.message}`;
    throw error;
  }
})();
