"use strict";
// Small drawings of lines, bars and dots as inline SVG, in the page's own colours; and numbers as people read them.

const NOTHING = "The run has written nothing to draw here yet.";
const parsed = document.createElement("template");
parsed.innerHTML = "<svg></svg>";
const SVG_NAMES = parsed.content.firstChild.namespaceURI; // so that no address stands in these files

function three(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const decimals = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return Number.isInteger(value) ? String(value) : value.toFixed(Math.min(decimals, 3));
}

function quantity(value, unit) {
  if (value === null || value === undefined) return "–";
  for (const [factor, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= factor) return `${three(value / factor)} ${prefix}${unit}`.trim();
  }
  return `${three(value)} ${unit}`.trim();
}

// [size in seconds, name, short name] of the unit in which a span reads best.
function timeUnit(span) {
  return span >= 7200 ? [3600, "hours", "h"] : span >= 120 ? [60, "minutes", "min"] : [1, "seconds", "s"];
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds > 0 && seconds < 1) return `${three(1000 * seconds)} ms`;
  const [size, , short] = timeUnit(seconds);
  return `${three(seconds / size)} ${short}`;
}

const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

function svgNode(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG_NAMES, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "background") made.style.background = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Colour of exit `position` of `exits`; the deepest is always the darkest (the report's ramp).
function exitColour(position, exits) {
  return `var(--exit${5 - Math.round(((exits - 1 - position) * 5) / Math.max(exits - 1, 3))})`;
}

function niceTicks(low, high, most) {
  const span = high - low || 1;
  const rough = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * span; i++) ticks.push(i * step);
  return { ticks, step };
}

const decimalsOf = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

function empty(place, text = NOTHING) {
  place.replaceChildren(element("p", { class: "empty" }, text));
}

// Redraw only what changed or was resized: what is drawn anew under a pointer would lose its tip.
function changed(place, data) {
  const key = JSON.stringify([data, place.clientWidth]);
  if (place.drawnFrom === key) return false;
  place.drawnFrom = key;
  return true;
}

function frame(place, height, margin) {
  const width = Math.max(240, place.clientWidth);
  const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  return { svg, width, height, left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom };
}

function xAxis(box, scale, domain, label) {
  const { ticks, step } = niceTicks(domain[0], domain[1], Math.max(2, Math.floor((box.right - box.left) / 80)));
  for (const tick of ticks) {
    const x = scale(tick);
    box.svg.append(svgNode("line", { x1: x, x2: x, y1: box.top, y2: box.bottom, stroke: "var(--grid)", "stroke-width": 0.8 }));
    box.svg.append(svgNode("text", { x, y: box.bottom + 17, "text-anchor": "middle" }, tick.toFixed(decimalsOf(step))));
  }
  box.svg.append(svgNode("text", { x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" }, label));
}

function yAxis(box, scale, domain, format, most = 5) {
  for (const tick of niceTicks(domain[0], domain[1], most).ticks) {
    const y = scale(tick);
    box.svg.append(svgNode("line", { x1: box.left, x2: box.right, y1: y, y2: y, stroke: "var(--grid)", "stroke-width": 0.8 }));
    box.svg.append(svgNode("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, format(tick)));
  }
}

// Where each entry of a legend stands: [{x, row}], and how many rows there are.
function legendPlaces(width, entries) {
  let x = 0;
  let row = 0;
  const places = entries.map(({ name }) => {
    const wide = 46 + 6.7 * name.length;
    if (x > 0 && x + wide > width + 16) [x, row] = [0, row + 1];
    x += wide;
    return { x: x - wide, row };
  });
  return { places, rows: row + 1 };
}

function drawLegend(box, entries) {
  legendPlaces(box.right - box.left, entries).places.forEach(({ x, row }, i) => {
    const { name, colour, dash, bar, ring } = entries[i];
    const [left, y] = [box.left + x, 8 + 18 * row];
    if (ring) box.svg.append(svgNode("circle", { cx: left + 14, cy: y, r: 3.6, fill: "none", stroke: colour, "stroke-width": 1.3 }));
    else if (bar) box.svg.append(svgNode("rect", { x: left + 8, y: y - 5, width: 12, height: 10, rx: 2, fill: colour }));
    else box.svg.append(svgNode("line", { x1: left, x2: left + 22, y1: y, y2: y, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash || "none" }));
    box.svg.append(svgNode("text", { x: left + 28, y: y + 4, class: "name" }, name));
  });
}

const linear = (domain, range) => (value) =>
  range[0] + ((value - domain[0]) / (domain[1] - domain[0] || 1)) * (range[1] - range[0]);

// lines: [{name, colour, dash, points: [[x, y]], right: on the right axis, of 0 to 1}]; rings: {name, points}
function lineChart(place, { lines, rings = { points: [] }, xLabel, yFormat, rightFormat, yTop, height = 300, tip }) {
  const entries = rings.points.length ? [...lines, { name: rings.name, colour: "var(--chosen)", ring: true }] : lines;
  const margin = { left: 58, right: rightFormat ? 54 : 16, bottom: 42 };
  margin.top = 14 + 18 * legendPlaces(Math.max(240, place.clientWidth) - margin.left - margin.right, entries).rows;
  const box = frame(place, height + margin.top, margin);
  const xDomain = [0, Math.max(...lines.flatMap((line) => line.points.map(([x]) => x))) || 1];
  const highest = Math.max(...lines.filter((line) => !line.right).flatMap((line) => line.points.map(([, y]) => y)), 1e-9);
  const x = linear(xDomain, [box.left, box.right]);
  const yDomain = [0, yTop || highest * 1.05];
  const y = linear(yDomain, [box.bottom, box.top]);
  const yRight = linear([0, 1], [box.bottom, box.top]);
  yAxis(box, y, yDomain, yFormat);
  xAxis(box, x, xDomain, xLabel);
  for (const tick of rightFormat ? [0, 0.25, 0.5, 0.75, 1] : []) {
    box.svg.append(svgNode("text", { x: box.right + 8, y: yRight(tick) + 4 }, rightFormat(tick)));
  }
  drawLegend(box, entries);
  for (const { points, colour, dash, right } of lines) {
    const scale = right ? yRight : y;
    const path = points.map(([px, py], i) => `${i ? "L" : "M"}${x(px).toFixed(1)} ${scale(py).toFixed(1)}`).join("");
    box.svg.append(svgNode("path", {
      d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-linejoin": "round", "stroke-linecap": "round", "stroke-dasharray": dash || "none",
    }));
    const last = points.at(-1);
    box.svg.append(svgNode("circle", { cx: x(last[0]), cy: scale(last[1]), r: 2.6, fill: colour }));
  }
  for (const [px, py] of rings.points) {
    box.svg.append(svgNode("circle", { cx: x(px), cy: y(py), r: 3.6, fill: "none", stroke: "var(--chosen)", "stroke-width": 1.3 }));
  }
  place.replaceChildren(box.svg);
  pointAt(place, box, lines[0].points.map(([px]) => x(px)), tip);
}

// A thin line and a small table at the point nearest to the pointer.
function pointAt(place, box, xs, tip) {
  const line = svgNode("line", { y1: box.top, y2: box.bottom, stroke: "var(--muted)", "stroke-width": 1, visibility: "hidden" });
  const label = element("div", { class: "tip" });
  label.hidden = true;
  box.svg.append(line);
  place.append(label);
  box.svg.addEventListener("pointermove", (event) => {
    const at = event.clientX - box.svg.getBoundingClientRect().left;
    const index = xs.reduce((best, x, i) => (Math.abs(x - at) < Math.abs(xs[best] - at) ? i : best), 0);
    for (const end of ["x1", "x2"]) line.setAttribute(end, xs[index]);
    line.setAttribute("visibility", "visible");
    label.hidden = false;
    label.replaceChildren(...tip(index));
    const beyond = xs[index] + 14 + label.offsetWidth > box.width;
    label.style.left = `${beyond ? xs[index] - 14 - label.offsetWidth : xs[index] + 14}px`;
    label.style.top = `${box.top + 8}px`;
  });
  box.svg.addEventListener("pointerleave", () => {
    line.setAttribute("visibility", "hidden");
    label.hidden = true;
  });
}

// counts: [[merged, refused]] by staleness
function barChart(place, counts, height = 230) {
  if (!counts.length) return empty(place);
  const entries = [{ name: "merged", colour: "var(--trained)", bar: true }, { name: "refused", colour: "var(--refused)", bar: true }];
  const box = frame(place, height + 32, { left: 58, right: 16, top: 32, bottom: 42 });
  const most = Math.max(...counts.map(([merged, refused]) => merged + refused), 1);
  const y = linear([0, most * 1.05], [box.bottom, box.top]);
  const slots = Math.max(counts.length, 4);
  const slot = (box.right - box.left) / slots;
  const wide = Math.min(slot * 0.76, 64);
  const every = niceTicks(0, slots, Math.max(2, Math.floor((box.right - box.left) / 34))).step;
  const bar = (x, from, to, fill) => svgNode("rect", { x, width: wide, y: y(to), height: y(from) - y(to), fill, rx: 1.5 });
  yAxis(box, y, [0, most * 1.05], (tick) => (Number.isInteger(tick) ? quantity(tick, "") : ""), Math.min(5, most));
  counts.forEach(([merged, refused], age) => {
    const x = box.left + (age + 0.5) * slot - wide / 2;
    if (merged) box.svg.append(bar(x, 0, merged, "var(--trained)"));
    if (refused) box.svg.append(bar(x, merged, merged + refused, "var(--refused)"));
    if (age % Math.max(1, every) === 0) box.svg.append(svgNode("text", { x: x + wide / 2, y: box.bottom + 17, "text-anchor": "middle" }, String(age)));
  });
  box.svg.append(svgNode("text", { x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" }, "versions old"));
  drawLegend(box, counts.some(([, refused]) => refused) ? entries : entries.slice(0, 1));
  place.replaceChildren(box.svg);
}

// rows: [{name, peak, limit}] in bytes, on a log axis; on a narrow page names stand above their lines
function memoryChart(place, rows) {
  if (!rows.some((row) => row.peak > 0)) return empty(place);
  const narrow = place.clientWidth < 560;
  const step = narrow ? 42 : 26;
  const longest = Math.max(...rows.map((row) => row.name.length));
  const margin = { left: narrow ? 16 : Math.min(240, 20 + 6.9 * longest), right: 30, top: 8, bottom: 42 };
  const box = frame(place, margin.top + margin.bottom + rows.length * step, margin);
  const values = rows.flatMap((row) => [row.peak, row.limit]).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)) + 1e-9);
  const x = (value) => linear([low, high], [box.left, box.right])(Math.log10(value));
  for (let power = low; power <= high; power++) {
    const at = x(10 ** power);
    box.svg.append(svgNode("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, stroke: "var(--grid)", "stroke-width": 0.8 }));
    box.svg.append(svgNode("text", { x: at, y: box.bottom + 17, "text-anchor": "middle" }, quantity(10 ** power, "B")));
  }
  box.svg.append(svgNode("text", { x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" }, "memory of the largest task so far"));
  rows.forEach((row, i) => {
    const y = box.top + (i + (narrow ? 0.72 : 0.5)) * step;
    const over = row.limit > 0 && row.peak > row.limit;
    const name = narrow ? { x: box.left, y: y - 12 } : { x: box.left - 12, y: y + 4, "text-anchor": "end" };
    box.svg.append(svgNode("text", { ...name, class: "name" }, row.name));
    if (row.limit > 0 && row.peak > 0) box.svg.append(svgNode("line", { x1: x(row.peak), x2: x(row.limit), y1: y, y2: y, stroke: "var(--heat2)", "stroke-width": 3 }));
    if (row.limit > 0) box.svg.append(svgNode("line", { x1: x(row.limit), x2: x(row.limit), y1: y - 7, y2: y + 7, stroke: "var(--ink)", "stroke-width": 2 }));
    if (row.peak > 0) box.svg.append(svgNode("circle", { cx: x(row.peak), cy: y, r: 5, fill: over ? "var(--refused)" : "var(--trained)" }));
  });
  place.replaceChildren(box.svg);
}
