// The matrix of an atlas, and what lies behind its cells: circle, contest, tokens, use. Everything is drawn here as plain SVG.
(function () {
  "use strict";
  var models = JSON.parse(document.getElementById("atlas-data").textContent).models;
  var $ = function (id) { return document.getElementById(id); };
  var cells = Array.prototype.slice.call(document.querySelectorAll(".cell"));
  var body = $("cell-body"), slider = $("slider"), tip = $("null-tip");
  var at = null, moving = 0;
  var NS = "http://www.w3.org/2000/svg", BLUE = "#0072B2", GREEN = "#009E73", ORANGE = "#E69F00", RED = "#D55E00", SKY = "#56B4E9";

  function html(tag, attributes, children) { return fill(document.createElement(tag), attributes, children); }
  function svg(tag, attributes, children) { return fill(document.createElementNS(NS, tag), attributes, children); }
  function fill(element, attributes, children) {
    Object.keys(attributes || {}).forEach(function (name) { element.setAttribute(name, attributes[name]); });
    [].concat(children === undefined ? [] : children).forEach(function (child) {
      element.appendChild(typeof child === "object" ? child : document.createTextNode(String(child)));
    });
    return element;
  }
  function fixed(x, digits) { return x === null || x === undefined ? "–" : Number(x).toFixed(digits === undefined ? 2 : digits).replace(/^-(0\.?0*)$/, "$1"); }
  function pvalue(p) { return p === null || p === undefined ? "not asked" : "p = " + (p < 0.0001 ? "< 0.0001" : Number(p.toPrecision(2))); }
  function place(site) { return site.layer === null ? site.name : "layer " + site.layer; }

  // ---- numbers with their nulls
  function number(text, nul) { return nul ? html("span", { "class": "num", tabindex: "0", "data-null": nul }, text) : document.createTextNode(text); }
  var told = null;
  function showTip(target) {
    told = target;
    tip.textContent = target.dataset.null;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "null-tip");
    var box = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(box.left, window.innerWidth - own.width - 8)) + "px";
    tip.style.top = (box.bottom + own.height + 12 > window.innerHeight ? Math.max(8, box.top - own.height - 8) : box.bottom + 6) + "px";
  }
  function hideTip() { tip.hidden = true; told = null; }
  function tipOf(event) { return event.target.closest && event.target.closest("[data-null]"); }
  ["mouseover", "focusin"].forEach(function (kind) { document.addEventListener(kind, function (e) { var t = tipOf(e); if (t) { showTip(t); } }); });
  ["mouseout", "focusout"].forEach(function (kind) { document.addEventListener(kind, function (e) { if (tipOf(e)) { hideTip(); } }); });
  document.addEventListener("keydown", function (e) { if (e.key === "Escape") { hideTip(); } });
  window.addEventListener("scroll", function () { if (told) { showTip(told); } }, { passive: true, capture: true });

  // ---- downloads: drawn on white in ink, whatever the page's colours are
  var PRINT = ".ink{fill:#1f2328}.faint{fill:#59636e}.axis{stroke:#d1d9e0}.path{stroke:#59636e;fill:none}text{font-family:Helvetica,Arial,sans-serif}";
  function source(drawing) {
    var copy = drawing.cloneNode(true), box = drawing.viewBox.baseVal;
    copy.setAttribute("xmlns", NS);
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    copy.insertBefore(svg("rect", { width: box.width, height: box.height, fill: "#ffffff" }), copy.firstChild);
    copy.insertBefore(svg("style", {}, PRINT), copy.firstChild);
    return new XMLSerializer().serializeToString(copy);
  }
  function save(name, blob) {
    var link = html("a", { download: name, href: URL.createObjectURL(blob) });
    document.body.appendChild(link);
    link.click();
    link.remove();
    window.setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  function savePng(name, drawing) {
    var image = new Image(), box = drawing.viewBox.baseVal, scale = 4;
    image.onload = function () {
      var canvas = html("canvas", { width: box.width * scale, height: box.height * scale });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(function (blob) { save(name, blob); }, "image/png");
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source(drawing));
  }
  function csv(rows) {
    return rows.map(function (row) {
      return row.map(function (cell) {
        var text = cell === null || cell === undefined ? "" : String(cell);
        // a spreadsheet would run a text that begins like a formula
        if (typeof cell === "string" && /^[=+\-@\t\r]/.test(text)) { text = "'" + text; }
        return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
      }).join(",");
    }).join("\n") + "\n";
  }
  function slug(text) { return text.replace(/[^\w.-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80) || "figure"; }

  function panel(title, drawing, rows, lead) {
    var name = slug(["atlas", models[at.model].name.split("/").pop(), domain().name, title].join("-"));
    var tools = html("div", { "class": "tools" });
    function tool(label, action) {
      var button = html("button", { type: "button", "aria-label": title + " as " + label }, label);
      button.addEventListener("click", action);
      tools.appendChild(button);
    }
    tool("SVG", function () { save(name + ".svg", new Blob([source(drawing)], { type: "image/svg+xml" })); });
    tool("PNG", function () { savePng(name + ".png", drawing); });
    tool("CSV", function () { save(name + ".csv", new Blob([csv(rows())], { type: "text/csv" })); });
    return html("figure", { "data-panel": title }, [html("h3", {}, title), html("p", { "class": "lead" }, lead || ""), drawing, tools]);
  }
  function block(title, children) { return html("div", { "class": "block" }, [html("h3", {}, title)].concat(children)); }
  function drawing(width, height, label) { return svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": label }); }

  function domain() { return models[at.model].domains[at.domain]; }
  function site() { return domain().sites[at.site]; }

  // ---- the circle: one drawing per domain whose points move from layer to layer
  var SIZE = 420, circle = null;
  function reach(found) {
    var far = 1.15;
    found.sites.forEach(function (each) { each.points.forEach(function (p) { far = Math.max(far, Math.abs(p[0]), Math.abs(p[1])); }); });
    return far * 1.2;
  }
  function makeCircle(found) {
    var far = reach(found), unit = SIZE / 2 / far, made = drawing(SIZE, SIZE, found.name + " in the plane of k = " + found.k);
    var show = function (x) { return SIZE / 2 + x * unit; };
    made.appendChild(svg("line", { "class": "axis", x1: 8, x2: SIZE - 8, y1: SIZE / 2, y2: SIZE / 2 }));
    made.appendChild(svg("line", { "class": "axis", y1: 8, y2: SIZE - 8, x1: SIZE / 2, x2: SIZE / 2 }));
    made.appendChild(svg("circle", { "class": "path", cx: SIZE / 2, cy: SIZE / 2, r: unit, "stroke-dasharray": "2 4" }));
    made.appendChild(svg("text", { "class": "faint", x: SIZE - 8, y: SIZE - 8, "text-anchor": "end", "font-size": 11 }, "across: cos, up: sin, held out"));
    var spread = svg("g", { fill: SKY, "fill-opacity": 0.18, stroke: SKY, "stroke-opacity": 0.7 });
    var path = svg("polyline", { "class": "path", "stroke-width": 1.2 });
    var seam = svg("line", { stroke: RED, "stroke-dasharray": "5 4", "stroke-width": 1.5 });
    var points = svg("g", {});
    [spread, path, seam, points].forEach(function (each) { made.appendChild(each); });
    found.values.forEach(function (name) {
      spread.appendChild(svg("path", {}));
      points.appendChild(svg("g", {}, [svg("circle", { r: 4, fill: BLUE }), svg("text", { "class": "ink", "font-size": found.values.length > 16 ? 10 : 12 }, name)]));
    });
    return { drawing: made, unit: unit, show: show, spread: spread, path: path, seam: seam, points: points, now: null, domain: found };
  }
  function ellipse(p, s) {
    var rest = Math.sqrt(Math.max(0, 1 - s[2] * s[2])), text = "";
    for (var i = 0; i <= 36; i += 1) {
      var a = 2 * Math.PI * i / 36;
      text += (i ? "L" : "M") + circle.show(p[0] + s[0] * Math.cos(a)).toFixed(1) + " "
        + circle.show(-(p[1] + s[1] * (s[2] * Math.cos(a) + rest * Math.sin(a)))).toFixed(1);
    }
    return text + "Z";
  }
  // names stand outside their points; where two would cover each other, the next place round the point is taken, then farther out
  function placed(points) {
    var taken = points.map(function (p) { return box(circle.show(p[0]), circle.show(-p[1]), 9, 9, 0.5); });
    return points.map(function (p, i) {
      var out = Math.atan2(-p[1], p[0]), best = null, name = circle.points.children[i].lastChild, wide, high = +name.getAttribute("font-size");
      wide = (name.getComputedTextLength && name.getComputedTextLength()) || high * 0.62 * name.textContent.length;
      [9, 17, 27].some(function (far) {
        return [0, 0.5, -0.5, 1, -1, 1.6, -1.6, 2.4, -2.4].some(function (turn) {
          var across = far * Math.cos(out + turn), down = far * Math.sin(out + turn), side = Math.cos(out + turn);
          var shift = side > 0.3 ? 0 : side < -0.3 ? 1 : 0.5;
          var mine = box(circle.show(p[0]) + across, circle.show(-p[1]) + down, wide, high, shift);
          var cost = taken.reduce(function (sum, other, j) { return j === i ? sum : sum + covered(mine, other); }, 0) + 4 * beyond(mine);
          if (best === null || cost < best.cost - 0.5) { best = { cost: cost, box: mine, x: across, y: down + high / 3, anchor: ["start", "middle", "end"][2 * shift] }; }
          return best.cost < 0.5;
        });
      });
      taken.push(best.box);
      return best;
    });
  }
  function box(x, y, wide, high, shift) { return [x - wide * shift, y - high / 2, x + wide * (1 - shift), y + high / 2]; }
  function covered(a, b) { return Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1])); }
  function beyond(a) { return Math.max(0, -a[0], -a[1], a[2] - SIZE, a[3] - SIZE); }
  function put(points, spread) {
    circle.now = { points: points, spread: spread };
    var line = points.map(function (p) { return circle.show(p[0]).toFixed(1) + "," + circle.show(-p[1]).toFixed(1); });
    circle.path.setAttribute("points", line.join(" "));
    var first = points[0], last = points[points.length - 1];
    fill(circle.seam, { x1: circle.show(last[0]), y1: circle.show(-last[1]), x2: circle.show(first[0]), y2: circle.show(-first[1]) });
    points.forEach(function (p, i) {
      circle.spread.children[i].setAttribute("d", ellipse(p, spread[i]));
      circle.points.children[i].setAttribute("transform", "translate(" + circle.show(p[0]).toFixed(1) + "," + circle.show(-p[1]).toFixed(1) + ")");
      var at = circle.names[i];
      fill(circle.points.children[i].lastChild, { x: at.x.toFixed(1), y: at.y.toFixed(1), "text-anchor": at.anchor });
    });
  }
  function mix(a, b, t) { return a.map(function (row, i) { return row.map(function (x, j) { return x + (b[i][j] - x) * t; }); }); }
  function moveCircle(to) {
    var from = circle.now, still = window.matchMedia("(prefers-reduced-motion: reduce)").matches, mine = moving += 1;
    circle.names = placed(to.points);
    if (!from || still) { put(to.points, to.spread); return; }
    var start = null;
    window.requestAnimationFrame(function step(now) {
      if (mine !== moving) { return; }
      start = start === null ? now : start;
      var t = Math.min(1, (now - start) / 220), soft = t * (2 - t);
      put(mix(from.points, to.points, soft), mix(from.spread, to.spread, soft));
      if (t < 1) { window.requestAnimationFrame(step); }
    });
  }
  function circlePanel(found) {
    if (!circle || circle.domain !== found) {
      circle = makeCircle(found);
      circle.panel = panel("Circle", circle.drawing, function () {
        return [["value", "x", "y", "sd_x", "sd_y", "correlation", "site"]].concat(found.values.map(function (name, i) {
          return [name].concat(site().points[i], site().spread[i], [site().site]);
        }));
      }, "The plane of k = " + found.k + ", turned onto that of the best layer. Every point was predicted without itself; dotted: the fitted circle; ellipses: one standard deviation over "
        + (found.design === "operation" ? "halves of the first operands" : "templates") + "; dashed line: from the last value to the first.");
    }
    moveCircle(site());
    return circle.panel;
  }

  // ---- the contest of shapes, bars with their intervals
  function contestPanel(here) {
    var rows = here.shapes, height = 34 + 22 * rows.length, width = 460, left = 170, right = 90;
    var low = Math.min(0, Math.min.apply(null, rows.map(function (r) { return r[2] === null ? r[1] : r[2]; })));
    low = Math.max(low, -0.5);
    var x = function (v) { return left + (Math.max(low, Math.min(1, v)) - low) / (1 - low) * (width - left - right); };
    var made = drawing(width, height, "Contest of shapes at " + place(here));
    [0, 0.5, 1].forEach(function (v) {
      made.appendChild(svg("line", { "class": "axis", x1: x(v), x2: x(v), y1: 4, y2: height - 22 }));
      made.appendChild(svg("text", { "class": "faint", x: x(v), y: height - 8, "text-anchor": "middle", "font-size": 11 }, v));
    });
    rows.forEach(function (row, i) {
      var y = 8 + 22 * i, closed = row[5];
      made.appendChild(svg("text", { "class": "ink", x: left - 8, y: y + 12, "text-anchor": "end", "font-size": 12 }, row[0]));
      made.appendChild(svg("rect", { x: Math.min(x(0), x(row[1])), width: Math.abs(x(row[1]) - x(0)), y: y, height: 15, fill: closed ? GREEN : ORANGE }));
      if (row[2] !== null) { made.appendChild(svg("path", { "class": "path", d: "M" + x(row[2]) + " " + (y + 7.5) + "H" + x(row[3]) })); }
      made.appendChild(svg("text", { "class": "faint", x: width - right + 8, y: y + 12, "font-size": 11 }, row[4] === null ? "" : pvalue(row[4])));
    });
    return panel("Contest of shapes", made, function () {
      return [["shape", "evidence", "low", "high", "p", "site"]].concat(rows.map(function (r) { return r.slice(0, 5).concat([here.site]); }));
    }, "Bars: share of the power between values that a shape predicts of values left out (95 %); 0 is no better than the mean of the others. "
      + "p: how often data of that shape would look as much like another one; from 0.05 on a shape is not rejected, however short its bar, and one "
      + "below is, however long. Green: closed shapes."
      + (here.control === undefined ? "" : " Untrained model, same shape: " + fixed(here.control[0]) + " (against permuted labels " + pvalue(here.control[1]) + ")."));
  }

  // ---- evidence over the layers, with the layer at hand
  function layersPanel(found) {
    var width = 460, height = 170, left = 40, sites = found.sites;
    var made = drawing(width, height, "Power over the harmonics at " + place(site())), here = site();
    var top = Math.max.apply(null, here.spectrum.map(function (v) { return v || 0; }).concat([0.01]));
    var step = (width - left - 10) / here.spectrum.length, flat = 1 / here.spectrum.length;
    var y = function (v) { return height - 34 - Math.max(0, v) / top * (height - 54); };
    here.spectrum.forEach(function (v, i) {
      made.appendChild(svg("rect", { x: left + step * i + step * 0.15, width: step * 0.7, y: y(v || 0), height: height - 34 - y(v || 0), fill: i + 1 === here.k ? BLUE : SKY }));
      if (here.spectrum.length < 20 || i % 5 === 4 || i === 0) {
        made.appendChild(svg("text", { "class": "faint", x: left + step * (i + 0.5), y: height - 20, "text-anchor": "middle", "font-size": 11 }, i + 1));
      }
    });
    if (flat < top) { made.appendChild(svg("line", { stroke: RED, "stroke-dasharray": "5 4", x1: left, x2: width - 10, y1: y(flat), y2: y(flat) })); }
    made.appendChild(svg("text", { "class": "faint", x: left - 6, y: y(top) + 4, "text-anchor": "end", "font-size": 11 }, Math.round(100 * top) + " %"));
    made.appendChild(svg("text", { "class": "faint", x: left - 6, y: height - 32, "text-anchor": "end", "font-size": 11 }, "0"));
    made.appendChild(svg("text", { "class": "faint", x: (width + left) / 2, y: height - 5, "text-anchor": "middle", "font-size": 11 }, "harmonic k (cycles per " + found.n + " " + found.unit + ")"));
    return panel("Spectrum", made, function () {
      return [["k", "share", "site"]].concat(here.spectrum.map(function (v, i) { return [i + 1, v, here.site]; }));
    }, "Share of the power between values at every harmonic, template noise removed; dashed: a flat spectrum.");
  }

  function numbersBlock(found, here) {
    var list = html("dl", { "class": "numbers" });
    here.numbers.forEach(function (row) { list.appendChild(html("dt", {}, row[0])); list.appendChild(html("dd", {}, number(row[1], row[2]))); });
    var parts = [list];
    if (found.published) { parts.push(html("p", {}, [html("strong", {}, "What would have been published: "), found.published.text + "."])); }
    here.reasons.forEach(function (text) { parts.push(html("p", { "class": "lead" }, text)); });
    return block("Numbers at " + place(here), parts);
  }
  function tokensBlock(found) {
    var list = html("ol", { "class": "tokens" });
    found.tokens.templates.forEach(function (row) {
      list.appendChild(html("li", {}, row[0].map(function (token, i) { return html(i === row[1] ? "mark" : "span", i === row[1] ? { title: "read" } : {}, token); })));
    });
    return block("Tokens read", [html("p", { "class": "lead" }, found.prompts + " prompts; " + found.tokens.beginning + "; the marked token is read."), list]);
  }
  function table(headings, rows) {
    return html("div", { "class": "scroll", tabindex: "0" }, html("table", {}, [
      html("thead", {}, html("tr", {}, headings.map(function (h) { return html("th", { scope: "col", "class": "text" }, h); }))),
      html("tbody", {}, rows.map(function (row) { return html("tr", {}, row.map(function (cell) { return html("td", { "class": "text" }, cell); })); }))
    ]));
  }
  function tasksBlock(found) {
    var rows = found.tasks.map(function (row) {
      return [row.task, number(Math.round(100 * row.share) + " % [" + Math.round(100 * row.low) + ", " + Math.round(100 * row.high) + "]",
        "chance: " + (100 * row.chance).toFixed(1) + " %; exact binomial, Holm over all tasks of the atlas: " + pvalue(row.p)), String(row.prompts)];
    });
    return block("What the model answers", [table(["task", "right", "prompts"], rows)].concat(found.unasked.map(function (text) { return html("p", { "class": "lead" }, text); })));
  }
  function ladderPanel(study) {
    var rows = study.ladder, width = 460, height = 34 + 22 * rows.length, left = 190;
    var x = function (v) { return left + Math.max(0, Math.min(1, v || 0)) * (width - left - 50); };
    var made = drawing(width, height, "Ladder of shares");
    [0, 0.5, 1].forEach(function (v) {
      made.appendChild(svg("line", { "class": "axis", x1: x(v), x2: x(v), y1: 4, y2: height - 22 }));
      made.appendChild(svg("text", { "class": "faint", x: x(v), y: height - 8, "text-anchor": "middle", "font-size": 11 }, v));
    });
    rows.forEach(function (row, i) {
      var y = 8 + 22 * i;
      made.appendChild(svg("text", { "class": "ink", x: left - 8, y: y + 12, "text-anchor": "end", "font-size": 12 }, row.name));
      made.appendChild(svg("rect", { x: x(0), width: x(row.moved) - x(0), y: y, height: 15, fill: /random|foreign|sham/.test(row.name) ? SKY : BLUE }));
      if (row.low !== null) { made.appendChild(svg("path", { "class": "path", d: "M" + x(row.low) + " " + (y + 7.5) + "H" + x(row.high) })); }
    });
    return panel("Ladder of shares", made, function () {
      return [["edit", "moved", "low", "high"]].concat(rows.map(function (r) { return [r.name, r.moved, r.low, r.high]; }));
    }, "Share of answers that an edit moves by exactly δ, with its 95 % interval; light: control planes.");
  }
  function mapPanel(study) {
    var places = [], layers = [];
    study.map.forEach(function (c) {
      if (places.indexOf(c.position) < 0) { places.push(c.position); }
      if (layers.indexOf(c.layer) < 0) { layers.push(c.layer); }
    });
    var left = 90, unit = Math.min(26, 360 / layers.length), width = 460, height = 40 + 26 * places.length;
    var made = drawing(width, height, "Causal map: layers by tokens");
    study.map.forEach(function (c) {
      var x = left + unit * layers.indexOf(c.layer), y = 6 + 26 * places.indexOf(c.position), sure = c.p !== null && c.p < 0.05;
      var told = c.position + " token, " + (c.layer === null ? "embedding" : "layer " + c.layer) + ": circle moves " + fixed(c.moved) + ", whole token " + fixed(c.moved_whole) + ", " + (c.p === null ? "no p: nothing is there to be used" : pvalue(c.p));
      made.appendChild(svg("rect", { x: x, y: y, width: unit - 1, height: 24, fill: BLUE, "fill-opacity": 0.06 + 0.94 * Math.max(0, c.moved || 0), stroke: sure ? RED : "none", "stroke-width": 2 }, svg("title", {}, told)));
    });
    places.forEach(function (name, i) { made.appendChild(svg("text", { "class": "ink", x: left - 8, y: 22 + 26 * i, "text-anchor": "end", "font-size": 12 }, name)); });
    layers.forEach(function (layer, i) {
      if (unit > 16 || i % 4 === 0) {
        made.appendChild(svg("text", { "class": "faint", x: left + unit * (i + 0.5), y: height - 20, "text-anchor": "middle", "font-size": 10 }, layer === null ? "e" : layer));
      }
    });
    made.appendChild(svg("text", { "class": "faint", x: left, y: height - 4, "font-size": 11 }, "layer (e: embedding)"));
    return panel("Causal map", made, function () {
      return [["site", "layer", "position", "moved", "moved_whole", "p", "recovered"]].concat(study.map.map(function (c) { return [c.site, c.layer, c.position, c.moved, c.moved_whole, c.p, c.recovered]; }));
    }, "Share of answers that turning the circle moves by exactly δ, by layer and token; framed: more than random planes do, family-wise p < .05.");
  }
  function studyBlock(study) {
    var parts = [html("p", {}, study.text), html("p", {}, html("strong", {}, study.sentence))];
    if (study.rows.length) {
      parts.push(table(["intervention", "measure", "circle", "controls", "p"], study.rows.map(function (r) {
        return [r.intervention, r.measure, number(fixed(r.planes), "matched control planes: " + fixed(r.controls)), fixed(r.controls), pvalue(r.p)];
      })));
    }
    parts.push(html("ul", {}, study.reasons.map(function (text) { return html("li", {}, text); })));
    parts.push(html("pre", {}, html("code", {}, study.command)));
    return block("Does the model use it?", parts);
  }
  function whyBlock(found) {
    var parts = [html("ul", {}, found.reasons.map(function (text) { return html("li", {}, text); }))];
    if (found.notes.length) {
      parts.push(html("details", {}, [html("summary", {}, found.notes.length + (found.notes.length === 1 ? " note" : " notes")), html("ul", {}, found.notes.map(function (text) { return html("li", {}, text); }))]));
    }
    return block("Why this word", parts);
  }
  function commandBlock(found) {
    return block("Make it again", [html("pre", {}, html("code", {}, found.command + "\n" + models[at.model].command)), html("pre", {}, html("code", {}, found.python))]);
  }

  // ---- one cell
  function show(model, row, column, focus) {
    var same = at && at.model === model && at.domain === row;
    at = { model: model, domain: row, site: column };
    var found = domain(), here = site();
    cells.forEach(function (cell) {
      var mine = +cell.dataset.model === model && +cell.dataset.domain === row && +cell.dataset.site === column;
      if (mine) { cell.setAttribute("aria-current", "true"); } else { cell.removeAttribute("aria-current"); }
    });
    $("cell-title").textContent = found.name + " in " + models[model].name + ", " + place(here) + ": " + here.label;
    $("cell-lead").textContent = found.title + ", " + found.values.length + " values; verdict of the domain: " + found.word;
    slider.max = found.sites.length - 1;
    slider.value = column;
    $("slider-label").hidden = found.sites.length < 2;
    $("slider-out").textContent = place(here);
    slider.setAttribute("aria-valuetext", place(here) + ", " + here.label);
    var parts = [];
    if (here.points.length) { parts.push(circlePanel(found)); }
    if (here.shapes.length) { parts.push(contestPanel(here)); }
    parts.push(numbersBlock(found, here));
    if (here.spectrum.length) { parts.push(layersPanel(found)); }
    if (same) { // what does not depend on the layer stays, and with it where the reader had scrolled to
      body.replaceChildren.apply(body, parts.concat(Array.prototype.slice.call(body.querySelectorAll("[data-domain-wide]"))));
    } else {
      var wide = [whyBlock(found)];
      if (found.study) {
        wide.push(studyBlock(found.study));
        if (found.study.ladder.length) { wide.push(ladderPanel(found.study)); }
        if (found.study.map.length) { wide.push(mapPanel(found.study)); }
      }
      if (found.tasks.length || found.unasked.length) { wide.push(tasksBlock(found)); }
      if (found.tokens) { wide.push(tokensBlock(found)); }
      wide.push(commandBlock(found));
      wide.forEach(function (each) { each.dataset.domainWide = ""; });
      body.replaceChildren.apply(body, parts.concat(wide));
    }
    if (focus) { $("cell-title").focus({ preventScroll: false }); $("cell").scrollIntoView({ block: "start" }); }
  }

  function cellAt(model, row, column) {
    return cells.find(function (c) { return +c.dataset.model === model && +c.dataset.domain === row && +c.dataset.site === column; });
  }
  cells.forEach(function (cell) {
    cell.addEventListener("click", function (event) {
      reachable(cell);
      show(+cell.dataset.model, +cell.dataset.domain, +cell.dataset.site, event.detail === 0);
    });
  });
  // one stop of the Tab key per matrix; the arrow keys move inside it
  function reachable(cell) {
    cells.forEach(function (other) { if (other.dataset.model === cell.dataset.model) { other.tabIndex = other === cell ? 0 : -1; } });
  }
  document.querySelectorAll("table.matrix").forEach(function (grid) {
    grid.addEventListener("keydown", function (event) {
      var cell = event.target.closest(".cell");
      if (!cell) { return; }
      var row = Array.prototype.slice.call(cell.closest("tr").querySelectorAll(".cell")), rows = Array.prototype.slice.call(grid.tBodies[0].rows).filter(function (r) { return r.querySelector(".cell"); });
      var i = row.indexOf(cell), j = rows.indexOf(cell.closest("tr"));
      var moves = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -i], End: [0, row.length - 1 - i] };
      var move = moves[event.key];
      if (!move) { return; }
      event.preventDefault();
      var next = rows[Math.max(0, Math.min(rows.length - 1, j + move[0]))].querySelectorAll(".cell");
      var to = next[Math.max(0, Math.min(next.length - 1, i + move[1]))];
      reachable(to);
      to.focus();
    });
  });
  slider.addEventListener("input", function () { show(at.model, at.domain, +slider.value, false); });

  // the first cell: the circle of most evidence, where there is one
  var first = null;
  models.forEach(function (model, m) {
    model.domains.forEach(function (each, d) {
      if (!each.sites.length) { return; }
      var round = /^(circular|flattened circle|modular)$/.test(each.word);
      var begin = cellAt(m, d, each.best), strength = (round ? 1 : 0) + (begin ? +begin.style.getPropertyValue("--strength") : 0);
      if (!first || strength > first.strength) { first = { model: m, domain: d, site: each.best, strength: strength }; }
    });
    var start = cells.find(function (c) { return +c.dataset.model === m; });
    if (start) { reachable(start); }
  });
  if (first) {
    var begin = cellAt(first.model, first.domain, first.site);
    if (begin) { reachable(begin); }
    show(first.model, first.domain, first.site, false);
  } else {
    $("cell").hidden = true;
  }
})();
