"""The diagrams of lesson 03: python -m lessons.diagrams"""

from lessons.drawing import MASKED, NOTE, SECOND, SMALL, THIRD, Diagram

FROM_NOTEBOOK = {"time.svg": "Time of one addition, by round figures"}

ORDER, WORK, ANSWER, STEPS = 10, 30, 10, 4  # microseconds of each step


def lanes() -> Diagram:
    d = Diagram(
        520,
        310,
        "Two time lines of a host and a device. Above, the host gives four orders at once, and the device works "
        "without a gap. Below, the host waits for an answer after each step, and the device has a gap in each.",
    )
    left, scale = 76, 2.15

    def box(y: float, start: float, long: float, words: str, kind: str) -> None:
        d.box(left + scale * start, y, scale * long, 34, words, kind, SMALL, corner=0)

    def rows(top: float, title: str) -> None:
        d.text(10, top, title, anchor="start", look="bold")
        for i, name in enumerate(("host", "device")):
            d.text(10, top + 39 + 44 * i, name, SMALL, "start")
            d.line((left, top + 56 + 44 * i), (510, top + 56 + 44 * i), look="faint")

    rows(22, "losses stay on the device")
    for i in range(STEPS):
        box(44, ORDER * i, ORDER, str(i + 1), SECOND)
        box(88, ORDER + WORK * i, WORK, str(i + 1), THIRD)
    end = ORDER + WORK * STEPS
    box(44, end, ANSWER, "", NOTE)
    d.text(left + scale * end - 8, 61, "one answer, at the end", SMALL, "end", "soft")
    each = ORDER + WORK + ANSWER
    rows(176, "float(loss) in each step")
    for i in range(STEPS):
        box(198, each * i, ORDER, str(i + 1), SECOND)
        box(198, each * i + ORDER, WORK, "waits", MASKED)
        box(198, each * i + ORDER + WORK, ANSWER, "", NOTE)
        box(242, each * i + ORDER, WORK, str(i + 1), THIRD)
    d.text(510, 294, f"{end + ANSWER} µs above, {each * STEPS} µs below", SMALL, "end", "soft")
    return d


def border() -> Diagram:
    d = Diagram(
        520,
        250,
        "The host's memory on the left, the device's on the right. from_host carries lists and arrays over, to_host "
        "carries results back, a plain number travels with an order, and a NumPy array in an order raises an error.",
    )
    d.box(10, 36, 170, 200, "", MASKED)
    d.box(340, 36, 170, 200, "", MASKED)
    d.text(95, 20, "host", look="bold")
    d.text(425, 20, "device", look="bold")
    d.text(260, 20, "border", SMALL, look="soft")
    rows = (("[1, 2], ndarray", "array"), ("print, save", "array"), ("2.5", "x * 2.5"), ("ndarray", "x + ndarray"))
    for i, (here, there) in enumerate(rows):
        y = 46 + 47 * i
        d.box(20, y, 150, 36, here, SECOND, SMALL)
        d.box(350, y, 150, 36, there, THIRD, SMALL)
    for i, words in ((0, "from_host"), (2, "with the order")):
        d.arrow((170, 70 + 47 * i), (348, 70 + 47 * i))
        d.text(260, 58 + 47 * i, words, SMALL)
    d.arrow((350, 117), (172, 117))
    d.text(260, 105, "to_host", SMALL)
    d.line((170, 211), (224, 211))
    d.line((216, 203), (232, 219))
    d.line((216, 219), (232, 203))
    d.text(240, 211, "TypeError", SMALL, "start")
    return d


def switch() -> Diagram:
    d = Diagram(
        520,
        170,
        "Left, filled: xp and a name in another module lead to one object, which has the device's exp. Right, "
        "replaced: xp leads to a new object, and the other module still has the old one, with NumPy's exp.",
    )
    for left, title in ((10, "filled"), (270, "replaced")):
        d.text(left, 18, title, anchor="start", look="bold")
        for y, name in ((40, "xp"), (110, "held")):
            d.box(left, y, 60, 40, name, size=SMALL)
    d.box(130, 70, 116, 50, "one object:\ndevice's exp", THIRD, SMALL)
    d.arrow((70, 60), (128, 84))
    d.arrow((70, 130), (128, 106))
    d.box(390, 35, 120, 50, "new object:\ndevice's exp", THIRD, SMALL)
    d.box(390, 105, 120, 50, "old object:\nNumPy's exp", NOTE, SMALL)
    d.arrow((330, 60), (388, 60))
    d.arrow((330, 130), (388, 130))
    return d
