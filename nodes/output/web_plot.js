// Curves over the last minutes on a canvas, with their names and newest values as text beside it.

const SECONDS = 300;
const COLOURS = ["#6aa9e0", "#e0a83c", "#6fbf73", "#f0766a"];
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]]; // colour alone tells nothing to many
const MARKS = ["\u2501", "\u2505", "\u2508", "\u254c"];

export class Plot {
  // least: the smallest span of values, so that noise does not look like a storm.
  constructor(title, unit, least) {
    Object.assign(this, { title, unit, least });
    this.figure = document.createElement("figure");
    this.figure.className = "plot";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.caption = document.createElement("figcaption");
    this.figure.append(this.canvas, this.caption);
  }

  // seconds: of each sample, 0 for now; curves: [[name, values]], null where there is none.
  show(seconds, curves) {
    this.figure.hidden = curves.length === 0;
    if (this.figure.hidden) return;
    this.name(curves);
    const [low, high] = this.range(curves);
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const box = { left: 44, top: 6, right: width - 4, bottom: height - 16 };
    const x = (second) => box.right + (second / SECONDS) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    this.axes(context, box, x, low, high);
    curves.forEach(([, values], index) => this.curve(context, seconds, values, index, x, y));
  }

  range(curves) {
    const values = curves.flatMap(([, some]) => some).filter((value) => value !== null);
    let low = 1.1 * Math.min(0, ...values); // with some air, so that no curve lies on the frame
    let high = 1.1 * Math.max(0, ...values);
    if (high - low < this.least) low < 0 ? ([low, high] = [-this.least, this.least]) : (high = low + this.least);
    return [low, high];
  }

  axes(context, box, x, low, high) {
    context.strokeStyle = "#2c3135";
    context.fillStyle = "#8a9298";
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.strokeRect(box.left + 0.5, box.top + 0.5, box.right - box.left, box.bottom - box.top);
    context.textAlign = "right";
    context.fillText(short(high), box.left - 4, box.top + 9);
    context.fillText(short(low), box.left - 4, box.bottom);
    for (const [second, text, align] of [[-300, "5 min ago", "left"], [-150, "", "center"], [0, "now", "right"]]) {
      context.textAlign = align;
      context.fillText(text, x(second), box.bottom + 13);
      context.beginPath();
      context.moveTo(x(second), box.bottom);
      context.lineTo(x(second), box.bottom + 3);
      context.stroke();
    }
  }

  curve(context, seconds, values, index, x, y) {
    context.strokeStyle = COLOURS[index % COLOURS.length];
    context.setLineDash(DASHES[index % DASHES.length]);
    context.lineWidth = 1.5;
    context.beginPath();
    let drawing = false; // a gap stays a gap
    values.forEach((value, sample) => {
      if (value === null || seconds[sample] < -SECONDS) {
        drawing = false;
        return;
      }
      drawing ? context.lineTo(x(seconds[sample]), y(value)) : context.moveTo(x(seconds[sample]), y(value));
      drawing = true;
    });
    context.stroke();
    context.setLineDash([]);
  }

  name(curves) {
    const keys = curves.map(([name, values], index) => {
      const key = document.createElement("span");
      key.className = "key";
      key.dataset.colour = index % COLOURS.length;
      key.dataset.mark = MARKS[index % MARKS.length];
      const last = values.at(-1) ?? null;
      key.textContent = `${name} ${last === null ? "-" : short(last)} ${this.unit}`;
      return key;
    });
    this.caption.replaceChildren(...keys);
    this.canvas.setAttribute("aria-label", `${this.title}: ${keys.map((key) => key.textContent).join(", ")}`);
  }
}

export function short(value) {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}
