"""A student's own code in the demo: `minilora demo --with lessons/08_lora/exercise.py`.

First the lesson's checks, as `minilora check` runs them: in a process of their own, behind limits. What passed them
then runs in this process, without limits, as any program of the reader's does: it is their file and their command.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minilora import backend, nn
from minilora.classroom.grading.grade import NOT_STARTED, PASSED, Result, grade
from minilora.classroom.grading.submission import NO_EXERCISE, Submission
from minilora.classroom.lessons.lesson import Lesson, all_lessons
from minilora.classroom.sandbox.child import line_of, run_statements
from minilora.classroom.sandbox.runner import Sandbox
from minilora.demo.story import Own
from minilora.errors import MiniloraError, escape
from minilora.measure.lab import Lab
from minilora.models.llama import LlamaAttention, LlamaForCausalLM, LlamaForSequenceClassification
from minilora.quant import Linear4bit, linears_of_blocks, quantize_model
from minilora.tensor import Tensor
from minilora.train import methods


@dataclass(frozen=True, kw_only=True)
class StudentCode(Own):
    """Own code with its submission, so that errors can say where in it they arose."""

    submission: Submission


def load_student_code(file: str) -> StudentCode:
    """Return the parts of the demo that the file has an answer for.

    Raises MiniloraError, in one line, for a file that cannot be read, that is of no lesson with a part in the demo, or
    whose tasks do not all pass.
    """
    path = Path(file)
    lesson, submission = _read(path)
    _check_tasks_pass(lesson, submission)
    module = ModuleType("exercise")
    module.__file__ = str(path)
    sys.modules["exercise"] = module
    with redirect_stdout(sys.stderr):
        run_statements(submission.source, module, str(path), caught=(Exception, SystemExit))
    return StudentCode(
        file=submission.shown,
        facts={"lesson": lesson.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        submission=submission,
        **PARTS[lesson.number](module),
    )


@contextmanager
def errors_named(own: StudentCode) -> Iterator[None]:
    """Turn what the student's code raises into a MiniloraError that names its line."""
    try:
        yield
    except Exception as error:
        line = line_of(error, str(own.submission.path))
        if line is None:
            raise
        raise MiniloraError(
            f"{own.file}, {own.submission.place(line)}: {type(error).__name__}: {escape(str(error), 200)} (in the "
            "demo's model; there, x is batch × positions × channels)"
        ) from error


# Reading


def _read(path: Path) -> tuple[Lesson, Submission]:
    """Find the lesson that the file is an exercise of, by the names that it defines."""
    taking_part = [lesson for lesson in all_lessons() if lesson.number in PARTS]
    for lesson in taking_part:
        try:
            return lesson, Submission(path, lesson)
        except MiniloraError as error:
            if NO_EXERCISE not in str(error):
                raise
    names = ", ".join(lesson.name for lesson in taking_part)
    raise MiniloraError(f"{escape(str(path))} is no exercise that has a part in the demo: there are {names}")


def _check_tasks_pass(lesson: Lesson, submission: Submission) -> None:
    with Sandbox() as sandbox:
        results = grade(lesson, submission, sandbox)
    bad: Result | None = next((result for result in results if result.verdict != PASSED), None)
    if bad is not None:
        says = "is not started" if bad.verdict == NOT_STARTED else f"fails ({bad.hint.rstrip('.') or bad.got})"
        raise MiniloraError(
            f"{submission.shown}: task {bad.task} of lesson {lesson.number:02} {says}; the demo runs what passes "
            f"minilora check {lesson.number:02} --file {submission.shown}"
        )


# Parts of the demo. Each function takes the student's module and gives fields of Own.


def _lora(module: ModuleType) -> dict:
    """Lesson 08."""

    def adapt(model: nn.Module, options: methods.Options, seed: int) -> None:
        names = list(dict.fromkeys(path.rpartition(".")[2] for path in linears_of_blocks(model)))
        alpha = 2 * options.rank if options.alpha is None else options.alpha
        module.inject(model, names, options.rank, float(alpha), seed)
        if isinstance(model, LlamaForSequenceClassification):
            model.score.requires_grad_(True)  # a classifier's new head trains with every method

    return {
        "what": "LoRA is LoraLayer, inject and merge",
        "adapts": {"lora": adapt},
        "merges": {"lora": module.merge},
    }


def _attention(module: ModuleType) -> dict:
    """Lesson 04. Its attention knows neither padding nor a cache: where there are such, the library's goes on."""

    class OwnAttention(LlamaAttention):
        def __init__(self, attention: LlamaAttention, theta: float):
            vars(self).update(vars(attention))
            self.heads = attention.q_proj.out_features // self.head_dim
            self.kv_heads = attention.k_proj.out_features // self.head_dim
            self.theta = theta

        def forward(self, x: Tensor, cos: Any, sin: Any, mask: Any = None, cache: Any = None) -> Tensor:
            if mask is not None or cache is not None:
                return super().forward(x, cos, sin, mask, cache)
            angles = module.rotary_angles(x.shape[1], self.head_dim, self.theta)
            q = module.rotate(module.split_heads(self.q_proj(x), self.heads), angles)  # (B, H, T, D)
            k = module.rotate(module.split_heads(self.k_proj(x), self.kv_heads), angles)  # (B, H_kv, T, D)
            v = module.split_heads(self.v_proj(x), self.kv_heads)
            k, v = module.share_heads(k, self.heads), module.share_heads(v, self.heads)
            return self.o_proj(module.join_heads(module.causal_attention(q, k, v)))

    def remake(model: LlamaForCausalLM) -> None:
        for path, part in list(model.named_modules()):
            if isinstance(part, LlamaAttention):
                model.replace(path, OwnAttention(part, model.config.rope_theta))

    def compare(lab: Lab) -> str:
        ours = lab.bits(LlamaForCausalLM.from_pretrained(lab.base_folder), lab.domain_test)
        theirs = lab.bits(lab.base(), lab.domain_test)
        return f"The base reads the domain at {theirs:.3f} bits/character with it, at {ours:.3f} with minilora's."

    names = "rotary_angles, rotate, split_heads, share_heads, causal_attention and join_heads"
    where = "from step 3 on, where texts are neither padded nor cached"
    return {"what": f"attention ({where}) is {names}", "remake": remake, "compare": compare}


def _nf4(module: ModuleType) -> dict:
    """Lesson 11: LoRA over a base whose layers hold codes and scales by it, and make each product's weight anew."""
    values, blocksize = module.nf4_values(), 64

    class OwnLinear4bit(Linear4bit):
        def __init__(self, linear: nn.Linear):
            vars(self).update(vars(Linear4bit.from_linear(linear)))
            codes, self.absmax = module.quantize(backend.to_numpy(linear.weight.data), values, blocksize)
            self.packed = module.pack(codes)

        def dequantize(self) -> Any:
            codes = module.unpack(self.packed, self.num_quantized)
            weight = module.dequantize(codes, self.absmax, values, blocksize)
            return backend.asarray(np.asarray(weight).reshape(self.quant_state.shape), dtype="float32")

    def quantize(model: Any) -> Any:
        for path in linears_of_blocks(model):
            model.replace(path, OwnLinear4bit(model.get_submodule(path)))
        return model

    def adapt(model: nn.Module, options: methods.Options, seed: int) -> None:
        methods.adapt(quantize(model), "lora", options, seed=seed)

    def compare(lab: Lab) -> str:
        models = quantize(lab.base()), quantize_model(lab.base()), lab.base()
        own, ours, floats = (lab.bits(model, lab.domain_test) for model in models)
        return (
            f"In 4 bits by it, the base reads the domain at {own:.3f} bits/character; by minilora's NF4 at {ours:.3f}, "
            f"and in floats at {floats:.3f}."
        )

    return {
        "what": "LoRA goes over a base in 4 bits by nf4_values, quantize, dequantize, pack and unpack",
        "adapts": {"lora": adapt},
        "compare": compare,
    }


PARTS = {8: _lora, 4: _attention, 11: _nf4}  # by the number of the lesson
