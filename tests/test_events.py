from __future__ import annotations

from napari_medseg.events import Notice, Progress, Work, told_once


def test_a_notice_is_told_once_and_the_work_ends_as_it_does_alone() -> None:
    closed = []

    def work() -> Work[int]:
        try:
            for notice in "aba":
                yield Notice(notice)
                yield Progress(1, 2, "same")
        finally:
            closed.append(True)
        return 7

    def watched() -> Work[None]:
        results.append((yield from told_once(work())))

    results: list[int] = []
    a, same, b = Notice("a"), Progress(1, 2, "same"), Notice("b")
    assert list(watched()) == [a, same, b, same, same]
    assert results == [7]
    cancelled = told_once(work())
    next(cancelled)
    cancelled.close()
    assert len(closed) == 2, "to cancel it is to cancel the work"
