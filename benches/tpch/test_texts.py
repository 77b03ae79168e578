import re
import unittest

from . import params, texts


def words(sql: str) -> list[str]:
    return sorted(re.findall(r"\w+|[^\w\s]", sql))


class Texts(unittest.TestCase):
    def test_every_query_is_one_statement_without_a_placeholder(self) -> None:
        for number in texts.NUMBERS:
            self.assertFalse(set(";{") & set(texts.validation_text(number, 30)), number)
        self.assertIn("* 0.00000333333333\n", texts.validation_text(11, 30))

    def test_promises_are_those_of_the_program(self) -> None:
        source = (texts.BENCH / "src/queries.rs").read_text()
        found = re.findall(r'query!\((\d+), "[^"]+", \[([\d, ]*)\], \[(.*)\]\)', source)
        self.assertEqual([int(number) for number, *_ in found], list(texts.NUMBERS))
        for number, approximate, sort in found:
            promise = texts.PROMISES[int(number)]
            keys = [~int(column) if way == "Down" else int(column) for column, way in re.findall(r"\((\d+), (\w+)\)", sort)]
            self.assertEqual(list(promise.sort), keys, number)
            self.assertEqual(promise.approximate, {int(column) for column in re.findall(r"\d+", approximate)}, number)

    def test_limits_are_those_of_the_texts(self) -> None:
        for number in texts.NUMBERS:
            limit = re.search(r"limit\s+(\d+)", texts.validation_text(number, 1))
            self.assertEqual(texts.PROMISES[number].limit, limit and int(limit[1]), number)


class Shuffle(unittest.TestCase):
    def test_it_changes_the_order_of_tables_and_nothing_else(self) -> None:
        changed = set()
        for number in texts.NUMBERS:
            sql = texts.validation_text(number, 1)
            other = texts.shuffled(sql, 5)
            self.assertEqual(words(sql), words(other))
            self.assertEqual(texts.FROM_LIST.sub("", sql), texts.FROM_LIST.sub("", other))
            if other != sql:
                changed.add(number)
        # the others have one table in each FROM, or a join in words
        self.assertEqual(changed, set(texts.NUMBERS) - {1, 4, 6, 13, 22})

    def test_aliases_stay_with_their_tables(self) -> None:
        sql = "select 1 from a, b x, c\n where extract(year from d) = 1 and e in (select f from g h, i group by f)"
        other = texts.shuffled(sql, 1)
        first, second = texts.FROM_LIST.finditer(other)
        self.assertEqual(sorted(re.split(r"\s*,\s*", first[2])), ["a", "b x", "c"])
        self.assertEqual(re.split(r"\s*,\s*", second[2]), ["i", "g h"])
        self.assertIn("extract(year from d)", other)

    def test_a_seed_is_an_order(self) -> None:
        sql = texts.validation_text(8, 1)
        self.assertEqual(texts.shuffled(sql, 3), texts.shuffled(sql, 3))
        self.assertGreater(len({texts.shuffled(sql, seed) for seed in range(20)}), 15)


class Params(unittest.TestCase):
    def test_every_query_gets_its_parameters(self) -> None:
        for number in texts.NUMBERS:
            for seed in range(200):
                sql = params.chosen_text(number, 1, seed)
                self.assertFalse(set(";{") & set(sql))
            several = {params.chosen_text(number, 1, seed) for seed in range(200)}
            self.assertGreater(len(several), 3, number)

    def test_a_seed_chooses_the_same_for_ever(self) -> None:
        self.assertEqual(params.chosen_text(5, 1, 7), params.chosen_text(5, 1, 7))
        self.assertNotEqual(params.chosen_text(21, 1, 7), params.chosen_text(21, 1, 8))

    def test_words_change_places_at_once(self) -> None:
        self.assertEqual(params.swapped("a b a", {"a": "b", "b": "a"}), "b a b")
        with self.assertRaises(ValueError):
            params.swapped("a", {"c": "d"})

    def test_parameters_are_in_their_ranges(self) -> None:
        for seed in range(300):
            dice = params.Dice(seed)
            self.assertRegex(params.q4(dice)["1993-07-01"], r"^199[3-7]-\d\d-01$")
            self.assertTrue("1993-02-01" <= params.q10(dice)["1993-10-01"] <= "1995-01-01")
            self.assertTrue(60 <= int(params.q1(dice)["'90'"].strip("'")) <= 120)
            q8 = params.q8(dice)
            self.assertEqual(params.NATIONS[q8["BRAZIL"]], q8["AMERICA"])
            codes = params.q22(dice)["'13', '31', '23', '29', '30', '18', '17'"].split(", ")
            self.assertEqual(len(set(codes)), 7)
        self.assertEqual((len(params.NATIONS), len(params.COLORS)), (25, 92))
