// Draws the figures of a page, follows the colour scheme, sorts tables. The figures are JSON in inert script elements.
(function () {
  "use strict";
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  var root = document.documentElement;
  var waiting = Array.prototype.slice.call(document.querySelectorAll(".figure"));
  var drawn = [];

  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }

  // The template's greys read on both grounds; ink reads better on either.
  function ink(plot, forced) {
    if (plot.layout.meta && plot.layout.meta.print) { return Promise.resolve(); }
    var night = forced === undefined ? dark() : forced;
    var colour = night ? "#f0f6fc" : "#1f2328";
    var change = { "font.color": colour };
    (plot.layout.sliders || []).forEach(function (_, i) {
      change["sliders[" + i + "].currentvalue.font.color"] = colour;
      change["sliders[" + i + "].bgcolor"] = night ? "#3d444d" : "#d1d9e0";
    });
    return Plotly.relayout(plot, change);
  }

  // On a small screen: colour bars lie above the plot instead of taking its width, long axis titles wrap, notes are smaller. A figure
  // may say in layout.meta.narrow what else to change ("yaxis2.domain": [0, 0.3]).
  function narrow(plot, figure) {
    var layout = figure.layout, change = (layout.meta && layout.meta.narrow) || {}, lying = false;
    var top = (layout.meta && layout.meta.print) || 0; // pixels that the title of a figure in print takes
    if (window.innerWidth > 640) { return; }
    plot.classList.add("narrow");
    layout.legend = Object.assign({ font: { size: 11 } }, layout.legend);
    var small = top ? 9.5 : 10;
    function lay(bar) {
      lying = true;
      var title = ((bar.title && bar.title.text) || "").replace(/<br>/g, " "), height = layout.height || 450;
      Object.assign(bar, { orientation: "h", x: 0.5, xanchor: "center", y: 1 - (16 + top) / height, yref: "container", yanchor: "top", len: 0.9 });
      // as a note: Plotly lays the title of a short bar over the bar
      bar.title = { text: "" };
      layout.annotations = (layout.annotations || []).concat({ text: title, showarrow: false, x: 0.5, xref: "paper", xanchor: "center",
        y: 1, yref: "paper", yanchor: "top", yshift: 83 - top / 4 });
    }
    Object.keys(layout).forEach(function (key) {
      if (/^coloraxis/.test(key) && layout[key].colorbar) { lay(layout[key].colorbar); }
      if (/^[xy]axis/.test(key) && layout[key].title && layout[key].title.text) {
        layout[key].title.text = wrapped(layout[key].title.text);
        layout[key].title.font = Object.assign({}, layout[key].title.font, { size: top ? 9.5 : 11 });
      }
    });
    (figure.data || []).forEach(function (trace) {
      if (trace.colorbar && trace.showscale !== false) { lay(trace.colorbar); }
      if (/text/.test(trace.mode)) { trace.textfont = Object.assign({}, trace.textfont, { size: small }); }
    });
    (layout.annotations || []).forEach(function (note) { note.font = Object.assign({}, note.font, { size: small }); });
    if (lying) { layout.margin = Object.assign({}, layout.margin, { t: 85 + top * 0.75 }); }
    Object.keys(change).forEach(function (path) {
      var keys = path.replace(/\[(\d+)\]/g, ".$1").split("."), last = keys.pop(), at = layout;
      keys.forEach(function (key) { at = at[key] = at[key] || {}; });
      at[last] = change[path];
    });
    if (change.height) { plot.style.height = change.height + "px"; }
  }

  // Lines of at most 30 characters, where there are spaces to break at.
  function wrapped(text) {
    return text.replace(/(?![^\n]{1,30}$)([^\n]{1,30})\s/g, "$1<br>");
  }

  function place(note) { return { x: note.x, y: note.y, font: note.font }; }

  function draw(plot) {
    if (plot.dataset.state) { return; }
    plot.dataset.state = "drawing";
    var figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    narrow(plot, figure);
    (figure.frames || []).forEach(function (frame) {
      if (!plot.classList.contains("narrow") || !frame.layout || !frame.layout.annotations) { return; }
      frame.layout.annotations.forEach(function (note, i) { Object.assign(note, place(figure.layout.annotations[i])); });
    });
    figure.config = { responsive: true, displayModeBar: false };
    Plotly.newPlot(plot, figure).then(function () { return ink(plot); }).then(function () {
      drawn.push(plot);
      declutter(plot);
      plot.on("plotly_afterplot", function () { declutter(plot); });
      plot.dataset.state = "drawn";
    });
  }

  // A label of a point that would lie on another text stands elsewhere beside the point: steps in widths and heights of the label.
  // Where there is no room it is hidden, and the point tells it on hover.
  var beside = [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0], [-1, -1], [1, -1], [-1, 1], [1, 1], [0, -2], [0, 2]];

  function declutter(plot) {
    function box(each) { return each.getBoundingClientRect(); }
    var outer = box(plot), kept = Array.prototype.map.call(plot.querySelectorAll(".xtick text, .ytick text, .annotation-text, .legendtext, .xtitle, .ytitle"), box);
    function free(own) {
      return own.left >= outer.left && own.right <= outer.right && !kept.some(function (other) {
        return own.left < other.right && other.left < own.right && own.top < other.bottom && other.top < own.bottom;
      });
    }
    plot.querySelectorAll(".textpoint text").forEach(function (each) {
      each.style.transform = "";
      var first = box(each), found = beside.map(function (step) {
        return new DOMRect(first.x + step[0] * (first.width + 6), first.y + step[1] * first.height, first.width, first.height);
      }).find(free);
      each.style.visibility = found ? "visible" : "hidden";
      if (!found) { return; }
      kept.push(found);
      if (found.x !== first.x || found.y !== first.y) { each.style.transform = "translate(" + (found.x - first.x) + "px," + (found.y - first.y) + "px)"; }
    });
  }

  // What is drawn: without the labels that are hidden on the screen, and with those that were moved where they are.
  function shown(plot) {
    var outer = plot.getBoundingClientRect(), size = plot._fullLayout._size, notes = (plot.layout.annotations || []).slice();
    var data = plot.data.map(function (trace) { return Array.isArray(trace.text) ? Object.assign({}, trace, { text: trace.text.slice() }) : trace; });
    plot.querySelectorAll(".textpoint text").forEach(function (each) {
      var trace = each.closest(".trace"), cells = trace && trace.__data__, point = each.__data__, own = each.getBoundingClientRect();
      if ((each.style.visibility !== "hidden" && !each.style.transform) || !cells || !point) { return; }
      var drawnAs = data[cells[0].trace.index];
      if (!Array.isArray(drawnAs.text)) { return; }
      if (each.style.visibility !== "hidden") {
        notes.push({ text: drawnAs.text[point.i], font: drawnAs.textfont, showarrow: false, xref: "paper", yref: "paper", xanchor: "center", yanchor: "middle",
          x: (own.left + own.width / 2 - outer.left - size.l) / size.w, y: 1 - (own.top + own.height / 2 - outer.top - size.t) / size.h });
      }
      drawnAs.text[point.i] = "";
    });
    return { data: data, layout: Object.assign({}, plot.layout, { annotations: notes }) };
  }
  window.shown = shown;

  // In dark ink on white, whatever the page looks like.
  function download(plot, format) {
    var figure = shown(plot), layout = Object.assign({}, figure.layout, { paper_bgcolor: "#ffffff", width: plot.clientWidth, height: plot.clientHeight });
    layout.font = Object.assign({}, layout.font, { color: "#1f2328" });
    var name = (plot.getAttribute("aria-label") || "figure").toLowerCase().replace(/[^\w]+/g, "-").replace(/^-|-$/g, "");
    Plotly.downloadImage({ data: figure.data, layout: layout }, { format: format, filename: name, scale: format === "png" ? 3 : 1,
      width: plot.clientWidth, height: plot.clientHeight });
  }

  document.querySelectorAll(".tools button").forEach(function (each) {
    each.addEventListener("click", function () {
      var plot = each.parentNode.previousElementSibling;
      if (plot.dataset.state === "drawn") { download(plot, each.dataset.format); }
    });
  });

  // Plotly's script: as it is, or packed (in this page, or in a file beside it).
  function library() {
    if (window.Plotly) { return Promise.resolve(); }
    if (!window.packedPlotly) {
      return Promise.reject("The figures need the file plotly-….packed.js that lies beside this page; copy it along. `mechfourier report FILE.json` writes one page that holds all.");
    }
    if (!window.DecompressionStream) { return Promise.reject("The figures need a browser of 2023 or newer."); }
    var bytes = Uint8Array.from(atob(window.packedPlotly), function (each) { return each.charCodeAt(0); });
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text().then(function (text) {
      var script = document.createElement("script");
      script.textContent = text;
      document.head.appendChild(script);
    });
  }

  function drawAll() { waiting.forEach(draw); }

  // What is on the screen comes first; the rest follows when the browser has nothing better to do.
  function idly(todo) {
    var next = todo.shift();
    if (!next) { return; }
    (window.requestIdleCallback || window.setTimeout)(function () { draw(next); idly(todo); });
  }

  function begin() {
    var near = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
      });
    }, { rootMargin: "200px" });
    waiting.forEach(function (plot) { near.observe(plot); });
    window.setTimeout(function () { idly(waiting.slice()); }, 50);
    system.addEventListener("change", function () { drawn.forEach(function (plot) { ink(plot); }); });
    window.addEventListener("beforeprint", function () { drawAll(); drawn.forEach(function (plot) { ink(plot, false); }); });
    window.addEventListener("afterprint", function () { drawn.forEach(function (plot) { ink(plot); }); });
  }

  if (waiting.length) {
    library().then(begin, function (why) {
      waiting.forEach(function (plot) {
        plot.dataset.state = "missing";
        plot.style.height = "auto";
        plot.textContent = why;
      });
    });
  }

  var button = document.querySelector(".theme");
  if (button) {
    var label = function () { button.textContent = dark() ? "Light" : "Dark"; };
    label();
    system.addEventListener("change", label);
    button.addEventListener("click", function () {
      root.dataset.theme = dark() ? "light" : "dark";
      label();
      drawn.forEach(function (plot) { ink(plot); });
    });
  }

  function value(cell) {
    var number = parseFloat(cell.dataset.value);
    return cell.dataset.value !== undefined && !isNaN(number) ? number : null;
  }

  function sort(heading) {
    var table = heading.closest("table"), body = table.tBodies[0];
    var column = heading.cellIndex, up = heading.getAttribute("aria-sort") !== "ascending";
    Array.prototype.forEach.call(heading.parentNode.cells, function (other) { other.removeAttribute("aria-sort"); });
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    Array.prototype.slice.call(body.rows).sort(function (one, two) {
      var a = value(one.cells[column]), b = value(two.cells[column]);
      if (a !== null && b !== null) { return up ? a - b : b - a; }
      if (a !== null || b !== null) { return a === null ? 1 : -1; } // what has no number stays last
      var order = one.cells[column].textContent.localeCompare(two.cells[column].textContent);
      return up ? order : -order;
    }).forEach(function (row) { body.appendChild(row); });
  }

  document.querySelectorAll("th button").forEach(function (each) {
    each.addEventListener("click", function () { sort(each.closest("th")); });
  });
})();
