const OUTLIER = 14, LEFT = 54, WIDE = 19; // its place; where the first column begins, and a column
const single = Math.fround; // minilora computes in float32
const weights = DATA.weights.map(single);
let chosen = OUTLIER;
let dragged = null; // the axis that a drag began with

// Codes, absmax, what is read back, bytes and error of the weights, as minilora/quant/plain.py has them.
function quantized({ values, midpoints, order }, size) {
  const codes = [], absmax = [], back = [], bytes = [];
  for (let start = 0; start < weights.length; start += size) {
    const block = weights.slice(start, start + size);
    const most = Math.max(...block.map(Math.abs));
    const inverse = single(1 / Math.max(most, single(1e-38)));
    absmax.push(most);
    for (const x of block) {
      const code = order[midpoints.filter((limit) => limit < single(x * inverse)).length];
      codes.push(code);
      back.push(single(values[code] * most));
    }
  }
  for (let i = 0; i < codes.length; i += 2) bytes.push((codes[i] << 4) | codes[i + 1]);
  const squares = back.map((x, i) => (x - weights[i]) ** 2);
  return { codes, absmax, back, bytes, error: Math.sqrt(squares.reduce((a, x) => a + x, 0) / squares.length) };
}

const column = (i) => LEFT + WIDE * (i + 0.5);
const words = (svg, x, y, text, look = "") =>
  draw(svg, "text", { x, y, "text-anchor": "middle", style: `font-size: 12px; ${look}` }, String(text));
const digit = (code) => code.toString(16).toUpperCase();
const byte = (code) => `0x${digit(code >> 4)}${digit(code & 15)}`;

function bars() {
  const svg = byId("weights"), middle = 72;
  const axis = dragged ?? 1.25 * Math.max(0.01, ...weights.map(Math.abs));
  svg.replaceChildren();
  svg.dataset.axis = axis;
  weights.forEach((x, i) => {
    const tall = (60 * Math.min(Math.abs(x), axis)) / axis;
    const fill = i === chosen ? "#d95f02" : "var(--soft)";
    draw(svg, "rect", { x: column(i) - 7, y: x < 0 ? middle : middle - tall, width: 14, height: tall, fill });
    words(svg, column(i), 152, i + 1, i === chosen ? "font-weight: bold" : "");
    if (i === chosen) {
      const inside = Math.min(330, Math.max(30, column(i)));
      words(svg, inside, x < 0 ? middle + tall + 13 : middle - tall - 4, show(x, 3));
    }
  });
  draw(svg, "path", { d: `M${LEFT} ${middle}h304`, class: "axis" });
}

function ruler(kind, book, size) {
  const svg = byId(kind), middle = 116, unit = 92;
  const found = quantized(book, size);
  svg.replaceChildren();
  draw(svg, "rect", { x: column(chosen) - 9, y: 22, width: 18, height: 212, fill: "var(--line)" });
  for (const mark of new Set(book.values.filter((value) => Math.abs(value) <= 1)))
    draw(svg, "path", { d: `M${LEFT} ${middle - unit * mark}h304`, class: "axis", "stroke-width": 0.6 });
  for (const mark of [-1, 0, 1]) words(svg, 42, middle - unit * mark + 4, mark);
  for (const [y, name] of [[14, "absmax"], [230, "codes"], [258, "bytes"]]) words(svg, 26, y, name);
  found.absmax.forEach((most, b) => {
    words(svg, LEFT + WIDE * size * (b + 0.5), 14, show(most, 3));
    if (b) draw(svg, "path", { d: `M${LEFT + WIDE * size * b} 4v264`, class: "axis", "stroke-dasharray": "4 3" });
  });
  weights.forEach((x, i) => {
    const most = found.absmax[Math.floor(i / size)] || 1;
    const at = middle - (unit * x) / most, goes = middle - (unit * found.back[i]) / most;
    draw(svg, "path", { d: `M${column(i)} ${at}V${goes}`, stroke: "var(--ink)" });
    draw(svg, "rect", { x: column(i) - 8, y: goes - 2, width: 16, height: 4, fill: "#d95f02" });
    draw(svg, "circle", { cx: column(i), cy: at, r: 4, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5 });
    words(svg, column(i), 230, digit(found.codes[i]));
  });
  found.bytes.forEach((one, i) => {
    draw(svg, "path", { d: `M${column(2 * i) - 8} 236v5h${WIDE + 16}v-5`, class: "axis" });
    words(svg, LEFT + WIDE * (2 * i + 1), 258, byte(one));
  });
  byId(`${kind}-says`).textContent =
    `${book.name}: error ${show(found.error, 4)}; bytes ${found.bytes.map(byte).join(" ")}`;
  return found;
}

function update() {
  const size = Number(byId("block").value), x = weights[chosen];
  bars();
  byId("which").value = chosen + 1;
  byId("value").value = x;
  byId("value").setAttribute("aria-valuetext", show(x, 3));
  let said = `Weight ${chosen + 1} is ${show(x, 4)}`;
  for (const [kind, book] of Object.entries(DATA.books)) {
    const { absmax, codes, back } = ruler(kind, book, size);
    if (kind === "nf4") said += `, and its block's absmax ${show(absmax[Math.floor(chosen / size)], 4)}.`;
    const code = codes[chosen];
    said += ` ${book.name}: code ${code}, mark ${show(book.values[code], 4)}, read back as ${show(back[chosen], 4)}.`;
  }
  byId("said").textContent = `${said} In blocks of ${size}, a weight takes 4 + 32 / ${size} = ${4 + 32 / size} bits.`;
}

function tenfold() {
  weights[chosen] = single(Math.max(-2, Math.min(2, 10 * weights[chosen])));
  update();
}

byId("which").addEventListener("input", () => {
  chosen = Number(byId("which").value) - 1;
  update();
});
byId("value").addEventListener("input", () => {
  weights[chosen] = single(Number(byId("value").value));
  update();
});
byId("block").addEventListener("input", update);
byId("tenfold").addEventListener("click", tenfold);
byId("reset").addEventListener("click", () => {
  DATA.weights.forEach((x, i) => (weights[i] = x));
  update();
});

function mayBeDragged(svg) {
  const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  svg.style.touchAction = "none";
  svg.style.cursor = "ns-resize";
  svg.addEventListener("pointerdown", (event) => {
    svg.setPointerCapture(event.pointerId);
    chosen = Math.max(0, Math.min(15, Math.floor((place(event).x - LEFT) / WIDE)));
    dragged = Number(svg.dataset.axis);
    update();
  });
  svg.addEventListener("pointermove", (event) => {
    if (dragged === null) return;
    weights[chosen] = single(Math.max(-dragged, Math.min(dragged, ((72 - place(event).y) / 60) * dragged)));
    update();
  });
  for (const end of ["pointerup", "pointercancel"])
    svg.addEventListener(end, () => {
      dragged = null;
      update();
    });
}

guess((times) => {
  const errors = () => Object.values(DATA.books).map((book) => quantized(book, 16).error);
  const before = errors();
  tenfold();
  const after = errors();
  const [nf4, int4] = after.map((error, i) => show(error / before[i], 1));
  byId("verdict").textContent =
    `NF4's error is ${show(after[0], 4)} and was ${show(before[0], 4)}: ${nf4} times. You said ${show(times, 1)}. ` +
    `INT4's is ${int4} times as large. The other weights crowd around the middle marks. In shorter blocks, only those of ` +
    "the outlier's own block do: choose 4.";
  mayBeDragged(byId("weights"));
  byId("block").focus();
});
update();
