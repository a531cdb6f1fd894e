// The page of a training run: its learning curves.
function epochLines(epoch) {
  const number = (value, digits = 3) => (value == null ? "not finite" : value.toFixed(digits));
  return [`epoch ${epoch.epoch}`, `training loss ${number(epoch.train_loss)}, validation loss ${number(epoch.validation_loss)}`,
    `accuracy ${percent(epoch.validation_accuracy)}, top-5 ${percent(epoch.validation_top5)}`,
    `learning rate ${epoch.lr.toPrecision(3)}`, `${epoch.images_per_second.toFixed(0)} images/s`];
}

const curve = (name, style) => ({ style,
  points: data.epochs.map((epoch) => ({ x: epoch.epoch, y: epoch[name], lines: () => epochLines(epoch) })) });

function byEpoch(id, label, series, y) {
  const last = data.epochs.length;
  const x = { label: "epoch", ticks: last > 12 ? undefined : data.epochs.map((epoch) => epoch.epoch) };
  lineChart(byId(id), { height: 280, series, label: `${label} by epoch, ${last} epochs; use the arrow keys to move`, x, y });
}

byEpoch("loss", "Losses", [curve("train_loss", "blue"), curve("validation_loss", "orange")], { label: "cross-entropy (nats)" });
byEpoch("accuracy", "Validation accuracy", [curve("validation_top5", "blue"), curve("validation_accuracy", "green")],
  { label: "validation accuracy", format: (value) => percent(value, 0) });
byEpoch("lr", "Learning rate", [curve("lr", "green")], { label: "learning rate", format: (value) => value.toExponential() });
legend(byId("loss-legend"), [[lineSwatch("blue"), "training"], [lineSwatch("orange"), "validation"]]);
legend(byId("accuracy-legend"), [[lineSwatch("green"), "top-1"], [lineSwatch("blue"), "top-5"]]);
