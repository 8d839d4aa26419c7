"""How far a long piece of work is: a bar on stderr while there is a terminal, else nothing.

with progress.of("fetching", 1200) as advance:
    advance(1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Bars, one below the other; each is gone when its work is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.bars: Any = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.open = 0

    @contextmanager
    def of(self, text: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar of so many steps, None while nobody knows; call what it gives with the steps done since."""
        bar = self.bars.add_task(text, total=total)
        self.open += 1
        self.bars.start()
        try:
            yield lambda steps: self.bars.advance(bar, steps)
        finally:
            self.open -= 1
            self.bars.remove_task(bar)
            if not self.open:
                self.bars.stop()
