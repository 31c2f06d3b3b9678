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
  `${gb < 1e5 ? show(gb, gb < 10 ? 2 : gb < 100 ? 1 : 0) : gb.toLocaleString("en-US", { notation: "compact" })} GB`;
const LEFT = 76, WIDE = 240, DARK = ["weights", "optimizer", "gradients"]; // of a bar: its place, and the parts with light words
const picture = byId("bars"), bold = { class: "over", style: "font-weight: 600" };
const words = (x, y, text, anchor, look = {}) => draw(picture, "text", { x, y, "text-anchor": anchor, ...look }, text);

let guessed = null; // GB of full fine-tuning
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
      if (text && width > 8 * text.length)
        words(from + width / 2, middle, text, "middle", { style: `fill: ${DARK.includes(DATA.kinds[k]) ? "var(--page)" : "#000"}; font-weight: 600` });
      from += Math.max(0, width);
    });
    return from;
  });
  for (const look of [{ style: "stroke: var(--page)", "stroke-width": 2 }, { style: "stroke: var(--ink)", "stroke-dasharray": "5 3", "stroke-width": 2 }])
    draw(picture, "path", { d: `M${x} ${top - 6}V${bottom + 6}`, class: "axis", ...look });
  plans.forEach(({ number }, i) => {
    const after = ends[i] + 6, y = top + apart * i + tall / 2 + 4.5, isRed = number > card;
    const text = typeof number === "number" ? size(number) : number; // beside the line, not on it
    words(after < x + 4 && after + 9 * text.length > x ? x + 8 : after, y, text, "start",
      { class: text === "?" ? "over big" : "over", style: `font-weight: 600; ${isRed ? "fill: var(--memory-gradients)" : ""}` });
  });
  return x;
}

// Before the guess: the weights alone, and the guess while it is typed. Afterwards all bars on one scale, and below them,
// if they differ much, the last one's beginning enlarged. The numbers are of the plans, also while the bars move there.
function paint(plans, bars) {
  const card = Number(byId("card").value), totals = plans.map(({ total }) => total), isOpen = byId("guess").hidden;
  picture.replaceChildren();
  if (!isOpen) {
    const weights = plans[0].values[0], guess = Number(byId("guess").elements.guess.value);
    const most = 1.15 * Math.max(weights, card, guess), number = guess ? `${show(guess)} GB?` : "?";
    picture.setAttribute("viewBox", "0 0 400 306");
    const x = rows([{ label: "weights", values: [weights], number: weights }, { label: "training", values: [], number }], 14, 132, 108, most);
    if (guess) draw(picture, "rect", { x: LEFT, y: 147, width: (guess * WIDE) / most, height: 106, fill: "none", class: "axis", "stroke-dasharray": "3 3" });
    else draw(picture, "path", { d: `M${LEFT + 300} 147H${LEFT}v106h300`, fill: "none", stroke: "var(--memory-optimizer)", "stroke-width": 2, "stroke-dasharray": "6 4" });
    words(x, 282, `the card: ${card} GB`, "middle");
    return;
  }
  const largest = Math.max(...totals, card), last = totals.at(-1), close = 1.5 * Math.max(card, 0.8 * last);
  const isTwice = 1.5 * close < largest, room = isTwice ? close : largest, apart = (isTwice ? 130 : 234) / plans.length;
  picture.setAttribute("viewBox", "0 0 400 306");
  const all = plans.map(({ label, values, total }, i) => ({ label, values: bars[i], wanted: values, number: total }));
  const line = rows(all, 20, apart, 0.68 * apart, largest);
  let x = line; // where its name stands
  if (isTwice) {
    const end = LEFT + (WIDE * room) / largest, low = 20 + 0.68 * apart + apart * (plans.length - 1);
    draw(picture, "path", { d: `M${LEFT} ${low + 4}V182M${end} ${low + 4}L${LEFT + WIDE} 182`, stroke: "var(--soft)", fill: "none", "stroke-width": 0.8 });
    words(LEFT + 2, 178, "the same bar, enlarged", "start", { style: "font-size: 12px" });
    x = rows(all.slice(-1), 188, 0, 50, room);
  }
  if (guessed && byId("shape").value === DATA.shapes.at(-1)) {
    const isOff = guessed > largest, at = LEFT + WIDE * Math.min(1, guessed / largest), side = at > 280 || (at < line && at + 75 > line) ? -1 : 1; // not across the card's line
    draw(picture, "path", { d: `M${at} 17l-4-7h8Z`, fill: "var(--ink)" });
    words(at + 7 * side, 14, `your guess${isOff ? " →" : ""}`, side < 0 ? "end" : "start", { style: "font-size: 12px" });
  }
  words(x, 262, `the card: ${card} GB`, x > 340 ? "end" : "middle");
  let [at, down] = [4, 284];
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

// The answer, and what stands behind it, for what is chosen; and if it fits, or would with checkpointing.
function verdict() {
  const [full, lora, qlora] = ["full", "lora", "qlora"].map((way) => of(way)), card = Number(byId("card").value);
  const isTicked = byId("checkpointing").checked, total = sum(full), over = sum(qlora) - card;
  const isAsked = byId("shape").value === DATA.shapes.at(-1) && byId("batch").value === "1" && byId("length").value === String(DATA.length);
  const plain = sum(of("full", false)); // what the guess was about
  const beside = !guessed || !isAsked ? "" : isTicked ? ` (without it ${size(plain)}, ${compared(plain)})` : `, ${compared(plain)}`;
  const answer = `Training all weights of ${nameOf(byId("shape").value)} takes ${size(total)}${isTicked ? " with checkpointing" : ""}${beside}.`;
  const most = full.indexOf(Math.max(...full)), kind = DATA.kinds[most], meaning = byId("kinds").rows[most].querySelector("span").textContent;
  const largest = kind === "optimizer"
    ? `The optimizer alone holds ${size(full[most])}: two 32-bit numbers for each weight that trains.`
    : `Of this, ${size(full[most])} is ${kind}: ${meaning}.`;
  const why = ` ${largest} LoRA trains only a few new weights: ${size(sum(lora))}. ` +
    `QLoRA also rounds the others to 4 bits: ${size(sum(qlora))}. `;
  const fitting = DATA.ways.filter(([way]) => sum(of(way)) <= card).map(([, label]) => label);
  const fit = new Intl.ListFormat("en-GB").format(fitting).replace(/^./, (letter) => letter.toUpperCase());
  const end = over > 0
    ? `QLoRA is ${size(over)} over the card${isTicked || sum(of("qlora", true)) > card ? "." : ": tick checkpointing."}`
    : `${fit} fit${fitting.length > 1 ? "" : "s"}${isTicked && sum(of("qlora", false)) > card ? ", because of checkpointing!" : "."}`;
  const bold = (textContent) => Object.assign(document.createElement("b"), { textContent });
  const [first, then, last] = [answer, why, end].map((text) => text.replaceAll(" GB", "\u00a0GB")); // in one line
  if (byId("verdict").textContent !== first + then + last) byId("verdict").replaceChildren(bold(first), then, bold(last));
}

// Lead and question, which who follows a link reads beside the answer, are of the model and the texts that are chosen.
function ask() {
  const gb = of("full", false)[0], texts = byId("batch").value, length = byId("length").value;
  const words = {
    model: nameOf(byId("shape").value),
    count: gb < 2 ? `${show(500 * gb)} million` : `${show(gb / 2)} billion`, // 2 bytes each
    gb: size(gb),
    card: `${byId("card").value} GB`,
    texts: `${texts === "1" ? "one text" : `${texts} texts`} of ${length} tokens`,
  };
  for (const [name, text] of Object.entries(words))
    document.querySelectorAll(`em.${name}`).forEach((one) => (one.textContent = text));
}

function update() {
  ask();
  const card = Number(byId("card").value);
  const plans = DATA.ways.map(([way, label]) => ({ label, values: of(way), total: sum(of(way)) }));
  const start = moves ? drawn : null;
  moves = false;
  move((part) => {
    drawn = plans.map(({ values }, i) => values.map((gb, k) => (start ? start[i][k] + part * (gb - start[i][k]) : gb)));
    paint(plans, drawn);
  }, 700);
  const said = plans.map(({ label, total }) =>
    `${label} ${size(total)}` + (total <= card ? " fits" : ` (${size(total - card)} over)`));
  byId("said").textContent = `${nameOf(byId("shape").value)} on a card of ${card} GB: ${said.join(", ")}.`;
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
});
