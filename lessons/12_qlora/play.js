const CARD = 48; // GB
const LOOKS = ["#7f8c8d", "#bdc3c7", "#d95f02", "#c1121f", "#8e44ad", "#2980b9", "#16a085", "#b8860b"];
const options = (id, values) => values.forEach(([value, words]) => byId(id).add(new Option(words, value)));
options("shape", DATA.shapes.map((name) => [name, name]));
options("way", DATA.ways);
options("batch", DATA.batches.map((n) => [n, n]));
options("length", DATA.lengths.map((n) => [n, n]));
byId("shape").value = "llama-65b";
byId("way").value = "full";
byId("length").value = "512";

const of = (way, isCheckpointed = byId("checkpointing").checked) => {
  const chosen = ["shape", "batch", "length"].map((id) => byId(id).value);
  return DATA.plans[`${chosen[0]} ${way} ${chosen[1]} ${chosen[2]} ${Number(isCheckpointed)}`].map((mb) => mb / 1000);
};
const sum = (values) => values.reduce((a, x) => a + x, 0);

function update() {
  const gigabytes = of(byId("way").value);
  const total = sum(gigabytes);
  const digits = total < 10 ? 2 : 1;
  const largest = DATA.kinds[gigabytes.indexOf(Math.max(...gigabytes))];
  byId("said").textContent =
    `${show(total, digits)} GB in all, most of it ${largest}: ` +
    (total <= CARD ? `it fits into ${CARD} GB.` : `${show(total / CARD, 1)} cards of ${CARD} GB.`);
  const picture = byId("bar");
  picture.replaceChildren();
  const scale = 255 / Math.max(total, CARD);
  let start = 0;
  gigabytes.forEach((gb, i) => {
    const y = 14 + 30 * i;
    draw(picture, "text", { x: 84, y: y + 15, "text-anchor": "end" }, DATA.kinds[i]);
    draw(picture, "rect", { x: 90 + scale * start, y, width: Math.max(scale * gb, gb > 0 ? 1 : 0), height: 20, fill: LOOKS[i] });
    const end = 90 + scale * (start + gb);
    const isLeft = end > 335;
    draw(picture, "text", { x: isLeft ? 90 + scale * start - 5 : end + 5, y: y + 15, "text-anchor": isLeft ? "end" : "start" }, gb > 0 ? show(gb, digits) : "–");
    start += gb;
  });
  const card = 90 + scale * CARD;
  draw(picture, "path", { d: `M${card} 6V262`, class: "axis", "stroke-dasharray": "6 4" });
  draw(picture, "text", { x: card, y: 280, "text-anchor": card > 370 ? "end" : "middle" }, `${CARD} GB`);
}

["shape", "way", "batch", "length", "checkpointing"].forEach((id) => byId(id).addEventListener("input", update));
guess((gb) => {
  const right = sum(of("full"));
  const least = sum(of("qlora", true));
  byId("verdict").textContent =
    `Full fine-tuning needs ${show(right)} GB, ${show(right / gb, 1)} times your guess; LoRA ${show(sum(of("lora")))} GB, QLoRA ${show(sum(of("qlora")), 1)} GB, ${show(least, 1)} GB with checkpointing.`;
  byId("way").focus();
});
update();
