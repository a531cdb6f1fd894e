// The table of candidates: headings sort it, and each row has a button that copies its YAML.
const table = byId("table"), rowOf = new Map();

const values = {
  number: (entry) => candidates.indexOf(entry), source: (entry) => entry.source, state: (entry) => entry.state,
  depth: (entry) => entry.depth, width: (entry) => entry.width, macs: (entry) => entry.macs, params: (entry) => entry.params,
  latency: (entry) => entry.latency,
  predicted: (entry) => entry.predicted, accuracy: (entry) => top(entry)?.[ACCURACY], seconds: secondsOf, reason: (entry) => entry.reason || null,
};

function valueOf(key) {
  if (key.startsWith("loss")) return (entry) => at(entry, Number(key.slice(4)))?.[LOSS];
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.key === key);
  return values[key] ?? ((entry) => rowOf.get(entry).cells[column].textContent);
}

function sortBy(heading) {
  const down = heading.getAttribute("aria-sort") === "ascending", value = valueOf(heading.dataset.key);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const sorted = candidates.map((entry, index) => ({ index, value: value(entry), row: rowOf.get(entry) }));
  sorted.sort((a, b) => {
    if (a.value == null || b.value == null) return (a.value == null) - (b.value == null) || a.index - b.index;
    return (a.value < b.value ? -1 : a.value > b.value ? 1 : 0) * (down ? -1 : 1) || a.index - b.index;
  });
  table.tBodies[0].append(...sorted.map((one) => one.row));
}

function candidateTable() {
  for (const heading of table.tHead.rows[0].cells) {
    const button = element("button", { type: "button" }, heading.textContent);
    button.addEventListener("click", () => sortBy(heading));
    heading.replaceChildren(button);
  }
  table.tHead.rows[0].append(element("th", { scope: "col" }, "YAML"));
  const name = element("button", { type: "button", class: "name" }), copy = element("button", { type: "button", class: "copy" }, "copy YAML");
  [...table.tBodies[0].rows].forEach((row, index) => {
    const entry = candidates[index], number = name.cloneNode();
    rowOf.set(entry, row);
    row.dataset.row = index;
    number.textContent = row.cells[0].textContent;
    row.cells[0].replaceChildren(number);
    row.insertCell().append(entry.yaml.length ? copy.cloneNode(true) : "");
  });
  table.tBodies[0].addEventListener("click", (event) => {
    const button = event.target.closest("button"), entry = candidates[button?.closest("tr").dataset.row];
    if (button?.className === "copy") copyText(yamlOf(entry), button);
    else if (button) choose(entry, event);
  });
}
