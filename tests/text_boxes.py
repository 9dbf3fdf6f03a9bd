"""What is wrong with the texts of drawn figures, measured in a browser: boxes (turned with their text) that overlap,
leave their figure or are cut, tick labels that no value can have, the mode bar over a legend."""

from typing import Any

PROBLEMS = r"""() => {
  const SLACK = 1.5;
  function corners(e) {  // of the text as it lies on the screen, turned with it
    const b = e.getBBox(), m = e.getScreenCTM();
    return [[b.x, b.y], [b.x + b.width, b.y], [b.x + b.width, b.y + b.height], [b.x, b.y + b.height]]
      .map(([x, y]) => [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f]);
  }
  function rect(r) { return [[r.left, r.top], [r.right, r.top], [r.right, r.bottom], [r.left, r.bottom]]; }
  function overlap(p, q) {  // separating axes, by more than SLACK pixels
    for (const shape of [p, q]) {
      for (let i = 0; i < 4; i++) {
        const [x1, y1] = shape[i], [x2, y2] = shape[(i + 1) % 4], length = Math.hypot(x2 - x1, y2 - y1) || 1;
        const nx = (y2 - y1) / length, ny = (x1 - x2) / length;
        const a = p.map(([x, y]) => x * nx + y * ny), b = q.map(([x, y]) => x * nx + y * ny);
        if (Math.max(...a) - SLACK < Math.min(...b) || Math.max(...b) - SLACK < Math.min(...a)) { return false; }
      }
    }
    return true;
  }
  function seen(e) {
    const style = getComputedStyle(e);
    return e.textContent.trim() && parseFloat(style.fontSize) > 2 && style.visibility !== "hidden" && style.display !== "none"
      && style.opacity !== "0" && e.getBoundingClientRect().width > 1 && !e.closest(".hoverlayer");
  }
  function axesOf(layout) {
    return Object.keys(layout).filter(k => /^[xy]axis\d*$/.test(k)).map(k => [k, layout[k]]);
  }
  function impossible(f) {
    const found = [];
    for (const [name, axis] of axesOf(f._fullLayout)) {
      if (axis.visible === false || axis.showticklabels === false || !axis._vals || axis.type === "multicategory") { continue; }
      const labels = axis._vals.map(v => v.text).filter(t => t !== undefined && t !== "" && t !== " ");
      const clash = labels.filter((t, i) => axis.type !== "category" && axis.tickmode !== "array" && labels.indexOf(t) !== i);
      if (clash.length) { found.push(`${name} says ${clash[0]} twice`); }
      if (axis.type !== "linear" || axis.tickmode === "array") { continue; }
      const letter = name[0], id = name.replace("axis", "");
      const data = f._fullData.filter(t => t.visible !== false && (t[letter + "axis"] || letter) === id)
        .flatMap(t => (t.type === "bar" && t.orientation === "h") === (letter === "y") || t.type !== "bar"
          ? Array.from(t[letter] || []).flat() : Array.from(t[letter] || [])).filter(v => typeof v === "number" && isFinite(v));
      const ticks = axis._vals.map(v => v.x).filter(v => v !== undefined);
      const counted = data.length > 1 && data.every(v => Number.isInteger(v)) && new Set(data).size > 2;
      if (counted && ticks.some(v => Math.abs(v - Math.round(v)) > 1e-6)) { found.push(`${name} counts, and says ${ticks.find(v => !Number.isInteger(v))}`); }
      if (/%/.test(axis.tickformat || "") && ticks.some(v => v > 1.0001)) { found.push(`${name} says more than 100 %`); }
    }
    return found;
  }
  return Array.from(document.querySelectorAll(".figure")).flatMap(f => {
    const name = f.getAttribute("aria-label"), box = f.getBoundingClientRect(), found = [];
    const texts = Array.from(f.querySelectorAll("svg text")).filter(seen).map(e => ({ e, said: e.textContent.trim().slice(0, 40), at: corners(e) }));
    texts.forEach((t, i) => {
      const xs = t.at.map(p => p[0]), ys = t.at.map(p => p[1]);
      if (Math.min(...xs) < box.left - 1.5 || Math.max(...xs) > box.right + 1.5 || Math.min(...ys) < box.top - 1.5 || Math.max(...ys) > box.bottom + 1.5) {
        found.push(`${t.said} leaves the figure`);
      }
      const clip = t.e.closest("[clip-path]"), id = clip && /#([^"')]+)/.exec(clip.getAttribute("clip-path"));
      const shape = id && document.getElementById(id[1]) && document.getElementById(id[1]).querySelector("rect");
      if (shape && t.e.closest(".textpoint") && clip.getScreenCTM()) {
        const m = clip.getScreenCTM(), left = m.e + +shape.getAttribute("x") || m.e;
        if (Math.min(...xs) < left - 2 || Math.max(...xs) > left + +shape.getAttribute("width") + 2) { found.push(`${t.said} is cut`); }
      }
      texts.slice(0, i).forEach(o => { if (overlap(t.at, o.at)) { found.push(`${o.said} | ${t.said} overlap`); } });
    });
    const bar = Array.from(f.querySelectorAll(".modebar-group")).map(e => rect(e.getBoundingClientRect())).filter(r => r[1][0] - r[0][0] > 1);
    texts.forEach(t => { if (bar.some(r => overlap(r, t.at))) { found.push(`the mode bar lies over ${t.said}`); } });
    impossible(f).forEach(each => found.push(each));
    return found.map(each => `${name}: ${each}`);
  });
}"""


def problems(view: Any) -> list[str]:
    """What is wrong with the figures of the page that ``view`` shows, one sentence each."""
    return view.evaluate(PROBLEMS)
