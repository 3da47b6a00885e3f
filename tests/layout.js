// What is cut off, squeezed, beside the page or under other text, of everything that can be read now.
// A chart's glyphs stand at their nights, however close these are.
() => {
  const faults = [], seen = [];
  const shown = (text) => JSON.stringify(text.data.trim().slice(0, 60));
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, parent = text.parentElement;
    if (!text.data.trim() || !parent.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (parent.closest("script, style, noscript, option, .hidden-label, .glyph")) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const rect of parent instanceof SVGElement ? [parent.getBoundingClientRect()] : range.getClientRects()) {
      let { left, right, top, bottom } = rect;
      if (right - left < 1) continue;
      for (let up = parent; up !== document.body; up = up.parentElement) {
        const { overflowX, display } = getComputedStyle(up);
        if (overflowX === "visible" || display === "inline") continue;
        const edge = up.getBoundingClientRect();
        if (!["auto", "scroll"].includes(overflowX) && (left < edge.left - 2 || right > edge.right + 2 || top < edge.top - 2 || bottom > edge.bottom + 2)) faults.push(`cut: ${shown(text)}`);
        left = Math.max(left, edge.left); right = Math.min(right, edge.right);  // the rest is there by scrolling
        top = Math.max(top, edge.top); bottom = Math.min(bottom, edge.bottom);
      }
      if (right - left < 1 || bottom - top < 1) continue;
      if (left < -1 || right > innerWidth + 1) faults.push(`beside the page: ${shown(text)}`);
      const slack = (bottom - top) / 4;  // lines stand closer than their boxes
      seen.push({ text, left: left + 1, right: right - 1, top: top + slack, bottom: bottom - slack });
    }
  }
  for (const cell of document.querySelectorAll("td, th")) {
    const range = document.createRange(), em = parseFloat(getComputedStyle(cell).fontSize);
    range.selectNodeContents(cell);
    const { width, height } = range.getBoundingClientRect();
    if (width < 2.5 * em && height > 6 * em) faults.push(`a letter a line: ${JSON.stringify(cell.textContent)}`);
  }
  seen.sort((a, b) => a.top - b.top);
  seen.forEach((a, i) => {
    for (let j = i + 1; j < seen.length && seen[j].top < a.bottom; j++) {
      const b = seen[j];
      if (a.left < b.right && b.left < a.right) faults.push(`${shown(a.text)} over ${shown(b.text)}`);
    }
  });
  return { texts: seen.length, faults: [...new Set(faults)] };
}
