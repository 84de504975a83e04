#!/usr/bin/env python3
"""source.py DIR: figures of the source below DIR/src, without its tests, each with its places:
lines of the kernel, files in import cycles, functions over 60 lines."""

import pathlib
import re
import sys

LONG_FUNCTION = 60

root = pathlib.Path(sys.argv[1], "src")


def without_tests(text):
    """The text before a module of tests, which is always last in a file."""
    return re.split(r"^#\[cfg\((?:all\()?test\b.*\]\nmod \w+ \{$", text, flags=re.M)[0]


paths = (path for path in root.rglob("*.rs") if not path.stem.endswith("tests"))
files = {path.relative_to(root): without_tests(path.read_text()) for path in sorted(paths)}


def module(file):
    parts = file.with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


modules = {module(file): file for file in files}


def names(tree):
    """Every path of a `use` tree: `a::{b, c::d}` is a::b and a::c::d."""
    head, brace, inside = tree.partition("{")
    head = tuple(head.replace("::", " ").split(" as ")[0].split())
    if not brace:
        return [head]
    depth, item, items = 0, "", []
    for character in inside.rpartition("}")[0] + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            items.append(item)
            item = ""
        else:
            item += character
    return [head + name for item in items if item.strip() for name in names(item.strip())]


def imports(file):
    for tree in re.findall(r"^\s*(?:pub(?:\([^)]*\))? )?use ([^;]*);", files[file], flags=re.M):
        for first, *rest in names(tree):
            here = module(file)
            if first == "crate":
                name = tuple(rest)
            elif first == "super":
                name = here[:-1] + tuple(rest)
            else:
                continue
            # The file that defines or re-exports the item.
            while name not in modules:
                name = name[:-1]
            if modules[name] != file:
                yield modules[name]


def reachable(file, edges):
    seen, ahead = set(), [file]
    while ahead:
        for other in edges[ahead.pop()] - seen:
            seen.add(other)
            ahead.append(other)
    return seen


edges = {file: set(imports(file)) for file in files}
circles = [file for file in files if file in reachable(file, edges)]

long_functions = []
for file, text in files.items():
    begun = {}
    for number, line in enumerate(text.splitlines(), 1):
        # In rustfmt's layout a function ends at the indentation of its first line.
        if head := re.match(r"( *)(?:pub(?:\([^)]*\))? |const |unsafe |extern \S+ )*fn (\w+)", line):
            begun[head[1]] = (head[2], number)
        elif (end := re.fullmatch(r"( *)\}", line)) and end[1] in begun:
            name, start = begun.pop(end[1])
            if number - start + 1 > LONG_FUNCTION:
                long_functions.append(f"{file}:{start} {name} {number - start + 1}")

kernel = [len(text.splitlines()) for file, text in files.items() if file.parts[0] == "kernel"]
print("kernel-lines", sum(kernel), f"in {len(kernel)} files", sep="\t")
print("files-in-circles", len(circles), ", ".join(map(str, circles)), sep="\t")
print("long-functions", len(long_functions), ", ".join(long_functions), sep="\t")
