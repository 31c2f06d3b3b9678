const options = (id, values) => values.forEach(([value, words]) => byId(id).add(new Option(words, value)));
const nameOf = (shape) => DATA.names[shape] ?? shape;
options("shape", DATA.shapes.map((shape) => [shape, nameOf(shape)]));
options("batch", DATA.batches.map((n) => [n, n]));
options("length", DATA.lengths.map((n) => [n, n]));
byId("shape").value = DATA.shapes.at(-1);
byId("length").value = DATA.length;

const asked = (way, flag) => DATA.plans[`${DATA.shapes.at(-1)} ${way} 1 ${DATA.length} ${flag}`].map((mb) => mb / 1000); // of the guess
const of = (way, isCheckpointed = byId("checkpointing").checked) => {
  const chosen = ["shape", "batch", "length"].map((id) => byId(id).value);
  return DATA.plans[`${chosen[0]} ${way} ${chosen[1]} ${chosen[2]} ${Number(isCheckpointed)}`].map((mb) => mb / 1000);
};
const sum = (values) => values.reduce((a, x) => a + x, 0);
const size = (gb) =>
  gb < 1e5 ? show(gb, gb < 10 ? 2 : gb < 100 ? 1 : 0) : gb.toLocaleString("en-US", { notation: "compact" });
const LEFT = 86, WIDE = 252;
const words = (x, y, text, anchor, look = {}) => draw(byId("bars"), "text", { x, y, "text-anchor": anchor, ...look }, text);

let guessed = null; // GB of full fine-tuning
let drawn = null; // the values of the bars, which move to those of another choice

// A row of kinds from the left, as far as the picture goes; returns where it ends.
function bar(y, tall, values, scale) {
  let from = 0;
  values.forEach((gb, i) => {
    const [start, end] = [from, from + gb].map((at) => LEFT + Math.min(WIDE, at * scale));
    if (end > start) draw(byId("bars"), "rect", { x: start, y, width: end - start, height: tall, fill: `var(--memory-${DATA.kinds[i]})` });
    from += gb;
  });
  return LEFT + Math.min(WIDE, from * scale);
}

// Draw all four bars on one scale, and below them, if they differ much, the first part of it enlarged. Before the guess
// there is one bar: the weights alone.
function paint(bars) {
  const card = Number(byId("card").value), isOpen = byId("guess").hidden;
  const plans = DATA.ways.map(([, label], i) => ({ label, values: bars[i], total: sum(bars[i]) }));
  byId("bars").replaceChildren();
  byId("bars").setAttribute("viewBox", isOpen ? "0 0 400 304" : "0 52 400 212");
  const largest = Math.max(...plans.map(({ total }) => total), card), weights = bars[0][0];
  const room = Math.min(Math.max(1.5 * card, 1.2 * Math.min(...plans.map(({ total }) => total))), largest); // GB of the lower part
  const isTwice = isOpen && room < largest, top = isOpen && !isTwice ? 24 : 100; // where the lower part begins
  const [small, large] = [60, 236 - top].map((tall) => tall / plans.length); // of a row
  const edge = (scale, top, bottom) => {
    const x = LEFT + card * scale;
    const d = `M${x} ${top}V${bottom}`, dashed = { class: "axis", style: "stroke: var(--ink)", "stroke-dasharray": "5 3" };
    draw(byId("bars"), "path", { d, stroke: "var(--page)", "stroke-width": 5, "stroke-opacity": 0.7 });
    draw(byId("bars"), "path", { d, ...dashed, "stroke-width": 2 });
    return x;
  };
  const beside = (after, x) => (after < x + 4 && after + 42 > x ? x + 7 : after); // a number's place, not on the line
  if (isTwice) {
    const ends = plans.map(({ values }, i) => bar(20 + small * i, 0.67 * small, values, WIDE / largest));
    const x = edge(WIDE / largest, 16, 84), look = { class: "over", style: "font-size: 12px" };
    plans.forEach(({ label, total }, i) => {
      words(LEFT - 6, 24 + small * (i + 1 / 3), label, "end", look);
      words(beside(ends[i] + 4, x), 24 + small * (i + 1 / 3), size(total), "start", look);
    });
  }
  if (guessed && isTwice && guessed <= largest && byId("shape").value === DATA.shapes.at(-1)) {
    const at = LEFT + (guessed * WIDE) / largest;
    draw(byId("bars"), "path", { d: `M${at} 17l-4-7h8Z`, fill: "var(--ink)" });
    words(at > 280 ? at - 7 : at + 7, 14, "your guess", at > 280 ? "end" : "start", { style: "font-size: 12px" });
  }
  const scale = WIDE / (isOpen ? room : 1.2 * Math.max(weights, card));
  const rows = plans.map((_, i) => top + large * i), tall = (isTwice || !isOpen ? 0.65 : 0.5) * large;
  plans.forEach(({ label }, i) => words(LEFT - 6, rows[i] + tall / 2 + 5, label, "end"));
  const ends = plans.map(({ values }, i) => (isOpen ? bar(rows[i], tall, values, scale) : LEFT));
  const endOfWeights = isOpen ? 0 : bar(68, tall, [weights], scale);
  if (!isOpen) words(LEFT - 6, 68 + tall / 2 + 5, "weights", "end");
  const x = edge(scale, isOpen ? top - 7 : 60, 240);
  if (!isOpen) words(beside(endOfWeights + 5, x), 68 + tall / 2 + 5, `${size(weights)} GB`, "start", { class: "over", style: "font-weight: 600" });
  plans.forEach(({ total }, i) => {
    const isCut = isOpen && total > room, fill = isOpen && total > card ? "var(--memory-gradients)" : "var(--ink)";
    if (isCut) draw(byId("bars"), "path", { d: `M${ends[i] + 2} ${rows[i]}l8 ${tall / 2}l-8 ${tall / 2}Z`, fill: "var(--soft)" });
    const style = `font-weight: 600; fill: ${fill}`;
    const after = ends[i] + (isCut ? 13 : 5);
    words(isOpen ? beside(after, x) : after, rows[i] + tall / 2 + 5, isOpen ? size(total) : "?", "start", { class: "over", style });
  });
  words(x, 254, `${card} GB: the card`, x > 340 ? "end" : "middle");
  let [at, down] = [4, 276];
  const seen = DATA.kinds.filter((_, k) => plans.some(({ values }) => values[k] > 0.001));
  if (isOpen) seen.forEach((kind) => {
    const wide = 20 + 7.1 * kind.length;
    if (at + wide > 398) [at, down] = [4, down + 20];
    draw(byId("bars"), "rect", { x: at, y: down - 10, width: 11, height: 11, fill: `var(--memory-${kind})` });
    words(at + 15, down, kind, "start", { style: "font-size: 12px" });
    at += wide + 6;
  });
}

function update() {
  const card = Number(byId("card").value);
  const plans = DATA.ways.map(([way, label]) => ({ label, values: of(way), total: sum(of(way)) }));
  const start = drawn;
  move((part) => {
    drawn = plans.map(({ values }, i) => values.map((gb, k) => (start ? start[i][k] + part * (gb - start[i][k]) : gb)));
    paint(drawn);
  }, 700);
  const said = plans.map(({ label, total }) =>
    `${label} ${size(total)} GB` + (total <= card ? " fits" : ` (${size(total - card)} too many)`));
  byId("said").textContent = `${nameOf(byId("shape").value)} on a card of ${card} GB` +
    `${byId("checkpointing").checked ? ", with checkpointing" : ""}: ${said.join(", ")}.`;
  byId("kinds").replaceChildren();
  [...DATA.kinds.map((kind, k) => [kind, ...plans.map(({ values }) => values[k])]), ["in all", ...plans.map(({ total }) => total)]]
    .forEach(([name, ...values]) => {
      const row = byId("kinds").insertRow();
      [name, ...values.map((gb) => (gb ? size(gb) : "–"))].forEach((text) => (row.insertCell().textContent = text));
    });
}

begin({ model: "shape", texts: "batch", tokens: "length", card: "card", checkpointing: "checkpointing" }, update, (gb) => {
  const [full, lora, qlora] = ["full", "lora", "qlora"].map((way) => sum(asked(way, 0)));
  document.querySelector(".lead").hidden = true; // its model and its card can be changed from now on
  guessed = gb;
  if (gb !== null) drawn = DATA.ways.map(() => DATA.kinds.map(() => 0)); // the bars grow
  byId("verdict").textContent =
    `Full fine-tuning of ${nameOf(DATA.shapes.at(-1))} needs ${size(full)} GB, ` +
    (gb === null ? "" : `${show(full / gb, 1)} times your guess; `) +
    `LoRA ${size(lora)} GB, QLoRA ${size(qlora)} GB, ${size(sum(asked("qlora", 1)))} GB with checkpointing. That is for ` +
    `one text of ${DATA.length} tokens per step.`;
  if (gb !== null) byId("checkpointing").focus({ preventScroll: true });
});
