"use strict";
const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer;
const left = new Uint16Array(bytes(data.left)), scores = new Int16Array(bytes(data.scores));
const count = data.tokens.length, layers = data.layers.length, heads = data.heads, rows = layers * heads;
const state = { time: data.seen.length, layer: "", head: "", chosen: -1 };
const spans = [], tip = element("div", { id: "tip", hidden: true, role: "status" });
const node = (id) => document.getElementById(id);

// Time 0 is before the first update, time n after the n-th; the last is the end of the text.
const seenAt = (time) => time === data.seen.length ? count : data.seen[Math.max(0, time - 1)];
const holds = (row, token, time) => left[row * count + token] >= time;
function chosenRows() {
  const found = [];
  for (let row = 0; row < rows; row++) {
    const [layer, head] = [Math.floor(row / heads), row % heads];
    if ((state.layer === "" || layer === Number(state.layer)) && (state.head === "" || head === Number(state.head))) found.push(row);
  }
  return found;
}

function paint() {
  const own = chosenRows(), seen = seenAt(state.time);
  let total = 0;
  spans.forEach((span, token) => {
    const held = own.filter((row) => holds(row, token, state.time)).length;
    const later = token >= seen;
    if (!later) total += held;
    span.className = later ? "later" : held ? "" : "gone";
    span.classList.toggle("chosen", token === state.chosen);
    span.style.background = later || !held ? "" : `color-mix(in srgb, var(--keep) ${Math.round(100 * held / own.length)}%, transparent)`;
    span.dataset.held = later ? "" : held;
  });
  const mean = total / own.length;
  const when = state.time === 0 ? "before the first update" : `after update ${state.time} of ${data.seen.length}`;
  node("held").textContent = `${when}: ${seen} tokens came, ${mean.toFixed(1)} held a head (${(100 * mean / seen).toFixed(0)}%)`;
  node("held").dataset.mean = mean;
  map();
}

function map() {
  const canvas = node("map"), context = canvas.getContext("2d");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [keep, gone, line] = [colour("--accent"), colour("--line"), colour("--card")];
  const seen = seenAt(state.time), own = new Set(chosenRows());
  context.fillStyle = line;
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let row = 0; row < rows; row++) {
    context.globalAlpha = own.has(row) ? 1 : 0.35;
    for (let token = 0; token < seen; token++) {
      context.fillStyle = holds(row, token, state.time) ? keep : gone;
      context.fillRect(token, row * 4, 1, 3);
    }
  }
  context.globalAlpha = 1;
}

function about(token) {
  const own = chosenRows(), seen = seenAt(state.time);
  const held = own.filter((row) => holds(row, token, state.time)).length;
  const known = own.filter((row) => scores[row * count + token] !== -32768);
  const score = known.reduce((sum, row) => sum + scores[row * count + token] / data.steps * data.largest[Math.floor(row / heads)][row % heads], 0) / known.length;
  const gone = own.filter((row) => left[row * count + token] < data.seen.length).map((row) => data.seen[left[row * count + token]] - token);
  return [
    `${JSON.stringify(data.tokens[token])}, token ${token}`,
    token < seen ? `age ${seen - token} tokens, held by ${held} of ${own.length} heads` : "not read yet",
    known.length ? `last score ${own.length > 1 ? "on average " : ""}${score.toPrecision(3)}` : "never scored",
    gone.length ? `left ${gone.length === 1 ? "" : `${gone.length} heads `}at an age of ${Math.min(...gone)}${Math.max(...gone) > Math.min(...gone) ? ` to ${Math.max(...gone)}` : ""}` : "never left",
  ].join("\n");
}

function show(token, x, y) {
  tip.textContent = about(token);
  tip.hidden = false;
  tip.style.left = `${Math.min(x + 14, innerWidth - 240)}px`;
  tip.style.top = `${Math.min(y + 14, innerHeight - 110)}px`;
}

// Arrows go from token to token, for who has no mouse.
function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  state.chosen = Math.max(0, Math.min(count - 1, state.chosen + step));
  const box = spans[state.chosen].getBoundingClientRect();
  paint();
  show(state.chosen, box.left, box.top);
}

function words() {
  data.tokens.forEach((token) => spans.push(element("span", {}, token)));
  const box = element("div", { class: "text", tabindex: "0", role: "group", "aria-label": "The text; arrows go from token to token", onkeydown: walk, onblur: () => { tip.hidden = true; } }, spans);
  box.addEventListener("mouseover", (event) => { const token = spans.indexOf(event.target); if (token >= 0) show(token, event.clientX, event.clientY); });
  box.addEventListener("mouseleave", () => { tip.hidden = true; });
  return box;
}

function choose(key, title, options) {
  const change = (event) => { state[key] = event.target.value; paint(); };
  return element("label", {}, title, element("select", { id: key, onchange: change }, element("option", { value: "" }, "all"), options.map((name, place) => element("option", { value: place }, String(name)))));
}

function pick(event) {
  const row = Math.min(rows - 1, Math.floor((event.offsetY / event.target.clientHeight) * rows));
  [state.layer, state.head] = [String(Math.floor(row / heads)), String(row % heads)];
  node("layer").value = state.layer;
  node("head").value = state.head;
  paint();
}

function build() {
  const slider = element("input", { type: "range", id: "time", min: 0, max: data.seen.length, value: state.time, oninput: (event) => { state.time = Number(event.target.value); paint(); } });
  const canvas = element("canvas", { id: "map", width: count, height: rows * 4, style: `height:${Math.max(60, rows * 4)}px`, role: "img", "aria-label": "A row a head, a column a token: what is held", onclick: pick });
  document.body.append(
    element("header", {}, element("div", {}, element("h1", {}, `What ${data.about.policy} keeps of a text`), element("div", { class: "facts" }, Object.entries(data.about).map(([name, value]) => element("span", {}, `${name} `, element("b", {}, value))), element("span", {}, "tokens ", element("b", {}, String(count))))), themeButton()),
    element("div", { class: "bar no-print" }, element("label", {}, "Update", slider), choose("layer", "Layer", data.layers), choose("head", "KV head", Array.from({ length: heads }, (_, head) => head)), element("output", { id: "held", for: "time layer head" })),
    element("main", {}, words(), element("div", { class: "scale" }, "left every head", element("i", {}), "held by all"),
      element("h2", {}, "Layers and heads"), element("p", { class: "soft" }, "A row a head, a column a token, old to new. Choose a head by a click."), element("div", { class: "heads" }, canvas)), tip);
  setTheme(document.documentElement.dataset.theme);
  new MutationObserver(map).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  paint();
  document.body.dataset.drawn = "yes";
}

build();
