import unittest
from datetime import date
from decimal import Decimal

from .compare import Row, canonical, difference, difference_from_reference, fnv1a, reference
from .texts import NUMBERS


class Canonical(unittest.TestCase):
    def test_cells(self) -> None:
        cells = [None, "a  ", Decimal("1.50"), Decimal("0E-20"), Decimal("1E+2"), 3, 0.25, date(1995, 1, 2), b"x ", "-0.00", "a.0"]
        self.assertEqual([canonical(cell) for cell in cells], ["\\N", "a", "1.5", "0", "100", "3", "0.25", "1995-01-02", "x", "0", "a.0"])


class Difference(unittest.TestCase):
    def test_ties_may_come_in_any_order(self) -> None:
        # Q5 is ordered by its second column, descending
        self.assertIsNone(difference(5, [("a", "2"), ("b", "2")], [("b", "2"), ("a", "2")]))
        self.assertIn("against ORDER BY", difference(5, [("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]) or "")

    def test_numbers_are_ordered_as_numbers(self) -> None:
        self.assertIsNone(difference(5, [("a", "10.5"), ("b", "9")], [("a", "10.5"), ("b", "9")]))

    def test_only_averages_may_be_inexact(self) -> None:
        self.assertIsNone(difference(14, [("16.3807786263955",)], [("16.380778",)]))
        self.assertIn("instead of", difference(14, [("16.381",)], [("16.380",)]) or "")
        self.assertIn("instead of", difference(6, [("16.3807786263955",)], [("16.380778",)]) or "")

    def test_shapes(self) -> None:
        self.assertEqual(difference(6, [], [("1",)]), "0 rows instead of 1")
        self.assertEqual(difference(6, [("1", "2")], [("1",)]), "2 columns instead of 1")
        self.assertIsNone(difference(2, [], []))

    def test_which_of_the_rows_that_tie_at_the_limit_come_is_open(self) -> None:
        # Q10: twenty rows by the third column, descending
        head: list[Row] = [("c", "n", str(100 - at)) for at in range(19)]
        ours, theirs = head + [("x", "n", "1")], head + [("y", "n", "1")]
        self.assertIsNone(difference(10, ours, theirs))
        self.assertIsNotNone(difference(10, head + [("x", "n", "2")], theirs))
        self.assertIsNotNone(difference(10, [("z", "n", "100"), *ours[1:]], theirs))


class Reference(unittest.TestCase):
    def test_each_reference_is_like_itself(self) -> None:
        for scale in (0.01, 0.1, 1):
            for number in NUMBERS:
                lines = reference(number, scale)
                self.assertIsNotNone(lines)
                if lines and not lines[0].startswith("#"):
                    rows = [tuple(line.split("|")) for line in lines]
                    self.assertIsNone(difference_from_reference(number, rows, lines), (scale, number))
        self.assertIsNone(reference(1, 0.5))

    def test_a_long_answer_is_known_by_its_hash(self) -> None:
        self.assertEqual(fnv1a(b"a"), 0xAF63DC4C8601EC8C)
        lines = ["#rows 1", "#hash af63dc4c8601ec8c"]
        self.assertIsNone(difference_from_reference(6, [("a",)], lines))
        self.assertIsNotNone(difference_from_reference(6, [("b",)], lines))
