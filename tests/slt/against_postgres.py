#!/usr/bin/env python3
"""Runs the .slt files against PostgreSQL: it is where their expected results come from.

    tests/slt/against_postgres.py [FILE.slt ...]          check; exit 1 on a difference
    tests/slt/against_postgres.py --write [FILE.slt ...]  write PostgreSQL's answers into the files
    --url postgres://…                                    a server that runs already (its database "quire" is dropped and made)

Without --url it starts a server of its own in a temporary directory and needs PostgreSQL 15 and psycopg 3:
`apt-get install postgresql python3-psycopg`, or psycopg from PyPI. As root the server runs as the user postgres.

With --write a block need not have a header: bare SQL between empty lines becomes a `query`, a `statement ok` or a
`statement error (SQLSTATE)`, whichever PostgreSQL answers with. Read what it wrote before you commit it.

Records labelled `onlyif quire` or `skipif postgres` are left alone: they say where Quire differs, and why.
How values and rows are written, and the commands \\gdesc, \\notices and \\tag: see main.rs, which does the same.
"""

import argparse
import glob
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import psycopg
from psycopg import pq

HERE = os.path.dirname(os.path.abspath(__file__))
LABEL = "postgres"
NOTICE_FIELDS = (pq.DiagnosticField.SEVERITY, pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY)
INTEGERS = {20, 21, 23, 26}
NUMBERS = {700, 701, 1700}
OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY)


class Server:
    """A PostgreSQL of our own, gone at the end."""

    def __init__(self):
        bins = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("postgres") or "")]
        self.bin = bins[-1]
        self.dir = tempfile.mkdtemp(prefix="quire-slt-")
        self.run_as = []
        if os.getuid() == 0:
            shutil.chown(self.dir, "postgres")
            self.run_as = ["runuser", "-u", "postgres", "--"]
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        data = os.path.join(self.dir, "data")
        initdb = [f"{self.bin}/initdb", "-D", data, "-U", "quire", "-A", "trust", "--locale=C.UTF-8", "--encoding=UTF8", "--no-sync"]
        subprocess.run(self.run_as + initdb, check=True, stdout=subprocess.DEVNULL, cwd="/")
        options = ["-p", str(self.port), "-k", self.dir, "-c", "listen_addresses=127.0.0.1", "-c", "timezone=UTC", "-c", "fsync=off"]
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.process = subprocess.Popen(self.run_as + [f"{self.bin}/postgres", "-D", data] + options, stderr=self.log, cwd="/")
        self.url = f"postgres://quire@127.0.0.1:{self.port}/quire"

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def connect(url):
    deadline = time.monotonic() + 30
    while True:
        conn = pq.PGconn.connect(url.encode())
        if conn.status == pq.ConnStatus.OK:
            conn.exec_(b"SET timezone = 'UTC'")
            return conn
        if time.monotonic() > deadline:
            sys.exit(conn.error_message.decode())
        time.sleep(0.1)


def fresh_database(url):
    admin = connect(url.rsplit("/", 1)[0] + "/postgres")
    for sql in ("DROP DATABASE IF EXISTS quire WITH (FORCE)", "CREATE DATABASE quire"):
        result = admin.exec_(sql.encode())
        if result.status not in OK:
            sys.exit(result.error_message.decode())
    admin.finish()


class Sessions:
    """The connections of one file, by name."""

    def __init__(self, url):
        self.url, self.by_name, self.notices, self.types = url, {}, [], {}

    def get(self, name):
        if name not in self.by_name:
            conn = connect(self.url)
            conn.notice_handler = lambda notice: self.notices.append([field(notice, f) for f in NOTICE_FIELDS])
            self.by_name[name] = conn
        return self.by_name[name]

    def type_name(self, oid, modifier):
        if (oid, modifier) not in self.types:
            result = self.get(" types").exec_(f"SELECT format_type({oid}, {modifier})".encode())
            self.types[oid, modifier] = result.get_value(0, 0).decode()
        return self.types[oid, modifier]

    def close(self):
        for conn in self.by_name.values():
            conn.finish()


class Answer:
    """What a record's SQL gave: a code, or types and rows, or a number of rows."""

    def __init__(self, code=None, message="", types=None, rows=None, count=None):
        self.code, self.message, self.types, self.rows, self.count = code, message, types, rows, count


def field(result, name):
    value = result.error_field(name)
    return value.decode() if value else ""


def ask(sessions, connection, sql):
    conn = sessions.get(connection)
    command = None
    if sql.startswith("\\"):
        word = sql.split(None, 1)[0]
        command, sql = word[1:], sql[len(word):].strip()
    sessions.notices.clear()
    if command == "gdesc":
        result = conn.prepare(b"", sql.encode())
        if result.status in OK:
            result = conn.describe_prepared(b"")
    else:
        result = conn.exec_(sql.encode())
    if result.status not in OK:
        if not result.error_field(pq.DiagnosticField.SQLSTATE):
            sys.exit(f"{sql}\n{result.error_message}")
        return Answer(code=field(result, pq.DiagnosticField.SQLSTATE), message=field(result, pq.DiagnosticField.MESSAGE_PRIMARY))
    if command == "gdesc":
        columns = range(result.nfields)
        return Answer(types="TT", rows=[[result.fname(i).decode(), sessions.type_name(result.ftype(i), result.fmod(i))] for i in columns])
    if command == "notices":
        return Answer(types="TTT", rows=list(sessions.notices))
    if command == "tag":
        return Answer(types="T", rows=[[result.command_status.decode()]])
    if result.status == pq.ExecStatus.TUPLES_OK:
        types = "".join(type_letter(result.ftype(i)) for i in range(result.nfields)) or "T"
        rows = [[shown(result.get_value(r, c)) for c in range(result.nfields)] for r in range(result.ntuples)]
        return Answer(types=types, rows=rows)
    tag = (result.command_status or b"").decode()
    return Answer(count=int(tag.split()[-1]) if tag.startswith("INSERT") else 0, message=tag)


def type_letter(oid):
    return "I" if oid in INTEGERS else "R" if oid in NUMBERS else "B" if oid == 16 else "T"


def shown(value):
    """One value in one line, without a blank that an editor would eat."""
    if value is None:
        return "NULL"
    text = value.decode()
    if text == "":
        return "(empty)"
    text = text.replace("\n", "\\n")
    return f'"{text}"' if text != text.strip(" \t") else text


def line_of(row):
    return " | ".join(row)


class Block:
    """The lines between two empty ones: comments, conditions, a header, SQL, results."""

    def __init__(self, lines):
        self.before, self.conditions, self.connection, self.header = [], [], "default", None
        rest = list(lines)
        while rest:
            words = rest[0].split()
            if rest[0].startswith("#"):
                self.before.append(rest.pop(0))
            elif words[0] in ("skipif", "onlyif") and len(words) == 2:
                self.conditions.append(tuple(words))
                self.before.append(rest.pop(0))
            elif words[0] == "connection" and len(words) == 2:
                self.connection = words[1]
                self.before.append(rest.pop(0))
            else:
                break
        if rest and rest[0].split()[0] in ("statement", "query") and not rest[0].rstrip().endswith(";"):
            self.header = rest.pop(0)
        split = rest.index("----") if "----" in rest else len(rest)
        self.sql = "\n".join(rest[:split])
        self.results = rest[split + 1:]

    def skipped(self):
        return any((kind == "skipif") == (label == LABEL) for kind, label in self.conditions)

    def expected_message(self, answer):
        """Whether the header is `statement error REGEX` and the message is like that."""
        words = (self.header or "").split(None, 2)
        return words[:2] == ["statement", "error"] and len(words) == 3 and re.search(words[2], answer.message)

    def written(self, answer):
        """The block with that answer."""
        if answer.code and self.expected_message(answer):
            return self.before + [self.header] + self.sql.split("\n")
        if answer.code:
            return self.before + [f"statement error ({answer.code})"] + self.sql.split("\n")
        keep = (self.header or "").split()
        if answer.rows is None:
            insert = keep[:2] == ["statement", "count"] or not keep and answer.message.startswith("INSERT")
            return self.before + [f"statement count {answer.count}" if insert else "statement ok"] + self.sql.split("\n")
        if keep[:2] == ["statement", "ok"]:
            return self.before + ["statement ok"] + self.sql.split("\n")
        ordered = "order by" in self.sql.lower() or len(answer.rows) < 2 or self.sql.startswith("\\")
        sort = keep[2:3] if keep[:1] == ["query"] and len(keep) > 2 else [] if ordered else ["rowsort"]
        rows = sorted(answer.rows, key=line_of) if sort == ["rowsort"] else answer.rows
        return self.before + [" ".join(["query", answer.types] + sort)] + self.sql.split("\n") + ["----"] + [line_of(r) for r in rows]

    def difference(self, answer):
        """What is not as the block says, or None."""
        if not self.header:
            return "no header: run with --write"
        got = self.written(answer)[len(self.before):]
        wanted = [self.header] + self.sql.split("\n") + (["----"] + self.results if self.header.startswith("query") else [])
        return None if got == wanted else f"expected:\n{self.header}\n" + "\n".join(self.results) + "\ngot:\n" + "\n".join(got)


def blocks_of(text):
    """Blocks and the runs of empty lines between them, in order."""
    block = []
    for line in text.split("\n") + [""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def run(path, url, write):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    fresh_database(url)
    sessions = Sessions(url)
    out, differences = [], 0
    for lines in blocks_of(text):
        block = Block(lines)
        if not block.sql or block.skipped():
            out.append(lines)
            continue
        answer = ask(sessions, block.connection, block.sql)
        written = block.written(answer)
        difference = block.difference(answer)
        if difference and (block.header or not write):
            differences += 1
            print(f"{path}: {block.sql}\n{difference}\n{answer.message}\n")
        out.append(written)
    sessions.close()
    if write:
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n\n".join("\n".join(b) for b in out) + "\n")
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--url")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args()
    server = None if args.url else Server()
    try:
        files = args.files or sorted(glob.glob(os.path.join(HERE, "*.slt")))
        differences = sum(run(path, args.url or server.url, args.write) for path in files)
    finally:
        if server:
            server.stop()
    if not args.write:
        print(f"{len(files)} files, {differences} differences")
        sys.exit(1 if differences else 0)


if __name__ == "__main__":
    main()
