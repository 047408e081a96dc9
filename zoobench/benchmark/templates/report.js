"use strict";
(() => {
  const root = document.documentElement;
  const remembered = "zoobench-theme";
  root.classList.add("scripted");

  // A file that is opened from disk may be kept from storing anything; the page works without.
  const recall = () => { try { return localStorage.getItem(remembered); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem(remembered, theme); } catch { /* not remembered, then */ } };
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : preferred.matches);
  // Before the page is drawn, so that it does not flash.
  if (["light", "dark"].includes(recall())) root.dataset.theme = recall();

  document.addEventListener("DOMContentLoaded", () => {
    const all = (selector, within = document) => [...within.querySelectorAll(selector)];
    const tables = all("table.filtered");
    const filters = document.getElementById("filters");

    const theme = document.getElementById("theme");
    const tellTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
    theme.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      remember(root.dataset.theme);
      tellTheme();
    });
    preferred.addEventListener("change", tellTheme);
    tellTheme();

    const valueOf = (row, index) => {
      const cell = row.cells[index];
      if (cell.dataset.sort === undefined) return cell.textContent.trim().toLowerCase();
      return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
    };
    const sort = (button) => {
      const head = button.closest("th");
      const index = head.cellIndex;
      const first = button.dataset.first;
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of head.parentElement.cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].map((row) => [valueOf(row, index), row]);
      rows.sort(([a], [b]) => {
        // What is missing stays at the end, whichever way the rest is sorted.
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
      });
      body.append(...rows.map(([, row]) => row));
    };
    for (const button of all("button.sort")) button.addEventListener("click", () => sort(button));

    const boxes = all("input[data-table]");
    const wasHidden = new Map(boxes.map((box) => [box, false]));
    const showColumns = (property) => {
      for (const box of boxes) {
        const table = document.getElementById(box.dataset.table);
        const index = Number(box.dataset.column);
        const about = table.tHead.rows[0].cells[index].dataset.property;
        const hidden = !box.checked || Boolean(property && about && about !== property);
        if (wasHidden.get(box) === hidden) continue;
        wasHidden.set(box, hidden);
        for (const row of table.rows) row.cells[index].hidden = hidden;
      }
    };
    const plural = (count, total, word) => `${count} of ${total} ${word}${total === 1 ? "" : "s"}`;
    const apply = () => {
      const chosen = Object.fromEntries(new FormData(filters));
      const part = chosen.method.trim().toLowerCase();
      const fits = (data) =>
        (data.method ?? "").toLowerCase().includes(part) &&
        ["inputs", "zoo", "property"].every((name) => !chosen[name] || !data[name] || data[name] === chosen[name]);
      for (const table of tables) for (const row of table.tBodies[0].rows) row.hidden = !fits(row.dataset);
      showColumns(chosen.property);
      for (const panel of all(".panel")) panel.hidden = !fits({ property: panel.dataset.property, method: part });
      for (const zoo of all("section.zoo")) {
        const about = all("thead th[data-property]", zoo).map((head) => head.dataset.property);
        const lacks = chosen.property && !about.includes(chosen.property);
        zoo.hidden = Boolean((chosen.zoo && zoo.dataset.zoo !== chosen.zoo) || lacks);
      }
      const count = (id) => {
        const rows = [...document.getElementById(id).tBodies[0].rows];
        return [rows.filter((row) => !row.hidden).length, rows.length];
      };
      document.getElementById("count").textContent =
        `Showing ${plural(...count("ranking"), "method")} and ${plural(...count("records"), "result")}.`;
    };
    // Not every browser tells of both when something is chosen.
    for (const event of ["input", "change"]) filters.addEventListener(event, apply);
    filters.addEventListener("submit", (event) => event.preventDefault());
    // The fields hold their old values until the event is over.
    filters.addEventListener("reset", () => setTimeout(apply));
    for (const box of boxes) box.addEventListener("change", apply);
    apply();

    const copyByHand = (text) => {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      return done;
    };
    const copy = async (button) => {
      const text = button.parentElement.querySelector("code").textContent;
      let done = true;
      try { await navigator.clipboard.writeText(text); } catch { done = copyByHand(text); button.focus(); }
      document.getElementById("copied").textContent = done ? `Copied: ${text}` : "Your browser does not let this page copy.";
      button.textContent = done ? "Copied" : "Copy";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
    for (const button of all("button.copy")) button.addEventListener("click", () => copy(button));
  });
})();
