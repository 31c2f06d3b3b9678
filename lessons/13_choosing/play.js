const best = DATA.prompts.find((one) => one.examples === DATA.best);
const one = DATA.trained.find((one) => one.examples === DATA.shown); // whose cost is asked for
const examples = (n) => (n ? `${show(n)} example${n === 1 ? "" : "s"}` : "no examples");
const LEFT = 62, RIGHT = 386, TOP = 34, BOTTOM = 218; // the plot of accuracy
const words = (svg, x, y, text, anchor = "middle", look = {}) => draw(svg, "text", { x, y, "text-anchor": anchor, ...look }, text);

// Both ways stand over the number of their labelled examples, of which a prompt may have none: log(1 + n).
const sizes = [...new Set([...DATA.trained, ...DATA.prompts].map((one) => one.examples))].sort((a, b) => a - b);
const range = Math.log1p(sizes.at(-1)) - Math.log1p(sizes[0]) || 1; // one size alone stands at the left
const place = (n) => LEFT + 12 + ((RIGHT - LEFT - 34) * (Math.log1p(n) - Math.log1p(sizes[0]))) / range;
const lowest = 10 * Math.floor(Math.min(...[...DATA.prompts, ...DATA.trained].map((one) => one.low)) / 10);
const level = (percent) => BOTTOM - ((BOTTOM - TOP) * (percent - lowest)) / Math.max(10, 100 - lowest);

// Where both ways have a point, training stands a little to the right of its number and the prompt to the left.
const has = (points, n) => points.some((one) => one.examples === n);
const aside = (n) => (has(DATA.trained, n) && has(DATA.prompts, n) ? 4 : 0);
const trainedAt = (n) => place(n) + aside(n), promptedAt = (n) => place(n) - aside(n);
function curve(parent, points, color, place) {
  const at = points.map((one) => `${place(one.examples)} ${level(one.accuracy)}`);
  draw(parent, "path", { d: `M${at.join("L")}`, fill: "none", stroke: color, "stroke-width": 2.5 });
  for (const { examples: n, accuracy, low, high } of points) {
    if (low < high) draw(parent, "path", { d: `M${place(n)} ${level(low)}V${level(high)}`, stroke: color, "stroke-width": 1.5 });
    draw(parent, "circle", { cx: place(n), cy: level(accuracy), r: 5.5, fill: color });
  }
}
function numbersOf(parent, points) {
  if (points.length > 5) return;
  points.forEach((one) => {
    const x = trainedAt(one.examples), y = level(one.accuracy), look = { class: "over", style: "fill: var(--lora); font-weight: 600" };
    if (one === DATA.trained[0]) words(parent, x > RIGHT - 50 ? x - 9 : x + 9, Math.min(BOTTOM - 4, y + 18), `${show(one.accuracy, 1)} %`,
      x > RIGHT - 50 ? "end" : "start", look);
    else words(parent, x, Math.max(TOP - 6, Math.min(level(one.high) - 8, y - 13)), `${show(one.accuracy, 1)} %`, "middle", look);
  });
}

let hook, answer; // where the reader's guess goes, and what is right
const guess = byId("guess").elements.guess;

// The guess: where training would begin to be more right than the best prompt.
function mark(guess) {
  byId("mine").replaceChildren();
  if (guess === "") return;
  const x = guess > 0 ? trainedAt(Number(guess)) : RIGHT + 5, side = x > RIGHT - 90 ? -1 : 1;
  if (guess > 0) draw(byId("mine"), "path", { d: `M${x} ${BOTTOM - 9}l5 9h-10Z`, fill: "var(--ink)" });
  words(byId("mine"), x + 8 * side, BOTTOM - 4, `your guess${guess > 0 ? "" : ": never"}`, side < 0 ? "end" : "start", { class: "over" });
}
function accuracies() {
  const picture = byId("accuracy"), bold = "font-weight: 600";
  for (let percent = lowest; percent <= 100; percent += lowest < 50 ? 20 : 10) {
    draw(picture, "path", { d: `M${LEFT} ${level(percent)}H${RIGHT}`, class: "axis", "stroke-opacity": 0.25 });
    words(picture, LEFT - 5, level(percent) + 4, `${percent} %`, "end");
  }
  const ticks = apart(sizes.map(place), 26, LEFT, RIGHT - 8);
  sizes.forEach((n, i) => words(picture, ticks[i], BOTTOM + 18, n));
  words(picture, (LEFT + RIGHT) / 2, BOTTOM + 36, "labelled examples");
  words(picture, 4, 16, `${DATA.texts} right`, "start");
  words(picture, 222, 16, "prompt", "end", { style: bold });
  words(picture, RIGHT + 10, 16, `trained by ${DATA.method}`, "end", { style: `fill: var(--lora); ${bold}` });
  draw(picture, "path", { d: `M${promptedAt(best.examples)} ${level(best.accuracy)}H${RIGHT}`, stroke: "var(--ink)", "stroke-width": 2, "stroke-dasharray": "8 5" });
  answer = draw(picture, "g", { class: "after" });
  curve(answer, DATA.trained, "var(--lora)", trainedAt);
  numbersOf(answer, DATA.trained);
  draw(picture, "g", { id: "mine" });
  hook = draw(picture, "g");
  DATA.trained.forEach(({ examples: n }) => {
    const column = draw(hook, "g", { style: "cursor: pointer; fill: var(--lora)" });
    draw(column, "rect", { x: trainedAt(n) - 13, y: TOP, width: 26, height: BOTTOM - TOP, "fill-opacity": 0.13 });
    words(column, trainedAt(n), TOP + 23, "?", "middle", { class: "big", style: "fill: var(--lora)" });
    column.addEventListener("click", () => mark((guess.value = n)));
  });
  curve(picture, DATA.prompts, "var(--ink)", promptedAt);
  words(picture, Math.max(LEFT + 46, Math.min(RIGHT - 40, promptedAt(best.examples))), Math.max(TOP - 2, level(best.high) - 9),
    `best: ${show(best.accuracy, 1)} %`, "middle", { class: "over", style: bold });
}

const times = [[60, "s"], [60, "min"], [Infinity, "hours"]];
function duration(seconds, beside = seconds) { // 0.37 → "0.37 s", 1860 → "31 min"; as precise as the one beside it
  let [rest, i, other] = [seconds, 0, beside];
  for (; rest >= 1.5 * times[i][0]; i++) [rest, other] = [rest / times[i][0], other / times[i][0]];
  const least = Math.min(rest, Math.max(1, other));
  return `${show(rest, least < 0.00995 ? 4 : least < 0.0995 ? 3 : least < 0.995 ? 2 : least < 9.95 ? 1 : 0)} ${times[i][1]}`;
}
const about = (n) => show(Number(n.toPrecision(2)));

// The cost of the examples: a prompt's are read with each query, training's once. Of a prompt that is as is chosen, cached
// or not: what it costs per query, and the queries from which training costs less, or null.
const isCached = () => byId("cached").checked;
const each = () => (isCached() ? DATA.savedIfCached : DATA.saved) / 1000;
const cheaper = () => (isCached() ? one.cheaperIfCached : one.cheaperFrom);
const END = 330, HIGH = 20, LOW = 98;
let far, ten; // queries: where the plot ends, a little farther than training takes to cost less, and its power of ten
function scale() {
  const enough = 1.7 * (cheaper() ?? 100), slider = byId("queries"), share = far ? slider.value / far : 1;
  ten = 10 ** Math.floor(Math.log10(enough));
  far = ten * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((n) => n * ten >= enough);
  slider.step = slider.min = Math.max(1, ten / 100);
  slider.max = far;
  slider.value = share * far;
}
const across = (queries) => LEFT + ((END - LEFT) * queries) / far;
const up = (seconds) => LOW - ((LOW - HIGH) * seconds) / Math.max(far * each(), one.seconds);
function costs(guessed) {
  const picture = byId("cost"), green = "var(--lora)", bold = (fill) => ({ class: "over", style: `fill: ${fill}; font-weight: 600` });
  const from = cheaper(), all = far * each();
  picture.replaceChildren();
  for (const [start, end, fill] of [[0, all, "var(--ink)"], [one.seconds, one.seconds, green]])
    draw(picture, "path", { d: `M${LEFT} ${up(start)}L${END} ${up(end)}`, fill: "none", stroke: fill, "stroke-width": 2.5 });
  const ends = apart([up(all), up(one.seconds)], 15, HIGH, LOW);
  words(picture, END + 7, ends[0] + 4, duration(all, one.seconds), "start", bold("var(--ink)"));
  words(picture, END + 7, ends[1] + 4, duration(one.seconds, all), "start", bold(green));
  for (const [start, end, name, fill] of [[0, from ?? far, "prompt", "var(--ink)"], [from ?? far, far, "train", green]]) {
    draw(picture, "rect", { x: across(start), y: LOW, width: across(end) - across(start), height: 17, fill });
    if (across(end) - across(start) > 50) words(picture, across((start + end) / 2), LOW + 13, name, "middle", { style: "fill: var(--page); font-weight: 600" });
  }
  words(picture, 4, 13, "extra computing time", "start");
  words(picture, LEFT, LOW + 31, "0", "middle");
  words(picture, END, LOW + 31, `${show(far)} queries`, "middle");
  if (from) {
    draw(picture, "circle", { cx: across(from), cy: up(one.seconds), r: 8, fill: "none", stroke: "var(--ink)", "stroke-width": 2 });
    words(picture, across(from), LOW + 31, `about ${about(from)}`, "middle", { style: "font-weight: 600" });
  }
  if (guessed && !isCached()) {
    const x = across(guessed), y = x < 150 ? 26 : 13, side = x > END - 70 ? -1 : 1; // below the axis's name
    if (guessed > far) words(picture, END + 5, 13, `your guess: ${show(guessed)} →`, "end");
    else {
      draw(picture, "path", { d: `M${x} ${y}l-5-9h10Z`, fill: "var(--ink)" });
      words(picture, x + 8 * side, y, "your guess", side < 0 ? "end" : "start");
    }
  }
  draw(picture, "g", { id: "now" });
}
let wasCached = false, paid; // paid: the second guess, null if there is none, undefined before it
function update() {
  if (isCached() !== wasCached) {
    wasCached = isCached();
    scale();
    if (paid !== undefined) pay(paid);
  }
  const queries = Number(byId("queries").value), seconds = queries * each(), x = across(queries);
  byId("queries").setAttribute("aria-valuetext", show(queries));
  byId("said").textContent = `${show(queries)} queries: the prompt's examples take ${duration(seconds, one.seconds)}, training ${duration(one.seconds, seconds)}.`;
  if (!byId("now")) return;
  byId("now").replaceChildren();
  draw(byId("now"), "path", { d: `M${x} ${HIGH}V${LOW}`, class: "axis" });
  for (const [time, fill] of [[seconds, "var(--ink)"], [one.seconds, "var(--lora)"]]) draw(byId("now"), "circle", { cx: x, cy: up(time), r: 4.5, fill });
}

scale();
byId("cache").hidden = !one.cheaperFrom;
accuracies();
guess.addEventListener("input", () => mark(guess.value));

// What the record says of a guess.
function judged(guess) {
  const mine = DATA.trained.find((one) => one.examples === guess), first = DATA.trained.find((one) => one.isAhead);
  if (mine === first) return ` You said ${guess ? show(guess) : "never"}: right.`;
  if (!mine) return " You said never, but it is.";
  const more = `${show(mine.accuracy, 1)} % are`;
  return ` You said ${show(guess)}: ` + (mine.isAhead ? "there, too, but it is ahead before."
    : mine.accuracy > best.accuracy ? `on average yes (${more} right), but that could be chance.` : `not more yet (${more} right).`);
}
const say = (id, ...parts) => byId(id).replaceChildren(...parts.map((text, i) =>
  i % 2 ? text : Object.assign(document.createElement("b"), { textContent: text }))); // every other one bold

// The second guess: after how many queries training has cost less. null: none.
function pay(guessed) {
  const from = cheaper();
  paid = guessed;
  byId("second").hidden = true;
  byId("costs").classList.remove("hidden");
  costs(guessed);
  if (!from) return say("paid", "Training never costs less here:", " a query takes as long after it as with the prompt, or longer.");
  const ratio = Math.max(guessed / from, from / guessed), times = ratio > 1000 ? "over 1,000" : show(ratio, ratio < 10 ? 1 : 0);
  const mine = guessed === null || isCached() ? "" : ratio < 1.25 ? ` You said ${show(guessed)}: close.`
    : guessed < from ? ` That is ${times} times your guess.` : ` You said ${times} times as many.`;
  const percent = (100000 * each()) / (DATA.ms + 1000 * each()); // of the time of very many queries
  say("paid", `${isCached() ? "With a cached prompt, training" : "Training"} costs less from about ${about(from)} queries on:`,
    ` each saves ${duration(each())}, training takes ${duration(one.seconds)}.${mine} ` +
    (isCached() ? `At most, ${show(percent, percent < 9.5 ? 1 : 0)} % of the time is saved. ` : ""),
    ...(isCached() ? ["So the price hardly decides."] : ["Accuracy and labels decide first. If both will do: few queries, prompt; many, train,", " unless cached (try it)."]));
}
byId("price").textContent = `The cost: training on ${examples(one.examples)} takes ${duration(one.seconds)}, once. After that, a query ` +
  `takes ${duration(DATA.ms / 1000)}; with the best prompt${best.examples ? ", which has examples to read" : ""}, ${duration((DATA.ms + DATA.saved) / 1000)}.`;

const redraw = begin({ cached: "cached", queries: "queries" }, update, (guessed) => {
  hook.remove();
  const close = DATA.trained.filter((one) => one.examples !== guessed && !one.isAhead && one.accuracy > best.accuracy).map((one) =>
    ` On ${examples(one.examples)}, ${show(one.accuracy, 1)} % against the prompt's ${show(best.accuracy, 1)} % could be chance.`);
  say("verdict", DATA.answer, `${guessed === null ? "" : judged(guessed)}${close.join("")}`);
  if (guessed === null) {
    mark("");
    return pay(null);
  }
  byId("second").tabIndex = -1; // the next question; a telephone's keyboard would hide the answer
  byId("second").focus({ preventScroll: true });
  move((part) => (answer.style.clipPath = part < 1 ? `inset(0 ${100 - 100 * part}% 0 0)` : ""), 1500); // from left to right
});
addEventListener("beforeprint", () => byId("second").hidden || pay(null)); // paper shows the answer
byId("second").addEventListener("submit", (event) => {
  event.preventDefault();
  const queries = Number(new FormData(event.target).get("queries"));
  pay(queries);
  byId("queries").value = queries;
  redraw();
  byId("queries").focus({ preventScroll: true });
  answer.style.clipPath = "";
  move((part) => (byId("cost").style.clipPath = part < 1 ? `inset(0 ${100 - 100 * part}% 0 0)` : ""), 1500);
});
