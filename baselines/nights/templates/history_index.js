// The index: the last night of each series, and the newest changes of them all.
for (const key of ["config", "runner", "stack", "kernels"]) offer(selects[key], data.series.map((one) => one[key]));
const quality = (one) => Object.keys(data.metrics).find((key) => data.metrics[key].protocol && !data.metrics[key].share && !key.startsWith("val_loss") && one.metrics[key] !== undefined && one.metrics[key] !== null);
const figure = (one, key) => key === undefined || one.metrics[key] === undefined || one.metrics[key] === null ? nothing : text(median([one.metrics[key]].flat()), key);
const keys = ["config", "runner", "stack", "kernels"];
const show = () => {
  fill(document.querySelector("#latest table"), ["Config", "Runner", "Outcome", "#Images/s", "#Peak memory", "#Quality", "Stack", "Kernels", "Night", "#Changes"],
    data.series.filter((one) => fits(one, keys)).sort((a, b) => (b.outcome === "failed") - (a.outcome === "failed")).map((one) => {
      const best = quality(one), memory = one.metrics.device_memory !== undefined ? "device_memory" : "host_memory";
      return [
        make("a", { href: `${one.page}.html` }, one.config), [one.runner, small(one.device === one.runner ? "" : one.device)], make("span", { class: one.outcome === "failed" ? "worse" : "" }, outcomes[one.outcome] || nothing),
        figure(one, "throughput"), [figure(one, memory), small(memory === "host_memory" ? "host" : "")], [figure(one, best), small(best ? data.metrics[best].title : "")],
        one.stack, one.kernels,
        make("a", { href: `${one.page}.html#${encodeURIComponent(one.night)}/${encodeURIComponent(one.runner)}` }, one.night), one.changes.toLocaleString("en"),
      ];
    }), "Nothing is of this choice.");
  changesTable(data.changes.filter((one) => fits(one, keys)));
};
Object.values(selects).forEach((one) => one.addEventListener("change", show));
show();
if (data.left_out) document.querySelector("#changes .note").append(` ${data.left_out.toLocaleString("en")} older ones are on the configs' pages.`);
