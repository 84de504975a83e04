"""Checks the dependencies of the named workspaces by `cargo metadata`: licences and sources are those of .ci/deny.toml,
and no version is a wildcard. Prints the number of packages."""

import json
import re
import subprocess
import sys
import tomllib

RULES = tomllib.load(open(".ci/deny.toml", "rb"))
ALLOWED = set(RULES["licenses"]["allow"])
EXCEPTIONS = {rule["crate"]: set(rule["allow"]) for rule in RULES["licenses"].get("exceptions", [])}
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def may_be_used(licence, allowed):
    """Whether allowed licences can meet an SPDX expression; old packages write `A/B` for `A OR B`."""
    words = re.findall(r"\(|\)|AND|OR|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?", licence.replace("/", " OR "))
    python = {"(": "(", ")": ")", "AND": "and", "OR": "or"}
    return bool(words) and eval(" ".join(python.get(word, str(word in allowed)) for word in words))


def faults(package):
    if package["source"] is None:
        # Ours. Path dependencies may have any version.
        wild = [d["name"] for d in package["dependencies"] if d["req"] == "*" and d["path"] is None]
        return [f"any version of {name}" for name in wild]
    found = [] if package["source"] == REGISTRY else [f"from {package['source']}"]
    if not may_be_used(package["license"] or "", ALLOWED | EXCEPTIONS.get(package["name"], set())):
        found.append(f"licence {package['license']}")
    return found


seen, failed = set(), False
for manifest in sys.argv[1:]:
    command = ["cargo", "metadata", "--format-version=1", "--all-features", "--locked", "--manifest-path", manifest]
    for package in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]:
        seen.add(package["id"])
        for fault in faults(package):
            print(f"error: {manifest}: {package['name']} {package['version']}: {fault}", file=sys.stderr)
            failed = True
print(len(seen))
sys.exit(failed or not seen)
