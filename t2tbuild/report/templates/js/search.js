// The page of a search: draws all its figures.
function curves() {
  const toSeries = (entry) => ({
    style: entry === winner ? "winner" : style(entry),
    choose: (event) => choose(entry, event),
    points: entry.rungs.map(([steps, , loss]) => ({ x: steps, y: loss, lines: () => lines(entry) })),
  });
  const others = candidates.filter((entry) => entry !== winner);
  const bases = referenceRuns.filter((entry) => isBase(entry) && !entry.full && entry !== winner);
  const series = [...others, ...bases, winner].filter((entry) => entry?.rungs.length).map(toSeries);
  lineChart(byId("curves"), {
    series,
    label: `Validation loss at each rung, ${series.length} trainings`,
    x: { log: data.rungs.length > 1 && data.rungs[0] > 0, ticks: data.rungs, label: "training steps" },
    y: { log: true, label: "validation loss" },
  });
  legend(byId("curves-legend"), [[lineSwatch("completed"), "completed"], [lineSwatch("pruned"), "pruned"],
    [lineSwatch("base"), "base, each seed"], [lineSwatch("winner"), "winner"]]);
}

candidateTable();
pareto();
shape();
curves();
timeline();
if (winner) {
  const best = byId("yaml").textContent; // the text of best.yaml, with its comments
  choose(winner);
  byId("yaml").textContent = best;
}
