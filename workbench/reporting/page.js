"use strict";

// Tables sort by any column: ascending, descending, then as they were written. Rows without a figure stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const written = [...table.tBodies[0].rows];
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const missing = (x) => x === "" || Number.isNaN(x);
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort by this column";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const following = { ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
      const order = following === undefined ? "ascending" : following;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      const rows = [...written];
      if (order !== null) {
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        rows.sort((p, q) => {
          const [a, b] = [value(p, column), value(q, column)];
          return missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b));
        });
      }
      table.tBodies[0].append(...rows);
    });
  });
}

// A link into what is folded away opens it; so does one to a folded section.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
  target.querySelector(":scope > details.folded")?.setAttribute("open", "");
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();

// What is folded away is opened for print, and folded again afterwards.
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  unfolded.forEach((details) => (details.open = true));
});
addEventListener("afterprint", () => unfolded.forEach((details) => (details.open = false)));
