
"use strict";
(() => {
  const SHOWN = 20;
  const byId = (id) => document.getElementById(id);
  const list = byId("list");
  const all = [...list.querySelectorAll("article")];
  const controls = ["lang", "label", "kind", "order"].map(byId);
  let page = 0;
  const has = (article, name, wanted) => wanted === "" || article.dataset[name].split(" ").includes(wanted);

  function show() {
    const [lang, label, kind, order] = controls.map((control) => control.value);
    const found = all.filter((article) => has(article, "lang", lang) && has(article, "labels", label) && has(article, "kinds", kind));
    if (order === "input") found.sort((a, b) => a.dataset.row - b.dataset.row);
    const pages = Math.max(1, Math.ceil(found.length / SHOWN));
    page = Math.min(Math.max(page, 0), pages - 1);
    const seen = found.slice(page * SHOWN, (page + 1) * SHOWN);
    all.forEach((article) => { article.hidden = true; });
    seen.forEach((article) => { article.hidden = false; list.append(article); });
    const first = found.length ? page * SHOWN + 1 : 0;
    byId("found").textContent = `${first} to ${page * SHOWN + seen.length} of ${found.length} sentences`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }

  function turn(by) {
    page += by;
    show();
    byId("sentences").scrollIntoView();
  }

  // The words of a side in order; a word's data-t are numbers of words of the side that it is linked with.
  const words = (side) => [...side.querySelectorAll("p span")];
  let held = null;

  function light(word) {
    document.querySelectorAll(".hot").forEach((each) => each.classList.remove("hot"));
    if (!word) return;
    const article = word.closest("article");
    const sides = [...article.querySelectorAll(".side")];
    const target = sides.find((side) => side.dataset.side === "target");
    const linked = sides.find((side) => side.dataset.side === "bridge") || sides.find((side) => side.dataset.side === "source");
    const other = word.closest(".side") === target ? linked : target;
    word.classList.add("hot");
    if (!other) return;
    const names = words(other);
    word.dataset.t.split(" ").forEach((number) => { if (names[number]) names[number].classList.add("hot"); });
  }

  const wordAt = (event) => event.target.closest && event.target.closest(".side p span[data-t]");
  list.addEventListener("click", (event) => {
    const word = wordAt(event);
    held = word === held ? null : word;
    light(held);
  });
  list.addEventListener("mouseover", (event) => { if (!held) light(wordAt(event)); });

  if (!all.length) return;
  controls.forEach((control) => control.addEventListener("change", () => { page = 0; show(); }));
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  ["filters", "found", "pages"].forEach((id) => { byId(id).hidden = false; });
  show();
})();
