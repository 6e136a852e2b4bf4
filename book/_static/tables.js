// Long tables of notebooks: a click on a heading sorts the rows, a field above filters them.
const LONG = 12; // rows

/** Numbers by their value, "not run" and other words by the alphabet, empty cells last. */
function inOrder(one, other) {
  if (!one || !other) return !one - !other;
  const [first, second] = [one, other].map((text) => Number.parseFloat(text.replace("−", "-")));
  return Number.isNaN(first) || Number.isNaN(second) ? one.localeCompare(other) : first - second;
}

function sortable(table) {
  const [body] = table.tBodies;
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const asWritten = [...body.rows];
  const sort = (column) => {
    const falling = headings[column].ariaSort === "ascending";
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
    const text = (row) => row.cells[column].textContent.trim();
    const rows = asWritten.toSorted((one, other) => inOrder(text(one), text(other)));
    const empty = rows.filter((row) => !text(row));
    const full = rows.filter(text);
    body.append(...(falling ? full.reverse() : full), ...empty);
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    if (button.textContent.trim()) heading.append(button);
  });
  table.classList.add("sortable");
}

function filterable(table) {
  const label = document.createElement("label");
  const field = document.createElement("input");
  [label.className, field.type] = ["table-filter", "search"];
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
  label.append("Filter rows:", field);
  table.before(label);
}

function start() {
  for (const table of document.querySelectorAll("table.dataframe")) {
    const joined = table.querySelector("[rowspan], [colspan]");
    if (joined || !table.tHead || table.tBodies[0].rows.length < LONG) continue;
    sortable(table);
    filterable(table);
  }
}

document.addEventListener("DOMContentLoaded", start);
