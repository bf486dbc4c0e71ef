// Search: what an article says, and whether a query is in it. Case and accents do not count; "words in quotes" stand together.
const folded = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").normalize("NFC").toLowerCase().replace(/\s+/g, " ").trim();
const termsOf = (query) => [...folded(query).matchAll(/"([^"]+)"|[^\s"]+/g)].map((found) => (found[1] || found[0]).trim()).filter(Boolean);

const said = new Map();
function saidBy(article) {
  if (!said.has(article)) {
    const labels = [...article.querySelectorAll("small bdi")].map((label) => label.textContent);
    const copy = article.cloneNode(true);
    copy.querySelectorAll(".why, .code, .cut, summary, figure img, .side small").forEach((each) => each.remove());
    const parts = [...copy.querySelectorAll("h3, p, li, figcaption")].map((each) => each.textContent);
    said.set(article, [...labels, ...parts].map(folded).join("\n"));
  }
  return said.get(article);
}

const fits = (article, terms) => terms.every((term) => saidBy(article).includes(term));

// Underline the words of the articles on show in which a word of the query is.
function underline(articles, terms) {
  document.querySelectorAll(".hit").forEach((word) => word.classList.remove("hit"));
  const wanted = terms.flatMap((term) => term.split(" "));
  if (!wanted.length) return;
  articles.flatMap((article) => [...article.querySelectorAll(".side p span")]).forEach((word) => {
    const text = folded(word.textContent);
    if (wanted.some((each) => text.includes(each))) word.classList.add("hit");
  });
}
