// Scales, their ticks, and the frame of a chart.
function scale(low, high, from, to, log = false) {
  const into = log ? Math.log : (value) => value;
  if (low === high) [low, high] = log ? [low / 1.1, high * 1.1] : [low - 1, high + 1];
  const place = (value) => from + ((into(value) - into(low)) / (into(high) - into(low))) * (to - from);
  return Object.assign(place, { low, high, log });
}

function padded(values, log = false, share = 0.05) {
  const finite = values.filter((value) => value != null && (!log || value > 0));
  let [low, high] = [Infinity, -Infinity];
  for (const value of finite) [low, high] = [Math.min(low, value), Math.max(high, value)];
  if (!finite.length) return [1, 2];
  if (log) return [low / (high / low) ** share / 1.005, high * (high / low) ** share * 1.005];
  const margin = (high - low) * share || Math.abs(high) * share || 1;
  return [low - margin, high + margin];
}

function ticks(at, most) {
  if (at.log && at.high / at.low > 4) {
    const found = [];
    for (let power = Math.floor(Math.log10(at.low)); power <= Math.ceil(Math.log10(at.high)); power++) {
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    }
    return found.filter((value) => value >= at.low && value <= at.high);
  }
  const rough = (at.high - at.low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((digit) => digit * power >= rough) ?? 10);
  const found = [];
  for (let n = Math.ceil(at.low / step); n * step <= at.high; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

const plain = (value) => String(Number(value.toPrecision(4)));

// Draws an empty chart with axes {range, label, log, format, ticks}; y grows upwards unless `y.down` is set.
function frame(host, width, { height, label, x, y }) {
  const right = 14, top = 8, bottom = 44;
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-roledescription": "chart",
    "aria-label": label }, host);
  const [from, to] = y.down ? [top, height - bottom] : [height - bottom, top];
  const atY = scale(...y.range, from, to, y.log);
  const steps = (y.ticks ?? ticks(atY, Math.max(2, height / 60))).map((value) => [value, (y.format ?? plain)(value)]);
  const left = 58 + 7 * Math.max(0, ...steps.map(([, text]) => text.length - 4));
  const atX = scale(...x.range, left, width - right, x.log);
  const axes = svg("g", { "aria-hidden": "true" }, root);
  for (const value of x.ticks ?? ticks(atX, Math.max(2, width / 90))) {
    svg("line", { class: "grid", x1: atX(value), x2: atX(value), y1: top, y2: height - bottom }, axes);
    svg("text", { x: atX(value), y: height - bottom + 17, "text-anchor": "middle" }, axes, (x.format ?? plain)(value));
  }
  for (const [value, text] of steps) {
    svg("line", { class: "grid", x1: left, x2: width - right, y1: atY(value), y2: atY(value) }, axes);
    svg("text", { x: left - 7, y: atY(value) + 4, "text-anchor": "end" }, axes, text);
  }
  const middle = (top + height - bottom) / 2;
  svg("text", { class: "axis-label", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, axes, x.label);
  svg("text", { class: "axis-label", x: 12, y: middle, "text-anchor": "middle",
    transform: `rotate(-90 12 ${middle})` }, axes, y.label);
  return { root, marks: svg("g", {}, root), x: atX, y: atY, top, bottom: height - bottom, left, right: width - right };
}

// Fills the legend of a chart; rows are [draw, text].
function legend(list, rows) {
  list.replaceChildren(...rows.map(([draw, text]) => {
    const icon = svg("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    draw(icon);
    return element("li", {}, icon, text);
  }));
}
