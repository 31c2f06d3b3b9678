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
  `${gb < 1e5 ? show(gb, gb < 1 ? 2 : gb < 100 ? 1 : 0) : gb.toLocaleString("en-US", { notation: "compact" })} GB`;
const LEFT = 76, WIDE = 240, DARK = ["weights", "optimizer", "gradients"]; // of a bar: its place, and the parts with light words
const picture = byId("bars");
const words = (x, y, text, anchor, look = {}) => draw(picture, "text", { x, y, "text-anchor": anchor, ...look }, text);

let guessed = null; // GB of full fine-tuning, of what was asked:
const isAsked = () => byId("shape").value === DATA.shapes.at(-1) && byId("batch").value === "1" && byId("length").value === String(DATA.length);
let drawn = null; // the values of the bars, which move to those of another choice
let moves = false; // if the next choice is the reader's; that of a link is drawn at once
addEventListener("input", (event) => (moves = event.isTrusted), true);

// Rows of bars from `top`, each with its name and its number, as far as `most` GB, and the line where the card ends.
function rows(plans, top, apart, tall, most) {
  const card = Number(byId("card").value), x = LEFT + (card * WIDE) / most, bottom = top + apart * (plans.length - 1) + tall;
  const ends = plans.map(({ label, values, wanted }, i) => {
    const y = top + apart * i, middle = y + tall / 2 + 4.5;
    let from = LEFT;
    words(LEFT - 6, middle, label, "end");
    values.forEach((gb, k) => {
      const width = Math.min((gb * WIDE) / most, LEFT + WIDE - from), text = wanted && `${DATA.kinds[k]} ${size(wanted[k])}`.slice(0, -3);
      if (width > 0) draw(picture, "rect", { x: from, y, width, height: tall, fill: `var(--memory-${DATA.kinds[k]})` });
      const [a, b] = x <= from || x >= from + width ? [from, from + width] : x - from > width / 2 ? [from, x] : [x, from + width];
      if (text && b - a > 8 * text.length) // beside the card's line
        words((a + b) / 2, middle, text, "middle", { style: `fill: ${DARK.includes(DATA.kinds[k]) ? "var(--page)" : "#000"}; font-weight: 600` });
      from += Math.max(0, width);
    });
    return from;
  });
  if (x < 396) for (const look of [{ style: "stroke: var(--page)", "stroke-width": 2 }, { style: "stroke: var(--ink)", "stroke-dasharray": "5 3", "stroke-width": 2 }])
    draw(picture, "path", { d: `M${x} ${top - 6}V${bottom + 6}`, class: "axis", ...look });
  plans.forEach(({ number }, i) => {
    const after = ends[i] + 6, y = top + apart * i + tall / 2 + 4.5, isRed = number > card;
    const text = typeof number === "number" ? size(number) : number; // beside the line, not on it
    words(after < x + 4 && after + 9 * text.length > x ? x + 8 : after, y, text, "start",
      { class: text === "?" ? "over big" : "over", style: `font-weight: 600; ${isRed ? "fill: var(--memory-gradients)" : ""}` });
  });
  return x;
}

// Before the guess: the weights, and below them empty cards, which the guess fills while it is typed.
function ask(weights, card) {
  const guess = Number(byId("guess").elements.guess.value), most = 1.15 * Math.max(2 * weights, 2 * card, guess);
  const wide = (gb) => (gb * WIDE) / most, slots = Math.floor((396 - LEFT) / wide(card));
  const beside = (y, gb, text) => {
    const cards = gb < card ? "less than a card" : `${show(gb / card, gb < 10 * card ? 1 : 0)} cards`;
    const end = LEFT + wide(gb) + 8, from = end < x + 4 && end + 8 * cards.length > x ? x + 8 : end; // not across the card's line
    words(from, y, text, "start", { style: "font-weight: 600" });
    words(from, y + 17, cards, "start");
  };
  if (guess) draw(picture, "path", { d: `M${LEFT} 110h${wide(guess)}v64H${LEFT}Z`, fill: "var(--memory-optimizer)", "fill-opacity": 0.4 });
  else for (let k = 0; k < slots; k++)
    draw(picture, "path", { d: `M${LEFT + wide(k * card) + 2} 112h${wide(card) - 4}v60h${4 - wide(card)}Z`, fill: "none", "stroke-width": 1.5,
      stroke: "var(--memory-optimizer)", "stroke-dasharray": "4 3", "stroke-opacity": 1 - (0.85 * k) / slots }); // they go on
  const x = rows([{ label: "weights", values: [weights], number: "" }, { label: "training", values: [], number: "" }], 14, 96, 64, most);
  for (const [gb, y] of [[weights, 14], [guess, 110]])
    for (let end = 2 * card; end < gb && wide(card) > 10; end += card)
      draw(picture, "path", { d: `M${LEFT + wide(end)} ${y}v64`, stroke: "var(--page)", "stroke-width": 3 });
  beside(43, weights, size(weights));
  if (guess) beside(139, guess, `${show(guess)} GB?`);
  else words(LEFT + wide(card) * (Math.floor(slots / 2) + 0.5), 151, "?", "middle", { class: "over big" });
  words(x, 200, `a graphics card: ${card} GB`, "middle");
}

// After it, all bars on one scale, and below them, if they differ much, the last one's beginning enlarged. The numbers are
// of the plans, also while the bars move there.
function paint(plans, bars) {
  const card = Number(byId("card").value), totals = plans.map(({ total }) => total);
  picture.replaceChildren();
  picture.setAttribute("viewBox", byId("guess").hidden ? "0 -38 400 306" : "0 0 400 210");
  if (!byId("guess").hidden) return ask(plans[0].values[0], card);
  const most = Math.max(...totals), isFar = card > 3 * most; // then its line is beyond the picture
  const largest = isFar ? most : Math.max(most, card), last = totals.at(-1), close = 1.5 * Math.max(card, 0.8 * last);
  const isTwice = 1.5 * close < largest, room = isTwice ? close : largest, apart = (isTwice ? 130 : 234) / plans.length;
  const all = plans.map(({ label, values, total }, i) => ({ label, values: bars[i], wanted: values, number: total }));
  const line = rows(all, 20, apart, 0.68 * apart, largest);
  let x = line; // where its name stands
  if (isTwice) {
    const end = LEFT + (WIDE * room) / largest, low = 20 + 0.68 * apart + apart * (plans.length - 1);
    draw(picture, "path", { d: `M${LEFT} ${low + 4}V182M${end} ${low + 4}L${LEFT + WIDE} 182`, stroke: "var(--soft)", fill: "none", "stroke-width": 0.8 });
    words(LEFT + 2, 178, "the same bar, enlarged", "start", { style: "font-size: 12px" });
    x = rows(all.slice(-1), 188, 0, 50, room);
  }
  if (guessed && isAsked()) {
    const isOff = guessed > largest, at = LEFT + WIDE * Math.min(1, guessed / largest), side = at > 280 || (at < line && at + 75 > line) ? -1 : 1; // not across the card's line
    draw(picture, "path", { d: `M${at} 17l-4-7h8Z`, fill: "var(--ink)" });
    words(at + 7 * side, 14, `your guess${isOff ? " →" : ""}`, side < 0 ? "end" : "start", { style: "font-size: 12px" });
  }
  words(isFar ? 396 : x, 262, `a graphics card: ${card} GB${isFar ? " →" : ""}`, isFar ? "end" : "middle");
  let [at, down] = [4, -26];
  DATA.kinds.forEach((kind, k) => {
    const widths = [...plans.map(({ values }) => values[k] / largest), plans.at(-1).values[k] / room];
    if (Math.max(...widths) * WIDE < 0.3) return; // what one does not see
    const wide = 15 + 6.5 * kind.length;
    if (at + wide > 396) [at, down] = [4, down + 18];
    draw(picture, "rect", { x: at, y: down - 10, width: 11, height: 11, fill: `var(--memory-${kind})` });
    words(at + 15, down, kind, "start", { style: "font-size: 12px" });
    at += wide + 6;
  });
}

// A guess beside what is right: whichever is more, so many times as much as the other.
function compared(total) {
  const ratio = Math.max(total / guessed, guessed / total), times = `${show(ratio, ratio < 10 ? 1 : 0)} times`;
  return ratio < 1.1 ? `very close to your ${show(guessed)}` : guessed < total ? `${times} your guess` : `you said ${times} as much`;
}

// The answer, and what stands behind it, for what is chosen.
function verdict() {
  const [full, lora, qlora] = ["full", "lora", "qlora"].map((way) => of(way)), total = sum(full);
  const beside = byId("checkpointing").checked ? " with checkpointing" : guessed && isAsked() ? `, ${compared(total)}` : "";
  const answer = `Training all weights of ${nameOf(byId("shape").value)} takes ${size(total)}${beside}.`;
  const most = full.indexOf(Math.max(...full)), kind = DATA.kinds[most], meaning = byId("kinds").rows[most].querySelector("span").textContent;
  const largest = kind === "optimizer"
    ? `The optimizer alone holds ${size(full[most])}: two 32-bit numbers for each weight that trains.`
    : `Of this, ${size(full[most])} is ${kind}: ${meaning}.`;
  const why = ` ${largest} LoRA, which trains only a few new weights, takes ${size(sum(lora))}; ` +
    `QLoRA, which also rounds the others to 4 bits, ${size(sum(qlora))}.`;
  const [first, then] = [answer, why].map((text) => text.replaceAll(" GB", "\u00a0GB")); // in one line
  if (byId("verdict").textContent !== first + then)
    byId("verdict").replaceChildren(Object.assign(document.createElement("b"), { textContent: first }), then);
}

// Which ways fit into the card, and what checkpointing does or would do for it.
function fit() {
  const card = Number(byId("card").value), isTicked = byId("checkpointing").checked;
  const [without, ticked] = [false, true].map((flag) => DATA.ways.filter(([way]) => sum(of(way, flag)) <= card).map(([, label]) => label));
  const fitting = isTicked ? ticked : without, more = ticked.filter((label) => !without.includes(label));
  const list = (labels) => new Intl.ListFormat("en-GB").format(labels).replace(/^./, (letter) => letter.toUpperCase());
  if (fitting.length) {
    const fits = `${list(fitting)} fit${fitting.length > 1 ? "" : "s"}`;
    return fits + (!more.length ? "." : !isTicked ? `. With checkpointing, ${list(more)} would, too.`
      : more.length < fitting.length ? `, ${list(more)} because of checkpointing!` : ", because of checkpointing!");
  }
  const least = DATA.ways.map(([way, label]) => [sum(of(way)), label]).sort(([a], [b]) => a - b)[0];
  return `Even ${least[1]} is ${size(least[0] - card)} over the card` +
    (more.length ? ": tick checkpointing!" : isTicked ? ", with checkpointing, too." : ", and checkpointing does not save enough.");
}

// Lead and question, which who follows a link reads beside the answer, are of the model and the texts that are chosen.
function reword() {
  const gb = of("full", false)[0], texts = byId("batch").value, length = byId("length").value;
  const words = {
    model: nameOf(byId("shape").value),
    count: gb < 2 ? `${show(500 * gb)} million` : `${show(gb / 2, 1)} billion`, // 2 bytes each
    gb: size(gb).replace(" ", "\u00a0"),
    card: `${byId("card").value}\u00a0GB`,
    texts: `${texts === "1" ? "one text" : `${texts} texts`} of ${length} tokens`,
  };
  for (const [name, text] of Object.entries(words))
    document.querySelectorAll(`em.${name}`).forEach((one) => (one.textContent = text));
}

function update() {
  reword();
  const [shape, batch, length] = ["shape", "batch", "length"].map((id) => byId(id).value);
  const command = `minilora plan ${shape} --batch-size ${batch} --seq-len ${length} ${DATA.flags}`;
  byId("command").innerHTML = command.replaceAll(" --", "</span> <span>--").replace(/.*/, "<span>$&</span>");
  const plans = DATA.ways.map(([way, label]) => ({ label, values: of(way), total: sum(of(way)) }));
  const start = moves ? drawn : null;
  moves = false;
  move((part) => {
    drawn = plans.map(({ values }, i) => values.map((gb, k) => (start ? start[i][k] + part * (gb - start[i][k]) : gb)));
    paint(plans, drawn);
  }, 700);
  byId("said").textContent = fit().replaceAll(" GB", "\u00a0GB");
  if (byId("guess").hidden) verdict();
  [...DATA.kinds.map((_, k) => plans.map(({ values }) => values[k])), plans.map(({ total }) => total)].forEach((row, k) =>
    row.forEach((gb, i) => (byId("kinds").rows[k].cells[i + 1].textContent = gb ? size(gb).slice(0, -3) : "–")));
}

byId("guess").addEventListener("input", update);
begin({ model: "shape", texts: "batch", tokens: "length", card: "card", checkpointing: "checkpointing" }, update, (gb) => {
  byId("kinds").closest("details").open = matchMedia("(min-width: 60rem)").matches; // where there is room beside the picture
  guessed = gb;
  if (gb === null) return;
  moves = true;
  drawn = DATA.ways.map(() => DATA.kinds.map(() => 0)); // the bars grow
  byId("checkpointing").focus({ preventScroll: true });
  return sum(of("full"));
});
