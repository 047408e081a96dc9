// Tables of class "sortable" are sorted by a click on a title; a second click turns the order round.
const UNITS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };

function keyOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = text.replaceAll(",", "").match(/^(-?[\d.]+)(?: ([kMGT])?(?:B|bytes))?$/);
  return number ? Number(number[1]) * (UNITS[number[2]] ?? 1) : text.toLowerCase();
}

function compare(a, b) {
  // What is not known comes last in either order.
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...(head.querySelector("p") ?? head).childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({ row, key: keyOf(row, column) }));
      const [known, missing] = [rows.filter(({ key }) => key !== ""), rows.filter(({ key }) => key === "")];
      known.sort((a, b) => compare(a.key, b.key) * (falling ? -1 : 1));
      body.append(...[...known, ...missing].map(({ row }) => row));
    });
  });
}
