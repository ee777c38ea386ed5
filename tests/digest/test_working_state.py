"""Attributes that are written to count if what may run reads one of that name."""

from sklearn_torch_bridge._digest import digest


def test_what_only_a_report_reads_is_working_state():
    class Counting:
        def __init__(self):
            self.sizes = []

        def __call__(self, rows):
            self.sizes.append(len(rows))
            return rows

        @property
        def n_rows(self):
            return sum(self.sizes)

    counting = Counting()

    def asks(rows):
        return counting(rows) * counting.n_rows

    alone, asked = digest(counting), digest(asks)
    counting([1, 2])
    assert digest(counting) == alone
    assert digest(asks) != asked


class Noting:
    def __init__(self):
        self.last = None

    def note(self, x):
        self.last = x

    def __repr__(self):
        return f"the last: {self.last}"

    def __call__(self, x):
        self.note(x)
        return x


def test_what_is_only_shown_does_not_count():
    noting = Noting()
    before = digest(noting)
    noting(1)
    assert digest(noting) == before


def test_what_another_function_reads_counts():
    noting = Noting()

    def reads(x):
        return noting(x) + noting.last

    def asks_for_any(x, name):
        return noting(x) + getattr(noting, name).last

    before = digest(reads), digest(asks_for_any)
    noting.last = 3
    assert digest(reads) != before[0]
    assert digest(asks_for_any) != before[1]
