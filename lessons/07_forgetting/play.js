const LOOKS = [ // of the ways: colour, marker, and where the name stands beside the large mark
  { color: "#0072b2", marker: "M-1-1H1V1H-1Z", name: [0, -12, "middle"] },
  { color: "#56b4e9", marker: "M0-1.3L1.2.9H-1.2Z", name: [58, -12, "end"] },
  { color: "#d95f02", marker: "M0-1.3L1.3 0 0 1.3-1.3 0Z", name: [-2, 20, "end"] },
  { color: "#009e73", marker: "M-1-1L1 1M-1 1L1-1", name: [0, 20, "start"] },
];
const svg = byId("plane");
const all = DATA.ways.flatMap((way) => [...way.path, ...way.strengths]);
const highest = (k) => 1.1 * Math.max(...all.map((point) => point[k]));
const lowest = -0.04;
const x = (learned) => 50 + (340 * learned) / highest(0);
const y = (forgotten) => 20 + (270 * (highest(1) - forgotten)) / (highest(1) - lowest);
const line = (points) => "M" + points.map(([a, b]) => `${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("L");
const kept = (way) => way.path[way.steps.indexOf(way.kept)];
const words = (at, up, text, anchor = "middle") =>
  draw(svg, "text", { x: at, y: up, "text-anchor": anchor }, text);
const mark = ({ color, marker }, [a, b], size) =>
  draw(svg, "path", {
    d: marker, transform: `translate(${x(a)} ${y(b)}) scale(${size})`, fill: color, stroke: color, "stroke-width": 0.5,
  });

for (const value of [0, 0.1, 0.2, 0.3]) {
  words(x(value), 308, value.toFixed(1));
  words(44, y(value) + 4, value.toFixed(1), "end");
}
words(220, 328, "learned, bits per character");
draw(svg, "text", { transform: "translate(14 150) rotate(-90)", "text-anchor": "middle" },
  "forgotten, bits per character");
draw(svg, "path", { d: `M${x(0)} 20V290M${x(0)} ${y(0)}H390`, class: "axis" });

DATA.ways.forEach((way, i) => {
  const look = LOOKS[i], [a, b] = kept(way), [right, down, anchor] = look.name;
  const path = way.path.slice(0, way.steps.indexOf(way.kept) + 1);
  draw(svg, "path", { d: line(path), fill: "none", stroke: look.color, "stroke-width": 1.8 });
  path.forEach((point) => mark(look, point, 2.5));
  mark(look, [a, b], 6);
  words(x(a) + right, y(b) + down, way.name, anchor);
  const row = byId("ends").insertRow();
  [way.name, show(a, 3), show(b, 3)].forEach((text) => (row.insertCell().textContent = text));
  byId("way").add(new Option(way.name));
});
const back = draw(svg, "path", { fill: "none", stroke: "var(--ink)", "stroke-width": 2, "stroke-dasharray": "1 4" });
const ring = draw(svg, "circle", { r: 9, fill: "none", stroke: "var(--ink)", "stroke-width": 2.5, class: "after" });
const ringSays = words(0, 0, "");
ringSays.classList.add("after");

const share = (part, whole) => `${show((100 * part) / whole + 0)} %`; // + 0: no -0

function update() {
  const way = DATA.ways[byId("way").selectedIndex];
  const strength = Number(byId("strength").value);
  const [a, b] = way.strengths[DATA.strengths.indexOf(strength)];
  const [most, cost] = way.strengths.at(-1);
  back.setAttribute("d", line(way.strengths));
  ring.setAttribute("cx", x(a));
  ring.setAttribute("cy", y(b));
  ringSays.setAttribute("x", Math.min(x(a) + 14, 350));
  ringSays.setAttribute("y", y(b) + 18);
  ringSays.setAttribute("text-anchor", "start");
  ringSays.textContent = `λ ${strength.toFixed(2)}`;
  const gift = b < 0 ? ". Below zero, the old text has gained" : "";
  byId("said").textContent =
    `${way.name} at λ = ${strength.toFixed(2)}: learned ${show(a, 3)}, forgotten ${show(b, 3)} bits per character, ` +
    `${share(a, most)} and ${share(b, cost)} of the values at λ = 1${gift}.`;
}

const LORA = DATA.ways.findIndex((way) => way.name === "LoRA");
byId("way").selectedIndex = LORA;
byId("way").addEventListener("input", update);
byId("strength").addEventListener("input", update);
back.classList.add("after");
guess((percent) => {
  const { strengths } = DATA.ways[LORA];
  const [half, end] = [strengths[DATA.strengths.indexOf(0.5)], strengths.at(-1)];
  byId("verdict").textContent =
    `At half strength, LoRA has ${share(half[0], end[0])} of what it had learned, and ${share(half[1], end[1])} of what it ` +
    `had forgotten. You said ${show(percent)} %. Move λ, and choose another way.`;
  byId("strength").value = 0.5;
  update();
  byId("strength").focus();
});
update();
