// Depth against width, coloured by accuracy at a rung. The cividis scale is readable for colour-blind readers.
const CIVIDIS = [[0, 32, 76], [41, 63, 107], [87, 92, 109], [125, 124, 120], [166, 157, 117], [211, 193, 100], [255, 234, 70]];

function colour(share) {
  const place = Math.max(0, Math.min(1, share)) * (CIVIDIS.length - 1), below = Math.min(Math.floor(place), CIVIDIS.length - 2);
  const mix = CIVIDIS[below].map((value, index) => Math.round(value + (place - below) * (CIVIDIS[below + 1][index] - value)));
  return `rgb(${mix.join()})`;
}

const whole = (values, most) => {
  const distinct = [...new Set(values)].sort((a, b) => a - b);
  return distinct.length <= most ? distinct : undefined;
};

// Offsets around a position on a spiral, so that marks of equal shapes do not overlap.
const offset = (index) => [7 * Math.sqrt(index) * Math.cos(2.4 * index), 7 * Math.sqrt(index) * Math.sin(2.4 * index)];

function drawShape(host, width, steps) {
  const reached = candidates.concat(referenceRuns.filter((entry) => isBase(entry) && !entry.full && !entry.seed))
    .filter((entry) => entry.depth != null && at(entry, steps));
  if (!reached.length) return;
  const found = reached.map((entry) => at(entry, steps)[ACCURACY]);
  const [low, high] = [Math.min(...found), Math.max(...found)];
  const [widths, depths] = [reached.map((entry) => entry.width), reached.map((entry) => entry.depth)];
  const chart = frame(host, width, {
    height: Math.max(280, Math.min(420, width * 0.5)),
    label: `Depth against width of ${reached.length} candidates, coloured by accuracy after ${steps} steps`,
    x: { range: padded(widths, false, 0.09), label: "width (embed_dim)", ticks: whole(widths, width / 45) },
    y: { range: padded(depths, false, 0.09), label: "depth (blocks)", ticks: whole(depths, 14) },
  });
  const taken = new Map(), order = reached.map((_, index) => index).sort((a, b) => found[b] - found[a]);
  const marks = order.map((index) => {
    const entry = reached[index], place = `${entry.depth} ${entry.width}`, nth = taken.get(place) ?? 0;
    taken.set(place, nth + 1);
    const [aside, below] = offset(nth), x = chart.x(entry.width) + aside, y = chart.y(entry.depth) + below;
    const drawn = mark(entry, x, y, chart.marks);
    drawn.classList.add("coloured");
    drawn.style.fill = colour(high > low ? (found[index] - low) / (high - low) : 0.5);
    if (entry === winner) svg("circle", { class: "ring", cx: x, cy: y, r: 9 }, chart.marks);
    return { x, y, lines: () => lines(entry), choose: (event) => choose(entry, event) };
  });
  explore(chart.root, marks);
  drawScale(low, high);
}

function drawScale(low, high) {
  const stops = CIVIDIS.map((_, index) => colour(index / (CIVIDIS.length - 1))).join();
  const bar = element("span", { role: "img", "aria-label": "colours from lowest to highest accuracy",
    style: `display:inline-block;width:9rem;height:.8rem;border:1px solid var(--line);background:linear-gradient(90deg,${stops})` });
  byId("shape-legend").replaceChildren(element("p", { class: "faint" }, `accuracy ${percent(low)} `, bar, ` ${percent(high)}; square: the base, ring: the winner`));
}

function shape() {
  const host = byId("shape");
  const rungs = data.rungs.filter((steps) => candidates.some((entry) => at(entry, steps)));
  if (!rungs.length) return;
  let steps = rungs[rungs.length - 1];
  const redraw = responsive(host, (width) => drawShape(host, width, steps));
  choice(byId("shape-choice"), "Accuracy after", rungs.map((rung) => `${rung} steps`), rungs.length - 1, (index) => {
    steps = rungs[index];
    redraw();
  });
}
