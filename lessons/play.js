// What the pages share. They work from disk, by keyboard and without motion; what changes is read out by screen readers.
const byId = (id) => document.getElementById(id);

// An array of pages.packed, as { shape, at(i, j) }.
function numbers({ shape, scale, codes }) {
  const bytes = Uint8Array.from(atob(codes), (c) => c.charCodeAt(0));
  const values = Float64Array.from(new Int16Array(bytes.buffer), (code) => code * scale);
  return { shape, values, at: (i, j = 0) => values[i * (shape[1] || 1) + j] };
}

// An SVG element with attributes, inside `parent`; text: what stands in it.
function draw(parent, kind, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.appendChild(element);
  return element;
}

// 1234567.8 → "1,234,568"; 12.34 → "12.3"
const show = (x, digits = 0) => x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Values of a matrix (n, m) as colours: blue below zero, orange above, white at zero; `most` has the full colour.
function heat(canvas, n, m, at, most) {
  canvas.width = m;
  canvas.height = n;
  const context = canvas.getContext("2d");
  const image = context.createImageData(m, n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      const x = Math.max(-1, Math.min(1, at(i, j) / most));
      const full = x < 0 ? [0, 68, 136] : [217, 95, 2];
      const place = 4 * (i * m + j);
      for (let k = 0; k < 3; k++) image.data[place + k] = 255 + Math.abs(x) * (full[k] - 255);
      image.data[place + 3] = 255;
    }
  context.putImageData(image, 0, 0);
}

// The reader commits to a guess before the answer is shown: `then(guess)` is called once.
function guess(then) {
  const form = byId("guess");
  const answers = document.querySelectorAll(".after");
  answers.forEach((one) => one.classList.add("hidden"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    answers.forEach((one) => one.classList.remove("hidden"));
    form.querySelectorAll("input, button, select").forEach((one) => (one.disabled = true));
    then(Number(new FormData(form).get("guess") ?? form.elements.guess.value));
  }, { once: true });
}
