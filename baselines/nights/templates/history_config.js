// ---- a config's page: figures unpacked, each night's runs as a list
const unpack = (packed) => packed.flatMap((one) => one !== null && typeof one === "object" && !Array.isArray(one) ? Array(one.n).fill(one.x) : [one]);
const worded = (packed) => unpack(packed).map((number) => data.words[number]);
data.series.forEach((s, number) => {
  s.colour = data.colours[number % data.colours.length];
  s.dash = ["", "7 3", "2 3"][Math.floor(number / data.colours.length) % 3];
  for (const key of ["commit", "stack", "outcome", "report"]) s[key] = worded(s[key]);
  s.position = new Map(s.at.map((night, place) => [night, place]));
  for (const one of Object.values(s.metrics)) {
    one.values = unpack(one.values).map((values) => values === null ? [] : [values].flat());
    for (const key of ["noise", "change", "baseline"]) one[key] = unpack(one[key]);
    for (const key of ["verdict", "why"]) one[key] = worded(one[key]);
    one.middle = one.values.map((values) => values.length ? median(values) : null);
  }
  for (const change of s.changes) Object.assign(change, {
    night: data.nights[s.at[change.first]], last: data.nights[s.at[change.last]], from: change.last, runner: s.runner, kernels: s.kernels,
    config: data.config, commits: [s.commit[change.last], s.commit[change.first]], stacks: [s.stack[change.last], s.stack[change.first]], series: s,
  });
});
offer(selects.runner, data.series.map((s) => s.runner));
offer(selects.kernels, data.series.map((s) => s.kernels));
offer(selects.stack, data.series.flatMap((s) => s.stack));
const last = data.nights.length - 1;
const chosen = { night: last, runner: "" };
const first = () => wanted("span") ? Math.max(0, data.nights.length - Number(wanted("span"))) : 0;
const shownSeries = () => data.series.filter((s) => fits(s, ["runner", "kernels"]));
const shownPlaces = (s) => s.at.map((night, place) => place).filter((place) => s.at[place] >= first() && (!wanted("stack") || s.stack[place] === wanted("stack")));

// ---- charts
const margin = { left: 62, right: 12, top: 22, bottom: 22 };
function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  return Array.from({ length: 7 }, (_, i) => (Math.ceil(low / step) + i) * step).filter((value) => value <= high);
}
function chart(figure) {
  const key = figure.dataset.metric, box = figure.querySelector(".plot");
  const lines = shownSeries().filter((s) => s.metrics[key]).map((s) => ({ s, m: s.metrics[key], places: shownPlaces(s).filter((place) => s.metrics[key].middle[place] !== null) })).filter((line) => line.places.length);
  const relative = wanted("scale") !== "";
  for (const line of lines) line.unit = relative && median(line.places.map((place) => line.m.middle[place])) || 1;
  figure.hidden = !lines.length;
  if (!lines.length) return;
  const width = Math.max(box.clientWidth, 260), height = box.clientWidth < 450 ? 200 : 240;
  let low = Infinity, high = -Infinity;
  for (const { m, places, unit } of lines) for (const place of places) for (const value of [...m.values[place], m.baseline[place] ?? m.middle[place]]) { low = Math.min(low, value / unit); high = Math.max(high, value / unit); }
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.01 || 1;
  low -= pad; high += pad;
  const from = first(), x = (night) => margin.left + (last === from ? 0.5 : (night - from) / (last - from)) * (width - margin.left - margin.right);
  const y = (value) => margin.top + (high - value) / (high - low) * (height - margin.top - margin.bottom);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${named(key)} over ${last - from + 1} nights` });
  const scale = data.metrics[key].unit === "bytes" && !relative ? (high < 2 ** 30 ? 2 ** 20 : 2 ** 30) : 1;
  const steps = ticks(low / scale, high / scale);
  const needed = Math.max(3, Math.ceil(Math.log10(Math.max(...steps.map(Math.abs)) / (steps[1] - steps[0] || 1))) + 1);
  for (const value of steps) {
    svg.append(draw("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value * scale), y2: y(value * scale) }));
    svg.append(draw("text", { x: margin.left - 6, y: y(value * scale) + 4, "text-anchor": "end" }, relative || data.metrics[key].unit === "share" ? `${digits(100 * value, needed)} %` : digits(value, needed)));
  }
  svg.append(draw("text", { x: margin.left - 6, y: margin.top - 9, "text-anchor": "end" }, scale === 2 ** 30 ? "GiB" : scale === 2 ** 20 ? "MiB" : ""));
  const labels = Math.max(1, Math.min(last - from, Math.floor(width / 130)));
  for (let i = 0; i <= labels; i++) {
    const night = Math.round(from + (last - from) * i / labels);
    svg.append(draw("text", { x: x(night), y: height - 4, "text-anchor": last === from ? "middle" : i === 0 ? "start" : i === labels ? "end" : "middle" }, data.nights[night]));
  }
  for (const { s, m, places, unit } of lines) {
    const edge = (end) => places.map((place) => `${x(s.at[place]).toFixed(1)},${y(end(...m.values[place]) / unit).toFixed(1)}`);
    svg.append(draw("polygon", { points: [...edge(Math.max), ...edge(Math.min).reverse()].join(" "), fill: s.colour, "fill-opacity": 0.2 }));
    let path = "";
    places.forEach((place, i) => {
      const value = m.baseline[place];
      if (value === null) return;
      const before = i ? m.baseline[places[i - 1]] : null;
      path += before === null ? `M${x(s.at[place])} ${y(value / unit)}` : `H${x(s.at[place])}V${y(value / unit)}`;
    });
    if (path) svg.append(draw("path", { d: path, fill: "none", stroke: s.colour, "stroke-width": 1.2, "stroke-dasharray": "5 4", "stroke-opacity": 0.85 }));
    const points = places.map((place) => `${x(s.at[place]).toFixed(1)},${y(m.middle[place] / unit).toFixed(1)}`);
    svg.append(draw("polyline", { points: points.join(" "), fill: "none", stroke: s.colour, "stroke-width": places.length > 250 ? 1.1 : 1.7, "stroke-dasharray": s.dash }));
    if (places.length === 1) svg.append(draw("line", { x1: x(s.at[places[0]]), x2: x(s.at[places[0]]), y1: y(Math.min(...m.values[places[0]]) / unit), y2: y(Math.max(...m.values[places[0]]) / unit), stroke: s.colour, "stroke-width": 6, "stroke-opacity": 0.3 }),
      draw("circle", { cx: x(s.at[places[0]]), cy: y(m.middle[places[0]] / unit), r: 4, fill: s.colour }));
  }
  for (const { s, m, places, unit } of lines) {
    const shown = new Set(places);
    for (const place of places) {
      const mark = marks[m.verdict[place]];
      if (mark) svg.append(draw("text", { class: "glyph", x: x(s.at[place]), y: y(m.middle[place] / unit) + (mark === "▲" ? -6 : 15) }, mark));
    }
    for (const change of s.changes.filter((one) => one.metric === key && shown.has(one.first))) {
      const at = x(s.at[change.first]), noted = notesOn(change.night, key, data.config, s.runner).length;
      svg.append(draw("line", { x1: at, x2: at, y1: margin.top, y2: height - margin.bottom, stroke: s.colour, "stroke-opacity": 0.5, "stroke-dasharray": "2 3" }));
      svg.append(draw("path", { class: "mark", d: `M${at} ${y(m.middle[change.first] / unit) - 6}l6 6l-6 6l-6 -6z`, stroke: s.colour }));
      if (noted) svg.append(draw("text", { class: "glyph noted", x: at + 13, y: y(m.middle[change.first] / unit) - 4 }, "✓"));
    }
  }
  for (const note of data.notes) {
    const night = data.nights.indexOf(note.night);
    const changed = lines.some(({ s }) => s.changes.some((one) => one.metric === key && one.night === note.night));
    if (night < from || changed || (note.metric !== undefined && note.metric !== key)) continue;
    svg.append(draw("text", { class: "glyph", x: x(night), y: margin.top - 9 }, "⚑"));
  }
  if (chosen.night >= from) svg.append(draw("line", { class: "chosen", x1: x(chosen.night), x2: x(chosen.night), y1: margin.top, y2: height - margin.bottom }));
  const nearest = (event) => {
    const rect = svg.getBoundingClientRect();
    const px = (event.clientX - rect.left) / rect.width * width, py = (event.clientY - rect.top) / rect.height * height;
    let best = null;
    for (const { s, m, places, unit } of lines) for (const place of places) {
      const far = Math.abs(x(s.at[place]) - px) * 50 + Math.abs(y(m.middle[place] / unit) - py);
      if (!best || far < best.far) best = { far, s, m, place };
    }
    return best;
  };
  const output = figure.querySelector("output");
  svg.addEventListener("pointermove", (event) => {
    const { s, m, place } = nearest(event), values = m.values[place];
    const range = values.length > 1 ? ` (${text(Math.min(...values), key)} to ${text(Math.max(...values), key)})` : "";
    output.textContent = [`${data.nights[s.at[place]]} on ${s.runner}: ${text(m.middle[place], key)}${range}`, m.verdict[place] && `${m.verdict[place]} ${moved(m.change[place], key)}`, short(s.commit[place]), s.stack[place]].filter(Boolean).join(" · ");
  });
  svg.addEventListener("click", (event) => { const { s, place } = nearest(event); choose(s.at[place], s.runner, true); });
  box.replaceChildren(svg);
}
const charts = byId("charts");
for (const key of Object.keys(data.metrics).filter((name) => data.series.some((s) => s.metrics[name] && s.metrics[name].middle.some((value) => value !== null)))) {
  const m = data.metrics[key], unit = m.unit === "bytes" ? "" : m.unit === "share" ? "" : m.unit;
  charts.append(make("figure", { class: "chart", "data-metric": key },
    make("figcaption", {}, m.title, " ", make("small", {}, [unit, m.protocol, m.more ? "more is better" : "less is better"].filter(Boolean).join(" · "))),
    make("div", { class: "plot" }), make("output", {})));
}

// ---- one night: is it real?
const night = byId("which"), runner = byId("where");
data.nights.forEach((name, at) => night.append(make("option", { value: at }, name)));
offer(runner, data.series.map((s) => s.runner));
const said = { throttled_share: "throttled", others_share: "shared with other processes", stolen_share: "taken by its host" };
const usual = (values, place) => { const before = values.slice(Math.max(0, place - 30), place).filter((value) => value !== null && value !== undefined); return before.length > 2 ? median(before) : null; };
const against = (value, before) => value === null || value === undefined ? nothing : [percent(value, 2), small(before === null ? "" : `usually ${percent(before, 2)}`)];
function bisecting({ metric, commits: [good, bad] }) {
  const name = { throughput: "throughput", train_loss: "loss" }[metric];
  if (!name || !good || good === bad || (good + bad).includes("+changes")) return [];
  return [" To search between the commits: ", make("code", {}, `harness bisect ${data.config} --good ${good} --bad ${bad} --metric ${name}`)];
}
function tellSeries(s, place) {
  const metrics = Object.keys(data.metrics).filter((key) => s.metrics[key] && (s.metrics[key].middle[place] !== null || s.metrics[key].verdict[place]));
  const name = data.nights[s.at[place]], report = s.report[place];
  const parts = [make("h3", {}, `${s.kernels} kernels, ${s.device}`),
    make("p", {}, `${outcomes[s.outcome[place]] || "No check is kept"} · commit `, make("code", {}, short(s.commit[place])), ` · ${s.stack[place]}`, report ? " · " : "", report ? make("a", { href: report }, "the night's report") : "")];
  for (const note of notesOn(name, undefined, data.config, s.runner)) parts.push(make("p", { class: "told" }, `⚑ ${note.text}`, small([note.metric, note.runner, note.time.slice(0, 10)].filter(Boolean).join(", "))));
  parts.push(table(["Metric", "Verdict", "#Median", "#Baseline", "#Change", "Rounds", "#Spread between rounds", "#Scatter within a run", "Why"], metrics.map((key) => {
    const m = s.metrics[key], spreads = m.values.slice(0, place).map(spread);
    return [[data.metrics[key].title, small(data.metrics[key].protocol)], marked(m.verdict[place]), text(m.middle[place], key), text(m.baseline[place], key), moved(m.change[place], key) || nothing,
      m.values[place].length > 1 ? m.values[place].map((value) => text(value, key)).join(", ") : m.values[place].length ? "one value" : nothing,
      against(spread(m.values[place]), usual(spreads, place)), against(m.noise[place], usual(m.noise, place)), m.why[place] || ""];
  }), "Nothing was measured.", "Rounds"));
  const shares = Object.entries(s.metrics).flatMap(([, m]) => Object.entries(m.conditions[place] || {})).filter(([, share]) => share > 0.005).map(([key, share]) => `${said[key] || key} for ${percent(share)} of the time`);
  parts.push(make("p", { class: "note" }, shares.length ? `The machine was ${[...new Set(shares)].join(", ")}.` : "The machine was its own, as far as it tells."));
  const differs = s.stacks[place] || [];
  if (place) {
    const commits = s.commit[place] === s.commit[place - 1] ? `The commit is the same as the night before (${short(s.commit[place])}).` : `Commits since the night before (${data.nights[s.at[place - 1]]}): ${short(s.commit[place - 1])}..${short(s.commit[place])}.`;
    parts.push(make("p", {}, make("strong", {}, "What changed: "), commits, differs.length ? "" : " In the stack nothing that is recorded."));
    if (differs.length) parts.push(table(["Stack", "Before", "Now"], differs, "", "What changed in the stack"));
  }
  for (const change of s.changes.filter((one) => one.first === place)) parts.push(make("p", {}, `${named(change.metric)} has a new level from this night on: ${text(change.before, change.metric)} → ${text(change.after, change.metric)}. ${change.also.length ? `So has it for ${change.also.join(", ")} on this runner: it may be the machine.` : "No other config of this runner moved with it."}`, ...bisecting(change)));
  return parts;
}
function elsewhere(at) {
  const keys = Object.keys(data.metrics).filter((key) => data.metrics[key].unit !== "bits");
  const rows = data.series.filter((s) => s.position.has(at)).map((s) => {
    const place = s.position.get(at);
    return [[s.runner, small(s.kernels)], ...keys.map((key) => {
      const m = s.metrics[key], before = m ? usual(m.middle, place) : null;
      return !m || m.middle[place] === null ? nothing : [text(m.middle[place], key), small(before === null ? "" : moved(difference(before, m.middle[place], key), key))];
    })];
  });
  return [make("h3", {}, "The same night on every runner"), make("p", { class: "note" }, "Beneath: against the runner's own median of up to 30 nights before. What moved on every runner is the code's doing, on one alone perhaps the machine's."), table(["Runner", ...keys.map((key) => `#${data.metrics[key].title}`)], rows, "", "The same night on every runner")];
}
function choose(at, on, go) {
  const there = data.series.filter((s) => s.position.has(at));
  chosen.night = at;
  chosen.runner = on && there.some((s) => s.runner === on) ? on : there.length ? there[0].runner : on;
  night.value = at; runner.value = chosen.runner;
  byId("told").replaceChildren(...there.filter((s) => s.runner === chosen.runner).flatMap((s) => tellSeries(s, s.position.get(at))), ...elsewhere(at));
  byId("earlier").disabled = at === 0; byId("later").disabled = at === last;
  document.querySelector("#night h2").textContent = `Night ${data.nights[at]} on ${chosen.runner}`;
  all("figure.chart").forEach(chart);
  if (go) { history.replaceState(null, "", `#${encodeURIComponent(data.nights[at])}/${encodeURIComponent(chosen.runner)}`); byId("night").scrollIntoView(); }
}
function show() {
  all("figure.chart").forEach(chart);
  byId("legend").replaceChildren(...shownSeries().map((s) => {
    const line = draw("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" });
    line.append(draw("line", { x1: 0, x2: 24, y1: 4, y2: 4, stroke: s.colour, "stroke-width": 2.6, "stroke-dasharray": s.dash }));
    return make("span", {}, line, make("bdi", {}, make("bdi", {}, s.runner), ["", s.device === s.runner ? "" : s.device, s.kernels, s.digest].filter((part, i) => !i || part).join(" · ")));
  }));
  const changes = shownSeries().flatMap((s) => { const places = new Set(shownPlaces(s)); return s.changes.filter((one) => places.has(one.first)); });
  changesTable(changes.sort((a, b) => a.night < b.night ? 1 : a.night > b.night ? -1 : 0));
}
Object.values(selects).forEach((one) => one.addEventListener("change", show));
night.addEventListener("change", () => choose(Number(night.value), chosen.runner, false));
runner.addEventListener("change", () => choose(chosen.night, runner.value, false));
byId("earlier").addEventListener("click", () => choose(Math.max(0, chosen.night - 1), chosen.runner, false));
byId("later").addEventListener("click", () => choose(Math.min(last, chosen.night + 1), chosen.runner, false));
let width = 0;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; all("figure.chart").forEach(chart); } });
function fromAddress() {
  const [name, on] = location.hash.slice(1).split("/").map((part) => { try { return decodeURIComponent(part); } catch { return ""; } });
  const at = data.nights.indexOf(name);
  choose(at < 0 ? last : at, on || "", false);
  if (at >= 0) byId("night").scrollIntoView();
}
addEventListener("hashchange", fromAddress);
show();
fromAddress();
