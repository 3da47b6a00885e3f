"use strict";
// The theme: auto follows the system, the button overrides it.
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const kept = (name) => { try { if (name) localStorage.setItem("harness-report-theme", name); return localStorage.getItem("harness-report-theme"); } catch { return null; /* opened from disk */ } };
  let current = themes.includes(kept()) ? kept() : "auto";
  const set = () => {
    if (current === "auto") root.removeAttribute("data-theme"); else root.dataset.theme = current;
    button.textContent = `Theme: ${current}`;
  };
  set();
  button.addEventListener("click", () => { current = themes[(themes.indexOf(current) + 1) % themes.length]; set(); kept(current); });
})();
