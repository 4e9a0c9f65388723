"use strict";
// Without this script every table stands as it was written; with it, headers sort and long tables have a filter.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (before === "ascending") { body.append(...original); return; }
      const sign = before === "descending" ? 1 : -1;
      header.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      body.append(...[...original].sort((a, b) => sign * compare(a.cells[column], b.cells[column])));
    });
  });
  if (original.length >= 12) addFilter(table, original);
}

function compare(a, b) {
  const [x, y] = [a, b].map((cell) => parseFloat(cell.dataset.order));
  if (Number.isNaN(x) && Number.isNaN(y)) return b.textContent.localeCompare(a.textContent, "en", { numeric: true }) * -1;
  return Number.isNaN(x) ? -1 : Number.isNaN(y) ? 1 : x - y;
}

function addFilter(table, rows) {
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "Show only rows with …";
  input.setAttribute("aria-label", "Filter: " + table.caption.textContent);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.parentElement.before(input);
}
