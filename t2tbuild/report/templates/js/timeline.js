// Timeline of trainings: a row for each worker; long idle times of all workers are shortened.
const LONG = 0.08; // as a fraction of the busy time

function idle(spans) {
  const found = [];
  let busy = 0, until = 0;
  for (const { start, end } of spans) {
    if (start > until) found.push([until, start]);
    else busy -= Math.min(until, end) - start;
    busy += end - start;
    until = Math.max(until, end);
  }
  return found.filter(([from, to]) => to - from > LONG * busy && to - from > 30).map(([from, to]) => ({ from, to, kept: LONG * busy / 4 }));
}

const shortened = (gaps) => (time) => time - gaps.reduce((sum, { from, to, kept }) =>
  sum + Math.max(0, Math.min(time, to) - from) * (1 - kept / (to - from)), 0);

const spanStyle = (span) => (span.number === "base" ? "base" : referenceRuns.some((entry) => entry.number === span.number && entry.seed === span.seed)
  ? "retrained" : span.state);

function drawTimeline(host, width, spans, workers, gaps) {
  const place = shortened(gaps), last = Math.max(...spans.map((span) => span.end)), row = Math.max(16, Math.min(30, 400 / workers.length));
  const names = width > 560 ? 150 : 84, height = workers.length * row + 44;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-roledescription": "chart",
    "aria-label": `${spans.length} trainings of ${workers.length} workers over ${duration(last)}` }, host);
  const x = scale(0, place(last), names, width - 12);
  for (const time of ticks(scale(0, last, 0, 1), Math.max(2, (width - names) / 110))) {
    if (gaps.some(({ from, to }) => time > from && time < to)) continue;
    svg("line", { class: "grid", x1: x(place(time)), x2: x(place(time)), y1: 0, y2: height - 40 }, root);
    svg("text", { x: x(place(time)), y: height - 24, "text-anchor": "middle" }, root, duration(time));
  }
  workers.forEach((worker, index) => {
    const label = worker || "not recorded";
    svg("text", { x: names - 8, y: (index + 0.5) * row + 4, "text-anchor": "end" }, root, label.length * 6.6 > names ? `…${label.slice(-Math.floor(names / 7.5))}` : label);
  });
  const marks = spans.map((span) => {
    const [from, to] = [x(place(span.start)), x(place(span.end))], y = workers.indexOf(span.worker) * row;
    svg("rect", { class: `block ${spanStyle(span)}`, x: from, y: y + 2, width: Math.max(1, to - from), height: row - 4, rx: 2 }, root);
    const entry = entries.find((one) => one.number === span.number && one.seed === span.seed && one.full === span.full) ?? null;
    const times = `${duration(span.start)} to ${duration(span.end)}, ${span.worker || "worker not recorded"}`;
    return { x: from, until: to, y: y + row / 2, choose: entry && ((event) => choose(entry, event)),
      lines: () => [entry ? named(entry) : span.number, times, span.state] };
  });
  for (const { from, to } of gaps) {
    svg("text", { x: x((place(from) + place(to)) / 2), y: height - 8, "text-anchor": "middle" }, root, `… ${duration(to - from)} idle`);
  }
  explore(root, marks, { reach: row });
}

function timeline() {
  const host = byId("timeline"), last = Math.max(0, ...data.timeline.map((span) => span.end ?? span.start));
  const spans = data.timeline.map((span) => ({ ...span, end: span.end ?? last }));
  if (!spans.length) {
    host.append(element("p", {}, "No training times are recorded."));
    return;
  }
  const workers = [...new Set(spans.map((span) => span.worker))], gaps = idle(spans);
  responsive(host, (width) => drawTimeline(host, width, spans, workers, gaps));
  const block = (kind) => (icon) => svg("rect", { class: `block ${kind}`, x: -8, y: -5, width: 16, height: 10 }, icon);
  legend(byId("timeline-legend"), [[block("base"), "base"], [block("completed"), "completed candidate"],
    [block("pruned"), "pruned, failed or running"], [block("retrained"), "retrained with new seeds"]]);
}
