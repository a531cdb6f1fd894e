// Tooltips of marks: for the one nearest to the pointer, or one after another with the arrow keys.
const tip = byId("tip");

function showTip(lines, x, y) {
  const [first, ...others] = lines;
  tip.replaceChildren(element("b", {}, first), ...others.map((line) => element("div", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const over = x + 14 + box.width > innerWidth ? Math.max(4, x - 14 - box.width) : x + 14;
  tip.style.left = `${Math.max(4, Math.min(over, innerWidth - box.width - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
}

const hideTip = () => { tip.hidden = true; };
let byKeys = false; // scrolling after the focus moved by key does not hide the tooltip
addEventListener("scroll", () => byKeys || hideTip(), { passive: true, capture: true });

// marks: [{x, y, lines(), choose()}] in the root's pixels; `onHighlight` gets the highlighted mark, or null.
function explore(root, marks, { reach = 28, onHighlight = () => {} } = {}) {
  const order = [...marks.keys()].sort((a, b) => marks[a].x - marks[b].x || marks[a].y - marks[b].y);
  let current = -1;
  const highlight = (index, x, y) => {
    onHighlight(index < 0 ? null : marks[index]);
    root.style.cursor = index < 0 || !marks[index].choose ? "" : "pointer";
    if (index < 0) hideTip();
    else showTip(marks[index].lines(), x, y);
  };
  const nearest = (event) => {
    const box = root.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let [found, least] = [-1, reach * reach];
    marks.forEach((mark, index) => {
      const inside = mark.until != null && x >= mark.x && x <= mark.until ? 0 : null;
      const across = inside ?? Math.min((mark.x - x) ** 2, mark.until == null ? Infinity : (mark.until - x) ** 2);
      const away = across + (mark.y - y) ** 2;
      if (away < least) [found, least] = [index, away];
    });
    return found;
  };
  root.addEventListener("pointermove", (event) => {
    byKeys = false;
    highlight(nearest(event), event.clientX, event.clientY);
  });
  root.addEventListener("pointerleave", () => highlight(-1));
  root.addEventListener("click", (event) => {
    const index = nearest(event);
    if (index >= 0) marks[index].choose?.(event);
  });
  root.setAttribute("tabindex", "0");
  root.addEventListener("blur", () => highlight(-1));
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && order.length) {
      byKeys = true;
      current = (current + step + order.length + (current < 0 && step < 0 ? 1 : 0)) % order.length;
      const mark = marks[order[current]], box = root.getBoundingClientRect();
      highlight(order[current], box.left + mark.x, box.top + mark.y);
    } else if (event.key === "Enter" && current >= 0) {
      marks[order[current]].choose?.(event);
    } else if (event.key === "Escape") {
      highlight(-1);
    } else {
      return;
    }
    event.preventDefault();
  });
}
