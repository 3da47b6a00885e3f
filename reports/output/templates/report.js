"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const state = { axis: "steps", scale: "auto", hidden: new Set() };

  // ---- tables: sort by a heading, filter by text
  const collator = new Intl.Collator("en", { numeric: true });
  for (const table of all("table.data")) {
    const body = table.tBodies[0];
    const heads = all("thead tr:last-child th", table);
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const number = head.classList.contains("num");
      const now = head.getAttribute("aria-sort");
      const up = now === "none" ? !number : now === "descending";  // numbers: largest first
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => [row.cells[column].dataset.sort, row]);
      const order = (a, b) => number ? a - b : collator.compare(a, b);
      keyed.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");  // empty cells last, both ways
        return up ? order(a, b) : order(b, a);
      });
      body.append(...keyed.map(([, row]) => row));
    }));
  }
  for (const input of all("input.filter")) {
    const table = document.getElementById(`table-${input.dataset.table}`);
    const count = input.closest(".table-tools").querySelector(".count");
    const rows = [...table.tBodies[0].rows];
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : rows.length === 1 ? "1 row" : `${rows.length} rows`;
    };
    input.addEventListener("input", apply);
    apply();
  }

  // ---- samples: the slider chooses a step; a run shows its latest grid up to it
  for (const box of all(".samples")) {
    const slider = box.querySelector("input[type=range]");
    if (!slider) continue;
    const series = data.grids[Number(box.dataset.grid)];
    const show = () => {
      const wanted = series.steps[Number(slider.value)];
      box.querySelector("output").textContent = wanted.toLocaleString("en");
      for (const figure of all("figure[data-run]", box)) {
        const images = series.images[figure.dataset.run];
        const steps = Object.keys(images).map(Number).filter((step) => step <= wanted);
        figure.classList.toggle("none", !steps.length);
        const at = steps.length ? Math.max(...steps) : null;
        figure.querySelector(".at").textContent = at === null ? "no samples yet" : `step ${at.toLocaleString("en")}`;
        if (at !== null) figure.querySelector("img").src = images[at];
      }
    };
    slider.addEventListener("input", show);
    show();
  }

  // ---- charts
  const root = document.documentElement;
  const probe = document.body.appendChild(document.createElement("i"));  // gives a variable's colour in this theme
  probe.hidden = true;
  const css = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  function axis(extra) {
    return { gridcolor: css("--grid"), linecolor: css("--rule"), zerolinecolor: css("--grid"), tickcolor: css("--rule"), automargin: true, ...extra };
  }
  function layout(x, y, legend) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--quiet") },
      margin: { l: 48, r: 12, t: 12, b: 36 }, hovermode: "closest", showlegend: legend,
      legend: { orientation: "h", y: -0.22, x: 0, font: { color: css("--ink") } },
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--rule"), font: { color: css("--ink") }, namelength: -1 },
      xaxis: axis(x), yaxis: axis(y),
    };
  }
  const shares = { tickformat: ".0%" }, bytes = { ticksuffix: " GiB" };
  const ofKind = { share: shares, bytes };
  const scaled = (value, kind) => kind === "bytes" ? value / 2 ** 30 : value;

  function curves(chart) {
    const traces = [];
    for (const s of chart.series.filter((one) => !state.hidden.has(one.name))) {
      const x = s[state.axis];
      const line = { color: s.colour, dash: s.dash, width: s.faint ? 1 : 2 };
      if (s.low) {
        const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: s.name };
        traces.push({ ...edge, y: s.low }, { ...edge, y: s.high, fill: "tonexty", fillcolor: s.colour + "33" });
      }
      traces.push({
        x, y: s.y, name: s.name, legendgroup: s.name, line, opacity: s.faint ? 0.45 : 1,
        mode: s.marked ? "lines+markers" : "lines", marker: { size: 6, color: s.colour },
        hovertemplate: `%{y:${chart.share ? ".1%" : ".5g"}} at ${state.axis === "steps" ? "step %{x:,}" : "%{x:.4g} device-hours"}`,
      });
    }
    const log = state.scale === "auto" ? chart.log : state.scale === "log";
    const x = { title: { text: state.axis === "steps" ? "step" : "device-hours" } };
    const y = { type: log ? "log" : "linear", ...(log ? { dtick: "D2", tickformat: ",.3~g" } : {}), ...(chart.share ? shares : {}) };
    return [traces, layout(x, y, false)];
  }

  function scatter(chart) {
    const traces = [];
    if (chart.frontier.length > 1) {
      traces.push({
        x: chart.frontier.map((p) => scaled(p[0], chart.x_kind)), y: chart.frontier.map((p) => scaled(p[1], chart.y_kind)),
        mode: "lines", line: { color: css("--quiet"), width: 1.5, dash: "dot" }, name: "frontier", hoverinfo: "skip",
      });
    }
    const xs = chart.points.map((p) => p.x), left = chart.from_zero ? 0 : Math.min(...xs), width = Math.max(...xs) - left;
    const side = (x) => width === 0 ? "center" : (x - left) / width > 0.75 ? "left" : (x - left) / width < 0.2 ? "right" : "center";
    for (const p of chart.points) {
      traces.push({
        x: [scaled(p.x, chart.x_kind)], y: [scaled(p.y, chart.y_kind)], name: p.name,
        mode: chart.names ? "markers+text" : "markers", text: [p.text.length > 24 ? `${p.text.slice(0, 14)}…${p.text.slice(-9)}` : p.text], textposition: `top ${side(p.x)}`,
        textfont: { color: p.apart ? css("--quiet") : css("--ink"), size: 11 }, cliponaxis: false,
        marker: { size: 10, color: p.apart ? "#8a8f98" : p.colour, opacity: p.apart ? 0.5 : 0.95, symbol: p.apart ? "circle-open" : "circle" },
        customdata: [[p.shown_x, p.shown_y, p.apart ? `<br>not like for like: ${p.apart}` : ""]],
        hovertemplate: `${chart.x}: %{customdata[0]}<br>${chart.y}: %{customdata[1]}%{customdata[2]}`,
      });
    }
    const zero = chart.from_zero ? { rangemode: "tozero" } : {};
    const x = { title: { text: chart.x }, ...zero, ...(ofKind[chart.x_kind] || {}) };
    const y = { title: { text: chart.y.split(" · ")[0], standoff: 8 }, ...zero, ...(ofKind[chart.y_kind] || {}) };
    return [traces, layout(x, y, false)];
  }

  function history(chart) {
    const colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
    const traces = [];
    chart.series.forEach((s, i) => {
      const colour = colours[i % colours.length];
      traces.push({ x: s.x, y: s.y, name: s.name, legendgroup: s.name, mode: "lines+markers", line: { color: colour, width: 1.5 }, marker: { size: 5 } });
      const at = s.changes.map((night) => s.y[s.x.indexOf(night)]);
      if (at.length) traces.push({ x: s.changes, y: at, mode: "markers", legendgroup: s.name, showlegend: false, name: `${s.name}: new level`, marker: { symbol: "diamond-open", size: 13, color: colour, line: { width: 2 } } });
    });
    return [traces, layout({ type: "category", nticks: 8 }, {}, chart.legend)];
  }

  const make = { curves, scatter, history };
  const charts = new Map(data.charts.map((chart) => [chart.key, chart]));
  const drawn = new Set();
  let printing = false;
  function draw(figure) {
    const chart = charts.get(figure.dataset.chart);
    const [traces, lay] = make[chart.kind](chart);
    if (printing) Object.assign(lay, { width: 330, height: 230 });
    const plot = figure.querySelector(".plot");
    Plotly.react(plot, traces, lay, { responsive: true, displaylogo: false, displayModeBar: false });
    if (!drawn.has(figure)) { plot.on("plotly_afterplot", () => apart(figure)); apart(figure); }
    drawn.add(figure);
  }
  // A name that would lie over another goes below its point, or away: pointing at the point tells it.
  function apart(figure) {
    const taken = [];
    for (const name of all(".textpoint text", figure)) {
      name.removeAttribute("dy");
      name.style.display = "";
      const over = () => { const a = name.getBoundingClientRect(); return taken.some((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom); };
      if (over()) name.setAttribute("dy", "2.4em");
      if (over()) name.style.display = "none"; else taken.push(name.getBoundingClientRect());
    }
  }
  const drawAll = () => drawn.forEach(draw);
  document.getElementById("theme").addEventListener("click", drawAll);  // theme.js has set it by now
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  // Only what comes into view is drawn: a phone need not draw thirty charts to show one.
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
  }, { rootMargin: "300px" });
  all("figure.chart").forEach((figure) => seen.observe(figure));
  // On paper: two charts of one width side by side, in the light theme.
  function print(on) { printing = on; root.classList.toggle("printing", on); all("figure.chart").forEach(draw); }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  // ---- one legend for all curves: a click hides a run everywhere
  const legend = document.querySelector(".legend");
  const entries = new Map();
  for (const chart of data.charts) if (chart.kind === "curves") for (const s of chart.series) if (!entries.has(s.name) || !s.faint) entries.set(s.name, s);
  const dashes = { solid: "", dash: "6 4", dot: "2 3", dashdot: "7 3 2 3" };
  for (const [name, s] of entries) {
    const one = document.createElement("button");
    one.type = "button";
    one.setAttribute("aria-pressed", "true");
    one.innerHTML = `<svg viewBox="0 0 24 8" aria-hidden="true"><line x1="0" x2="24" y1="4" y2="4" stroke="${s.colour}" stroke-width="${s.faint ? 1.2 : 2.6}" stroke-dasharray="${dashes[s.dash]}"/></svg>`;
    one.append(name);
    one.addEventListener("click", () => {
      const hide = !state.hidden.has(name);
      if (hide) state.hidden.add(name); else state.hidden.delete(name);
      one.setAttribute("aria-pressed", String(!hide));
      redrawCurves();
    });
    legend.append(one);
  }
  function redrawCurves() { all("#curves figure.chart").filter((figure) => drawn.has(figure)).forEach(draw); }

  for (const kind of ["axis", "scale"]) {
    const buttons = all(`button[data-${kind}]`);
    buttons.forEach((one) => one.addEventListener("click", () => {
      state[kind] = one.dataset[kind];
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === one)));
      redrawCurves();
    }));
  }
})();
