// The panel of one candidate: its numbers, its diagram and its YAML.
let chosen = null;

function choose(entry, event) {
  chosen = entry;
  const panel = byId("detail"), title = entry === winner ? `Winner: ${named(entry)}` : named(entry);
  byId("detail-title").textContent = title[0].toUpperCase() + title.slice(1);
  byId("detail-facts").replaceChildren(...lines(entry).slice(1).map((line) => element("div", { class: "note" }, line)),
    ...(entry.reason ? [element("div", { class: "note" }, entry.reason)] : []));
  byId("yaml").textContent = yamlOf(entry) || "no model was built for this candidate";
  redrawDiagram();
  for (const row of document.querySelectorAll("#table tr.chosen")) row.classList.remove("chosen");
  rowOf.get(entry)?.classList.add("chosen");
  const box = panel.getBoundingClientRect();
  if (event && (box.bottom < 80 || box.top > innerHeight - 80)) panel.scrollIntoView({ block: "start" });
  if (event?.type === "keydown" || event?.detail === 0) panel.focus({ preventScroll: true });
}

const sizeOf = ([, grid, tokens]) => (grid ? `${grid[0]} × ${grid[1]}` : tokens == null ? "" : `${tokens}`);

// One row per part: a box whose width grows with the square root of its tokens, then its share of the MACs.
function drawDiagram(host, width) {
  const parts = (chosen?.parts ?? []).map((index) => data.parts[index]);
  if (!parts.length) return;
  const total = parts.reduce((sum, part) => sum + part[4], 0), most = Math.max(...parts.map((part) => part[2] ?? 0));
  const step = 34, boxes = Math.min(90, width * 0.2), right = width - 46, bars = Math.min(width * 0.35, right - boxes - 150);
  const description = parts.map((part) => `${part[0]}: ${sizeOf(part)} tokens, ${part[3]} channels, ${percent(part[4] / total)} of the MACs`);
  const root = svg("svg", { viewBox: `0 0 ${width} ${parts.length * step + 18}`, height: parts.length * step + 18, role: "img",
    "aria-label": description.join("; ") }, host);
  svg("text", { x: right, y: 11, "text-anchor": "end" }, root, "share of MACs");
  parts.forEach((part, index) => {
    const y = 18 + index * step, wide = Math.max(3, boxes * Math.sqrt((part[2] ?? 1) / most)), share = part[4] / total;
    svg("rect", { x: (boxes - wide) / 2, y: y + 3, width: wide, height: step - 12, rx: 3, fill: "var(--blue)", opacity: 0.75 }, root);
    if (index) svg("path", { d: `M${boxes / 2} ${y - 8}v7m-3 -3l3 4l3 -4`, stroke: "var(--faint)", fill: "none" }, root);
    svg("text", { class: "axis-label", x: boxes + 10, y: y + 11 }, root, part[0].replace(/ \(.*\)/, ""));
    svg("text", { x: boxes + 10, y: y + 25 }, root, [sizeOf(part), part[3] && `${part[3]} ch`].filter(Boolean).join(", "));
    svg("rect", { x: right - bars, y: y + 5, width: bars * share, height: step - 16, rx: 2, fill: "var(--orange)" }, root);
    svg("text", { x: width, y: y + 17, "text-anchor": "end" }, root, percent(share));
  });
}

const redrawDiagram = responsive(byId("diagram"), (width) => drawDiagram(byId("diagram"), width));
