"use strict";
(() => {
  const SHOWN = 20;
  const byId = (id) => document.getElementById(id);
  const list = byId("list");
  const all = [...list.querySelectorAll("article")];
  const search = byId("search");
  const controls = ["lang", "label", "kind", "order"].map(byId);
  let page = 0;
  let seen = all;

{% include "find.js" %}

  const has = (article, name, wanted) => wanted === "" || article.dataset[name].split(" ").includes(wanted);

  // The articles that fit search and filters, in their order.
  function fitting() {
    const [lang, label, kind, order] = controls.map((control) => (control ? control.value : ""));
    const terms = termsOf(search.value);
    const found = all.filter((article) => has(article, "lang", lang) && has(article, "labels", label) && has(article, "kinds", kind) && fits(article, terms));
    if (order === "input") found.sort((a, b) => a.dataset.row - b.dataset.row);
    return [found, terms];
  }

  function show() {
    const [found, terms] = fitting();
    const pages = Math.max(1, Math.ceil(found.length / SHOWN));
    page = Math.min(Math.max(page, 0), pages - 1);
    const first = page * SHOWN;
    seen = found.slice(first, first + SHOWN);
    all.forEach((article) => { article.hidden = true; });
    seen.forEach((article) => { article.hidden = false; list.append(article); });
    underline(seen, terms);
    const of = found.length < all.length ? `, of ${all.length} in the sample` : "";
    byId("found").textContent = found.length ? `${first + 1} to ${first + seen.length} of ${found.length} sentences${of}` : `no sentence fits${of}`;
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  }

  function restart() {
    page = 0;
    show();
  }

  function clear() {
    search.value = "";
    controls.forEach((control) => { if (control) control.value = ""; });
    restart();
  }

  function turn(by) {
    page += by;
    show();
    byId("sentences").scrollIntoView({ behavior: "instant" });
  }

  function go(article) {
    article.focus({ preventScroll: true });
    article.scrollIntoView({ behavior: "instant", block: "start" });
  }

  // An address such as #s-swh_Latn-12 shows that sentence, whatever was looked for before.
  function visit() {
    const wanted = all.find((article) => `#${article.id}` === decodeURIComponent(location.hash));
    if (!wanted) return;
    if (!fitting()[0].includes(wanted)) clear();
    page = Math.floor(fitting()[0].indexOf(wanted) / SHOWN);
    show();
    go(wanted);
  }

{% include "keys.js" %}

  // The contents mark the section in which the upper part of the window is.
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      links.forEach((link, id) => { if (id === entry.target.id) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current"); });
    });
  }, { rootMargin: "-10% 0px -80% 0px" });
  links.forEach((link, id) => watch.observe(byId(id)));

  if (!all.length) return;
  controls.forEach((control) => { if (control) control.addEventListener("change", restart); });
  search.addEventListener("input", restart);
  byId("clear").addEventListener("click", () => { clear(); search.focus(); });
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("a[data-find]").forEach((link) => link.addEventListener("click", () => { clear(); search.value = link.dataset.find; restart(); }));
  ["filters", "found", "pages", "keys"].forEach((id) => { byId(id).hidden = false; });
  window.addEventListener("hashchange", visit);
  show();
  visit();
})();
