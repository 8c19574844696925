// Sort tables by their heads, and filter the gallery of images. Without a script the page is whole, in its first order.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const text = head.classList.contains("text");
      const now = head.getAttribute("aria-sort");
      // Numbers begin with the highest, text with the first letter of the alphabet.
      const descending = now ? now === "ascending" : !text;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column], value = cell.dataset.value;
        if (value === undefined) return cell.textContent.trim();
        return value === "" ? null : Number(value);
      };
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null); // not measured: last in both orders
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        return descending ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
for (const form of document.querySelectorAll("form.filters")) {
  const cards = [...form.parentElement.querySelectorAll(".card")], selects = [...form.querySelectorAll("select")];
  const output = form.querySelector("output");
  const filter = () => {
    let shown = 0;
    for (const card of cards) {
      card.hidden = !selects.every((select) => select.selectedIndex === 0 || JSON.parse(card.dataset[select.dataset.filter]).includes(select.value));
      shown += !card.hidden;
    }
    output.textContent = `${shown} of ${cards.length} images`;
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const select of selects) select.addEventListener("change", filter);
  filter();
}
for (const card of document.querySelectorAll(".card")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Enlarge";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(card.classList.toggle("wide"))));
  card.querySelector("p").append(button);
}
