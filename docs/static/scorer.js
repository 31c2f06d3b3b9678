// Sphinx's search: lessons first, the log and the changes last, and at the very end what has a word in "minilora" alone, as
// all names have "lora"; the other numbers are Sphinx's own. `var`, as there.
var PLACES = [["lessons/", 12], ["notebooks/", 6], ["docs/log", -12], ["CHANGELOG", -12]];
var WORDS = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().split(/\s+/);
var isNamed = (title) => WORDS.some((word) => title.toLowerCase().replace("minilora.", "").includes(word));
var Scorer = {
  score: ([docname, title, , , score]) =>
    score + PLACES.filter(([start]) => docname.startsWith(start)).reduce((sum, [, more]) => sum + more, 0) -
    (title.startsWith("minilora.") && !isNamed(title) ? 50 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
