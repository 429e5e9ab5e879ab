// What may be changed while it runs, built from what the server tells of it.

const PAUSE_MS = 120; // between two values of a slider that is being dragged
const REST_MS = 1500; // after a change of ours, the server's values are taken for older than ours

export class Controls {
  constructor(panel, place, answer) {
    Object.assign(this, { panel, place, answer });
    this.shape = ""; // of what is built: kinds, names and limits, without values
    this.parts = new Map(); // "node/control" -> { show(value), touched }
  }

  // tree: {node: {control: {kind, label, value, ...}}}
  show(tree) {
    const shape = JSON.stringify(tree, (key, value) => (key === "value" ? undefined : value));
    if (shape !== this.shape && !this.place.contains(document.activeElement)) {
      this.shape = shape;
      this.build(tree);
    }
    for (const [node, controls] of Object.entries(tree)) {
      for (const [name, control] of Object.entries(controls)) {
        const part = this.parts.get(`${node}/${name}`);
        if (part && performance.now() - part.touched > REST_MS) part.show(control.value);
      }
    }
  }

  build(tree) {
    this.parts.clear();
    const groups = Object.entries(tree).map(([node, controls]) => {
      const group = document.createElement("fieldset");
      group.className = "group";
      const legend = document.createElement("legend");
      legend.textContent = node;
      group.append(legend);
      for (const [name, control] of Object.entries(controls)) group.append(this.one(node, name, control));
      return group;
    });
    this.place.replaceChildren(...groups);
    this.panel.hidden = groups.length === 0;
  }

  one(node, name, control) {
    const part = { touched: -Infinity, show: () => {} };
    const send = (value) => {
      part.touched = performance.now();
      this.change(node, name, value);
    };
    this.parts.set(`${node}/${name}`, part);
    const row = document.createElement("div");
    row.className = "control";
    const id = `control-${this.parts.size}`;
    if (control.kind === "action") {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = control.label;
      button.addEventListener("click", () => send(null));
      row.append(button);
      return row;
    }
    const label = document.createElement("label");
    label.htmlFor = id;
    label.textContent = control.label;
    const makers = { number: numberInput, choice: choiceInput, switch: switchInput };
    row.append(label, ...makers[control.kind](id, control, part, send));
    return row;
  }

  async change(node, control, value) {
    try {
      const answer = await fetch("/api/controls", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ node, control, value }),
      });
      this.answer.textContent = answer.ok ? "" : (await answer.text()).trim();
    } catch {
      this.answer.textContent = "not changed: the server cannot be reached";
    }
  }
}

function numberInput(id, control, part, send) {
  const input = document.createElement("input");
  const shown = document.createElement("output");
  shown.htmlFor = id;
  const bounded = control.least !== null && control.most !== null;
  input.type = bounded ? "range" : "number";
  Object.assign(input, { id, step: control.step });
  if (control.least !== null) input.min = control.least;
  if (control.most !== null) input.max = control.most;
  const write = () => {
    shown.textContent = `${bounded ? input.value : ""} ${control.unit}`;
    input.setAttribute("aria-valuetext", `${input.value} ${control.unit}`);
  };
  const go = spaced((value) => send(value));
  input.addEventListener(bounded ? "input" : "change", () => {
    write();
    part.touched = performance.now();
    if (input.value !== "") go(Number(input.value));
  });
  part.show = (value) => {
    input.value = value;
    write();
  };
  part.show(control.value);
  return [shown, input];
}

function choiceInput(id, control, part, send) {
  const select = document.createElement("select");
  select.id = id;
  select.append(...control.choices.map((word) => new Option(word, word)));
  select.addEventListener("change", () => send(select.value));
  part.show = (value) => (select.value = value);
  part.show(control.value);
  return [select];
}

function switchInput(id, control, part, send) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.id = id;
  box.setAttribute("role", "switch");
  box.addEventListener("change", () => send(box.checked));
  part.show = (value) => (box.checked = value);
  part.show(control.value);
  return [box];
}

// The newest value at once or after a pause; the last one is never lost.
function spaced(act) {
  let waiting = false;
  let next;
  return (value) => {
    if (waiting) {
      next = value;
      return;
    }
    act(value);
    waiting = true;
    next = undefined;
    setTimeout(function again() {
      if (next === undefined) {
        waiting = false;
        return;
      }
      act(next);
      next = undefined;
      setTimeout(again, PAUSE_MS);
    }, PAUSE_MS);
  };
}
