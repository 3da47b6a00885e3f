"use strict";
(() => {
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
    const one = document.createElementNS("http:" + "//www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    if (text !== undefined) one.textContent = text;
    return one;
  }

  // ---- theme: as the report's
  const root = document.documentElement, button = byId("theme"), themes = ["auto", "light", "dark"];
  const kept = (name) => { try { if (name) localStorage.setItem("harness-report-theme", name); return localStorage.getItem("harness-report-theme"); } catch { return null; } };
  function setTheme(name) {
    if (name === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    button.dataset.current = name;
  }
  setTheme(themes.includes(kept()) ? kept() : "auto");
  button.addEventListener("click", () => {
    const next = themes[(themes.indexOf(button.dataset.current) + 1) % themes.length];
    setTheme(next); kept(next);
  });

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
    const row = (cells) => make("tr", {}, ...cells.map((cell, i) => make("td", { class: numbers[i] ? "num" : "" }, ...(Array.isArray(cell) ? cell : [cell]))));
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
  function changesTable(changes, more) {
    const heads = [...(isIndex ? ["Config"] : []), "First night", "Runner", "Metric", "Change", "#Before", "#After", "Between commits", "Stack", "Also moved", "Noted"];
    fill(document.querySelector("#changes table"), heads, changes.map((one) => {
      const change = difference(one.before, one.after, one.metric), way = tone(change, one.metric);
      const where = `${isIndex ? one.page + ".html" : ""}#${encodeURIComponent(one.night)}/${encodeURIComponent(one.runner)}`;
      const notes = notesOn(one.night, one.metric, one.config, one.runner);
      const stacks = one.stacks[0] === one.stacks[1] ? one.stacks[0] : one.stacks.join(" → ");
      return [
        ...(isIndex ? [make("a", { href: `${one.page}.html` }, one.config)] : []),
        [make("a", { href: where, class: "date" }, one.night), small(`after ${one.last}`)],
        [one.runner, small(one.kernels)], [data.metrics[one.metric].title, small(data.metrics[one.metric].protocol)],
        [make("span", { class: way }, `${{ better: "▲", worse: "▼" }[way] || ""} ${moved(change, one.metric)} ${way}`), small(`p = ${one.p}`)],
        text(one.before, one.metric), text(one.after, one.metric),
        one.commits[0] === one.commits[1] ? [make("code", {}, short(one.commits[0])), small("the same commit")] : make("code", {}, `${short(one.commits[0])}..`, make("wbr"), short(one.commits[1])),
        [stacks, small(one.differs.length ? one.differs.slice(0, 4).map(([key, a, b]) => `${key}: ${a} → ${b}`).join("; ") + (one.differs.length > 4 ? `; and ${one.differs.length - 4} more` : "") : "nothing recorded differs")],
        one.also.length ? one.also.join(", ") : nothing,
        notes.length ? "✓ " + notes.map((note) => note.text).join("; ") : nothing,
      ];
    }), "No figure of these changed its level.");
    if (more) document.querySelector("#changes .note").append(` ${more.toLocaleString("en")} older ones are on the configs' pages.`);
  }

  if (isIndex) {
    for (const key of ["config", "runner", "stack", "kernels"]) offer(selects[key], data.series.map((one) => one[key]));
    const quality = (one) => Object.keys(data.metrics).find((key) => data.metrics[key].protocol && !data.metrics[key].share && !key.startsWith("val_loss") && one.metrics[key] !== undefined && one.metrics[key] !== null);
    const figure = (one, key) => key === undefined || one.metrics[key] === undefined || one.metrics[key] === null ? nothing : text(median([one.metrics[key]].flat()), key);
    const keys = ["config", "runner", "stack", "kernels"];
    const show = () => {
      fill(document.querySelector("#latest table"), ["Config", "Outcome", "#Images/s", "#Peak memory", "#Quality", "Runner", "Stack", "Kernels", "Night", "#Changes"],
        data.series.filter((one) => fits(one, keys)).sort((a, b) => (b.outcome === "failed") - (a.outcome === "failed")).map((one) => {
          const best = quality(one), memory = one.metrics.device_memory !== undefined ? "device_memory" : "host_memory";
          return [
            make("a", { href: `${one.page}.html` }, one.config), make("span", { class: one.outcome === "failed" ? "worse" : "" }, outcomes[one.outcome] || nothing),
            figure(one, "throughput"), [figure(one, memory), small(memory === "host_memory" ? "host" : "")], [figure(one, best), small(best ? data.metrics[best].title : "")],
            [one.runner, small(one.device === one.runner ? "" : one.device)], one.stack, one.kernels,
            make("a", { href: `${one.page}.html#${encodeURIComponent(one.night)}/${encodeURIComponent(one.runner)}` }, one.night), one.changes.toLocaleString("en"),
          ];
        }), "Nothing is of this choice.");
      changesTable(data.changes.filter((one) => fits(one, keys)), 0);
    };
    Object.values(selects).forEach((one) => one.addEventListener("change", show));
    show();
    if (data.left_out) document.querySelector("#changes .note").append(` ${data.left_out.toLocaleString("en")} older ones are on the configs' pages.`);
    return;
  }

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
      if (places.length === 1) svg.append(draw("circle", { cx: x(s.at[places[0]]), cy: y(m.middle[places[0]] / unit), r: 4, fill: s.colour }));
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
        m.values[place].length > 1 ? m.values[place].map((value) => text(value, key)).join(", ") : m.values[place].length ? "all alike" : nothing,
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
      return make("span", {}, line, [s.runner, s.device === s.runner ? "" : s.device, s.kernels, s.digest].filter(Boolean).join(" · "));
    }));
    const changes = shownSeries().flatMap((s) => { const places = new Set(shownPlaces(s)); return s.changes.filter((one) => places.has(one.first)); });
    changesTable(changes.sort((a, b) => a.night < b.night ? 1 : a.night > b.night ? -1 : 0), 0);
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
})();
