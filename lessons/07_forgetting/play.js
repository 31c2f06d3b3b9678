const ROUND = "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z";
const LOOKS = { // of the ways: colour, dashes, marker. Full with replay is full's.
  "full fine-tuning": { color: "var(--full)", marker: ROUND },
  "full, 25 % replay": { color: "var(--full)", dash: "5 3", marker: ROUND },
  LoRA: { color: "var(--lora)", marker: "M0-1.3L1.2.9H-1.2Z" },
  "norms alone": { color: "color-mix(in srgb, var(--norms), var(--ink) 35%)", // yellow is faint on white
    marker: "M0 1.3L1.2-.9H-1.2Z" },
};
const FIRST = ["full fine-tuning", "LoRA"]; // the ways that are drawn before the guess
const LEFT = 72, RIGHT = 392, TOP = 24, BOTTOM = 300; // of the plane; the bars and their words have lanes outside of it
const svg = byId("plane"), field = byId("guess").elements.guess;
const all = DATA.ways.flatMap((way) => [...way.path, ...way.strengths]);
const highest = (k) => Math.max(0.04, (k ? 1.12 : 1.2) * Math.max(...all.map((point) => point[k])));
const lowest = (k) => Math.min(k ? -0.32 * highest(1) : 0, 1.2 * Math.min(...all.map((point) => point[k])));
const x = (learned) => LEFT + ((RIGHT - LEFT) * (learned - lowest(0))) / (highest(0) - lowest(0));
const y = (forgotten) => TOP + ((BOTTOM - TOP) * (highest(1) - forgotten)) / (highest(1) - lowest(1));
const furthest = highest(0) - (8 * (highest(0) - lowest(0))) / (RIGHT - LEFT); // where the whole ring is in the picture
const exact = (bits) => show(Math.round(1000 * bits) / 1000 + 0, 3); // + 0: no -0
const line = (points) => "M" + points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L");
const kept = (way) => way.path[way.steps.indexOf(way.kept)];
const trained = (way) => way.path.slice(0, way.steps.indexOf(way.kept) + 1);
const words = (at, up, text, anchor = "middle", look = {}) =>
  draw(svg, "text", { x: at, y: up, "text-anchor": anchor, class: "over", ...look }, text);
const upward = (up, text, at, look = {}) =>
  words(0, 0, text, "middle", { transform: `translate(${at} ${up}) rotate(-90)`, ...look });
const mark = (parent, { color, marker, dash }, [a, b], size) =>
  draw(parent, "path", {
    d: marker, transform: `translate(${x(a)} ${y(b)}) scale(${size})`, fill: dash ? "var(--page)" : color, stroke: color,
    "stroke-width": 1.4 / size,
  });

for (let tenth = 0; tenth / 10 < Math.max(highest(0), highest(1)); tenth++) {
  if (tenth / 10 < highest(0)) words(x(tenth / 10), 339, (tenth / 10).toFixed(1), "middle", { class: "over fine" });
  if (tenth / 10 < highest(1)) words(26, y(tenth / 10) + 4, (tenth / 10).toFixed(1), "end", { class: "over fine" });
}
draw(svg, "path", { d: `M${x(0)} ${TOP}V${BOTTOM}M${x(0)} ${y(0)}H${RIGHT}`, class: "axis" });
const titles = [[6, 4, "start", "↑ ", "price: ", "forgotten", ""], [RIGHT, 356, "end", "", "gain: ", "learned", " →"]].map(([at, up, anchor, before, fine, what, after]) => {
  const title = words(at, up, before, anchor, { dy: up < TOP ? ".8em" : 0, class: "over title" }); // in letters of any size
  [fine, what, ", in bits per character", after].forEach((part, i) => draw(title, "tspan", { class: i % 2 ? "" : "fine" }, part));
  return title;
});

const groups = DATA.ways.map((way) => {
  const look = LOOKS[way.name], [a, b] = kept(way), group = draw(svg, "g", { class: FIRST.includes(way.name) ? "" : "after" });
  draw(group, "path", { d: line(trained(way)), fill: "none", stroke: look.color, "stroke-width": 1.8, "stroke-dasharray": look.dash ?? "" });
  trained(way).forEach((point) => mark(group, look, point, 2.5));
  mark(group, look, [a, b], 6);
  const row = byId("ends").insertRow();
  [way.name, exact(a), exact(b)].forEach((text) => (row.insertCell().textContent = text));
  byId("way").add(new Option(way.name));
  return group;
});
// What was learned lies along the lower edge, and what was forgotten along the left one: pale, all of it, at λ = 1.
const bars = ["learned", "forgotten"].flatMap((id) => [0.3, 1].map((opacity) => draw(svg, "rect", { id: opacity < 1 ? "" : id, opacity })));
const guessLine = draw(svg, "path", { stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "3 3", class: "after" });
const back = draw(svg, "path", { fill: "none", stroke: "var(--ink)", "stroke-width": 2.5, "stroke-dasharray": "1 4" });
const half = draw(svg, "circle", { r: 4, fill: "var(--ink)", class: "after" });
const ring = draw(svg, "circle", { r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 3 });
const isWhat = words(0, 0, "?", "middle", { class: "", dy: ".35em", style: "font-weight: 700; pointer-events: none" });
const learnedSays = words(0, 322, "", "middle", { class: "over fine" }), forgottenSays = upward(0, "", 50);
const names = DATA.ways.map((way) =>
  words(0, 0, way.name.replace("full, ", ""), "start", { class: FIRST.includes(way.name) ? "over" : "over after", style: `fill: ${LOOKS[way.name].color}` }));
const [oldSays, straightSays] = ["old model, λ = 0", "if both shrank alike"].map((text) => words(0, 0, text, "start", { class: "over fine" }));
const halfSays = words(0, 0, "", "start", { class: "over after" }), guessSays = words(0, 0, "", "start", { class: "over after" });

const percent = (part, whole) => `${show((100 * part) / whole + 0)} %`; // + 0: no -0
const chosen = () => DATA.ways[byId("way").selectedIndex];
const isOpen = () => byId("guess").hidden;
const LORA = DATA.ways.findIndex((way) => way.name === "LoRA");
const HALF = DATA.strengths.indexOf(0.5);
let guessed = null; // per cent that the reader said
let bend = 0; // 0: the line of λ is straight, as before the answer; 1: it is as measured

// The line of λ, of which `bend` tells how far it is on its way from a straight one to the measured one.
const bent = ({ strengths }) => strengths.map((point, i) =>
  point.map((measured, k) => measured * bend + DATA.strengths[i] * strengths.at(-1)[k] * (1 - bend)));

// Put labels where they meet neither marks, nor places of the ring, nor each other, as near to what they name as can be.
let arranged = "";
function arrange() {
  const way = chosen(), size = getComputedStyle(oldSays).fontSize, state = [way.name, isOpen(), size, guessed].join();
  if (state === arranged || !svg.getBoundingClientRect().width) return;
  arranged = state;
  const box = (a, b, r) => ({ left: a - r, right: a + r, top: b - r, bottom: b + r, cost: 1e5 });
  const at = ([a, b], r) => box(x(a), y(b), r);
  const along = (points, r, cost) => points.slice(1).flatMap(([c, d], i) => {
    const [a, b] = points[i], n = Math.ceil(Math.hypot(x(c) - x(a), y(d) - y(b)) / 5);
    return Array.from({ length: n }, (_, k) => ({ ...at([a + ((c - a) * k) / n, b + ((d - b) * k) / n], r), cost }));
  });
  const track = way.strengths.map((point, i) => (isOpen() ? point : point.map((_, k) => DATA.strengths[i] * way.strengths.at(-1)[k])));
  const drawn = DATA.ways.filter((one) => isOpen() || one === way || FIRST.includes(one.name));
  const taken = drawn.flatMap((one) => [
    ...trained(one).map((point) => at(point, 5)), at(kept(one), 9), ...along(trained(one), 2, 50),
  ]);
  const above = titles[0].getBBox();
  taken.push({ left: above.x, right: above.x + above.width, top: above.y, bottom: above.y + above.height, cost: 1e5 });
  taken.push({ left: LEFT, right: RIGHT, top: y(0) - 4, bottom: y(0) + 4, cost: 1e5 }, ...along(track, 3, 1e5));
  if (isOpen()) {
    taken.push(...track.map((point) => at(point, 11)));
  } else {
    const up = ring.cy.baseVal.value;
    taken.push({ left: LEFT, right: RIGHT, top: up - 11, bottom: up + 11, cost: 1e5 });
  }
  const put = (label, [a, b], pull = 1, gap = 6) => {
    label.removeAttribute("transform");
    const { x: dx, y: dy, width, height } = label.getBBox();
    let best = Infinity, place;
    for (let left = LEFT + 5; left + width < RIGHT; left += 4)
      for (let top = 2; top + height < BOTTOM; top += 4) {
        const right = left + width, bottom = top + height;
        let cost = pull * Math.hypot(Math.max(left - a, a - right, 0), Math.max(top - b, b - bottom, 0)) + Math.abs((left + right) / 2 - a) / 20;
        for (const one of taken) {
          if (cost >= best) break;
          if (left < one.right && right > one.left && top < one.bottom && bottom > one.top) cost += one.cost;
        }
        if (cost < best) [best, place] = [cost, { left, right, top, bottom, cost: 1e5 }];
      }
    if (!place) return;
    label.setAttribute("transform", `translate(${place.left - dx} ${place.top - dy})`);
    taken.push({ ...place, left: place.left - gap, right: place.right + gap });
  };
  const name = (one) => {
    const label = names[DATA.ways.indexOf(one)], isChosen = one === way;
    label.textContent = one.name.replace(isChosen ? "full, 25 % " : "full, ", ""); // short, to fit beside its mark
    if (isChosen) draw(label, "tspan", { class: "fine" }, ", λ = 1");
    label.style.fontWeight = isChosen ? 700 : 400;
    put(label, [x(kept(one)[0]), y(kept(one)[1])]);
  };
  const learned = (guessed / 100) * way.strengths.at(-1)[0];
  const edge = Math.min(learned, furthest); // a guess beyond the plane is marked at its edge
  const isDrawn = isOpen() && guessed !== null && way === DATA.ways[LORA];
  for (const one of [guessLine, guessSays]) one.classList.toggle("hidden", !isDrawn);
  if (isDrawn) {
    guessLine.setAttribute("d", `M${x(edge)} ${BOTTOM - 16}V${BOTTOM + 8}`);
    guessSays.textContent = `your guess: ${show(guessed)} %${learned > edge ? " →" : ""}`;
    taken.push({ left: x(edge) - 3, right: x(edge) + 3, top: BOTTOM - 18, bottom: BOTTOM, cost: 1e5 });
  }
  name(way);
  put(oldSays, [x(0), y(0)]);
  if (isOpen()) {
    const [a, b] = way.strengths[HALF], [most, cost] = way.strengths.at(-1);
    halfSays.replaceChildren();
    ["λ = 0.5:", ...[["gain", a, most], ["price", b, cost]].map(brief)].forEach((text, i) =>
      draw(halfSays, "tspan", { x: 0, dy: i ? "1.2em" : 0, "font-weight": 600 }, text));
    put(halfSays, [x(a), y(b)], 1, 18);
  } else put(straightSays, [x(way.strengths.at(-1)[0] * 0.75), y(way.strengths.at(-1)[1] * 0.75)]);
  drawn.filter((one) => one !== way).forEach(name);
  if (isDrawn) put(guessSays, [x(edge), BOTTOM - 8], 3);
}
const brief = ([what, part, whole]) => `${what}: ${whole > 0 && part > 0 ? percent(part, whole) : "none"}`;
const says = (what, part, whole) => (whole > 0 && part > 0 ? `${percent(part, whole)} of the ${what}` : `no ${what}`);

const fullName = (name) => name.replace(/full, (.*)/, "full fine-tuning ($1)");
// What half strength keeps and pays, of a way with its spread over runs, and what the whole way to λ = 1 brought.
function answer({ name, strengths, runs }) {
  const [half, end] = [strengths[HALF], strengths.at(-1)];
  const [gain, price] = ["gain", "price"].map((what, k) => {
    const shares = runs.map((run) => (100 * run[HALF][k]) / run.at(-1)[k]), mean = shares.reduce((a, b) => a + b) / runs.length;
    const spread = Math.sqrt(shares.reduce((a, b) => a + (b - mean) ** 2, 0) / (runs.length - 1));
    return says(what, half[k], end[k]).replace(" %", runs.length > 1 ? ` ± ${show(spread)} %` : " %");
  });
  return `At half strength, ${fullName(name)} keeps ${gain} and pays ${price} (${runs.length > 1 ? `mean of ${runs.length} runs` : "one run"}).`
    .replace(/ (?=[±%])|(?<=±) /g, "\u00a0");
}
function whole({ name, strengths }) {
  const best = strengths.reduce((a, point, i) => (point[0] > strengths[a][0] ? i : a), 0), most = strengths.at(-1)[0];
  const at = `at λ = ${DATA.strengths[best]} the gain is ${percent(strengths[best][0], most)}`.replaceAll(" ", "\u00a0");
  return best + 1 < strengths.length
    ? `With ${fullName(name)} it even turns up again before λ\u00a0=\u00a01: ${at}, so this training overshot a little.`
    : `With ${fullName(name)} the gain still grows up to λ\u00a0=\u00a01.`;
}

function update() {
  const way = chosen(), strength = Number(byId("strength").value);
  const place = Math.round(strength * (DATA.strengths.length - 1));
  const [a, b] = way.strengths[place], [most, cost] = way.strengths.at(-1);
  groups.forEach((group, i) => group.classList.toggle("other", DATA.ways[i] !== way));
  const said = isOpen() ? guessed : field.value === "" ? null : Number(field.value);
  let [right, up] = [a, b]; // where the ring is: before the answer, at the guess
  if (bend < 1) {
    const start = Math.min((most * (said ?? 50)) / 100, furthest);
    [right, up] = [start + bend * (a - start), cost / 2 + bend * (b - cost / 2)];
  }
  back.setAttribute("d", line(bent(way)));
  for (const one of [ring, isWhat]) {
    one.setAttribute(one === ring ? "cx" : "x", x(right));
    one.setAttribute(one === ring ? "cy" : "y", y(up));
  }
  const [c, d] = way.strengths[HALF];
  half.setAttribute("cx", x(c));
  half.setAttribute("cy", y(d));
  for (const one of [half, halfSays]) one.classList.toggle("past", place !== HALF);
  isWhat.classList.toggle("hidden", isOpen());
  ring.setAttribute("fill", isOpen() ? "none" : "var(--page)");
  straightSays.classList.toggle("hidden", isOpen());
  bars.forEach((bar, i) => {
    const isWhole = i % 2 === 0, isUp = i > 1, end = isUp ? y(isWhole ? cost : up) : x(isWhole ? most : right);
    const start = isUp ? y(0) : x(0), isHidden = !isOpen() && (isUp || (!isWhole && said === null));
    const isGift = isUp && end > start; // a price below 0 has no bar
    const [from, long] = [Math.min(start, end), isHidden || isGift ? 0 : Math.abs(end - start)];
    const look = isUp ? { x: LEFT - 9, y: from, width: 7, height: long } : { x: from, y: BOTTOM + 2, width: long, height: 6 };
    look.fill = isUp ? "var(--memory-gradients)" : LOOKS[way.name].color;
    for (const [name, value] of Object.entries(look)) bar.setAttribute(name, value);
  });
  learnedSays.textContent = isOpen() ? `λ = ${DATA.strengths[place]}: ${says("gain", a, most)}` : `λ = 0.5: ${said === null ? "?" : show(said)} % of the gain`;
  forgottenSays.textContent = isOpen() ? says("price", b, cost) : "";
  const wide = learnedSays.getBBox().width / 2, long = forgottenSays.getBBox().width / 2;
  learnedSays.setAttribute("x", Math.max(LEFT + wide, Math.min(x(right), RIGHT + 6 - wide)));
  forgottenSays.setAttribute("transform", `translate(50 ${Math.max(TOP + long, Math.min(y(up), y(0) - long))}) rotate(-90)`);
  arrange();
  byId("lambda").textContent = strength.toFixed(1);
  byId("bend").textContent = whole(way);
  if (isOpen()) document.querySelectorAll(".by").forEach((one) => (one.textContent = fullName(way.name)));
  if (isOpen()) {
    const you = guessed === null || way !== DATA.ways[LORA] ? "" :
      percent(c, most) === `${show(guessed)} %` ? " Exactly what you said." : ` You said ${show(guessed)} %.`;
    byId("verdict").replaceChildren(Object.assign(document.createElement("b"), { textContent: answer(way) }), you);
  }
  const share = (part, whole) => (whole > 0 && part > 0 ? ` (${percent(part, whole).replace(" ", "\u00a0")})` : "");
  const gift = exact(b).startsWith("-") ? ": Python's text gained" : "";
  byId("said").textContent =
    `λ = ${strength.toFixed(1)}: gain ${exact(a)} bits per character${share(a, most)}, price ${exact(b)}${share(b, cost)}${gift}.`;
}

byId("way").selectedIndex = LORA;
const redraw = begin({ s: "strength", way: "way" }, update, (guess) => {
  guessed = guess;
  if (guess === null) return (bend = 1);
  byId("strength").focus({ preventScroll: true });
  move((part) => { // from the guess to the answer
    bend = part;
    update();
  }, 1600);
  const { strengths } = DATA.ways[LORA];
  return Math.round((100 * strengths[HALF][0]) / strengths.at(-1)[0]);
});
addEventListener("resize", update);

// The ring follows a pointer: along its line, or, before the answer, to the reader's guess.
const follow = (event) => {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()), { strengths } = chosen();
  if (isOpen()) {
    const far = strengths.map(([a, b]) => Math.hypot(x(a) - at.x, y(b) - at.y));
    byId("strength").value = DATA.strengths[far.indexOf(Math.min(...far))];
    redraw();
  } else {
    const learned = (100 * (at.x - x(0))) / (x(strengths.at(-1)[0]) - x(0));
    field.value = Math.max(0, Math.min(Math.round(learned), 200));
    update();
  }
};
field.addEventListener("input", update);
ring.style.cursor = "grab";
ring.style.pointerEvents = "all";
ring.style.touchAction = "none";
ring.addEventListener("pointerdown", (event) => ring.setPointerCapture(event.pointerId));
ring.addEventListener("pointermove", (event) => ring.hasPointerCapture(event.pointerId) && follow(event));
