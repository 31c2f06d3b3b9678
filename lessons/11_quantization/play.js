const single = Math.fround; // minilora computes in float32
const weights = DATA.weights.map(single), N = weights.length;
const OUTLIER = weights.map(Math.abs).indexOf(Math.max(...weights.map(Math.abs)));
const LEFT = 40, WIDE = 355 / N, MIDDLE = 118, UNIT = 92; // of the picture: its columns, zero and half
const rms = (values) => Math.sqrt(values.reduce((a, x) => a + x * x, 0) / values.length);
const AXIS = 1.2 * Math.max(...weights.map(Math.abs)); // stays, so that one sees the ruler stretch
const WHOLE = rms(weights);
let chosen = OUTLIER;
let isDragged = false;

// Codes, absmax, what is read back, bytes and error of the weights, as minilora/quant/plain.py has them.
function quantized({ values, midpoints, order }, size) {
  const codes = [], absmax = [], back = [], bytes = [], codeOf = (x) => order[midpoints.filter((limit) => limit < x).length];
  for (let start = 0; start < weights.length; start += size) {
    const block = weights.slice(start, start + size);
    const most = Math.max(...block.map(Math.abs));
    const inverse = single(1 / Math.max(most, single(1e-38)));
    absmax.push(most);
    for (const x of block) {
      const code = codeOf(single(x * inverse));
      codes.push(code);
      back.push(single(values[code] * most));
    }
  }
  for (let i = 0; i < codes.length; i += 2) bytes.push((codes[i] << 4) | (codes[i + 1] ?? codeOf(0)));
  return { codes, absmax, back, bytes, error: rms(back.map((x, i) => x - weights[i])) };
}

const svg = byId("ruler");
const column = (i) => LEFT + WIDE * (i + 0.5);
const words = (x, y, text, look = {}) => draw(svg, "text", { x, y, "text-anchor": "middle", style: "font-size: 12px", ...look }, String(text));
const digit = (code) => code.toString(16).toUpperCase();
const byte = (code) => `0x${digit(code >> 4)}${digit(code & 15)}`;
const height = (x) => MIDDLE - UNIT * Math.max(-1.06, Math.min(1.06, x / AXIS));

function ruler(book, { codes, absmax, back }, size) {
  svg.replaceChildren();
  draw(svg, "rect", { x: column(chosen) - WIDE * 0.45, y: 18, width: WIDE * 0.9, height: 232, fill: "var(--panel)" });
  const power = Math.floor(Math.log10(AXIS)), isPlain = power > -3 && power < 3;
  for (const k of [-4, -2, -1, 0, 1, 2, 4]) {
    const at = k * 10 ** power;
    if (Math.abs(at) < AXIS) words(20, height(at) + 4, isPlain || !k ? Number(at.toPrecision(1)) : `${k}e${power}`);
  }
  absmax.forEach((most, b) => {
    const start = LEFT + WIDE * size * b, long = WIDE * Math.min(size, N - size * b);
    for (const mark of new Set(book.values))
      if (Math.abs(mark * most) < AXIS)
        draw(svg, "path", { d: `M${start + 3} ${height(mark * most)}h${long - 6}`, class: "axis", "stroke-width": 0.8 });
    if (b) draw(svg, "path", { d: `M${start} 6v244`, class: "axis", "stroke-dasharray": "4 3" });
  });
  weights.forEach((x, i) => {
    const at = height(x), goes = height(back[i]), isOff = Math.abs(x) > AXIS;
    draw(svg, "path", { d: `M${column(i)} ${at}V${goes}`, stroke: "var(--memory-gradients)", "stroke-width": 4 });
    draw(svg, "rect", { x: column(i) - WIDE * 0.4, y: goes - 2, width: WIDE * 0.8, height: 4, fill: "var(--ink)" });
    draw(svg, "circle", { cx: column(i), cy: at, r: 4.5, fill: i === chosen ? "var(--ink)" : "var(--page)", stroke: "var(--ink)", "stroke-width": 1.5 });
    if (isOff) words(column(i), x > 0 ? at - 9 : at + 18, show(x, 2), { style: "font-weight: 600" });
    words(column(i), 246, digit(codes[i]), { style: `font-size: 12px; ${i === chosen ? "font-weight: 700" : ""}` });
  });
  words(18, 246, "code");
  words(0, 265, "absmax", { "text-anchor": "start" });
  absmax.forEach((most, b) => {
    const middle = LEFT + WIDE * (size * b + Math.min(size, N - size * b) / 2);
    words(Math.max(70, Math.min(380, middle)), 265, show(most, 3));
  });
}

function update() {
  const size = Number(byId("block").value), x = weights[chosen];
  byId("which").value = chosen + 1;
  byId("value").value = x;
  byId("value").setAttribute("aria-valuetext", show(x, 3));
  let said = `Weight ${chosen + 1} is ${show(x, 4)}`;
  for (const [kind, book] of Object.entries(DATA.books)) {
    const found = quantized(book, size), { absmax, codes, back, bytes, error } = found;
    if (kind === byId("book").value) ruler(book, found, size);
    gauge(`${kind}-gauge`, error / WHOLE, show(error, 4));
    byId(`${kind}-says`).textContent = `${book.name}: error ${show(error, 4)}; bytes ${bytes.map(byte).join(" ")}`;
    if (kind === "nf4") said += `, and its block's absmax ${show(absmax[Math.floor(chosen / size)], 4)}.`;
    const code = codes[chosen];
    said += ` ${book.name}: code ${code}, mark ${show(book.values[code], 4)}, read back as ${show(back[chosen], 4)}.`;
  }
  byId("said").textContent = `${said} In blocks of ${size}, a weight takes 4 + 32 / ${size} = ${4 + 32 / size} bits.`;
}

const most = Number(byId("value").max), step = Number(byId("value").step);
const change = (x) => (weights[chosen] = single(Math.max(-most, Math.min(most, x))));
for (const [kind, { name }] of Object.entries(DATA.books)) byId("book").add(new Option(name, kind));

byId("which").addEventListener("input", () => (chosen = Number(byId("which").value) - 1));
byId("value").addEventListener("input", () => {
  const x = Number(byId("value").value);
  if (Math.abs(x - weights[chosen]) > 0.52 * step) change(x); // the slider's steps are coarser
});
const redraw = begin({ weight: "which", value: "value", block: "block", ruler: "book" }, update, (times) => {
  const errors = () => Object.values(DATA.books).map((book) => quantized(book, 16).error);
  const now = [...weights];
  DATA.weights.forEach((x, i) => (weights[i] = single(x)));
  const before = errors();
  weights[OUTLIER] = single(10 * weights[OUTLIER]);
  const after = errors();
  const [nf4, int4] = after.map((error, i) => show(error / before[i], 1));
  byId("verdict").textContent =
    `With weight ${OUTLIER + 1} ten times as large, NF4's error is ${show(after[0], 4)} and was ${show(before[0], 4)}: ${nf4} times. ` +
    (times === null ? "" : `You said ${show(times, 1)}. `) + `INT4's is ${int4} times as large.`;
  if (times === null && given().has("value")) now.forEach((x, i) => (weights[i] = x));
  else if (times === null) return;
  else {
    const end = weights[OUTLIER];
    weights[OUTLIER] = single(DATA.weights[OUTLIER]);
    update();
    glide(byId("value"), end, () => {
      const x = Number(byId("value").value);
      change(Math.abs(x - end) < 0.6 * step ? end : x);
      redraw();
    });
  }
});
byId("tenfold").addEventListener("click", () => {
  change(10 * weights[chosen]);
  redraw();
});
byId("reset").addEventListener("click", () => {
  DATA.weights.forEach((x, i) => (weights[i] = x));
  redraw();
});

const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
svg.style.cursor = "ns-resize";
svg.addEventListener("pointerdown", (event) => {
  const i = Math.floor((place(event).x - LEFT) / WIDE);
  if (!byId("guess").hidden || i < 0 || i >= N) return;
  svg.setPointerCapture(event.pointerId);
  [chosen, isDragged] = [i, true];
  redraw();
});
svg.addEventListener("pointermove", (event) => {
  if (!isDragged) return;
  change(((MIDDLE - place(event).y) / UNIT) * AXIS);
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => (isDragged = false));
