// The page of a search: every figure, once.
function curves() {
  const step = (entry) => ({
    style: entry === winner ? "winner" : style(entry),
    choose: (event) => choose(entry, event),
    points: entry.rungs.map(([steps, , loss]) => ({ x: steps, y: loss, lines: () => lines(entry) })),
  });
  const others = candidates.filter((entry) => entry !== winner);
  const bases = repeats.filter((entry) => isBase(entry) && !entry.full && entry !== winner);
  const series = [...others, ...bases, winner].filter((entry) => entry?.rungs.length).map(step);
  lineChart(byId("curves"), {
    series,
    label: `Validation loss at each rung, a line for each of ${series.length} trainings`,
    x: { log: data.rungs.length > 1 && data.rungs[0] > 0, ticks: data.rungs, label: "training steps" },
    y: { log: true, label: "validation loss" },
  });
  legend(byId("curves-legend"), [[lineSwatch("top"), "to the highest rung"], [lineSwatch("stopped"), "stopped earlier"],
    [lineSwatch("base"), "base, each seed"], [lineSwatch("winner"), "winner"]]);
}

candidateTable();
pareto();
shape();
curves();
timeline();
if (winner) {
  const best = byId("yaml").textContent; // as best.yaml has it, with its note
  choose(winner);
  byId("yaml").textContent = best;
}
