"""Tests of layers.py, on made-up stacks."""

import re
import unittest

import layers

RULES = [(name, thread, re.compile(pattern)) for name, thread, pattern in layers.RULES]


class Layers(unittest.TestCase):
    def layer(self, thread, *frames):
        return layers.layer(thread, list(frames), RULES)

    def test_stacks_are_told_apart(self):
        lines = ["compute 12\n", "\t ffff tcp_sendmsg\n", "\t 55 quire_pg::wire::Wire::flush\n", "\n", "storage 13\n", "\t 55 h2::poll\n"]
        self.assertEqual(
            list(layers.stacks(lines)), [("compute", ["tcp_sendmsg", "quire_pg::wire::Wire::flush"]), ("storage", ["h2::poll"])]
        )

    def test_the_innermost_layer_counts(self):
        outer = "quire_pg::connection::Connection::run"
        self.assertEqual(self.layer("compute", "tcp_sendmsg", "tokio::net", "quire_pg::wire::Wire::flush", outer), "client's socket")
        self.assertEqual(self.layer("compute", "memmove", "quire_sql::lookup::Lookup::find", outer), "statement: row found")
        self.assertEqual(self.layer("compute", "memmove", outer), "statement: result, protocol")

    def test_the_thread_says_whose_messages_they_are(self):
        self.assertEqual(self.layer("storage", "h2::poll"), "gRPC between nodes")
        self.assertEqual(self.layer("compute", "h2::poll"), "gRPC to storage")
        self.assertEqual(self.layer("log", "do_fsync"), "log: fsync")

    def test_what_nobody_claims(self):
        self.assertEqual(self.layer("compute", "schedule", "tokio::runtime::park"), layers.RUNTIME)
        self.assertTrue(self.layer("compute", "[unknown]").startswith("unknown"))


if __name__ == "__main__":
    unittest.main()
