const options = (id, values) => values.forEach(([value, words]) => byId(id).add(new Option(words, value)));
const nameOf = (shape) => DATA.names[shape] ?? shape;
options("shape", DATA.shapes.map((shape) => [shape, nameOf(shape)]));
options("batch", DATA.batches.map((n) => [n, n]));
options("length", DATA.lengths.map((n) => [n, n]));
byId("shape").value = DATA.shapes.at(-1);
byId("length").value = DATA.length;

const of = (way, isCheckpointed = byId("checkpointing").checked) => {
  const chosen = ["shape", "batch", "length"].map((id) => byId(id).value);
  return DATA.plans[`${chosen[0]} ${way} ${chosen[1]} ${chosen[2]} ${Number(isCheckpointed)}`].map((mb) => mb / 1000);
};
const sum = (values) => values.reduce((a, x) => a + x, 0);
const size = (gb) =>
  gb < 1e5 ? show(gb, gb < 10 ? 2 : gb < 100 ? 1 : 0) : gb.toLocaleString("en-US", { notation: "compact" });
const LEFT = 86, WIDE = 252;
const words = (parent, x, y, text, anchor, look = {}) => draw(parent, "text", { x, y, "text-anchor": anchor, ...look }, text);

let guessed = null; // GB of full fine-tuning
let drawn = null; // the values of the bars, which move to those of another choice
let moves = false; // if the next choice is the reader's; that of a link is drawn at once
addEventListener("input", (event) => (moves = event.isTrusted), true);

// A row of kinds from the left, as far as the picture goes; returns where it ends.
function bar(parent, y, tall, values, scale, totals = []) {
  let from = 0;
  values.forEach((gb, i) => {
    const [start, end] = [from, from + gb].map((at) => LEFT + Math.min(WIDE, at * scale));
    if (end > start) draw(parent, "rect", { x: start, y, width: end - start, height: tall, fill: `var(--memory-${DATA.kinds[i]})` });
    const text = DATA.kinds[i] === "optimizer" && totals[i] && `optimizer ${size(totals[i])} GB`;
    if (text && end - start > 7.5 * text.length)
      words(parent, (start + end) / 2, y + tall / 2 + 4.5, text, "middle", { style: "fill: var(--page); font-weight: 600" });
    from += gb;
  });
  return LEFT + Math.min(WIDE, from * scale);
}

// The line where the card ends; returns its place.
function edge(parent, scale, top, bottom) {
  const x = LEFT + Number(byId("card").value) * scale, d = `M${x} ${top}V${bottom}`;
  draw(parent, "path", { d, stroke: "var(--page)", "stroke-width": 5, "stroke-opacity": 0.7 });
  draw(parent, "path", { d, class: "axis", style: "stroke: var(--ink)", "stroke-dasharray": "5 3", "stroke-width": 2 });
  return x;
}
const beside = (after, x) => (after < x + 4 && after + 42 > x ? x + 7 : after); // a number's place, not on the line

// A bar for each plan, with its number, in rows from `top` that are `apart`; what is beyond `most` GB is cut off.
function rows(id, plans, bars, top, apart, tall, most) {
  const parent = draw(byId("bars"), "g", { id }), card = Number(byId("card").value), scale = WIDE / most;
  const ends = plans.map(({ label, values }, i) => {
    words(parent, LEFT - 6, top + apart * i + tall / 2 + 4.5, label, "end");
    return bar(parent, top + apart * i, tall, bars[i], scale, values);
  });
  const x = edge(parent, scale, top - 5, top + apart * (plans.length - 1) + tall + 5);
  plans.forEach(({ total }, i) => {
    const y = top + apart * i, isCut = total > most * 1.0001, fill = total > card ? "var(--memory-gradients)" : "var(--ink)";
    if (isCut) draw(parent, "path", { d: `M${ends[i] + 2} ${y}l8 ${tall / 2}l-8 ${tall / 2}Z`, fill: "var(--soft)" });
    const look = { class: "over", style: `font-weight: 600; fill: ${fill}` };
    words(parent, beside(ends[i] + (isCut ? 13 : 5), x), y + tall / 2 + 4.5, size(total), "start", look);
  });
  return x;
}

// Before the guess: a bar of the weights alone, and a question mark for each way.
function paintQuestion(plans) {
  const picture = byId("bars"), weights = plans[0].values[0], look = { class: "over", style: "font-weight: 600" };
  const scale = WIDE / (1.2 * Math.max(weights, Number(byId("card").value))), apart = 136 / plans.length;
  words(picture, LEFT - 6, 84, "weights", "end");
  const end = bar(picture, 68, 22, [weights], scale), x = edge(picture, scale, 60, 240);
  words(picture, beside(end + 5, x), 84, `${size(weights)} GB`, "start", look);
  plans.forEach(({ label }, i) => {
    words(picture, LEFT - 6, 116 + apart * i, label, "end");
    words(picture, beside(LEFT + 5, x), 116 + apart * i, "?", "start", look);
  });
  return x;
}

// Draw all bars on one scale, and below them, if they differ much, what is around the line of the card enlarged. The
// numbers are those of the plans, also while the bars move to them.
function paint(plans, bars) {
  const card = Number(byId("card").value), isOpen = byId("guess").hidden, totals = plans.map(({ total }) => total);
  const picture = byId("bars"), small = { style: "font-size: 12px" };
  picture.replaceChildren();
  picture.setAttribute("viewBox", isOpen ? "0 0 400 304" : "0 52 400 212");
  const largest = Math.max(...totals, card), room = Math.min(Math.max(1.5 * card, 1.2 * Math.min(...totals)), largest);
  const isTwice = room < largest, apart = (isTwice ? 112 : 212) / plans.length;
  let x; // of the card's line, where its name stands
  if (!isOpen) x = paintQuestion(plans);
  else x = rows("all", plans, bars, isTwice ? 20 : 24, apart, (isTwice ? 0.75 : 0.5) * apart, largest);
  if (isOpen && isTwice) {
    const end = LEFT + (WIDE * room) / largest, look = { fill: "none", stroke: "var(--soft)", "stroke-width": 0.8 };
    draw(picture, "path", { d: `M${LEFT} 131V155M${end} 131L${LEFT + WIDE} 155`, ...look });
    words(picture, 398, 142, `the first ${show(Number(room.toPrecision(2)), room < 10 ? 1 : 0)} GB, enlarged`, "end", { class: "over", ...small });
    x = rows("near", plans, bars, 160, 80 / plans.length, 52 / plans.length, room);
  }
  if (guessed && isTwice && guessed <= largest && byId("shape").value === DATA.shapes.at(-1)) {
    const at = LEFT + (guessed * WIDE) / largest;
    draw(picture, "path", { d: `M${at} 17l-4-7h8Z`, fill: "var(--ink)" });
    words(picture, at > 280 ? at - 7 : at + 7, 14, "your guess", at > 280 ? "end" : "start", small);
  }
  words(picture, x, 254, `${card} GB: the card`, x > 340 ? "end" : "middle");
  let [at, down] = [4, 276];
  const seen = DATA.kinds.filter((_, k) => plans.some(({ values }) => values[k] > 0.001));
  if (isOpen) seen.forEach((kind) => {
    const wide = 20 + 7.1 * kind.length;
    if (at + wide > 398) [at, down] = [4, down + 20];
    draw(picture, "rect", { x: at, y: down - 10, width: 11, height: 11, fill: `var(--memory-${kind})` });
    words(picture, at + 15, down, kind, "start", small);
    at += wide + 6;
  });
}

// What the model that is chosen needs; how far the guess was off, if it is that of the question.
function verdict() {
  const [shape, batch, length] = ["shape", "batch", "length"].map((id) => byId(id).value);
  const [full, lora, qlora, least] = [["full"], ["lora"], ["qlora"], ["qlora", true]].map(([way, flag = false]) => sum(of(way, flag)));
  const isAsked = shape === DATA.shapes.at(-1) && batch === String(DATA.batches[0]) && length === String(DATA.length);
  return `Full fine-tuning of ${nameOf(shape)} needs ${size(full)} GB, ` +
    (guessed && isAsked ? `${show(full / guessed, 1)} times your guess; ` : "") +
    `LoRA ${size(lora)} GB, QLoRA ${size(qlora)} GB, ${size(least)} GB with checkpointing. That is for ` +
    `${batch === "1" ? "one text" : `${batch} texts`} of ${length} tokens per step.`;
}

function update() {
  const card = Number(byId("card").value);
  const plans = DATA.ways.map(([way, label]) => ({ label, values: of(way), total: sum(of(way)) }));
  const start = moves ? drawn : null;
  moves = false;
  move((part) => {
    drawn = plans.map(({ values }, i) => values.map((gb, k) => (start ? start[i][k] + part * (gb - start[i][k]) : gb)));
    paint(plans, drawn);
  }, 700);
  const said = plans.map(({ label, total }) =>
    `${label} ${size(total)} GB` + (total <= card ? " fits" : ` (${size(total - card)} too many)`));
  byId("said").textContent = `${nameOf(byId("shape").value)} on a card of ${card} GB` +
    `${byId("checkpointing").checked ? ", with checkpointing" : ""}: ${said.join(", ")}.`;
  if (byId("guess").hidden && byId("verdict").textContent !== verdict()) byId("verdict").textContent = verdict();
  byId("kinds").replaceChildren();
  [...DATA.kinds.map((kind, k) => [kind, ...plans.map(({ values }) => values[k])]), ["in all", ...plans.map(({ total }) => total)]]
    .forEach(([name, ...values]) => {
      const row = byId("kinds").insertRow();
      [name, ...values.map((gb) => (gb ? size(gb) : "–"))].forEach((text) => (row.insertCell().textContent = text));
    });
}

begin({ model: "shape", texts: "batch", tokens: "length", card: "card", checkpointing: "checkpointing" }, update, (gb) => {
  document.querySelector(".lead").hidden = true; // its model and its card can be changed from now on
  guessed = gb;
  if (gb === null) return;
  moves = true;
  drawn = DATA.ways.map(() => DATA.kinds.map(() => 0)); // the bars grow
  byId("checkpointing").focus({ preventScroll: true });
});
