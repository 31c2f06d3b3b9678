// What the pages share. They work from disk, by keyboard and without motion; what changes is read out by screen readers.
const byId = (id) => document.getElementById(id);

// An array of pages.packed, as { shape, at(i, j) }.
function numbers({ shape, scale, codes }) {
  const text = atob(codes), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const values = new Float64Array(new Int16Array(bytes.buffer)).map((code) => code * scale);
  return { shape, values, at: (i, j = 0) => values[i * (shape[1] || 1) + j] };
}

// An SVG element with attributes, inside `parent`; text: what stands in it.
function draw(parent, kind, attributes = {}, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  parent.appendChild(element);
  return element;
}

// 1234567.8 → "1,234,568"; 12.34 → "12.3"
const show = (x, digits = 0) => x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

// Values of a matrix (n, m) as colours: blue below zero, orange above, none at zero; `most` has the full colour.
function heat(canvas, n, m, at, most) {
  canvas.width = m;
  canvas.height = n;
  const context = canvas.getContext("2d");
  const image = context.createImageData(m, n), pixels = image.data, cold = [0, 68, 136], warm = [217, 95, 2];
  for (let i = 0, place = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      const x = Math.max(-1, Math.min(1, at(i, j) / most)), full = x < 0 ? cold : warm;
      for (let k = 0; k < 3; k++) pixels[place++] = full[k];
      pixels[place++] = 255 * Math.abs(x); // on the page's ground, light or dark
    }
  context.putImageData(image, 0, 0);
}

// Move places apart until neighbours are `gap` apart, within low and high; closer, if there is not room for all.
function apart(places, gap, low, high) {
  gap = Math.min(gap, (high - low) / Math.max(1, places.length - 1));
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const out = [...places];
  order.forEach((i, k) => (out[i] = Math.max(out[i], low + k * gap, k ? out[order[k - 1]] + gap : low)));
  for (let k = order.length - 1, most = high; k >= 0; k--, most -= gap) {
    out[order[k]] = Math.min(out[order[k]], most);
    most = out[order[k]];
  }
  return out;
}

// A bar that has its end at `share` of the line of 100 %; words: the number beside it.
function gauge(id, share, words = `${show(100 * share + 0)} %`) {
  const [, line, number] = byId(id).children;
  line.firstElementChild.style.width = `${100 * Math.max(0, share)}%`;
  number.textContent = words;
}

// Controls by their names in the address, as in play.html#r=8: a link leads to what one sees.
let controls = {};
const given = () => new URLSearchParams(location.hash.slice(1));
function restore() {
  for (const [name, text] of given()) {
    const control = name in controls && byId(controls[name]);
    if (!control) continue;
    const before = control.value;
    if (control.type === "checkbox") control.checked = text === "1" || (text !== "0" && control.checked);
    else if (control.type !== "range" || (text.trim() && Number.isFinite(Number(text)))) control.value = text;
    if (control.value === "" && control.type !== "textarea") control.value = before; // a choice that there is not
    control.dispatchEvent(new Event("input"));
  }
}
function remember() {
  const state = Object.entries(controls).map(([name, id]) => [name, byId(id)])
    .map(([name, control]) => [name, control.type === "checkbox" ? Number(control.checked) : control.value]);
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
  byId("view").href = location.href;
}

// Copy the address of a link; where the browser does not let us, the link is followed.
function copy(event) {
  if (!navigator.clipboard) return;
  event.preventDefault();
  const link = event.target, words = link.textContent;
  navigator.clipboard.writeText(link.href).then(() => (link.textContent = "copied"), () => (link.textContent = link.href));
  setTimeout(() => (link.textContent = words), 2000);
}

// A friend's guess, which a link to the question may have, as in play.html#friend=400; "", if one cannot guess that.
function guessOf(friend, field) {
  field.value = friend;
  const words = friend && field.checkValidity() ? field.selectedOptions?.[0].text ?? field.value : "";
  field.value = "";
  const unit = field.placeholder ?? field.dataset.unit; // never: none
  return words === "" || isNaN(words) ? words : `${words} ${words === "1" ? unit.replace(/s$/, "") : unit}`;
}

// Begin the page. names: its controls by their names in the address; update: draws what they say; then(guess): called
// once when the reader has committed to a guess, or with null if there is no guess: if the
// address has a state, or the page is printed. It returns the right answer, where guesses are closer to it or further.
function begin(names, update, then) {
  controls = names;
  const form = byId("guess");
  const answers = document.querySelectorAll(".after"), friend = guessOf(given().get("friend"), form.elements.guess);
  const theirs = Number(given().get("friend")), isLinked = [...given().keys()].some((name) => name in controls);
  const redraw = () => {
    update();
    if (form.hidden) remember();
  };
  const open = (guess) => {
    answers.forEach((one) => one.classList.remove("hidden"));
    form.hidden = true;
    document.body.classList.add("open");
    const isNone = guess === null, isFile = location.protocol === "file:"; // whose address leads nobody else here
    byId("verdict").insertAdjacentHTML("afterend", `<p class="again"><span></span><a target="_self">guess ${isNone ? "for yourself" : "again"}</a>
      <span id="links">· copy link: <a id="question">question${isNone ? "" : " with your guess"}</a> · <a id="view">view with answer</a></span>
      ${isFile ? "· from disk: no link to copy" : ""}</p>`);
    byId("links").hidden = isFile;
    document.querySelectorAll(".again a").forEach((link) => (link.href = location.pathname)); // without a state, it begins anew
    if (!isNone) byId("question").href += `#friend=${guess}`; // who follows it sees it after a guess
    for (const id of ["question", "view"]) byId(id).addEventListener("click", copy);
    const truth = then(guess), [mine, other] = [guess, theirs].map((one) => Math.abs(one - truth)); // NaN without a truth
    const closer = guess === theirs ? ", too" : mine < other ? ": you were closer" : mine > other ? ": they were closer" : "";
    if (friend && !isNone) document.querySelector(".again span").textContent = `A friend said ${friend}${closer}. `;
    if (guess === null) { // who follows a link sees what the answer answers
      const lead = document.querySelector(".lead"), words = form.querySelector("span").innerHTML;
      document.body.classList.add("linked");
      lead.hidden = false;
      lead.after(Object.assign(document.createElement("p"), { innerHTML: words.replace("Your guess first", "The question") }));
    }
    redraw();
  };
  Object.values(controls).forEach((id) => byId(id).addEventListener("input", redraw));
  addEventListener("hashchange", () => {
    if (given().has("friend")) location.reload();
    if (![...given().keys()].some((name) => name in controls)) return;
    restore();
    if (form.hidden) redraw();
    else open(null);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    open(Number(new FormData(form).get("guess")));
  }, { once: true });
  if (isLinked) {
    restore();
    open(null);
  } else {
    answers.forEach((one) => one.classList.add("hidden"));
    if (friend) form.insertAdjacentHTML("beforeend", "<small>A friend has guessed. Can you beat them?</small>");
    update();
  }
  const paper = matchMedia("print"), print = () => form.hidden || open(null); // paper shows the answer
  addEventListener("beforeprint", print);
  paper.addEventListener("change", () => paper.matches && print());
  if (paper.matches) print();
  return redraw;
}

// Call frame(part) while part goes from 0 to 1; at once with 1, if the reader prefers no motion.
function move(frame, milliseconds) {
  const began = performance.now(), own = (move.current = {}); // a later call ends this one
  const step = (now) => {
    const part = Math.max(0, Math.min(1, (now - began) / milliseconds)); // a frame may have begun before
    if (move.current !== own) return;
    frame(part * (2 - part));
    if (part < 1) requestAnimationFrame(step);
  };
  if (matchMedia("(prefers-reduced-motion: reduce)").matches || document.hidden) step(Infinity);
  else step(began);
}

// Move a slider to a value, for the eye.
function glide(slider, end, redraw, milliseconds = 1200) {
  slider.focus({ preventScroll: true });
  const start = Number(slider.value);
  move((part) => {
    slider.value = start + (end - start) * part;
    redraw(part);
  }, milliseconds);
}
