  // The words of a side in order; a word's data-t are numbers of words of the side that it is linked with.
  const words = (side) => [...side.querySelectorAll("p span")];
  let held = null;

  // Light a word and those that it is linked with; return what that says in words.
  function light(word) {
    document.querySelectorAll(".hot").forEach((each) => each.classList.remove("hot"));
    if (!word) return "";
    const article = word.closest("article");
    const sides = [...article.querySelectorAll(".side")];
    const target = sides.find((side) => side.dataset.side === "target");
    const linked = sides.find((side) => side.dataset.side === "bridge") || sides.find((side) => side.dataset.side === "source");
    const other = word.closest(".side") === target ? linked : target;
    word.classList.add("hot");
    if (!other) return "";
    const names = words(other);
    const found = word.dataset.t.split(" ").map((number) => names[number]).filter(Boolean);
    found.forEach((each) => each.classList.add("hot"));
    return `${word.textContent} ↔ ${found.map((each) => each.textContent).join(", ")}`;
  }

  const wordAt = (event) => event.target.closest && event.target.closest(".side p span[data-t]");
  list.addEventListener("click", (event) => {
    const word = wordAt(event);
    held = word === held ? null : word;
    light(held);
  });
  list.addEventListener("mouseover", (event) => { if (!held) light(wordAt(event)); });

  // Keys. A sentence has the focus once j or k was pressed; then the arrows go along its words.
  const help = byId("help");
  const current = () => seen.findIndex((article) => article.contains(document.activeElement));

  function step(by) {
    let wanted = current() + by;
    if (current() < 0) wanted = by > 0 ? 0 : seen.length - 1;
    if (wanted < 0 && page > 0) {
      turn(-1);
      wanted = seen.length - 1;
    } else if (wanted >= seen.length && !byId("next").disabled) {
      turn(1);
      wanted = 0;
    }
    if (seen[wanted]) go(seen[wanted]);
  }

  function along(by) {
    const article = seen[current()];
    const linked = [...article.querySelectorAll(".side p span[data-t]")];
    if (!linked.length) return;
    const at = linked.indexOf(held);
    held = linked[at < 0 ? (by > 0 ? 0 : linked.length - 1) : (at + by + linked.length) % linked.length];
    byId("lit").textContent = light(held);
  }

  function escape() {
    held = null;
    light(null);
    if (search.value) {
      search.value = "";
      restart();
    } else {
      search.blur();
    }
  }

  const keys = {
    "/": () => { search.focus(); search.select(); },
    "?": () => help.showModal(),
    j: () => step(1),
    k: () => step(-1),
    n: () => { if (!byId("next").disabled) { turn(1); go(seen[0]); } },
    p: () => { if (page > 0) { turn(-1); go(seen[0]); } },
    ArrowRight: () => along(1),
    ArrowLeft: () => along(-1),
  };

  document.addEventListener("keydown", (event) => {
    if (!all.length || help.open || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape" && !event.target.closest("select")) {
      event.preventDefault();
      escape();
      return;
    }
    if (event.target.closest("input, select, textarea")) return;
    if (event.key.startsWith("Arrow") && current() < 0) return;
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });
  byId("keys").addEventListener("click", () => help.showModal());
  byId("close").addEventListener("click", () => help.close());
