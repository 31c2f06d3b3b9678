// Sphinx's search: lessons first, the log and the changes last; the other numbers are Sphinx's own. `var`, as there.
var PLACES = [["lessons/", 12], ["notebooks/", 6], ["docs/log", -12], ["CHANGELOG", -12]];
var Scorer = {
  score: ([docname, , , , score]) =>
    score + PLACES.filter(([start]) => docname.startsWith(start)).reduce((sum, [, more]) => sum + more, 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
