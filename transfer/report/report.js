"use strict";
const FIRST = 6, PAGE = 40;
const names = [...new Set([...data.lines, ...data.figures.flatMap((each) => each.values || [])].map((line) => line.line).filter(Boolean))];
const colours = names.map((_, place) => `var(--c${place % data.colours})`);
const colourOf = new Map(names.map((name, place) => [name, colours[place]]));
const state = { run: "", model: "", task: "", metric: "", kind: "", held: "", base: "", search: "", off: new Set(), sort: "task", down: false, all: new Set() };

const distinct = (key, lines = data.lines) => [...new Set(lines.map((line) => line[key]).filter((value) => value !== undefined))];
const counts = (metric, run) => state.metric ? metric === state.metric : metric === "change" || metric === data.runs[run].metric;
const told = (line) => !state.off.has(line.line) && (!state.kind || !line.kind || line.kind === state.kind)
  && (!state.search || line.contender.toLowerCase().includes(state.search));
const about = (each) => (state.run === "" || each.run === Number(state.run))
  && (!state.model || !each.model || each.model === state.model) && (!state.task || !each.task || each.task === state.task);
const measured = (field) => data.lines.some((line) => line[field] !== undefined);
const bases = ["full", "window", "base"].filter((base) => measured(`against_${base}`));
const across = data.across.filter((each) => measured(each.field));

// ---- numbers

function digits(value, scale) {
  if (scale === 100) return value.toFixed(1);
  const size = Math.abs(value);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : size >= 10 ? value.toFixed(1) : value.toFixed(3);
}
const scaled = (line, field) => line[field] === undefined ? undefined : line[field] * line.scale;
const shownIn = (line) => line.scale === 100 || data.runs[line.run].kind === "suite" ? 100 : 1;
function interval(line, mean, low, high, tone) {
  if (line[mean] === undefined) return element("span", { class: "soft" }, "–");
  const form = (field) => digits(scaled(line, field), shownIn(line));
  const range = line[low] === undefined ? null : element("span", { class: "range" }, ` [${form(low)} ${form(high)}]`);
  return element("span", { class: tone, title: String(line[mean]) }, form(mean), range);
}
function tone(line, field) {
  if (line[`${field}_low`] > 0) return "better";
  return line[`${field}_high`] < 0 ? "worse" : "";
}
function bytes(value) {
  if (value === undefined) return "–";
  const unit = [[1e9, "GB"], [1e6, "MB"], [1e3, "KB"]].find(([size]) => value >= size) || [1, "B"];
  return `${(value / unit[0]).toFixed(unit[0] === 1 ? 0 : 1)} ${unit[1]}`;
}
const plain = (value, form) => value === undefined ? "–" : form(value);
const tokens = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 1000 ? 1 : 0 });

// ---- the leaderboard

const base = () => `against_${state.base}`;
const columns = [
  { key: "run", title: "Run", show: (line) => data.runs[line.run].name, only: () => data.runs.length > 1 },
  { key: "model", title: "Model", show: (line) => line.model },
  { key: "task", title: "Task", show: (line) => line.group_by === "family" ? `${line.task} (all)` : line.task },
  { key: "metric", title: "Metric", show: (line) => line.metric.replaceAll("_", " ") },
  { key: "contender", title: "Policy", show: (line) => [element("i", { class: "dot", style: `background:${colourOf.get(line.line)}` }), line.policy], name: "who" },
  { key: "budget", title: "Budget", number: true, show: (line) => line.budget === undefined ? "–" : line.kind === "fraction" || line.budget < 1 ? `${+(line.budget * 100).toFixed(1)}%` : tokens(line.budget) },
  { key: "n", title: "n", number: true, show: (line) => line.failed ? `${line.n} (${line.failed} failed)` : line.n },
  { key: "mean", title: "Score [95%]", number: true, value: (line) => scaled(line, "mean"), show: (line) => interval(line, "mean", "low", "high") },
  { key: "base", title: () => `− ${state.base}`, number: true, only: () => bases.length, value: (line) => scaled(line, base()), show: (line) => interval(line, base(), `${base()}_low`, `${base()}_high`, tone(line, base())) },
  { key: "held_mean", title: "Tokens, average", number: true, show: (line) => plain(line.held_mean, tokens) },
  { key: "held_peak", title: "Tokens, peak", number: true, show: (line) => plain(line.held_peak, tokens) },
  // Earlier versions have measured the end alone.
  { key: "kept_tokens", title: "Tokens, end", number: true, only: () => !measured("held_mean"), show: (line) => plain(line.kept_tokens, tokens) },
  { key: "peak_bytes", title: "Cache, peak", number: true, show: (line) => bytes(line.peak_bytes) },
  { key: "share", title: "Peak / full", number: true, value: (line) => line.peak_bytes / line.full_bytes || undefined, show: share },
  { key: "seconds", title: "Seconds", number: true, show: (line) => plain(line.seconds, (value) => value.toFixed(value < 10 ? 1 : 0)) },
];
const valueOf = (column, line) => column.value ? column.value(line) : column.key === "run" ? line.run : line[column.key];

function share(line) {
  if (!line.peak_bytes || !line.full_bytes) return "–";
  const part = line.peak_bytes / line.full_bytes;
  return [`${(100 * part).toFixed(0)}%`, element("span", { class: "meter", "aria-hidden": "true" }, element("i", { style: `width:${Math.min(100, 100 * part)}%` }))];
}
const listed = () => data.lines.filter((line) => line.group_by !== undefined && ["all", "family"].includes(line.group_by) && about(line) && counts(line.metric, line.run) && told(line));

function compare(column, first, second) {
  const [a, b] = [valueOf(column, first), valueOf(column, second)];
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return state.down ? -order : order;
}

function ordered(lines) {
  const column = columns.find((each) => each.key === state.sort);
  const best = (first, second) => (scaled(second, "mean") ?? -Infinity) - (scaled(first, "mean") ?? -Infinity);
  if (!state.sort) return lines;
  return lines.map((line, place) => [line, place]).sort(([a, i], [b, j]) => compare(column, a, b) || (state.sort === "task" ? a.model.localeCompare(b.model) || best(a, b) : 0) || i - j).map(([line]) => line);
}

function sortBy(key) {
  const number = columns.find((each) => each.key === key).number;
  state.down = state.sort === key ? !state.down : Boolean(number);
  state.sort = key;
  leaderboard();
  document.querySelector(`#leaderboard button[data-key="${key}"]`).focus();
}

function leaderboard() {
  const lines = ordered(listed());
  const shown = columns.filter((column) => (!column.only || column.only()) && (column.key === "metric" ? distinct("metric", lines).length > 1 : lines.some((line) => valueOf(column, line) !== undefined)));
  const heads = shown.map((column) => element("th", { scope: "col", class: column.number ? "number" : "", "aria-sort": state.sort === column.key ? (state.down ? "descending" : "ascending") : null },
    element("button", { type: "button", "data-key": column.key, onclick: () => sortBy(column.key) }, typeof column.title === "function" ? column.title() : column.title)));
  const rows = lines.map((line) => element("tr", { class: line.policy.startsWith("namm") ? "namm" : "" }, shown.map((column) =>
    element("td", { class: `${column.number ? "number" : ""} ${column.name || ""}`.trim(), "data-key": column.key, "data-value": valueOf(column, line) }, column.show(line)))));
  document.getElementById("leaderboard").replaceChildren(
    lines.length ? element("div", { class: "scroll high", tabindex: "0", role: "region", "aria-label": "Leaderboard" }, element("table", {}, element("thead", {}, element("tr", {}, heads)), element("tbody", {}, rows)))
      : element("p", { class: "none" }, "Nothing fits these filters."));
  document.getElementById("count").textContent = `${lines.length} of ${data.lines.filter((line) => ["all", "family"].includes(line.group_by)).length} lines`;
}

// ---- figures

const config = {
  background: null, font: "system-ui, sans-serif", view: { stroke: "var(--line)" },
  axis: { labelColor: "var(--soft)", titleColor: "var(--ink)", domainColor: "var(--line)", tickColor: "var(--line)", gridColor: "var(--line)", gridOpacity: 0.6, titleFontWeight: 500 },
  header: { labelColor: "var(--ink)" }, legend: { labelColor: "var(--ink)", titleColor: "var(--soft)", orient: "bottom" },
};
const views = new Map();

function dataOf(figure) {
  const rows = figure.rows ? figure.rows.map((row, place) => ({ ...data.lines[row], ...(figure.values || [])[place] })) : figure.values;
  return rows.filter((row) => !row.line || told({ contender: row.contender, ...row }));
}

function chosen(figure) {
  if (figure.section === "held") {
    const own = across.find((each) => each.field === state.held);
    return own && { field: own.field, x: own.words, unit: own.unit };
  }
  if (figure.section === "forest") return state.base ? { field: state.base, x: `${figure.fill.y}: difference to ${state.base}` } : null;
  return {};
}

// One without values for what it is drawn against is not drawn.
function drawable(figure, values) {
  if (figure.section === "held") return values.some((row) => row.kind && row[state.held] !== undefined);
  if (figure.section === "forest") return values.some((row) => row[base()] !== undefined && row.policy !== state.base);
  return values.length > 0;
}

function fill(drawing, told) {
  return JSON.parse(JSON.stringify(drawing).replace(/"\$(\w+)"/g, (whole, name) => name in told ? JSON.stringify(told[name]) : whole));
}

function specOf(section, figure, values, width) {
  const kinds = new Set(values.map((row) => row.kind).filter(Boolean)).size > 1;
  const told = { height: 24 + 18 * new Set(values.filter((row) => row[base()] !== undefined).map((row) => row.contender)).size, policies: names, colours: names.length ? colours : Array.from({ length: data.colours }, (_, place) => `var(--c${place})`), legend: null, kinds: kinds ? { title: "budget", symbolStrokeWidth: 0, symbolFillColor: "var(--soft)", symbolStrokeColor: "var(--soft)" } : null, soft: "var(--soft)", columns: Math.max(1, Math.floor(width / 260)), ...figure.fill, ...chosen(figure) };
  return { ...fill(section.drawing, told), data: { values }, description: `${section.title}, ${figure.title}`, config };
}

async function draw(section, figure, values, card) {
  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "custom" } };
  const made = await vegaEmbed(card.lastChild, specOf(section, figure, values, card.clientWidth), options);
  views.get(section.name).push(made);
}

async function drawSection(section) {
  for (const made of views.get(section.name) || []) made.finalize();
  views.set(section.name, []);
  const found = data.figures.filter((each) => each.section === section.name && about(each) && (!each.metric || counts(each.metric, each.run)))
    .map((each) => [each, dataOf(each)]).filter(([each, values]) => drawable(each, values));
  const holder = document.getElementById(section.name);
  holder.closest("section").hidden = !found.length;
  const shown = state.all.has(section.name) ? found : found.slice(0, FIRST);
  // All have their places before one is drawn, which is as wide as its place.
  const cards = shown.map(([figure]) => element("figure", {}, element("h3", {}, figure.title), element("div", {})));
  const place = element("div", { class: ["matrix", "heat"].includes(section.name) ? "figures wide" : "figures" }, cards);
  const rest = found.length - shown.length;
  const more = rest ? element("button", { class: "more no-print", type: "button", onclick: () => { state.all.add(section.name); drawSection(section); } }, `Show all ${found.length}`) : null;
  holder.replaceChildren(...[place, more].filter(Boolean));
  for (const [number, [figure, values]] of shown.entries()) await draw(section, figure, values, cards[number]);
}

let drawing = Promise.resolve();
function drawFigures() {
  document.body.dataset.drawn = "no";
  drawing = drawing.then(async () => { for (const section of data.sections) await drawSection(section); document.body.dataset.drawn = "yes"; });
}

// ---- items

const items = { cell: 0, search: "", differ: false, shown: PAGE };
const cellTitle = (cell) => [data.runs.length > 1 ? data.runs[cell.run].name : "", cell.section, cell.model, cell.task].filter(Boolean).join(" · ");

function drawItems() {
  const cell = data.items[items.cell];
  const seen = cell.contenders.map((name, place) => [place, name, cell.lines[place]]).filter(([, name, line]) => told({ line, contender: name }));
  const known = cell.items.flatMap((item) => item.scores || []).filter((score) => score !== null);
  const [least, most] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
  const fits = (item) => (!items.search || JSON.stringify([item.item, item.question, item.right, item.replies]).toLowerCase().includes(items.search))
    && (!items.differ || new Set(seen.map(([place]) => (item.scores || [])[place])).size > 1);
  const found = cell.items.filter(fits);
  const rows = found.slice(0, items.shown).flatMap((item) => itemRows(cell, item, seen, least, most));
  const all = cell.of > cell.items.length ? `; the page has the first ${cell.items.length} of ${cell.of}, rows.jsonl has all` : "";
  const head = ["Item", cell.items.some((item) => item.question) ? "Question" : null, "Scores"].filter(Boolean);
  document.getElementById("items").replaceChildren(
    element("p", { class: "soft", role: "status" }, `${found.length} items${all}. Squares: ${seen.map(([, name]) => name).join(", ")}; darker is better.`),
    element("div", { class: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, head.map((text) => element("th", { class: "plain", scope: "col" }, text)))), element("tbody", {}, rows))),
    ...(found.length > items.shown ? [element("button", { class: "more no-print", type: "button", onclick: () => { items.shown += PAGE; drawItems(); } }, `Show more (${found.length - items.shown})`)] : []));
}

function itemRows(cell, item, seen, least, most) {
  const strength = (score) => most > least ? Math.round(8 + 92 * (score - least) / (most - least)) : 100;
  const square = ([place, name]) => {
    const score = (item.scores || [])[place];
    const failed = score === null || score === undefined;
    return element("i", { title: `${name}: ${failed ? "no score" : digits(score * cell.scale, cell.scale)}`, style: failed ? "" : `background:color-mix(in srgb, var(--accent) ${strength(score)}%, var(--card));box-shadow:inset 0 0 0 1px var(--line)` });
  };
  const inside = element("tr", { hidden: true }, element("td", { colspan: 3, class: "inside" }));
  const button = element("button", { type: "button", "aria-expanded": "false" }, item.item);
  button.addEventListener("click", () => {
    inside.hidden = !inside.hidden;
    button.setAttribute("aria-expanded", String(!inside.hidden));
    if (!inside.hidden) inside.firstChild.replaceChildren(...replies(cell, item, seen));
  });
  const question = cell.items.some((each) => each.question) ? element("td", { class: "question" }, (item.question || "").slice(0, 160)) : null;
  return [element("tr", { class: "item" }, element("td", {}, button), question, element("td", {}, element("span", { class: "strip", "aria-hidden": "true" }, seen.map(square)))), inside];
}

function replies(cell, item, seen) {
  const of = (name, place) => (item[name] || [])[place];
  const has = (name) => (item[name] || []).some((value) => value !== null);
  const heads = ["Policy", "Score", has("kept") ? "Tokens kept" : null, has("replies") ? "Reply" : null, has("failures") ? "Failed" : null].filter(Boolean);
  const rows = seen.map(([place, name, line]) => element("tr", {},
    element("td", {}, element("i", { class: "dot", style: `background:${colourOf.get(line)}` }), name),
    element("td", { class: "number" }, of("scores", place) === null || of("scores", place) === undefined ? "–" : digits(of("scores", place) * cell.scale, cell.scale)),
    has("kept") ? element("td", { class: "number" }, of("kept", place) === null ? "–" : `${tokens(of("kept", place))} of ${tokens(of("tokens", place) ?? 0)}`) : null,
    has("replies") ? element("td", { class: "reply" }, of("replies", place) ?? "–") : null,
    has("failures") ? element("td", { class: "reply" }, of("failures", place) ?? "") : null));
  const right = item.right ? element("p", {}, element("b", {}, "Right: "), [item.right].flat().join(" | ")) : null;
  return [item.question ? element("p", { class: "reply" }, item.question) : null, right,
    element("table", { class: "replies" }, element("thead", {}, element("tr", {}, heads.map((head) => element("th", { class: ["Score", "Tokens kept"].includes(head) ? "plain number" : "plain", scope: "col" }, head)))), element("tbody", {}, rows))].filter(Boolean);
}

function itemControls() {
  const pick = element("select", { id: "cell", onchange: (event) => { Object.assign(items, { cell: Number(event.target.value), shown: PAGE }); drawItems(); } }, data.items.map((cell, place) => element("option", { value: place }, cellTitle(cell))));
  const search = element("input", { type: "search", id: "find", oninput: (event) => { items.search = event.target.value.toLowerCase(); drawItems(); } });
  const differ = element("input", { type: "checkbox", id: "differ", onchange: (event) => { items.differ = event.target.checked; drawItems(); } });
  return element("div", { class: "selects no-print", style: "display:flex;flex-wrap:wrap;gap:.5rem .75rem;align-items:end;margin-bottom:.5rem" },
    element("label", {}, "Of", pick), element("label", {}, "With the words", search), element("label", { style: "flex-direction:row;gap:.4rem;align-items:center;padding-bottom:.4rem" }, differ, "Only where policies differ"));
}

// ---- where from

function provenance(run) {
  const pairs = [...Object.entries(run.versions), ...Object.entries(run.computed)];
  return element("details", { open: data.runs.length === 1 }, element("summary", {}, `${run.name} · ${run.kind}${run.interrupted ? " · interrupted" : ""}`),
    run.commands.map((command) => element("pre", {}, command)),
    run.notes.map((note) => element("p", { class: "soft" }, note)),
    (run.failed || []).length ? element("p", { class: "worse" }, `Failed, and in no mean: ${run.failed.slice(0, 5).join("; ")}${run.failed.length > 5 ? ` and ${run.failed.length - 5} more` : ""}`) : null,
    element("dl", {}, pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))])));
}

// ---- the page

function update() {
  leaderboard();
  if (data.items.length) drawItems();
  drawFigures();
}

function select(key, words, options) {
  const known = options.map((option) => Array.isArray(option) ? option : [option, option]);
  state[key] = known[0] ? known[0][0] : "";
  const made = element("select", { id: `by-${key}`, onchange: (event) => { state[key] = event.target.value; update(); } }, known.map(([value, text]) => element("option", { value }, text)));
  return known.length < (["held", "base"].includes(key) ? 2 : 3) ? null : element("label", {}, words, made);
}

function chips() {
  const flip = (name) => (event) => {
    state.off.has(name) ? state.off.delete(name) : state.off.add(name);
    event.currentTarget.setAttribute("aria-pressed", String(!state.off.has(name)));
    update();
  };
  return element("div", { class: "chips", role: "group", "aria-label": "Policies" }, names.map((name) => element("button", { class: "chip", type: "button", "aria-pressed": "true", onclick: flip(name) }, element("i", { style: `background:${colourOf.get(name)}` }), name)));
}

function bar() {
  const kinds = distinct("kind").map((kind) => [kind, { fraction: "fractions", size: "numbers of tokens", threshold: "thresholds" }[kind]]);
  const search = element("input", { type: "search", id: "by-policy", placeholder: "e.g. namm", oninput: (event) => { state.search = event.target.value.toLowerCase(); update(); } });
  return element("div", { class: "bar" }, element("div", { class: "selects no-print" },
    select("run", "Run", [["", "all"], ...data.runs.map((run, place) => [String(place), run.name])]),
    select("model", "Model", [["", "all"], ...distinct("model")]),
    select("task", "Task", [["", "all"], ...distinct("task")]),
    select("metric", "Metric", [["", "the one that counts"], ...distinct("metric").map((metric) => [metric, metric.replaceAll("_", " ")])]),
    select("kind", "Budgets", [["", "all kinds"], ...kinds]),
    select("held", "Held", across.map((each) => [each.field, each.words])),
    select("base", "Differences to", bases),
    element("label", {}, "Policy has", search)), chips());
}

function section(name, title, words, ...children) {
  return element("section", { "aria-labelledby": `h-${name}` }, element("h2", { id: `h-${name}` }, title), words ? element("p", { class: "soft" }, words) : null, children);
}

function build() {
  const evaluated = data.lines.length > 0;
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const summary = [plural(data.runs.length, "run"), evaluated ? plural(distinct("model").filter((name) => name !== "all").length, "model") : null, evaluated ? plural(names.length, "policy").replace("policys", "policies") : null].filter(Boolean).join(" · ");
  const figures = data.sections.filter(({ name }) => data.figures.some((each) => each.section === name));
  const links = [["leaderboard", "Leaderboard", evaluated], ...figures.map(({ name, title }) => [name, title, true]), ["items", "Items", data.items.length], ["from", "Provenance", true]].filter(([, , there]) => there);
  document.body.append(
    element("a", { class: "skip", href: "#main" }, "Skip to the results"),
    element("header", {}, element("div", {}, element("h1", {}, data.title), element("p", { class: "soft" }, summary)), themeButton()),
    element("nav", { class: "no-print", "aria-label": "Sections" }, links.map(([name, title]) => element("a", { href: `#h-${name}` }, title))),
    ...(evaluated ? [bar()] : []),
    element("main", { id: "main" },
      evaluated ? section("leaderboard", "Leaderboard", null, element("p", { class: "soft", id: "count", role: "status" }), element("div", { id: "leaderboard" })) : null,
      data.sections.map((each) => section(each.name, each.title, each.words, element("div", { id: each.name }))),
      data.items.length ? section("items", "Items", "One by one: what each policy scored, replied and kept.", itemControls(), element("div", { id: "items" })) : null,
      section("from", "Provenance", "The commands that made these results.", data.runs.map(provenance))));
  setTheme(document.documentElement.dataset.theme);
  if (evaluated) leaderboard();
  if (data.items.length) drawItems();
  drawFigures();
}

build();
