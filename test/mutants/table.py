"""The seeded bugs: test/mutants/*.txt, read and checked against the tree.

    == name
    What would go wrong in the field, in a line or two.
    file: coordinator/core/calls.c
    test: golden voting
     a line of the file
    -the line that is replaced
    +what replaces it

A block ends with the next one. Lines that begin with # outside of a block's hunk are for readers.
The lines with a space or a minus, together, must occur exactly once in the file, as whole lines.
Tests: `golden FILE`, `sim N`, `unit/PROGRAM CASE`, `e2e/FILE.py::CASE`, `trouble/FILE.py::CASE`.
"""
import re
from dataclasses import dataclass, field

WHERE = "test/mutants/"


class Rotten(Exception):
    """A mutant that does not fit the tree, or is not written as it should be."""


@dataclass
class Mutant:
    name: str
    table: str
    wrong: list = field(default_factory=list)
    file: str = ""
    test: str = ""
    hunk: list = field(default_factory=list)

    def lines(self, marks):
        return [line[1:] for line in self.hunk if line[0] in marks]

    def apply(self, text):
        """The file's text with the bug in it."""
        lines, old = text.split("\n"), self.lines(" -")
        at = [i for i in range(len(lines)) if lines[i:i + len(old)] == old]
        if not old or len(at) != 1:
            raise Rotten(f"{self.name}: its lines occur {len(at)} times in {self.file}")
        lines[at[0]:at[0] + len(old)] = self.lines(" +")
        return "\n".join(lines)


def read(table, text):
    """The mutants of one file."""
    mutants = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("== "):
            mutants.append(Mutant(line[3:].strip(), table))
        elif line.startswith("#") or not line:
            continue
        elif not mutants:
            raise Rotten(f"{table}:{number}: a line outside of any mutant")
        elif line[0] in " +-":
            mutants[-1].hunk.append(line)
        elif line.startswith("file: "):
            mutants[-1].file = line[6:]
        elif line.startswith("test: "):
            mutants[-1].test = line[6:]
        else:
            mutants[-1].wrong.append(line)
    return mutants


def read_all(files):
    """All mutants of the tree; `files`: {path: text}."""
    return [m for path in sorted(files) if path.startswith(WHERE) and path.endswith(".txt")
            for m in read(path, files[path])]


def test_exists(test, files):
    suite, _, case = test.partition(" ")
    if suite == "golden":
        return f"test/golden/{case}.txt" in files
    if suite == "sim":
        return case.isdigit()
    if suite.startswith("unit/"):
        # A function, or where it is registered: macros make some of them.
        named = rf"\b{case}\(void \*\*|cmocka_unit_test\({case}\)"
        return re.search(named, files.get(f"test/{suite}.c", "")) is not None
    path, _, name = test.partition("::")
    return f"\ndef {name.partition('[')[0]}(" in files.get("test/" + path, "")


def complaints(files):
    """What is wrong with the table, without building anything."""
    try:
        mutants = read_all(files)
    except Rotten as rotten:
        yield str(rotten)
        return
    if not mutants:
        yield f"{WHERE}: no mutants"
    names = [m.name for m in mutants]
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield f"{name}: twice"
    for m in mutants:
        if not re.fullmatch(r"[a-z0-9_]+", m.name) or not m.wrong:
            yield f"{m.table}: {m.name}: a name and what would go wrong are needed"
        if not test_exists(m.test, files):
            yield f"{m.table}: {m.name}: there is no test {m.test}"
        try:
            if m.apply(files.get(m.file, "")) == files.get(m.file):
                yield f"{m.name}: changes nothing"
        except Rotten as rotten:
            yield str(rotten)
