"use strict";
// Asks /state once a second and draws what has changed. Everything shown comes from there, as text and never as HTML.

const EVERY_MS = 1000;
const STATES = [["t", "training"], ["s", "scoring its units"], ["m", "summing its features"], ["w", "waiting"], ["o", "off"], ["x", "sitting out"]];
const MEANING = Object.fromEntries([...STATES, ["-", "not running"]]);
const $ = (id) => document.getElementById(id);

let state = null;
let lost = false;
let byTime = true;

const onBoards = () => state.virtual === false;
const timeWord = () => (onBoards() ? "time" : "virtual time");
const letters = () => (lost ? "-".repeat(state.letters.length) : state.letters);
const meaning = (letter) => (letter === "o" && onBoards() ? "not connected" : MEANING[letter]);
const classOf = (letter) => (letter === "-" ? "none" : letter);
const numberOf = (index) => (state.numbers ? state.numbers[index] : index);

function drawHead() {
  const run = state.run;
  const words = { running: "running", ended: "ended", stopped: "stopped", waiting: "not begun yet" };
  const gone = lost && state.status !== "ended";
  $("status").textContent = gone ? "connection lost" : words[state.status];
  $("status").className = `pill ${gone ? "gone" : state.status}`;
  $("title").textContent = run ? run.title || run.name : state.folder;
  const share = state.status === "running" && !lost ? `${Math.floor(100 * state.done)} % · ` : "";
  document.title = `${share}${run ? run.name : "run"} · cosp watch`;
  const facts = run ? [run.title && run.name, run.data, run.method, `seed ${run.seed}`, `${run.clients} clients`, state.folder] : [];
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  const times = onBoards() ? "" : "Times are virtual unless named wall time; ";
  $("footer").textContent = `Read from ${state.folder}/rows.jsonl while it grows. ${times}1 kB = 1000 bytes.`;
}

function drawNotices() {
  const found = [];
  const code = (text) => element("code", {}, text);
  if (lost && state.status === "ended") found.push(["The run has ended, and this page's server with it. To look at it again: ", code(`cosp watch ${state.folder}`)]);
  else if (lost) found.push(["This page's server is gone: the run's process has ended, or cosp watch was stopped. Shown is what it said last. To look on: ", code(`cosp watch ${state.folder}`)]);
  if (state.status === "waiting") found.push(["Nothing is written yet: data are being read, workers started or boards waited for."]);
  if (state.status === "stopped" && !lost) found.push(["The run's process has ended before the run had. Go on with ", code(`cosp run --resume ${state.folder}`)]);
  if (state.ended_early) found.push([`The run ended early: ${state.ended_early}`]);
  if (state.left_bytes > 1e6) found.push([`Reading rows: ${quantity(state.left_bytes, "B")} to go.`]);
  if (state.unreadable) found.push([`Lines of rows.jsonl that could not be read and are left out: ${state.unreadable}.`]);
  if (state.resumed) found.push([`Times that the run was resumed: ${state.resumed}.`]);
  $("notices").replaceChildren(...found.map((parts) => element("p", { class: "notice" }, ...parts)));
}

function drawProgress() {
  $("done").style.width = `${100 * state.done}%`;
  $("bar").setAttribute("aria-valuenow", Math.round(100 * state.done));
  const running = state.status === "running" && !lost;
  const parts = [
    [`${Math.floor(100 * state.done)} %`, "done"],
    [state.version, state.versions ? `of ${state.versions} versions` : "versions"],
    [duration(state.virtual_s), state.until_s ? `of ${duration(state.until_s)} ${timeWord()}` : timeWord()],
  ];
  if (state.wall_s !== null && !onBoards()) parts.push([duration(state.wall_s), running ? "wall time so far" : "wall time"]);
  if (running) parts.push([state.left_s === null ? "–" : `about ${duration(state.left_s)}`, "left"]);
  $("where").replaceChildren(...parts.map(([strong, rest]) => element("span", {}, element("strong", {}, String(strong)), ` ${rest}`)));
}

function count(text) {
  const counts = {};
  for (const letter of text) counts[letter] = (counts[letter] || 0) + 1;
  return counts;
}

function drawTiles() {
  const latest = state.evaluated.at(-1);
  const boards = state.letters.length;
  const counts = count(letters());
  const known = boards && !counts["-"];
  const refused = Object.entries(state.refused);
  const tiles = [
    ["Deepest exit", latest ? percent(latest[2].at(-2)) : "–", latest ? `on test, version ${latest[0]}` : "test accuracy"],
    ["At work now", known ? `${(counts.t || 0) + (counts.s || 0)} of ${boards}` : "–", known && onBoards() ? `${boards - (counts.o || 0)} of ${boards} boards alive` : "boards"],
    ["Updates merged", state.merged, refused.length ? `refused: ${refused.slice(0, 2).map(([why, n]) => `${n} ${why}`).join(", ")}${refused.length > 2 ? ", …" : ""}` : "none refused"],
    ["Staleness", state.recent_staleness === null ? "–" : state.recent_staleness.toFixed(2), "versions, latest 200 updates"],
    ["Energy", quantity(state.energy_j, "J"), "whole fleet so far"],
    ["Traffic", quantity(state.bytes, "B"), "down and up"],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, String(value), element("small", {}, note)))));
}

function drawAccuracy() {
  const place = $("accuracy");
  if (!changed(place, [state.evaluated, byTime, state.run, state.virtual])) return;
  if (!state.evaluated.length) return empty(place, "No version has been evaluated yet.");
  const [unit, unitName] = timeUnit(state.evaluated.at(-1)[1]);
  const at = (row) => (byTime ? row[1] / unit : row[0]);
  const exits = state.run.exits;
  const lines = exits.map((block, i) => ({
    name: `after block ${block}`, colour: exitColour(i, exits.length), points: state.evaluated.map((row) => [at(row), row[2][i]]),
  }));
  lines.push({ name: "mean of exits", colour: "var(--mean)", dash: "5 3", points: state.evaluated.map((row) => [at(row), row[2].at(-1)]) });
  const every = Math.ceil(state.evaluated.length / 40);
  const rings = state.evaluated.filter((_, i) => i % every === 0).map((row) => [at(row), row[2][row[3]]]);
  lineChart(place, {
    lines, rings: { name: "chosen exit", points: rings }, yTop: 1, yFormat: (tick) => `${Math.round(100 * tick)} %`,
    xLabel: byTime ? `${timeWord()} in ${unitName}` : "model versions",
    tip: (i) => {
      const row = state.evaluated[i];
      if (!row) return [];
      const said = lines.map((line, j) => element("div", {}, element("span", { class: "swatch", background: line.colour }), `${line.name}: ${percent(row[2][j])}`));
      return [element("strong", {}, `version ${row[0]}, ${duration(row[1])}`), ...said];
    },
  });
}

function nameOf(index) {
  let left = index;
  for (const [name, many] of state.names) {
    if (left < many) return name;
    left -= many;
  }
  return "";
}

const sayBoard = (index, letter) => `${numberOf(index)} · ${nameOf(index)}: ${meaning(letter)}`;

function drawStates() {
  const all = letters();
  const counts = count(all);
  const shown = counts["-"] ? [["-"]] : STATES.filter(([letter]) => counts[letter] || "tw".includes(letter));
  $("states").replaceChildren(...(all.length ? shown : []).map(([letter]) =>
    element("li", {}, element("span", { class: `swatch ${classOf(letter)}` }), meaning(letter), element("b", {}, String(counts[letter] || 0)))));
  const cells = $("cells");
  if (!changed(cells, [all, matchMedia("(prefers-color-scheme: dark)").matches])) return;
  if (!all.length) return empty(cells, "No board has introduced itself yet.");
  cells.className = all.length <= 400 ? "cells few" : "cells";
  if (all.length > 400) return drawCanvas(cells, all);
  cells.replaceChildren(...[...all].map((letter, i) => element("span", { class: classOf(letter), title: sayBoard(i, letter) }, String(numberOf(i)))));
}

// Thousands of cells are pixels of a canvas.
function drawCanvas(cells, all) {
  const width = Math.max(240, cells.clientWidth);
  const size = Math.max(4, Math.min(16, Math.floor(Math.sqrt((width * 300) / all.length))));
  const columns = Math.floor(width / size);
  const height = Math.ceil(all.length / columns) * size;
  const scale = window.devicePixelRatio || 1;
  const canvas = element("canvas", { width: width * scale, height: height * scale });
  canvas.style.height = `${height}px`;
  const paint = canvas.getContext("2d");
  paint.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = { t: colour("--trained"), s: colour("--scored"), m: colour("--scored"), w: colour("--heat1"), o: colour("--muted"), x: colour("--sent"), "-": colour("--track") };
  [...all].forEach((letter, i) => {
    const [x, y] = [(i % columns) * size, Math.floor(i / columns) * size];
    paint.fillStyle = colours[letter];
    if (letter === "o") paint.fillRect(x + size / 2 - 1, y + size / 2 - 1, 1.5, 1.5);
    else paint.fillRect(x, y, size - 1, size - 1);
  });
  canvas.addEventListener("pointermove", (event) => {
    const bounds = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - bounds.left) / size);
    const i = Math.floor((event.clientY - bounds.top) / size) * columns + column;
    canvas.title = column < columns && i < all.length ? sayBoard(i, all[i]) : "";
  });
  cells.replaceChildren(canvas);
}

function drawEnergy() {
  const place = $("energy");
  if (!changed(place, [state.rounds, state.virtual])) return;
  if (state.rounds.length < 2) return empty(place);
  const [unit, unitName] = timeUnit(state.rounds.at(-1)[1]);
  const points = (column) => state.rounds.map((row) => [row[1] / unit, row[column]]);
  lineChart(place, {
    lines: [
      { name: "energy (left)", colour: "var(--trained)", points: points(2) },
      { name: "utilisation (right)", colour: "var(--mean)", dash: "5 3", right: true, points: points(3) },
    ],
    yFormat: (tick) => quantity(tick, "J"), rightFormat: (tick) => `${100 * tick} %`, xLabel: `${timeWord()} in ${unitName}`, height: 230,
    tip: (i) => {
      const row = state.rounds[i];
      if (!row) return [];
      return [element("strong", {}, `version ${row[0]}, ${duration(row[1])}`), element("div", {}, `energy: ${quantity(row[2], "J")}`), element("div", {}, `utilisation: ${percent(row[3])}`)];
    },
  });
}

function drawMemory() {
  const kinds = new Map();
  for (const row of state.boards || state.kinds || []) {
    const found = kinds.get(row.board) || { name: row.board, peak: 0, limit: row.memory_bytes };
    found.peak = Math.max(found.peak, row.peak_bytes);
    found.limit = Math.min(found.limit, row.memory_bytes);
    kinds.set(row.board, found);
  }
  const rows = [...kinds.values()];
  if (changed($("memory"), rows)) memoryChart($("memory"), rows);
}

function tableRow(values, texts, tag = "td") {
  return element("tr", {}, ...values.map((value, i) =>
    element(tag, texts.includes(i) ? { class: "text" } : {}, ...(Array.isArray(value) ? value : [String(value)]))));
}

// An amount with a smaller note behind it.
const noted = (value, note) => [value, element("small", {}, note ? ` ${note}` : "")];

const memoryOf = (row) => noted(quantity(row.peak_bytes || null, "B"), `of ${quantity(row.memory_bytes, "B")}`);
const tasksOf = (row) => noted(String(row.tasks), row.refused ? `${row.refused} refused` : "");

function drawBoards() {
  const table = $("boards");
  if (!changed(table, [state.boards, state.kinds, letters(), state.virtual_s])) return;
  const many = state.kinds !== null;
  $("boards-note").textContent = many ? `${state.letters.length} boards, one row a kind.` : "";
  if (!state.letters.length) return table.replaceChildren();
  const head = many
    ? ["board", "how many", "at work", "waiting", "off", "tasks", "most memory, of the smallest's", "energy"]
    : ["client", "board", "now", "on version", "staleness", "tasks", onBoards() ? "last seen" : "last result", "own accuracy", "most memory", "energy"];
  const texts = many ? [0] : [0, 1, 2];
  const rows = many ? state.kinds.map(kindRow) : state.boards.map(boardRow);
  table.replaceChildren(
    element("thead", {}, tableRow(head, texts, "th")),
    element("tbody", {}, ...rows.map((row) => tableRow(row, texts))),
  );
}

function kindRow(row) {
  const has = (some) => (row.states["-"] || lost ? "–" : [...some].reduce((sum, letter) => sum + (row.states[letter] || 0), 0));
  return [row.board, row.count, has("ts"), has("wx"), has("o"), tasksOf(row), memoryOf(row), quantity(row.energy_j, "J")];
}

function boardRow(row, index) {
  const letter = letters()[index];
  const ago = (at_s) => duration(Math.max(0, state.virtual_s - at_s));
  const since = row.since_s !== null && "ts".includes(letter) ? ` for ${ago(row.since_s)}` : "";
  const now = [element("span", { class: `swatch ${classOf(letter)}` }), meaning(letter), element("small", {}, since)];
  return [row.client, row.board, now, row.version ?? "–", row.staleness ?? "–", tasksOf(row),
    row.seen_s === null ? "none" : `${ago(row.seen_s)} ago`, percent(row.accuracy), memoryOf(row), quantity(row.energy_j, "J")];
}

function draw() {
  if (!state) return;
  for (const part of [drawHead, drawNotices, drawProgress, drawTiles, drawAccuracy, drawStates, drawEnergy, drawMemory, drawBoards]) part();
  if (changed($("staleness"), state.staleness)) barChart($("staleness"), state.staleness);
  document.documentElement.dataset.drawn = lost ? "lost" : state.status;
}

async function ask() {
  try {
    const answer = await fetch("/state", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    state = await answer.json();
    lost = false;
  } catch {
    lost = true;
  }
  draw();
  setTimeout(ask, state && state.left_bytes > 1e6 ? 50 : EVERY_MS);
}

for (const [id, time] of [["by-time", true], ["by-version", false]]) {
  $(id).addEventListener("click", () => {
    byTime = time;
    $("by-time").setAttribute("aria-pressed", String(time));
    $("by-version").setAttribute("aria-pressed", String(!time));
    draw();
  });
}
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
ask();
