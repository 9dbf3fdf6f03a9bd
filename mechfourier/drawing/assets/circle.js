// A circle whose value is dragged round (or moved with the arrow keys), and the answers beside it. In a notebook the answers
// come from Python (anywidget: render), on a page from steps that were computed beforehand (draw).
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, parent, text) {
  const each = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => each.setAttribute(key, value));
  if (text !== undefined) { each.textContent = text; }
  parent.appendChild(each);
  return each;
}

function build(root, told, ask) {
  const n = told.values.length, R = 120, C = 190;
  const place = v => {  // on the path through the values' points
    const i = Math.floor(v) % n, share = v - Math.floor(v), a = told.points[i], b = told.points[(i + 1) % n];
    return [C + R * (a[0] + share * (b[0] - a[0])), C - R * (a[1] + share * (b[1] - a[1]))];
  };
  root.style.cssText = "display:flex;flex-wrap:wrap;gap:1rem;font:14px system-ui,sans-serif;align-items:flex-start";
  const svg = make("svg", { width: 2 * C, height: 2 * C, viewBox: `0 0 ${2 * C} ${2 * C}`, style: "max-width:100%;touch-action:none" }, root);
  const path = told.points.map((_, i) => place(i).join(",")).join(" ");
  make("polygon", { points: path, fill: "none", stroke: "currentColor", "stroke-opacity": 0.4 }, svg);
  told.points.forEach((point, i) => {
    const [x, y] = place(i), far = Math.hypot(point[0], point[1]) || 1;
    make("circle", { cx: x, cy: y, r: 4, fill: "#0072B2" }, svg);
    const anchor = point[0] > 0.25 ? "start" : point[0] < -0.25 ? "end" : "middle";
    make("text", { x: x + 12 * point[0] / far, y: y - 14 * point[1] / far + 4, "text-anchor": anchor, "font-size": 12, fill: "currentColor" }, svg, told.values[i]);
  });
  const handle = make("circle", { r: 10, fill: "#D55E00", "fill-opacity": 0.85, tabindex: 0, role: "slider", "aria-label": "value in the residual stream",
    "aria-valuemin": 0, "aria-valuemax": n, style: "cursor:grab" }, svg);
  const side = document.createElement("div");
  side.style.cssText = "flex:1;min-width:220px";
  root.appendChild(side);
  const head = document.createElement("p");
  head.textContent = `${told.model}, ${told.site}: ${told.prompt}`;
  const said = document.createElement("p");
  said.setAttribute("aria-live", "polite");
  said.style.fontWeight = "600";
  const bars = document.createElement("div");
  side.append(head, said, bars);
  const rows = told.values.map(name => {
    const row = document.createElement("div");
    row.style.cssText = "display:grid;grid-template-columns:6em 1fr 3.5em;gap:.5em;align-items:center";
    const label = document.createElement("span"), bar = document.createElement("span"), share = document.createElement("span");
    label.textContent = name;
    bar.style.cssText = "height:.8em;background:#56B4E9;width:0";
    row.append(label, bar, share);
    bars.appendChild(row);
    return { bar, share };
  });
  if (told.hint) {
    const hint = document.createElement("p");
    hint.textContent = told.hint;
    hint.style.cssText = "font-size:12px;opacity:.75";
    side.appendChild(hint);
  }
  let value = told.own;
  function show(answer) {
    let best = 0;
    answer.forEach((p, i) => {
      if (p > answer[best]) { best = i; }
      rows[i].bar.style.width = `${100 * p}%`;
      rows[i].share.textContent = `${(100 * p).toFixed(1)} %`;
    });
    const near = told.values[Math.round(value) % n];
    said.textContent = `moved to ${value.toFixed(2)} (nearest: ${near}): answers as if ${told.values[best]}, ${(100 * answer[best]).toFixed(0)} %`;
    handle.setAttribute("aria-valuetext", said.textContent);
  }
  function move(to) {
    value = ((to % n) + n) % n;
    const [x, y] = place(value);
    handle.setAttribute("cx", x);
    handle.setAttribute("cy", y);
    handle.setAttribute("aria-valuenow", value.toFixed(2));
    ask(value, show);
  }
  handle.addEventListener("keydown", event => {
    const step = { ArrowRight: 0.25, ArrowUp: 0.25, ArrowLeft: -0.25, ArrowDown: -0.25, PageUp: 1, PageDown: -1 }[event.key];
    if (step) { event.preventDefault(); move(value + step); }
  });
  function nearest(event) {  // the value whose place on the path is nearest to the pointer
    const box = svg.getBoundingClientRect(), scale = 2 * C / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    let best = 0, least = Infinity;
    for (let i = 0; i < 24 * n; i++) {
      const [a, b] = place(i / 24), far = (a - x) ** 2 + (b - y) ** 2;
      if (far < least) { least = far; best = i / 24; }
    }
    return best;
  }
  handle.addEventListener("pointerdown", event => { handle.setPointerCapture(event.pointerId); });
  handle.addEventListener("pointermove", event => { if (event.buttons) { move(nearest(event)); } });
  move(value);
  return show;
}

function draw(root, told) {
  const step = told.values.length / told.steps.length;
  build(root, told, (value, show) => show(told.answers[Math.round(value / step) % told.steps.length]));
}

function render({ model, el }) {
  const show = build(el, model.get("told"), value => { model.set("value", value); model.save_changes(); });
  show(model.get("answer"));
  model.on("change:answer", () => show(model.get("answer")));
}

export default { render, draw };
