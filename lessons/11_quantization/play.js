const single = Math.fround; // minilora computes in float32
const OWN = DATA.weights.map(single), N = OWN.length;
const LARGEST = Math.max(...OWN.map(Math.abs)), OUTLIER = OWN.findIndex((x) => Math.abs(x) === LARGEST);
const LEFT = 34, WIDE = 296 / N, MIDDLE = 118, UNIT = 92; // of the picture: its columns, zero and half
const RIGHT = 366; // where the whole ruler stands
const AXIS = 1.2 * LARGEST, MOST = 10 * AXIS, LEAST = AXIS / 64; // the axis stays, so that one sees the ruler stretch
const rms = (values) => Math.sqrt(values.reduce((a, x) => a + x * x, 0) / values.length);
const svg = byId("ruler"), slider = byId("slide");
const SIZE = Number(byId("block").value); // of the blocks that the guess is about
const END = 10 * OWN[OUTLIER]; // what the guess is about
let mine = null; // the guess
const chosen = () => Number(byId("which").value) - 1;

// The slider's place, from -1 to 1, and the value there: logarithmic on both sides of zero.
const placeOf = (x) => (Math.sign(x) * Math.log1p(Math.abs(x) / LEAST)) / Math.log1p(MOST / LEAST);
const valueAt = (place) => Math.sign(place) * LEAST * Math.expm1(Math.abs(place) * Math.log1p(MOST / LEAST));

const value = () => Math.max(-MOST, Math.min(MOST, Number(byId("value").value) || 0));
const changed = (i, x) => OWN.map((own, j) => (j === i ? single(x) : own));

// Codes, scales, what is read back, bytes and error of weights, as minilora/quant/plain.py has them.
function quantized(weights, { values, midpoints, order }, size) {
  const codes = [], absmax = [], back = [], bytes = [], codeOf = (x) => order[midpoints.filter((limit) => limit < x).length];
  for (let start = 0; start < N; start += size) {
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
  for (let i = 0; i < N; i += 2) bytes.push((codes[i] << 4) | (codes[i + 1] ?? codeOf(0)));
  return { codes, absmax, back, bytes, error: rms(back.map((x, i) => x - weights[i])) };
}
const plural = (n) => `${show(n)} mark${n === 1 ? "" : "s"}`;
// Values of the others in the block of weight i.
const others = (values, i, size) => values.filter((_, j) => j !== i && Math.floor(j / size) === Math.floor(i / size));
const marks = ({ codes }, i, size) => new Set(others(codes, i, size));

const column = (i) => LEFT + WIDE * (i + 0.5);
const words = (x, y, text, look = {}) => draw(svg, "text", { x, y, "text-anchor": "middle", style: "font-size: 12px", ...look }, String(text));
const byte = (code) => `0x${code.toString(16).toUpperCase().padStart(2, "0")}`;
const height = (x) => MIDDLE - UNIT * Math.max(-1.06, Math.min(1.06, x / AXIS));

function ruler(weights, book, now, size) {
  const { absmax, back } = now, isOpen = byId("guess").hidden;
  svg.replaceChildren();
  draw(svg, "rect", { x: column(chosen()) - WIDE * 0.45, y: 18, width: WIDE * 0.9, height: 236, fill: "var(--panel)" });
  const power = Math.floor(Math.log10(AXIS)), isPlain = power > -3 && power < 3;
  for (const k of [-4, -2, -1, 0, 1, 2, 4]) {
    const at = k * 10 ** power;
    if (Math.abs(at) < AXIS) words(16, height(at) + 4, isPlain || !k ? Number(at.toPrecision(1)) : `${k}e${power}`);
  }
  absmax.forEach((most, b) => {
    const start = LEFT + WIDE * size * b, long = WIDE * Math.min(size, N - size * b);
    for (const mark of new Set(book.values))
      if (Math.abs(mark * most) < AXIS)
        draw(svg, "path", { d: `M${start + 3} ${height(mark * most)}h${long - 6}`, class: "axis", "stroke-width": 0.8 });
    if (b) draw(svg, "path", { d: `M${start} 6v${isOpen ? 259 : 244}`, class: "axis", "stroke-dasharray": "4 3" });
    if (isOpen) words(Math.max(60, start + long / 2), 265, Number(most.toPrecision(3)));
  });
  weights.forEach((x, i) => {
    const at = height(x), goes = height(back[i]), bold = i === chosen() ? "font-weight: 700" : "";
    draw(svg, "path", { d: `M${column(i)} ${at}V${goes}`, stroke: "var(--memory-gradients)", "stroke-width": 4 });
    draw(svg, "rect", { x: column(i) - WIDE * 0.4, y: goes - 2, width: WIDE * 0.8, height: 4, fill: "var(--ink)" });
    draw(svg, "circle", { cx: column(i), cy: at, r: 4.5, fill: bold ? "var(--ink)" : "var(--page)", stroke: "var(--ink)", "stroke-width": 1.5, style: "touch-action: none" });
    const far = [x, back[i]].find((one) => Math.abs(one) > AXIS);
    if (far) // the axis is broken
      draw(svg, "path", { d: `M${column(i) - 9} ${height(far) + 13 * Math.sign(far)}l18-6m-18 11l18-6`, stroke: "var(--ink)", "stroke-width": 1.5 });
    if (far === x) words(column(i), x > 0 ? at - 9 : at + 16, Number(x.toPrecision(3)), { style: "font-weight: 600" });
    words(column(i), 250, i + 1, { class: i % 2 ? "fine" : "", style: `font-size: 12px; ${bold}` });
  });
  if (isOpen) words(0, 265, "scale", { "text-anchor": "start" });

  // All marks of the chosen weight's ruler, and those that the others use.
  const most = absmax[Math.floor(chosen() / size)], used = marks(now, chosen(), size);
  book.values.forEach((mark, code) => {
    const look = used.has(code) ? { stroke: "var(--lora)", "stroke-width": 4 } : { class: "axis", "stroke-width": 1 };
    draw(svg, "path", { d: `M${RIGHT - 14} ${MIDDLE - UNIT * mark}h28`, ...look });
  });
  words(RIGHT, 9, "largest", { class: "fine" });
  words(RIGHT, 21, Number(most.toPrecision(3)), { class: "fine" });
  words(RIGHT, 250, `${used.size} of ${book.values.length}`, { style: "font-weight: 600" });
  words(RIGHT, 265, "used", { class: "fine" });
  if (mine !== null && chosen() === OUTLIER && value() === END && size === SIZE && book === DATA.books.nf4)
    words(398, 281, `your guess: ${plural(mine)}`, { "text-anchor": "end" });
}

function update(x = value()) {
  const size = Number(byId("block").value), i = chosen(), weights = changed(i, x);
  slider.value = placeOf(weights[i]);
  slider.setAttribute("aria-valuetext", show(weights[i], 3));
  const used = [];
  for (const [kind, book] of Object.entries(DATA.books)) {
    const now = quantized(weights, book, size);
    if (kind === byId("book").value) ruler(weights, book, now, size);
    gauge(`${kind}-gauge`, now.error / rms(OWN));
    byId(`${kind}-gauge`).querySelector("s").style.left = `${(100 * quantized(OWN, book, SIZE).error) / rms(OWN)}%`;
    byId(`${kind}-says`).textContent = `${book.name}: error ${show(now.error, 4)}; bytes ${now.bytes.map(byte).join(" ")}`;
    used.push(`${marks(now, i, size).size} of ${book.name}'s`);
  }
  byId("said").textContent =
    `Weight ${i + 1} is ${show(weights[i], 4)}. The other ${others(weights, i, size).length} of its block use ${used.join(" marks, ")}. ` +
    `A weight takes 4 + 32 / ${size} = ${4 + 32 / size} bits.`;
  const [before, after] = [SIZE, 4].map((size) => show((100 * quantized(weights, DATA.books.nf4, size).error) / rms(OWN)));
  byId("remedied").textContent =
    size === 4 ? ` NF4's error: ${before} → ${after} %. The price: ${4 + 32 / SIZE} → ${4 + 32 / 4} bits for a weight.` : "";
}

const choose = (i) => ([byId("which").value, byId("value").value] = [i + 1, OWN[i]]);
for (const [kind, { name }] of Object.entries(DATA.books)) byId("book").add(new Option(name, kind));
choose(OUTLIER);
byId("which").addEventListener("input", () => choose(chosen()));
slider.addEventListener("input", () => {
  byId("value").value = valueAt(Number(slider.value));
  redraw();
});
const redraw = begin({ weight: "which", value: "value", block: "block", ruler: "book" }, update, (guess) => {
  mine = guess;
  const [nf4, int4] = Object.values(DATA.books).map((book) => {
    const [before, after] = [OWN[OUTLIER], END].map((x) => quantized(changed(OUTLIER, x), book, SIZE));
    return { marks: marks(after, OUTLIER, SIZE).size, times: show(after.error / before.error, 1) };
  });
  const asked = location.hash ? ` (With NF4 and blocks of ${SIZE}. The picture shows what the link has set.)` : "";
  const answer = Object.assign(document.createElement("b"), { textContent: `${plural(nf4.marks)}.` });
  byId("verdict").replaceChildren(answer, (guess === null ? asked : guess === nf4.marks ? " Exactly." : ` You said ${show(guess)}.`) +
    ` The ${others(OWN, OUTLIER, SIZE).length + 1} weights of a block share one ruler, and ` +
    `weight ${OUTLIER + 1} stretches it: its marks are far apart, and the others' error, in red, is ` +
    `${nf4.times} times as large. With INT4's ruler, they ${int4.marks === 1 ? "all share one mark" : `use ${int4.marks} marks`}, and the error is ${int4.times} times as large.`);
  if (guess !== null || !given().has("value"))
    byId("value").value = END; // and the address, at once; the picture follows, unless the reader moves something
  if (guess !== null) glide(slider, placeOf(END), (part) => update(part < 1 && value() === END ? valueAt(Number(slider.value)) : value()), 3000);
  return nf4.marks;
});
for (const [id, times] of [["tenfold", 10], ["reset", 1]])
  byId(id).addEventListener("click", () => {
    byId("value").value = times * OWN[chosen()];
    redraw();
  });
byId("remedy").addEventListener("click", () => {
  byId("block").value = 4;
  redraw();
});

// A circle follows the pointer.
const place = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
Object.assign(svg.style, { cursor: "ns-resize", userSelect: "none" });
svg.addEventListener("pointerdown", (event) => {
  const i = Math.floor((place(event).x - LEFT) / WIDE);
  if (!byId("guess").hidden || i < 0 || i >= N) return;
  svg.setPointerCapture(event.pointerId);
  if (i !== chosen()) choose(i);
  redraw();
});
svg.addEventListener("pointermove", (event) => {
  if (!svg.hasPointerCapture(event.pointerId)) return;
  byId("value").value = ((MIDDLE - place(event).y) / UNIT) * AXIS;
  redraw();
});
