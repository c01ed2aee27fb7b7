"use strict";
// A table that is sorted by its headers and filtered by verdict and by words; what is shown is told aloud.
(() => {
  theme(document.getElementById("theme"));
  const body = document.querySelector("#cases tbody");
  const rows = [...body.rows];
  const heads = [...document.querySelectorAll("#cases th[data-key]")];
  const wanted = new Set();
  const find = document.getElementById("find");
  const state = document.getElementById("shown");

  function sort(head) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const h of heads) h.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const { key } = head.dataset;
    const value = (row) => row.dataset[key];
    const numeric = head.dataset.kind === "number";
    rows.sort((a, b) => (numeric ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b))) * (down ? -1 : 1));
    body.append(...rows);
  }

  function filter() {
    const text = find.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = (wanted.size > 0 && !wanted.has(row.dataset.slug)) || (text !== "" && !row.textContent.toLowerCase().includes(text));
      if (!row.hidden) shown++;
    }
    state.textContent = `${shown} of ${rows.length} shown`;
  }

  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      if (on) wanted.add(button.dataset.verdict);
      else wanted.delete(button.dataset.verdict);
      filter();
    });
  }
  find.addEventListener("input", filter);
  filter();
  document.documentElement.classList.remove("still");
  document.documentElement.dataset.ready = "yes";
})();
