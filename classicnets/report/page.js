"use strict";
(() => {
  const COLOURS = 6;
  const MARGIN = { top: 14, right: 18, bottom: 44, left: 58 };
  // So many rows or runs get a box to filter them.
  const MANY = 10;
  // How far from the pointer, in pixels, the nearest point may be.
  const REACH = 48;
  const MARKERS = [
    "M-4,0A4,4 0 1 0 4,0A4,4 0 1 0 -4,0Z",
    "M-3.5,-3.5H3.5V3.5H-3.5Z",
    "M0,-4.6L4.4,3.4H-4.4Z",
    "M0,-5L5,0L0,5L-5,0Z",
    "M0,4.6L4.4,-3.4H-4.4Z",
  ];

  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  const number = (value, digits = 12) => value.toLocaleString("en", { maximumSignificantDigits: digits });

  // Whether a text holds every word of the query.
  const matcher = (query) => {
    const words = query.toLowerCase().split(/\s+/);
    return (text) => words.every((word) => text.toLowerCase().includes(word));
  };

  const filterBox = (name, onInput) => {
    const input = html("input", { type: "search", placeholder: "filter", "aria-label": name, autocomplete: "off" });
    input.addEventListener("input", () => onInput(matcher(input.value)));
    return input;
  };

  // Numbers come before text, and text before nothing, whichever way a column is sorted.
  const rank = (cell) => (cell.classList.contains("none") ? 2 : "value" in cell.dataset ? 0 : 1);
  const byText = new Intl.Collator("en", { numeric: true }).compare;
  function compare(a, b, way) {
    const kind = rank(a);
    if (kind !== rank(b)) return kind - rank(b);
    if (kind === 0) return way * (Number(a.dataset.value) - Number(b.dataset.value) || 0);
    return kind === 1 ? way * byText(a.textContent, b.textContent) : 0;
  }

  function makeSortable(table) {
    const body = table.tBodies[0];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = html("button", { type: "button" }, ...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], way)));
      });
    });
  }

  function makeFilterable(table) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < MANY) return;
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" "));
    const count = html("output", {}, `${rows.length} rows`);
    const box = table.closest(".scroll");
    const title = document.getElementById(box.getAttribute("aria-labelledby")).textContent;
    const input = filterBox(`Filter the rows of ${title}`, (matches) => {
      rows.forEach((row, i) => (row.hidden = !matches(texts[i])));
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = left < rows.length ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
    });
    box.before(html("div", { class: "controls" }, input, count));
  }

  // A metric is a quantity on one split of the data: the line is dashed on train and solid on test, as in Figure 6 of
  // He et al. 2016, and dotted on validation.
  const DASHES = { train: "dashed", test: "solid", validation: "dotted" };
  function parse(name) {
    const found = /^(train|test|validation)_(.+)$/.exec(name);
    return found ? { split: found[1], quantity: found[2] } : { split: "", quantity: name };
  }
  const title = (quantity) => quantity.replaceAll("_", " ") + (quantity.startsWith("error") ? " (%)" : "");

  function readCurves() {
    const { steps, curves } = JSON.parse(document.getElementById("data").textContent);
    const styles = new Map();
    return curves.map(({ run, label, href, series }, index) => {
      if (!styles.has(label)) styles.set(label, styles.size);
      const style = styles.get(label);
      const metrics = Object.entries(series)
        .filter(([, [, values]]) => values.length)
        .map(([name, [grid, values]]) => ({ ...parse(name), steps: steps[grid], values, index }));
      const colour = `colour-${style % COLOURS}`;
      return { run, label, href, metrics, colour, marker: MARKERS[style % MARKERS.length], shown: true };
    });
  }

  // s_0 = x_0, s_i = a s_(i-1) + (1 - a) x_i
  function smooth(values, a) {
    let last = values[0];
    return values.map((value) => (last = a * last + (1 - a) * value));
  }

  function extent(lists) {
    let [low, high] = [Infinity, -Infinity];
    for (const list of lists)
      for (const value of list) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    return [low, high];
  }

  // Multiples of 1, 2 or 5 times a power of ten.
  function linearTicks(low, high, most) {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = power * [1, 2, 5, 10].find((factor) => (high - low) / (factor * power) <= most);
    const first = Math.ceil(low / step - 1e-9);
    const count = Math.floor(high / step + 1e-9) - first;
    return Array.from({ length: count + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  function logTicks(low, high) {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const factors = last - first > 4 ? [1] : last - first > 2 ? [1, 3] : [1, 2, 5];
    const powers = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    return powers
      .flatMap((power) => factors.map((factor) => Number(`${factor}e${power}`)))
      .filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  }

  function scale([low, high], [from, to], log) {
    const place = log ? (value) => Math.log10(Math.max(value, low)) : (value) => value;
    const ratio = (to - from) / (place(high) - place(low));
    return (value) => from + (place(value) - place(low)) * ratio;
  }

  class Chart {
    constructor(root) {
      this.curves = readCurves();
      const metrics = this.curves.flatMap((curve) => curve.metrics);
      const quantities = [...new Set(metrics.map((metric) => metric.quantity))];
      this.quantity = quantities.includes("error") ? "error" : (quantities[0] ?? "");
      this.splits = new Map(
        Object.keys(DASHES).filter((s) => metrics.some((m) => m.split === s)).map((split) => [split, true]),
      );
      this.log = false;
      this.smoothing = 0;
      this.lines = [];
      this.at = null;
      this.emphasised = null;
      this.groups = this.curves.map((curve) => svg("g", { class: `curve ${curve.colour}`, "data-run": curve.run }));
      this.axes = svg("g", { class: "axes" });
      this.dot = svg("circle", { r: 5, class: "dot", display: "none" });
      this.plot = svg("svg", { class: "plot", role: "img", tabindex: 0 }, this.axes, ...this.groups, this.dot);
      this.tip = html("output", { class: "tip", hidden: "" });
      this.note = html("p", { class: "note" });
      this.figure = html("div", { class: "figure" }, this.plot, this.tip, this.note);
      root.append(this.controls(quantities), html("div", { class: "chart" }, this.figure, this.legend()));
      this.listen();
      new ResizeObserver(() => {
        // Later, since drawing changes the height of what is observed.
        if (this.figure.clientWidth !== this.width) requestAnimationFrame(() => this.draw());
      }).observe(this.figure);
      this.draw();
    }

    controls(quantities) {
      const select = html("select", { autocomplete: "off" });
      for (const quantity of quantities) select.append(html("option", { value: quantity }, title(quantity)));
      select.value = this.quantity;
      select.addEventListener("change", () => this.set({ quantity: select.value }));

      const splits = [...this.splits.keys()].map((split) => {
        const box = html("input", { type: "checkbox", name: split, checked: "", autocomplete: "off" });
        box.addEventListener("change", () => this.set({ splits: this.splits.set(split, box.checked) }));
        const line = svg("line", { x1: 0, x2: 28, y1: 5, y2: 5, class: split });
        const sample = svg("svg", { width: 28, height: 10, "aria-hidden": "true", class: "sample" }, line);
        return html("label", {}, box, sample, split);
      });

      const log = html("input", { type: "checkbox", name: "log", autocomplete: "off" });
      log.addEventListener("change", () => this.set({ log: log.checked }));

      const range = { type: "range", name: "smoothing", min: 0, max: 0.95, step: 0.05, value: 0, autocomplete: "off" };
      const slider = html("input", range);
      const amount = html("output", {}, "0.00");
      slider.addEventListener("input", () => {
        amount.textContent = Number(slider.value).toFixed(2);
        this.set({ smoothing: Number(slider.value) });
      });

      const labels = [html("label", {}, "metric", select), ...splits, html("label", {}, log, "log axis")];
      return html("div", { class: "controls" }, ...labels, html("label", {}, "smoothing", slider, amount));
    }

    legend() {
      this.entries = this.curves.map((curve, index) => {
        const mark = svg("path", { d: curve.marker, transform: "translate(14,7)" });
        const line = svg("line", { x1: 0, x2: 28, y1: 7, y2: 7 });
        const swatch = { width: 28, height: 14, "aria-hidden": "true", class: `sample ${curve.colour}` };
        const name = html("span", { class: "name" }, html("bdi", {}, curve.label));
        if (curve.run !== curve.label) name.append(html("bdi", { class: "id" }, curve.run));
        const button = html("button", { type: "button", "aria-pressed": "true" }, svg("svg", swatch, line, mark), name);
        button.addEventListener("click", () => this.show([index], !curve.shown));
        const item = html("li", {}, button);
        if (curve.href) item.append(html("a", { href: curve.href, "aria-label": `record of ${curve.run}` }, "record"));
        item.addEventListener("pointerenter", () => this.emphasise(curve.shown ? index : null));
        item.addEventListener("pointerleave", () => this.emphasise(null));
        return { item, button, text: `${curve.label} ${curve.run}` };
      });
      const listed = () => [...this.entries.keys()].filter((index) => !this.entries[index].item.hidden);
      const every = (name, shown) => {
        const button = html("button", { type: "button" }, name);
        button.addEventListener("click", () => this.show(listed(), shown));
        return button;
      };
      this.buttons = html("div", { class: "controls" }, every("Show all", true), every("Hide all", false));
      const filter = filterBox("Filter the runs", (matches) => {
        for (const { item, text } of this.entries) item.hidden = !matches(text);
        const names = listed().length < this.curves.length ? ["Show these", "Hide these"] : ["Show all", "Hide all"];
        names.forEach((name, i) => (this.buttons.children[i].textContent = name));
      });
      if (this.curves.length >= MANY) this.buttons.append(filter);
      const list = html("ul", { "aria-label": "Runs" }, ...this.entries.map(({ item }) => item));
      return html("div", { class: "legend" }, this.buttons, list);
    }

    set(options) {
      Object.assign(this, options);
      this.draw();
    }

    show(indices, shown) {
      for (const index of indices) {
        this.curves[index].shown = shown;
        this.entries[index].button.setAttribute("aria-pressed", String(shown));
      }
      this.emphasise(null);
      this.draw();
    }

    draw() {
      this.width = this.figure.clientWidth;
      const width = Math.max(240, this.width);
      const height = Math.round(Math.min(460, Math.max(280, width * 0.58)));
      const lines = this.curves
        .filter((curve) => curve.shown)
        .flatMap((curve) => curve.metrics)
        .filter((metric) => metric.quantity === this.quantity && this.splits.get(metric.split) !== false)
        .map((metric) => ({ ...metric, smoothed: smooth(metric.values, this.smoothing) }));
      const { x, y, below } = this.drawAxes(lines, width, height);
      this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.plot.setAttribute("height", height);
      for (const group of this.groups) group.replaceChildren();
      this.lines = lines.map((line) => {
        const points = line.steps.map((step, i) => [x(step), y(line.smoothed[i])]);
        const path = points.map((point) => point.map((value) => value.toFixed(1)).join()).join("L");
        const [endX, endY] = points.at(-1);
        this.groups[line.index].append(
          svg("path", { d: `M${path}`, class: `line ${line.split}` }),
          svg("path", { d: this.curves[line.index].marker, transform: `translate(${endX},${endY})`, class: "marker" }),
        );
        return { ...line, points };
      });
      this.describe(below);
      this.point(null);
    }

    describe(below) {
      const shown = this.curves.filter((curve) => curve.shown).length;
      const splits = Object.keys(DASHES).filter((split) => this.lines.some((line) => line.split === split));
      const key = splits.map((split) => `${split} ${DASHES[split]}`).join(", ");
      const count = `${shown} of ${this.curves.length} runs shown${key && ` (${key})`}.`;
      this.note.textContent = count + (below ? " Values that are not positive lie on the lower edge." : "");
      this.plot.setAttribute("aria-label", `${title(this.quantity)} against step. ${count} Arrow keys read the values.`);
    }

    drawAxes(lines, width, height) {
      const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
      if (!lines.length) {
        this.axes.replaceChildren(svg("text", { x: width / 2, y: height / 2, class: "middle" }, "nothing is shown"));
        return {};
      }
      let [first, last] = extent(lines.map((line) => line.steps));
      let [low, high] = extent(lines.map((line) => line.smoothed));
      const log = this.log && high > 0;
      const below = log && low <= 0;
      if (first === last) [first, last] = [first - 1, last + 1];
      if (log) {
        [low] = extent(lines.map((line) => line.smoothed.filter((value) => value > 0)));
        [low, high] = [low / 1.25, high * 1.25];
      } else if (low >= 0) [low, high] = [0, high * 1.04 || 1];
      else [low, high] = [low - (high - low || 1) * 0.04, high + (high - low || 1) * 0.04];
      const x = scale([first, last], [MARGIN.left, right], false);
      const y = scale([low, high], [bottom, MARGIN.top], log);
      const middle = (MARGIN.top + bottom) / 2;
      this.axes.replaceChildren(
        ...(log ? logTicks(low, high) : linearTicks(low, high, 6)).flatMap((tick) => [
          svg("line", { x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
          svg("text", { x: MARGIN.left - 8, y: y(tick) + 4, class: "end" }, number(tick)),
        ]),
        ...linearTicks(first, last, Math.max(2, Math.floor((right - MARGIN.left) / 90))).flatMap((tick) => [
          svg("line", { x1: x(tick), x2: x(tick), y1: bottom, y2: bottom + 5 }),
          svg("text", { x: x(tick), y: bottom + 19, class: "middle" }, number(tick)),
        ]),
        svg("line", { x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }),
        svg("text", { x: (MARGIN.left + right) / 2, y: height - 6, class: "middle" }, "step"),
        svg("text", { transform: `translate(13,${middle}) rotate(-90)`, class: "middle" }, title(this.quantity)),
      );
      return { x, y, below };
    }

    listen() {
      this.plot.addEventListener("pointermove", (event) => {
        const box = this.plot.getBoundingClientRect();
        this.point(this.nearest(event.clientX - box.left, event.clientY - box.top));
      });
      this.plot.addEventListener("pointerleave", () => this.point(null));
      this.plot.addEventListener("blur", () => this.point(null));
      this.plot.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
        if (event.key === "Escape") this.point(null);
        if (!move || !this.lines.length) return;
        event.preventDefault();
        const [line, i] = this.at ? [this.at[0] + move[0], this.at[1] + move[1]] : [0, 0];
        const to = (line + this.lines.length) % this.lines.length;
        this.point([to, Math.min(Math.max(i, 0), this.lines[to].steps.length - 1)]);
      });
    }

    nearest(px, py) {
      let [best, found] = [REACH ** 2, null];
      this.lines.forEach(({ points }, line) => {
        points.forEach(([x, y], i) => {
          const distance = (x - px) ** 2 + (y - py) ** 2;
          if (distance < best) [best, found] = [distance, [line, i]];
        });
      });
      return found;
    }

    // Reads out point i of a line, or nothing; at: [line, i] or null.
    point(at) {
      this.at = at;
      this.tip.hidden = !at;
      this.dot.setAttribute("display", at ? "inline" : "none");
      if (!at) return this.emphasise(null);
      const { index, split, quantity, steps, values, smoothed, points } = this.lines[at[0]];
      const [x, y] = points[at[1]];
      const { label, run, colour } = this.curves[index];
      const unit = quantity.startsWith("error") ? " %" : "";
      const name = `${split} ${quantity.replaceAll("_", " ")}`.trim();
      const also = this.smoothing ? ` (smoothed ${number(smoothed[at[1]], 4)}${unit})` : "";
      this.tip.replaceChildren(
        html("bdi", { class: "label" }, label),
        ...(run === label ? [] : [html("bdi", { class: "id" }, run)]),
        html("span", { class: "value" }, `${name} ${number(values[at[1]])}${unit}${also}`),
        html("span", {}, `step ${number(steps[at[1]])}`),
      );
      fill(this.dot, { cx: x, cy: y, class: `dot ${colour}` }, []);
      // Beside the point, on the side that has room.
      const left = x < this.figure.clientWidth / 2 ? x + 14 : x - 14 - this.tip.offsetWidth;
      const most = Math.max(0, this.figure.clientWidth - this.tip.offsetWidth);
      this.tip.style.left = `${Math.min(Math.max(0, left), most)}px`;
      this.tip.style.top = `${Math.max(0, y - this.tip.offsetHeight - 10)}px`;
      return this.emphasise(index);
    }

    // Draws one run above the others, which fade; null: all alike.
    emphasise(index) {
      if (index === this.emphasised) return;
      this.emphasised = index;
      this.plot.classList.toggle("dimmed", index !== null);
      this.groups.forEach((group, i) => group.classList.toggle("emphasised", i === index));
      this.entries.forEach(({ item }, i) => item.classList.toggle("emphasised", i === index));
      if (index !== null) this.dot.before(this.groups[index]);
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    makeSortable(table);
    makeFilterable(table);
  }
  const root = document.getElementById("chart");
  if (root) new Chart(root);
})();
