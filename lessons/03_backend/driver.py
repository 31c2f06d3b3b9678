"""Runs beside the student's code: puts a library in use, calls, and says where the result is and what it took.

There are no answers here. The first line of each docstring is how a report shows the call.
"""

from types import SimpleNamespace

import device
import numpy as np


class Third:
    """An array of a third library, which neither NumPy nor the device knows."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a third library's array meets NumPy")


def library_of(student, library):
    functions = SimpleNamespace(asarray=lambda a: there("third", a))
    third = student.Library("third", functions, Third, Third, lambda a: a._array)
    return {"numpy": student.NUMPY, "device": student.DEVICE, "third": third}[library]


def there(library, a):
    """Put a NumPy array, list or number on the library's side, without the student's functions."""
    if library == "third":
        return a if isinstance(a, Third) else Third(np.asarray(a))
    return device.upload(np.array(a)) if library == "device" else a


def described(result) -> dict:
    """Return where an array is, its values and dtype, and the device's counts since the last reset."""
    facts = dict(device.counts)
    where = {device.DeviceArray: "device", Third: "third"}.get(type(result), "host")
    values = result if where == "host" else result._array
    kind = where if isinstance(values, np.ndarray) else type(values).__name__
    return facts | {"where": kind, "values": values, "dtype": str(getattr(values, "dtype", ""))}


def switched(student):
    """xp was got hold of before; first = use(DEVICE); second = use(NUMPY); …"""
    held = student.xp
    facts = {}
    student.use(student.NUMPY)
    first = student.use(student.DEVICE)
    facts["first"] = getattr(first, "name", None)
    facts["active"] = getattr(student.active, "name", None)
    facts["same object"] = student.xp is held
    facts["xp.exp is the device's"] = getattr(held, "exp", None) is device.functions.exp
    facts["xp has names that only NumPy has"] = hasattr(held, "fromfile")
    facts["second"] = getattr(student.use(student.NUMPY), "name", None)
    facts["active again"] = getattr(student.active, "name", None)
    facts["xp.exp is NumPy's"] = getattr(student.xp, "exp", None) is np.exp
    return facts


def switches(student, names):
    """at the start and after each use(…): what is in use, what xp has; namesake is called small, as small is"""
    functions, others = SimpleNamespace(exp=abs, only_small=abs), SimpleNamespace(exp=round)
    made = {"small": ("small", functions, list), "namesake": ("small", others, list), "sister": ("s", functions, tuple)}
    libraries = {key: student.Library(*parts, list, list) for key, parts in made.items()}
    libraries |= {"numpy": student.NUMPY, "device": student.DEVICE}
    student.use(student.active)
    held, states, before = student.xp, [state(student.xp, student.active)], student.active
    for name in names:
        returned = student.use(libraries[name])
        states.append(state(held, libraries[name]) | {"gives the one before": returned is before})
        states[-1] |= {"active": student.active is libraries[name], "xp is the same object": student.xp is held}
        before = libraries[name]
    student.use(student.NUMPY)
    return tuple(states)


def at_the_start(student):
    """use(NUMPY), before anything else has been used; what is then in xp"""
    student.use(student.NUMPY)
    return state(student.xp, student.NUMPY) | {"xp is empty": not vars(student.xp)}


def state(xp, library):
    has, should = vars(xp), vars(library.functions)
    should = {name: should[name] for name in should if not name.startswith("_")}
    lacks = [name for name in should if has.get(name) is not should[name]]
    besides = set(has) - set(vars(library.functions))
    return {"xp lacks": ", ".join(sorted(lacks)[:3]), "xp has besides": ", ".join(sorted(besides)[:3])}


def from_host_changed(student, library, a):
    """use(library); from_host(a); a is changed; from_host(a) again"""
    student.use(library_of(student, library))
    a = np.array(a)
    student.from_host(a)
    a[...] = a + 1
    return described(student.from_host(a))


def from_host(student, library, a):
    """use(library); from_host(a)"""
    student.use(library_of(student, library))
    device.reset()
    return described(student.from_host(a))


def number_from_host(student, library, a):
    """use(library); from_host(b), where b is the NumPy number in a"""
    return from_host(student, library, np.asarray(a)[()])


def from_host_again(student, library, a):
    """use(library); from_host(b), where b is an array of that library already"""
    student.use(library_of(student, library))
    array = there(library, a)
    device.reset()
    result = student.from_host(array)
    return described(result) | {"the same object": result is array}


def to_host(student, library, a):
    """use(library); to_host(b), where b is an array of that library"""
    student.use(library_of(student, library))
    array = there(library, a)
    device.reset()
    return described(student.to_host(array))


def to_host_again(student, library, a):
    """use(library); to_host(a), where a is on the host"""
    student.use(library_of(student, library))
    device.reset()
    return described(student.to_host(a))


def softmax(student, library, x):
    """use(library); softmax(b), where b is x as an array of that library"""
    student.use(library_of(student, library))
    array = there(library, x)
    device.reset()
    return described(student.softmax(array))


def rows(student, library, table, ids):
    """use(library); rows(b, ids), where b is the table as an array of that library"""
    student.use(library_of(student, library))
    array = there(library, table)
    device.reset()
    return described(student.rows(array, ids))


def normal_start(student, library, shape, seed):
    """use(library); normal_start(shape, seed)"""
    student.use(library_of(student, library))
    device.reset()
    return described(student.normal_start(shape, seed))


def fit(student, library, x, y, steps, rate):
    """use(library); w, losses = fit(x, y, steps, rate)"""
    student.use(library_of(student, library))
    get, waits = device.DeviceArray.get, []

    def noting(array):
        waits.append((device.counts["computed"], array._array))
        return get(array)

    device.DeviceArray.get = noting
    device.reset()
    try:
        w, losses = student.fit(x, y, steps, rate)
    finally:
        device.DeviceArray.get = get
    facts = dict(device.counts) | {"w": described(w), "losses": described(losses)}
    # A step is more than one order; after w itself is there, the losses may still be computed.
    computed, array = waits[0] if waits else (facts["computed"], None)
    is_late = facts["computed"] - computed < 2 or np.array_equal(array, facts["w"]["values"])
    return facts | {"waited after the last step": is_late}
