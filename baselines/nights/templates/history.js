// What both kinds of page share; history_index.js or history_config.js follows in the same function.
const data = window.HISTORY;
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const isIndex = data.kind === "index";

// Texts become text nodes, never markup.
function make(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) one.setAttribute(key, value);
  one.append(...children.filter((child) => child !== null && child !== ""));
  return one;
}
function draw(tag, attributes, text) {
  // A namespace's name: nothing is fetched from there.
  const one = document.createElementNS("http:" + "//www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  if (text !== undefined) one.textContent = text;
  return one;
}

// ---- figures as people read them
const nothing = "–";
const digits = (value, n = 4) => Number(value.toPrecision(n)).toLocaleString("en", { maximumSignificantDigits: n });
function text(value, key) {
  if (value === null || value === undefined) return nothing;
  const { unit } = data.metrics[key];
  if (unit === "bytes") return value < 2 ** 30 ? `${digits(value / 2 ** 20)} MiB` : `${digits(value / 2 ** 30)} GiB`;
  if (unit === "share") return `${digits(100 * value)} %`;
  return digits(value);
}
const percent = (ratio, n = 1) => `${(100 * ratio).toFixed(n)} %`;
function moved(change, key) {
  if (change === null || change === undefined) return "";
  const sign = change > 0 ? "+" : change < 0 ? "−" : "±";
  return `${sign}${(100 * Math.abs(change)).toFixed(1)} ${data.metrics[key].share ? "points" : "%"}`;
}
const difference = (before, after, key) => data.metrics[key].share ? after - before : before ? after / before - 1 : null;
const tone = (change, key) => !change ? "" : (change > 0) === data.metrics[key].more ? "better" : "worse";
const named = (key) => { const m = data.metrics[key]; return m.protocol ? `${m.title} · ${m.protocol}` : m.title; };
const short = (commit) => commit ? commit.slice(0, 10) + (commit.endsWith("+changes") ? "+changes" : "") : "unknown";
const median = (values) => { const s = [...values].sort((a, b) => a - b), m = s.length >> 1; return s.length % 2 ? s[m] : (s[m - 1] + s[m]) / 2; };
const spread = (values) => { if (values.length < 2) return null; const mean = values.reduce((a, b) => a + b) / values.length; return mean ? Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / (values.length - 1)) / Math.abs(mean) : null; };
const marks = { worse: "▼", better: "▲", inconclusive: "○", "not comparable": "×", missing: "×" };
const marked = (verdict) => marks[verdict] ? `${marks[verdict]} ${verdict}` : verdict || nothing;
const outcomes = { passed: "✓ passed", failed: "▼ failed", inconclusive: "○ inconclusive" };

function notesOn(night, metric, config, runner) {
  return data.notes.filter((note) => note.night === night && [[note.metric, metric], [note.config, config], [note.runner, runner]].every(([said, asked]) => said === undefined || asked === undefined || said === asked));
}
function fill(table, heads, rows, empty) {
  table.replaceChildren();
  if (!rows.length) { table.append(make("caption", { class: "empty" }, empty)); return; }
  const numbers = heads.map((head) => head.startsWith("#"));
  const row = (cells) => make("tr", {}, ...cells.map((cell, i) => {
    const one = make("td", {}, ...(Array.isArray(cell) ? cell : [cell]));
    one.className = numbers[i] ? "num" : one.textContent.length > 30 ? "long" : "";
    return one;
  }));
  table.append(
    make("thead", {}, make("tr", {}, ...heads.map((head, i) => make("th", { scope: "col", class: numbers[i] ? "num" : "" }, head.replace("#", ""))))),
    make("tbody", {}, ...rows.map(row)));
}
const table = (heads, rows, empty, label) => { const one = make("table", { class: "data" }); fill(one, heads, rows, empty); return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, one); };
const small = (said) => said ? make("small", {}, said) : "";

// ---- filters
const selects = Object.fromEntries(all("select[data-filter]").map((one) => [one.dataset.filter, one]));
const wanted = (key) => selects[key] ? selects[key].value : "";
const fits = (one, keys) => keys.every((key) => !wanted(key) || one[key] === wanted(key));
function offer(select, values) {
  for (const value of [...new Set(values)].sort()) select.append(make("option", { value }, value));
}

// ---- changes of level, the newest first
function changesTable(changes) {
  const heads = [...(isIndex ? ["Config"] : []), "First night", "Metric", "Change", "Runner", "#Before", "#After", "Between commits", "Stack", "Also moved", "Noted"];
  fill(document.querySelector("#changes table"), heads, changes.map((one) => {
    const change = difference(one.before, one.after, one.metric), way = tone(change, one.metric);
    const where = `${isIndex ? one.page + ".html" : ""}#${encodeURIComponent(one.night)}/${encodeURIComponent(one.runner)}`;
    const notes = notesOn(one.night, one.metric, one.config, one.runner);
    const stacks = one.stacks[0] === one.stacks[1] ? one.stacks[0] : one.stacks.join(" → ");
    return [
      ...(isIndex ? [make("a", { href: `${one.page}.html` }, one.config)] : []),
      [make("a", { href: where, class: "date" }, one.night), small(`after ${one.last}`)],
      [data.metrics[one.metric].title, small(data.metrics[one.metric].protocol)],
      [make("span", { class: way }, `${{ better: "▲", worse: "▼" }[way] || ""} ${moved(change, one.metric)} ${way}`), small(`p = ${one.p}`)],
      [one.runner, small(one.kernels)],
      text(one.before, one.metric), text(one.after, one.metric),
      one.commits[0] === one.commits[1] ? [make("code", {}, short(one.commits[0])), small("the same commit")] : make("code", {}, `${short(one.commits[0])}..`, make("wbr"), short(one.commits[1])),
      [stacks, small(one.differs.length ? one.differs.slice(0, 4).map(([key, a, b]) => `${key}: ${a} → ${b}`).join("; ") + (one.differs.length > 4 ? `; and ${one.differs.length - 4} more` : "") : "nothing recorded differs")],
      one.also.length ? one.also.join(", ") : nothing,
      notes.length ? "✓ " + notes.map((note) => note.text).join("; ") : nothing,
    ];
  }), "No figure of these changed its level.");
}
