// The page's data, and helpers for elements, numbers and responsive charts.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes, parent, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) made.setAttribute(name, value);
  if (text != null) made.textContent = text;
  parent?.append(made);
  return made;
}

// Draws into a host now and whenever its width changes; returns a function that redraws.
function responsive(host, draw) {
  let drawn = 0;
  const update = () => {
    const width = Math.floor(host.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    host.replaceChildren();
    draw(width);
  };
  update();
  new ResizeObserver(update).observe(host);
  return () => { drawn = 0; update(); };
}

// Adds a labelled select; calls `onChange` with the chosen index.
function choice(host, label, options, chosen, onChange) {
  const select = element("select");
  options.forEach((option, index) => select.append(element("option", { value: index }, option)));
  select.value = chosen;
  select.addEventListener("change", () => onChange(Number(select.value)));
  host.append(element("label", { class: "faint" }, `${label} `, select));
}

function short(number) {
  for (const [suffix, scale] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["K", 1e3]]) {
    const scaled = number / scale;
    if (scaled >= 1) return scaled.toFixed(scaled < 10 ? 2 : 1) + suffix;
  }
  return number.toFixed(0);
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;

function duration(seconds) {
  if (seconds >= 5400) return `${(seconds / 3600).toFixed(1)} h`;
  return seconds >= 90 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}
