const ROUND = "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z";
// Of the ways: colour, dashes, marker, and where the name stands beside the large mark. Full with replay is full's.
const LOOKS = {
  "full fine-tuning": { color: "var(--full)", marker: ROUND, name: [0, -12, "middle"] },
  "full, 25 % replay": { color: "var(--full)", dash: "5 3", marker: ROUND, name: [28, -13, "end"] },
  LoRA: { color: "var(--lora)", marker: "M0-1.3L1.2.9H-1.2Z", name: [-22, 34, "end"] },
  "norms alone": { color: "var(--norms)", marker: "M0 1.3L1.2-.9H-1.2Z", name: [2, 20, "start"] },
};
const svg = byId("plane");
const all = DATA.ways.flatMap((way) => [...way.path, ...way.strengths]);
const highest = (k) => Math.max(0.04, 1.12 * Math.max(...all.map((point) => point[k])));
const lowest = (k) => Math.min(k ? -0.04 : 0, 1.2 * Math.min(...all.map((point) => point[k])));
const x = (learned) => 52 + (338 * (learned - lowest(0))) / (highest(0) - lowest(0));
const y = (forgotten) => 12 + (236 * (highest(1) - forgotten)) / (highest(1) - lowest(1));
const line = (points) => "M" + points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L");
const kept = (way) => way.path[way.steps.indexOf(way.kept)];
const words = (parent, at, up, text, anchor = "middle", look = {}) =>
  draw(parent, "text", { x: at, y: up, "text-anchor": anchor, class: "over", ...look }, text);
const mark = (parent, { color, marker, dash }, [a, b], size) =>
  draw(parent, "path", {
    d: marker, transform: `translate(${x(a)} ${y(b)}) scale(${size})`, fill: dash ? "var(--page)" : color, stroke: color,
    "stroke-width": 1.4 / size,
  });

for (let tenth = 0; tenth / 10 < Math.max(highest(0), highest(1)); tenth++) {
  if (tenth / 10 < highest(0)) words(svg, x(tenth / 10), 266, (tenth / 10).toFixed(1));
  if (tenth / 10 < highest(1)) words(svg, 46, y(tenth / 10) + 4, (tenth / 10).toFixed(1), "end");
}
words(svg, 220, 286, "learned, in bits per character →");
draw(svg, "text", { transform: "translate(14 130) rotate(-90)", "text-anchor": "middle" }, "forgotten, in bits per character →");
draw(svg, "path", { d: `M${x(0)} 12V248M${x(0)} ${y(0)}H392`, class: "axis" });

const groups = DATA.ways.map((way) => {
  const look = LOOKS[way.name], [a, b] = kept(way), [right, down, anchor] = look.name;
  const group = draw(svg, "g");
  const path = way.path.slice(0, way.steps.indexOf(way.kept) + 1);
  draw(group, "path", { d: line(path), fill: "none", stroke: look.color, "stroke-width": 1.8, "stroke-dasharray": look.dash ?? "" });
  path.forEach((point) => mark(group, look, point, 2.5));
  mark(group, look, [a, b], 6);
  const [from, to] = { start: [54, 300], middle: [110, 340], end: [170, 398] }[anchor]; // so that a name stays inside
  words(group, Math.max(from, Math.min(to, x(a) + right)), Math.max(14, y(b) + down), way.name, anchor, { style: `fill: ${look.color}; font-weight: 600` });
  const row = byId("ends").insertRow();
  [way.name, show(a, 3), show(b, 3)].forEach((text) => (row.insertCell().textContent = text));
  byId("way").add(new Option(way.name));
  return group;
});
const back = draw(svg, "path", { fill: "none", stroke: "var(--ink)", "stroke-width": 2.5, "stroke-dasharray": "1 4", class: "after" });
const ring = draw(svg, "circle", { r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 3, class: "after" });
const ringSays = words(svg, 0, 0, "", "start", { class: "after over" });

const share = (part, whole) => `${show((100 * part) / whole + 0)} %`; // + 0: no -0
const chosen = () => DATA.ways[byId("way").selectedIndex];

function update() {
  const way = chosen();
  const strength = Number(byId("strength").value);
  const place = Math.round(strength * (DATA.strengths.length - 1));
  const [a, b] = way.strengths[place];
  const [most, cost] = way.strengths.at(-1);
  const isOpen = byId("guess").hidden;
  groups.forEach((group, i) => group.setAttribute("opacity", !isOpen || DATA.ways[i] === way ? 1 : 0.6));
  back.setAttribute("d", line(way.strengths));
  ring.setAttribute("cx", x(a));
  ring.setAttribute("cy", y(b));
  const isRight = x(a) > 330;
  ringSays.setAttribute("x", x(a) + (isRight ? -14 : 14));
  const down = y(b) + 20;
  ringSays.setAttribute("y", Math.abs(down - 5 - y(0)) < 14 ? y(0) + 18 : down); // not on the axis
  ringSays.setAttribute("text-anchor", isRight ? "end" : "start");
  ringSays.textContent = `λ ${strength.toFixed(2)}`;
  byId("lambda").textContent = strength.toFixed(2);
  for (const [id, part, whole] of [["learned", a, most], ["forgotten", b, cost]]) {
    gauge(id, whole > 0 ? part / whole : 0, whole > 0 ? share(part, whole) : "none");
    byId(id).querySelector("i").style.background = id === "learned" ? LOOKS[way.name].color : "var(--memory-gradients)";
  }
  const gift = b < 0 ? ". Below zero, the old text has gained" : "";
  byId("said").textContent =
    `${way.name} at λ = ${strength.toFixed(2)}: learned ${show(a, 3)}, forgotten ${show(b, 3)} bits per character, ` +
    `${share(a, most)} and ${share(b, cost)} of the values at λ = 1${gift}.`;
}

const LORA = DATA.ways.findIndex((way) => way.name === "LoRA");
byId("way").selectedIndex = LORA;
const redraw = begin({ s: "strength", way: "way" }, update, (percent) => {
  const { strengths } = DATA.ways[LORA];
  const [half, end] = [strengths[DATA.strengths.indexOf(0.5)], strengths.at(-1)];
  const part = share(half[0], end[0]), isRight = percent !== null && part === `${show(percent)} %`;
  const answer = Object.assign(document.createElement("b"), { textContent: `At half strength, LoRA has ${part} of what it had learned` });
  byId("verdict").replaceChildren(answer,
    `, and ${share(half[1], end[1])} of what it had forgotten.` +
    (Math.round((100 * half[0]) / end[0]) > 100 ? " More than 100 %: it knows the new text better than at full strength." : "") +
    (percent === null ? "" : isRight ? " Exactly what you said." : ` You said ${show(percent)} %.`));
  if (percent !== null) glide(byId("strength"), 0.5, () => redraw());
  else if (!given().has("s")) byId("strength").value = 0.5;
});

// The ring follows a pointer along its line.
const nearest = (event) => {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const far = chosen().strengths.map(([a, b]) => Math.hypot(x(a) - at.x, y(b) - at.y));
  byId("strength").value = DATA.strengths[far.indexOf(Math.min(...far))];
  redraw();
};
ring.style.cursor = "grab";
ring.style.pointerEvents = "all";
ring.style.touchAction = "none";
ring.addEventListener("pointerdown", (event) => ring.setPointerCapture(event.pointerId));
ring.addEventListener("pointermove", (event) => ring.hasPointerCapture(event.pointerId) && nearest(event));
