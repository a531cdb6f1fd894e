// The entries of a search: candidates in order, then the reference runs with several seeds.
const entries = data.entries;
const top = (entry) => entry.rungs[entry.rungs.length - 1];
const at = (entry, steps) => entry.rungs.find((rung) => rung[0] === steps);
const ACCURACY = 1, LOSS = 2, SECONDS = 3, PREDICTED = 4;
const isBase = (entry) => entry.number === "base";
const candidates = entries.slice(0, data.asked), referenceRuns = entries.slice(data.asked);
const referenceSet = new Set(referenceRuns);
const winner = entries.find((entry) => entry.number === data.winner);

const style = (entry) => (isBase(entry) ? "base" : referenceSet.has(entry) ? "retrained" : entry.state);

function named(entry) {
  const name = isBase(entry) ? "base" : `candidate ${entry.number}`;
  return referenceSet.has(entry) ? `${name}, seed ${entry.seed}` : name;
}

function lines(entry) {
  const shape = entry.depth == null ? "" : `depth ${entry.depth}, width ${entry.width}`;
  const cost = entry.macs == null ? "" : `${short(entry.macs)} MACs, ${short(entry.params)} parameters`;
  const rungs = entry.rungs.map(([steps, accuracy, loss]) =>
    `@${steps}: loss ${loss == null ? "not finite" : loss.toFixed(3)}, accuracy ${percent(accuracy)}`);
  const predicted = entry.predicted == null ? "" : `predicted ImageNet top-1 ${entry.predicted.toFixed(1)}%`;
  return [named(entry), shape, cost, predicted, ...rungs, `${entry.state}; source: ${entry.source}`].filter(Boolean);
}

const yamlOf = (entry) => entry.yaml.map((index) => `${data.lines[index]}\n`).join("");
const secondsOf = (entry) => entry.rungs.reduce((sum, rung) => sum + (rung[SECONDS] ?? 0), 0);

// Draws the mark of an entry; shape and colour both show its kind.
function mark(entry, x, y, parent, attributes = {}) {
  const kind = { class: `mark ${style(entry)}`, ...attributes };
  if (isBase(entry)) return svg("rect", { ...kind, x: x - 5, y: y - 5, width: 10, height: 10 }, parent);
  if (referenceSet.has(entry)) return svg("path", { ...kind, d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` }, parent);
  if (entry.state === "completed") return svg("circle", { ...kind, cx: x, cy: y, r: 4.5 }, parent);
  return svg("path", { ...kind, d: `M${x - 4.5} ${y - 3.5}h9l-4.5 8z` }, parent);
}
