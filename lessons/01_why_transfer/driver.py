"""Runs beside the student's code: learners, which cannot be sent as values.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

import numpy as np


def draws(student, labels, few, many, seed):
    """draw_budget(labels, few, seed), and one with many in place of few"""
    drawn = {"few": student.draw_budget(labels, few, seed), "many": student.draw_budget(labels, many, seed)}
    return drawn | {"again": student.draw_budget(labels, few, seed), "labels": labels}


def drawn_by_100(student, labels, per_class):
    """draw_budget(labels, per_class, seed) for the seeds 0 … 99, and which indices come at all"""
    return sorted({int(i) for seed in range(100) for i in student.draw_budget(labels, per_class, seed)})


def experiment(student, labels, test_labels, budgets, seeds):
    """run_experiment(learn, labels, test_labels, budgets, seeds), for a learn that notes what it is given"""
    subsets = []

    def learn(chosen):
        subsets.append(np.array(chosen))
        return predicted_from(chosen, len(test_labels))

    accuracies = student.run_experiment(learn, labels, test_labels, budgets, seeds)

    def predictions(numbers, pool=labels):
        try:
            draws = [[student.draw_budget(pool, budget, number) for number in numbers] for budget in budgets]
        except ValueError:  # too few in the test, where what is drawn from it makes a hint
            return None
        return [[predicted_from(chosen, len(test_labels)) for chosen in row] for row in draws]

    facts = {"found": accuracies, "calls": len(subsets), "sizes": [len(chosen) for chosen in subsets]}
    facts["given"] = [[int(i) for i in chosen] for chosen in subsets]
    facts["from_test"] = predictions(seeds, test_labels)
    facts["test_labels"] = test_labels
    return facts | {"predictions": predictions(seeds), "by_place": predictions(range(len(seeds)))}


def too_large(student, labels, test_labels):
    """run_experiment(learn, labels, test_labels, [1, 1000], [0])"""
    return student.run_experiment(lambda chosen: test_labels, labels, test_labels, [1, 1000], [0])


def predicted_from(chosen, count):
    """Predict classes 0 and 1 that look random and depend on which examples were chosen."""
    return np.random.default_rng(sorted(int(i) for i in chosen)).integers(0, 2, count)
