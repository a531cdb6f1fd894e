// A line chart of series [{style, points: [{x, y, lines()}], choose}]; later series are drawn on top.
function lineChart(host, { series, height = 340, label, x, y }) {
  return responsive(host, (width) => {
    const points = series.flatMap((one) => one.points);
    const rangeX = x.range ?? padded(points.map((point) => point.x), x.log, 0.03);
    const rangeY = y.range ?? padded(points.map((point) => point.y), y.log);
    const chart = frame(host, width, { height, label, x: { ...x, range: rangeX }, y: { ...y, range: rangeY } });
    const marks = [];
    for (const one of series) {
      const finite = one.points.filter((point) => point.y != null && (!y.log || point.y > 0));
      const places = finite.map((point) => [chart.x(point.x), chart.y(point.y)]);
      if (places.length === 1) svg("circle", { class: `curve ${one.style}`, cx: places[0][0], cy: places[0][1], r: 1.5 }, chart.marks);
      const path = places.length > 1 && svg("polyline", { class: `curve ${one.style}`,
        points: places.map((place) => place.map((value) => value.toFixed(1)).join()).join(" ") }, chart.marks);
      finite.forEach((point, index) => marks.push({ x: places[index][0], y: places[index][1], lines: point.lines, path,
        choose: one.choose }));
    }
    const dot = svg("circle", { class: "dot", r: 4, visibility: "hidden" }, chart.root);
    let before = null;
    const onHighlight = (mark) => {
      before?.classList.remove("lit");
      before = mark?.path || null;
      before?.classList.add("lit");
      dot.setAttribute("visibility", mark ? "visible" : "hidden");
      if (mark) { dot.setAttribute("cx", mark.x); dot.setAttribute("cy", mark.y); }
    };
    explore(chart.root, marks, { onHighlight });
  });
}

const lineSwatch = (style) => (icon) => svg("line", { class: `curve ${style}`, x1: -8, x2: 8, y1: 0, y2: 0 }, icon);
