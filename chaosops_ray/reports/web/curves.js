// Draws the curves of a run from the document that chaosops_ray/reports/curves.py makes.
//
// This module imports nothing and touches nothing but the element it is given, so that a page may load it as a file (see
// run_page.js) and a report may hold it: new Curves(element, document, uPlot) draws, add(document) takes over what came
// later, and events(document) lists the marks.

const HEIGHT = 190;
const DIAMOND = 4.5;
const MARK_COLOURS = { alarm: "bad", actors: "warn", resumed: "soft", promotion: "soft" };

export function write(value, { sign = false, digits = 1, times = 1, suffix = "" }) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value * times).toFixed(digits);
  const isZero = Number(text) === 0;
  const before = value < 0 && !isZero ? "−" : sign && !isZero ? "+" : "";
  return before + text + suffix;
}

// The mean of all values at most half a window of updates away, at each update that has a value; null elsewhere.
export function smoothed(values, window) {
  const half = Math.floor(window / 2);
  const sums = [0];
  const counts = [0];
  for (const value of values) {
    sums.push(sums.at(-1) + (value ?? 0));
    counts.push(counts.at(-1) + (value === null ? 0 : 1));
  }
  return values.map((value, at) => {
    if (value === null) return null;
    const first = Math.max(0, at - half);
    const last = Math.min(values.length, at + half + 1);
    return (sums[last] - sums[first]) / (counts[last] - counts[first]);
  });
}

// The same values joined across updates without one, unless there are more of these than a window.
export function joined(values, window) {
  const found = [...values];
  let before = -1;
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] === null) continue;
    const gap = at - before;
    if (before >= 0 && gap > 1 && gap <= window) {
      for (let place = before + 1; place < at; place += 1) {
        found[place] = values[before] + ((values[at] - values[before]) * (place - before)) / gap;
      }
    }
    before = at;
  }
  return found;
}

export class Curves {
  constructor(element, document_, uPlot) {
    this.element = element;
    this.uPlot = uPlot;
    this.document = document_;
    this.page = element.ownerDocument;
    this.window = this.page.defaultView;
    this.build();
    this.window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    new this.window.ResizeObserver(() => this.resize()).observe(element);
  }

  // Takes over the values of later updates, or everything if the run was begun again.
  add(later) {
    if (later.updates[0] === this.document.updates.length + 1 || later.updates.length === 0) {
      const columns = this.document.columns;
      for (const key of Object.keys(columns)) columns[key].push(...later.columns[key]);
      this.document = { ...later, columns, updates: [...this.document.updates, ...later.updates] };
    } else {
      this.document = later;
    }
    for (const panel of this.panels) panel.draw(this.document);
    if (this.panels.length === 0) this.build();
  }

  build() {
    for (const panel of this.panels ?? []) panel.plot.destroy();
    this.panels = [];
    this.element.replaceChildren();
    for (const figure of this.document.figures) {
      const chart = this.make("figure", "chart");
      chart.append(this.make("h3", "", figure.title), this.make("p", "help", figure.help));
      for (const panel of figure.panels) {
        const drawn = new Panel(this, figure, panel);
        chart.append(drawn.element);
        this.panels.push(drawn);
      }
      this.element.append(chart);
    }
    for (const panel of this.panels) panel.draw(this.document);
  }

  resize() {
    for (const panel of this.panels) panel.resize();
  }

  make(name, kind, text = "") {
    const made = this.page.createElement(name);
    if (kind) made.className = kind;
    made.textContent = text;
    return made;
  }

  colour(name) {
    return this.window.getComputedStyle(this.page.documentElement).getPropertyValue(name).trim();
  }
}

class Panel {
  constructor(curves, figure, panel) {
    this.curves = curves;
    this.figure = figure;
    this.panel = panel;
    this.element = curves.make("div", "panel");
    this.element.append(curves.make("p", "panel-name", `${panel.label}, ${panel.unit}`));
    this.readout = curves.make("div", "readout");
    this.place = curves.make("div", "plot");
    this.place.tabIndex = 0;
    this.place.setAttribute("role", "group");
    this.place.addEventListener("keydown", (event) => this.step(event));
    this.place.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    this.element.append(this.readout, this.place);
    this.plot = null;
  }

  // The values as they are drawn: the updates, and for each line its faint points, its course and its held-out figures.
  values(given) {
    const { updates, columns, window } = given;
    this.lines = this.panel.lines.map((line) => {
      const raw = columns[line.key];
      const held = line.held_out ? columns[line.held_out] : null;
      const mean = smoothed(raw, window);
      return { ...line, raw, mean, course: joined(mean, window), held };
    });
    if (this.figure.stacked) {
      const sums = updates.map(() => 0);
      const tops = this.lines.map((line) => line.course.map((value, at) => (sums[at] += value ?? 0)));
      return [updates, ...tops.reverse()];
    }
    const drawn = this.lines.flatMap((line) => [line.raw, line.course, ...(line.held ? [line.held] : [])]);
    return [updates, ...drawn];
  }

  draw(given) {
    this.given = given;
    const data = this.values(given);
    if (this.plot === null) {
      this.plot = new this.curves.uPlot(this.options(), data, this.place);
      this.resize();
    } else {
      this.plot.setData(data);
    }
    this.read(null);
  }

  resize() {
    const width = this.place.clientWidth;
    if (width && this.plot) this.plot.setSize({ width, height: this.height() });
  }

  height() {
    return this.figure.panels.length > 1 ? Math.round(HEIGHT * 0.75) : HEIGHT;
  }

  options() {
    const { curves, panel } = this;
    const axis = {
      stroke: curves.colour("--soft"),
      font: "12px system-ui, sans-serif",
      grid: { stroke: curves.colour("--line"), width: 1 },
      ticks: { show: false },
    };
    return {
      width: this.place.clientWidth || 400,
      height: this.height(),
      legend: { show: false },
      padding: [14, 8, 0, 0],
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: true } },
      scales: { x: { time: false, range: (_, low, high) => [Math.min(low, high - 1) - 0.5, high + 0.5] }, y: { range: (_, low, high) => this.range(low, high) } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, values: (_, at) => at.map((value) => (Number.isInteger(value) ? value : "")) },
        { ...axis, size: 58, values: (_, at, __, ___, step) => at.map((value) => this.tick(value, step)) },
      ],
      series: [{}, ...this.series()],
      hooks: {
        drawClear: [(plot) => this.drawBands(plot)],
        draw: [(plot) => this.drawMarks(plot)],
        setCursor: [(plot) => this.read(plot.cursor.idx ?? null)],
      },
      focus: { alpha: 1 },
    };
  }

  tick(value, step) {
    const { times = 1, sign } = this.panel.form;
    const digits = Math.max(0, Math.ceil(-Math.log10(step * times) - 1e-9));
    return write(value, { sign, times, digits });
  }

  range(low, high) {
    const { low: least, high: most, alarm } = this.panel;
    if (low === null || high === null) return [least ?? 0, most ?? 1];
    if (least !== undefined && most !== undefined) return [least - 0.03, most + 0.03];
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    let top = high + room;
    if (alarm !== undefined && high > alarm / 2) top = Math.max(top, 1.15 * alarm);
    if (alarm !== undefined) return [Math.min(0, 1.15 * low), top];
    return [least ?? low - room, top];
  }

  series() {
    const { curves } = this;
    const colours = this.panel.lines.map((line) => curves.colour(`--series-${line.colour}`));
    if (this.figure.stacked) {
      return colours.map((colour) => ({ stroke: colour, fill: colour, width: 0, points: { show: false } })).reverse();
    }
    return this.panel.lines.flatMap((line, place) => {
      const colour = colours[place];
      const dots = { width: 0, stroke: `${colour}00`, points: { show: true, size: 3.5, width: 0, fill: `${colour}40` } };
      const course = { stroke: colour, width: 2, points: { show: (plot) => this.isSingle(plot, line), size: 6, fill: colour } };
      const held = { stroke: colour, width: 1, dash: [2, 3], spanGaps: true, points: { show: true, size: 2 * DIAMOND, width: 1, fill: colour, paths: (plot, at) => diamonds(plot, at, colour) } };
      return [dots, course, ...(line.held_out ? [held] : [])];
    });
  }

  isSingle(_, line) {
    return this.given.columns[line.key].filter((value) => value !== null).length === 1;
  }

  drawBands(plot) {
    const { ctx, bbox } = plot;
    const { bands, updates } = this.given;
    const end = updates.length + 0.5;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
    ctx.clip();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textBaseline = "bottom";
    bands.forEach((band, place) => {
      const left = plot.valToPos(band.from - 0.5, "x", true);
      const right = plot.valToPos(Math.min(end, (bands[place + 1]?.from ?? Infinity) - 0.5), "x", true);
      if (right <= left) return;
      if (place % 2 === 0) {
        ctx.fillStyle = this.curves.colour("--band");
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
      }
      const from = Math.max(left, bbox.left) + 3;
      if (ctx.measureText(band.text).width < right - from) {
        ctx.fillStyle = this.curves.colour("--soft");
        ctx.fillText(band.text, from, bbox.top - 1);
      }
    });
    ctx.restore();
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const across = (value, colour, dash) => {
      const y = Math.round(plot.valToPos(value, "y", true)) + 0.5;
      line(ctx, [bbox.left, y], [bbox.left + bbox.width, y], colour, dash);
    };
    if (plot.scales.y.min < 0 && plot.scales.y.max > 0 && !this.panel.high) across(0, this.curves.colour("--soft"), []);
    const { alarm } = this.panel;
    if (alarm !== undefined && plot.scales.y.max > alarm) across(alarm, this.curves.colour("--bad"), [6, 4]);
    for (const mark of this.given.marks.filter(({ kind }) => kind !== "start")) {
      const x = Math.round(plot.valToPos(mark.update, "x", true)) + 0.5;
      line(ctx, [x, bbox.top], [x, bbox.top + bbox.height], this.curves.colour(`--${MARK_COLOURS[mark.kind] ?? "soft"}`), [3, 3]);
    }
    ctx.restore();
  }

  step(event) {
    const { plot } = this;
    const last = this.given.updates.length - 1;
    const now = plot.cursor.idx ?? last;
    const big = Math.max(1, Math.round(last / 20));
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - big, PageUp: now + big, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    const at = Math.min(last, Math.max(0, to));
    plot.setCursor({ left: plot.valToPos(this.given.updates[at], "x"), top: 10 });
  }

  // Writes the figures of an update above the chart; without one, those of the last update that has them.
  read(at) {
    const { form } = this.panel;
    const parts = [];
    const spoken = [];
    if (at !== null) parts.push(this.curves.make("span", "at", `update ${this.given.updates[at]}`));
    for (const line of this.lines) {
      const values = this.figure.stacked ? line.course : line.mean;
      const place = at ?? values.findLastIndex((value) => value !== null);
      const part = this.curves.make("span", "");
      const held = at === null || !line.held || line.held[at] === null ? "" : ` · held out ${write(line.held[at], form)}`;
      const text = `${line.name} ${write(values[place] ?? null, form)}${held}`;
      part.append(this.curves.make("span", `swatch series-${line.colour}`), text);
      parts.push(part);
      spoken.push(text);
    }
    this.readout.replaceChildren(...parts);
    if (at === null) {
      this.place.setAttribute("aria-label", `${this.figure.title}, ${this.panel.label}. Last: ${spoken.join(", ")}. Arrow keys read other updates.`);
      this.readout.removeAttribute("aria-live");
    } else {
      this.readout.setAttribute("aria-live", "polite");
    }
  }
}

function line(ctx, from, to, colour, dash) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

function diamonds(plot, at, colour) {
  const path = new Path2D();
  const size = DIAMOND * devicePixelRatio;
  plot.data[at].forEach((value, place) => {
    if (value === null || value === undefined) return;
    const x = plot.valToPos(plot.data[0][place], "x", true);
    const y = plot.valToPos(value, "y", true);
    path.moveTo(x - size, y);
    path.lineTo(x, y - size);
    path.lineTo(x + size, y);
    path.lineTo(x, y + size);
    path.closePath();
  });
  plot.ctx.fillStyle = colour;
  return { stroke: path, fill: path, flags: 3 };
}

// The marks of a document as items of a list.
export function events(page, document_) {
  return document_.marks.map((mark) => {
    const item = page.createElement("li");
    const at = page.createElement("span");
    at.className = "at";
    at.textContent = mark.update;
    item.append(at, mark.text);
    if (mark.kind === "alarm") item.className = "bad";
    return item;
  });
}
