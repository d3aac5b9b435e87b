// The leaderboard's table: sorted by the buttons in its head, filtered by protocol and by a part of the name.
for (const board of document.querySelectorAll(".leaderboard")) {
  const tools = board.querySelector(".leaderboard-tools");
  const [select, input, output] = ["select", "input", "output"].map((name) => tools.querySelector(name));
  const body = board.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...board.querySelectorAll("thead th")];

  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const name = row.querySelector("th").textContent.toLowerCase();
      row.hidden = (select.value && row.dataset.protocol !== select.value) || !words.every((word) => name.includes(word));
    }
    board.classList.toggle("one-protocol", select.value !== "");
    output.textContent = `${rows.filter((row) => !row.hidden).length} ${board.dataset.shown}`;
  };

  const sort = (head) => {
    const column = heads.indexOf(head);
    const numbers = rows.some((row) => "value" in row.cells[column].dataset);
    const first = numbers ? "descending" : "ascending";
    const other = numbers ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => {
      const cell = row.cells[column];
      return numbers ? (cell.dataset.value === "" ? NaN : Number(cell.dataset.value)) : cell.textContent;
    };
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!numbers) return sign * x.localeCompare(y, document.documentElement.lang);
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // what is missing stays last
      return sign * (x - y);
    });
    body.append(...rows);
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = `${board.dataset.sort} ${head.textContent}`;
    button.addEventListener("click", () => sort(head));
    head.replaceChildren(button);
  }
  select.addEventListener("change", filter);
  input.addEventListener("input", filter);
  tools.hidden = false;
  filter();
}
