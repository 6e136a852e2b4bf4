// Long tables of notebooks: a click on a heading sorts the rows, a field above filters them. Short tables that are
// wider than a narrow page: a row is a list of its cells.
const LONG = 12; // rows
const NARROW_PAGE = "(max-width: 576px)";

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

/** The cells of rows by column, each of several rows or columns in all of them. */
function gridOf(rows) {
  const grid = Array.from(rows, () => []);
  Array.from(rows).forEach((row, y) => {
    for (const cell of row.cells) {
      let x = 0;
      while (grid[y][x]) x += 1;
      for (let down = 0; down < cell.rowSpan && y + down < grid.length; down++) {
        for (let right = 0; right < cell.colSpan; right++) grid[y + down][x + right] = cell;
      }
    }
  });
  return grid;
}

/** Each cell with the name of its column; cells that several rows share are repeated in each. */
function stack(table) {
  const heads = gridOf(table.tHead.rows);
  const textOf = (cell) => cell?.textContent.trim() ?? "";
  const nameOf = (x) => [...new Set(heads.map((row) => textOf(row[x])))].filter(Boolean).join(", ");
  const cells = gridOf(table.tBodies[0].rows).map((row) => row.map((cell) => cell.cloneNode(true)));
  cells.forEach((row, y) => {
    row.forEach((cell, x) => {
      cell.removeAttribute("rowspan");
      cell.dataset.column = nameOf(x);
    });
    table.tBodies[0].rows[y].replaceChildren(...row.filter(textOf));
  });
  table.classList.add("stacked");
}

function start() {
  if (matchMedia(NARROW_PAGE).matches) {
    for (const table of document.querySelectorAll(".bd-article table")) {
      const wide = table.scrollWidth > Math.min(table.clientWidth, table.parentElement.clientWidth);
      if (wide && table.tHead && table.tBodies[0].rows.length < LONG) stack(table);
    }
  }
  for (const table of document.querySelectorAll("table.dataframe")) {
    const joined = table.querySelector("[rowspan], [colspan]");
    if (joined || !table.tHead || table.tBodies[0].rows.length < LONG) continue;
    sortable(table);
    filterable(table);
  }
}

document.addEventListener("DOMContentLoaded", start);
