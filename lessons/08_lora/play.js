const change = numbers(DATA.change), columns = numbers(DATA.columns), rows = numbers(DATA.rows);
const [height, width] = change.shape;
const most = change.values.reduce((a, x) => Math.max(a, Math.abs(x)), 0) / 2;
const squares = DATA.sizes.map((size) => size * size);
const total = squares.reduce((a, x) => a + x, 0);
const held = (r) => squares.slice(0, r).reduce((a, x) => a + x, 0) / total; // share of the squares in the first r pieces
const needed = (share) => DATA.sizes.findIndex((_, i) => held(i + 1) >= share) + 1;

heat(byId("whole"), height, width, change.at, most);
const bars = DATA.sizes.map((size, i) => {
  const tall = (160 * size) / DATA.sizes[0];
  return draw(byId("spectrum"), "rect", { x: 20 + 6.3 * i, y: 180 - tall, width: 5, height: tall });
});
draw(byId("spectrum"), "path", { d: "M16 180H630", class: "axis" });

function update() {
  const r = Number(byId("rank").value);
  const sum = new Float64Array(height * width);
  for (let k = 0; k < r; k++)
    for (let i = 0; i < height; i++) for (let j = 0; j < width; j++) sum[i * width + j] += columns.at(i, k) * rows.at(k, j);
  const at = (i, j) => sum[i * width + j];
  heat(byId("sum"), height, width, at, most);
  heat(byId("rest"), height, width, (i, j) => change.at(i, j) - at(i, j), most);
  const count = r * (height + width);
  byId("sum-says").textContent = `the sum of the first ${r} of ${DATA.sizes.length} pieces`;
  byId("said").textContent =
    `r = ${r}: ${show(count)} numbers, ${show((100 * count) / (height * width), 1)} % of ${show(height * width)}; ` +
    `they hold ${show(100 * held(r), 1)} % of ΔW`;
  bars.forEach((bar, i) => bar.setAttribute("fill", i < r ? "#d95f02" : "var(--soft)"));
}

byId("rank").addEventListener("input", update);
guess((pieces) => {
  const right = needed(0.8);
  byId("verdict").textContent =
    `${pieces} pieces hold ${show(100 * held(pieces), 1)} %. ` +
    (pieces === right ? "Exactly: fewer hold less than 80 %." : `80 % need ${right} pieces.`);
  byId("rank").focus();
});
update();
