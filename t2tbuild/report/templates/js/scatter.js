// Accuracy against MACs: predicted accuracy, validation loss (logarithmic, lower is higher up) or validation accuracy.
const METRICS = [...(data.target === "imagenet" ? [PREDICTED] : []), LOSS, ACCURACY];
const NAMES = { [PREDICTED]: "predicted ImageNet top-1", [LOSS]: "loss", [ACCURACY]: "accuracy" };
const shown = { metric: data.target === "imagenet" ? PREDICTED : data.proxy_metric === "accuracy" ? ACCURACY : LOSS };

function axisOf(metric, values) {
  if (metric === LOSS) return { range: padded(values, true), log: true, down: true, label: "validation loss, lower is better", title: "Validation loss" };
  if (metric === ACCURACY) return { range: padded(values), format: (value) => percent(value, 0), label: "validation accuracy", title: "Validation accuracy" };
  return { range: padded(values), format: (value) => `${value.toFixed(1)}%`, label: "predicted ImageNet top-1", title: "Predicted ImageNet top-1" };
}

function frontOf(points, better) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.macs - b.macs || (better(a.value, b.value) ? -1 : 1))) {
    if (!front.length || better(point.value, front[front.length - 1].value)) front.push(point);
  }
  return front;
}

function drawPareto(host, width) {
  const isLoss = shown.metric === LOSS;
  const points = entries.filter((entry) => entry.rungs.length && entry.macs != null && !entry.full).map((entry) =>
    ({ entry, macs: entry.macs, value: shown.metric === PREDICTED ? entry.predicted : top(entry)[shown.metric] })).filter((point) => point.value != null && !(isLoss && point.value <= 0));
  const limits = data.limit == null ? [] : [data.limit];
  const axis = axisOf(shown.metric, points.map((point) => point.value));
  const chart = frame(host, width, {
    height: Math.max(300, Math.min(460, width * 0.62)),
    label: `${axis.title} against MACs of ${points.length} trainings; use the arrow keys to move and Enter to select`,
    x: { range: padded([...points.map((point) => point.macs), ...limits]), format: short, label: "MACs at full size" },
    y: axis,
  });
  drawFront(chart, points, isLoss);
  for (const limit of limits) {
    svg("line", { class: "limit", x1: chart.x(limit), x2: chart.x(limit), y1: chart.top, y2: chart.bottom }, chart.marks);
  }
  const marks = points.map(({ entry, macs, value }) => {
    const [x, y] = [chart.x(macs), chart.y(value)];
    mark(entry, x, y, chart.marks, { "data-entry": entries.indexOf(entry) });
    if (entry === winner) svg("circle", { class: "ring", cx: x, cy: y, r: 10 }, chart.marks);
    return { x, y, lines: () => lines(entry), choose: (event) => choose(entry, event) };
  });
  const glow = svg("circle", { class: "ring glow", r: 7, visibility: "hidden" }, chart.root);
  explore(chart.root, marks, { onHighlight: (one) => {
    glow.setAttribute("visibility", one ? "visible" : "hidden");
    if (one) { glow.setAttribute("cx", one.x); glow.setAttribute("cy", one.y); }
  } });
}

function drawFront(chart, points, isLoss) {
  const better = (a, b) => (isLoss ? a < b : a > b);
  const front = frontOf(points.filter(({ entry }) => entry.state === "completed" && !referenceSet.has(entry)), better);
  let path = "";
  front.forEach(({ macs, value }, index) => {
    path += index ? `H${chart.x(macs).toFixed(1)}V${chart.y(value).toFixed(1)}` : `M${chart.x(macs)} ${chart.y(value)}`;
  });
  if (front.length) svg("path", { class: "front", d: `${path}H${chart.right}` }, chart.marks);
}

function pareto() {
  const host = byId("pareto");
  const redraw = responsive(host, (width) => drawPareto(host, width));
  choice(byId("pareto-choice"), "Show", METRICS.map((metric) => NAMES[metric]), METRICS.indexOf(shown.metric), (index) => {
    shown.metric = METRICS[index];
    redraw();
  });
  const example = (entry) => (icon) => mark(entry, 0, 0, icon);
  const like = (number, state) => example({ number, state });
  legend(byId("pareto-legend"), [
    [like("", "completed"), "completed"], [like("", "pruned"), "pruned"], [like("base", "completed"), "base"],
    ...(referenceRuns.some((entry) => !isBase(entry)) ? [[example(referenceRuns.find((entry) => !isBase(entry))), "retrained with new seeds"]] : []),
    [(icon) => svg("circle", { class: "ring", r: 7 }, icon), "winner"],
    [(icon) => svg("path", { class: "front", d: "M-8 5h6v-8h10" }, icon), "Pareto front of the highest rung"],
    ...(data.limit == null ? [] : [[(icon) => svg("line", { class: "limit", y1: -8, y2: 8 }, icon), `budget ${short(data.limit)}`]]),
  ]);
}
