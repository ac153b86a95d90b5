"use strict";
(() => {
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const make = (tag, text, named) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (named) made.className = named;
    return made;
  };

  // a figure's own text, without the smaller one beneath it, which is told by itself
  const small = (cell) => cell.querySelector("small");
  const said = (cell) => {
    const first = cell.firstChild;
    return first && first !== small(cell) ? (first.data ?? first.textContent).trim() : "";
  };
  const beneath = (cell) => small(cell)?.textContent.trim() ?? "";
  const figure = (text) => {
    if (text === "∞") return Infinity;
    const found = /^[<>]?[+−-]?\$?[\d,]*\.?\d+/.exec(text);
    if (!found) return NaN;
    const value = parseFloat(found[0].replace(/[<>+,$]/g, "").replace("−", "-"));
    // nearer to 0 than a figure that is written out
    return text[0] === (value < 0 ? ">" : "<") ? value / 2 : value;
  };
  const order = (a, b, down) => {
    const x = figure(a), y = figure(b), known = [x, y].map((value) => !Number.isNaN(value));
    if (known[0] && known[1]) return down * (x === y ? 0 : x < y ? -1 : 1);
    if (known[0] || known[1]) return known[0] ? -1 : 1; // what has no figure comes last, whichever way
    return down * a.localeCompare(b, "en", { numeric: true });
  };

  const sort = (table, head, column) => {
    const now = head.getAttribute("aria-sort");
    const next = now === null ? "ascending" : now === "ascending" ? "descending" : null;
    all("th[aria-sort]", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    if (next) head.setAttribute("aria-sort", next);
    for (const body of table.tBodies) {
      body.given ??= [...body.rows];
      const free = body.given.filter((row) => !row.classList.contains("group") && !row.classList.contains("quiet"));
      if (next) {
        const down = next === "ascending" ? 1 : -1;
        free.sort((a, b) => order(said(a.cells[column]), said(b.cells[column]), down));
      }
      // rows to compare with, and the name of a group, stay where they are
      body.append(...body.given.map((row) =>
        row.classList.contains("group") || row.classList.contains("quiet") ? row : free.shift()));
    }
  };

  const quoted = (text) => {
    const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  // a figure as programs read it: what is nothing but a number cannot be run
  const number = /^[+−-]?\$?(?=[.\d])(\d{1,3}(,\d{3})+|\d*)(\.\d+)?%?$/;
  const plain = (text) => number.test(text) ? text.replace(/[+,]/g, "").replace("−", "-") : quoted(text);
  const download = (table) => {
    const rows = all("tbody tr:not(.group)", table).map((row) => [...row.cells]);
    const grouped = table.querySelector("tr.group") !== null;
    const group = (cell) => {
      const name = cell.closest("tbody").querySelector("tr.group");
      return name ? said(name.cells[0]) : "";
    };
    const heads = all("th", table.tHead).map((head) => said(head.querySelector("button") ?? head));
    // what is small beneath figures has a column of its own
    const two = heads.map((_, place) => rows.some((cells) => beneath(cells[place])));
    const line = (cells, first, second) => cells.flatMap((cell, place) =>
      two[place] ? [first(cell), second(cell)] : [first(cell)]);
    const written = (cell, text) => cell.tagName === "TD" ? plain(text) : quoted(text);
    const lines = [
      [...(grouped ? ["group"] : []), ...line(heads, (head) => quoted(head), (head) => quoted(head + ", beneath"))],
      ...rows.map((cells) => [
        ...(grouped ? [quoted(group(cells[0]))] : []),
        ...line(cells, (cell) => written(cell, said(cell)), (cell) => written(cell, beneath(cell))),
      ]),
    ];
    const link = document.createElement("a");
    const text = lines.map((each) => each.join(",")).join("\n") + "\n";
    link.href = "data:text/csv;charset=utf-8," + encodeURIComponent("\ufeff" + text);
    link.download = table.id + ".csv";
    link.click();
  };

  const ready = (table) => {
    if (table.ready) return;
    table.ready = true;
    if (table.querySelectorAll("tbody tr:not(.group,.quiet)").length > 1) {
      all("th", table.tHead).forEach((head, column) => {
        const button = make("button", "", "sort");
        button.type = "button";
        button.append(...head.childNodes);
        if (!button.textContent) return;
        button.addEventListener("click", () => sort(table, head, column));
        head.append(button);
      });
    }
    const csv = make("button", "CSV", "csv");
    csv.type = "button";
    csv.setAttribute("aria-label", "Download as CSV: " + table.caption.textContent);
    csv.addEventListener("click", () => download(table));
    table.caption.append(" ", csv);
  };
  const within = (part) => all("table", part).forEach(ready);
  all("table").filter((table) => !table.closest("details")).forEach(ready);
  all("details").forEach((part) => part.addEventListener("toggle", () => part.open && within(part)));

  // a link into something closed opens it
  const reveal = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    let part = id && document.getElementById(id)?.closest("details");
    if (!part) return;
    for (; part; part = part.parentElement.closest("details")) part.open = true;
    document.getElementById(id).scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  const explorer = document.querySelector(".explorer");
  if (explorer) {
    const cards = all(":scope > details", explorer);
    const bar = make("div", "", "tools");
    const label = make("label", "Find a question ");
    const input = document.createElement("input");
    input.type = "search";
    label.append(input);
    const count = make("output", "");
    const toggle = make("button", "Open all", "plain");
    toggle.type = "button";
    const shown = () => cards.filter((card) => !card.hidden);
    const told = () => { count.textContent = `${shown().length} of ${cards.length}`; };
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const card of cards) {
        const text = card.firstElementChild.textContent.toLowerCase();
        card.hidden = !words.every((word) => text.includes(word));
      }
      told();
    });
    toggle.addEventListener("click", () => {
      const open = shown().some((card) => !card.open);
      shown().forEach((card) => { card.open = open; });
      toggle.textContent = open ? "Close all" : "Open all";
    });
    told();
    bar.append(label, count, toggle);
    explorer.prepend(bar);
  }

  // where the reader is
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const marks = [...links.keys()].map((id) => document.getElementById(id));
  const follow = () => {
    const here = marks.filter((mark) => mark.getBoundingClientRect().top < 140).pop() ?? marks[0];
    const link = links.get(here.id);
    if (link.getAttribute("aria-current")) return;
    links.forEach((other) => other.removeAttribute("aria-current"));
    link.setAttribute("aria-current", "true");
    const nav = link.closest("nav");
    if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.clientWidth / 3;
    else if (nav.scrollHeight > nav.clientHeight) nav.scrollTop = link.offsetTop - nav.clientHeight / 3;
  };
  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; follow(); });
  }, { passive: true });
  follow();
})();
