"""Checks wheels: tags, the exported init function, the system libraries that they link, their size.

`python wheels.py FOLDER`; needs lief.
"""

import re
import sys
import zipfile
from pathlib import Path

import lief

LARGEST = 2_000_000

GLIBC = r"(libc|libm|libgcc_s|libpthread|libdl|librt)\.so\.\d|ld-linux.*"

# Platform tag of a wheel: file format, processor, and the system libraries that it may link.
PLATFORMS = {
    r"(manylinux2014_x86_64\.)?manylinux_2_17_x86_64": ("ELF", "X86_64", GLIBC),
    r"(manylinux2014_aarch64\.)?manylinux_2_17_aarch64": ("ELF", "AARCH64", GLIBC),
    r"musllinux_1_2_x86_64": ("ELF", "X86_64", r"libc\.so|libc\.musl-x86_64\.so\.1|libgcc_s\.so\.1"),
    r"macosx_11_0_arm64": ("MACHO", "ARM64", r".*/libSystem\.B\.dylib|.*/lib(iconv\.2|charset\.1)\.dylib|.*_native.*"),
    r"win_amd64": (
        "PE",
        "AMD64",
        r"(?i)(python3|kernel32|ntdll|msvcrt|userenv|ws2_32|bcrypt\w*|advapi32|api-ms-win-[\w-]+)\.dll",
    ),
}


def fail(wheel, message):
    sys.exit(f"error: {wheel.name}: {message}")


def check(wheel):
    name, version, python, abi, platform = wheel.stem.split("-")
    known = next((known for tag, known in PLATFORMS.items() if re.fullmatch(tag, platform)), None)
    if known is None or (name, python, abi) != ("rwwce", "cp310", "abi3"):
        fail(wheel, "the tag is none of those that are made here")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        natives = [name for name in names if re.fullmatch(r"rwwce/_native\S*\.(so|pyd)", name)]
        if len(natives) != 1 or "rwwce/__init__.py" not in names or "rwwce/py.typed" not in names:
            fail(wheel, f"the files of the package are not there: {names}")
        library = archive.read(natives[0])
    found = lief.parse(library)
    kind, processor, allowed = known
    header = found.header
    of = {"ELF": "machine_type", "MACHO": "cpu_type", "PE": "machine"}[kind]
    if found.format.name != kind or getattr(header, of).name != processor:
        fail(wheel, f"found {found.format.name} for {getattr(header, of).name}")
    exported = {function.name.lstrip("_") for function in found.exported_functions}
    if "PyInit__native" not in exported:
        fail(wheel, f"PyInit__native is not exported: {sorted(exported)[:9]}")
    if kind == "MACHO" and not found.has_code_signature:
        fail(wheel, "it is not signed, without which no Mac of this kind loads it")
    asked = [str(getattr(library, "name", library)) for library in found.libraries]
    others = [library for library in asked if not re.fullmatch(allowed, library)]
    if others:
        fail(wheel, f"it asks for {', '.join(others)}")
    glibc = [int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)]
    if glibc and max(glibc) > 17:
        fail(wheel, f"it asks for glibc 2.{max(glibc)}")
    if wheel.stat().st_size > LARGEST:
        fail(wheel, f"{wheel.stat().st_size} bytes")
    print(f"{wheel.name:<75} {wheel.stat().st_size / 1e3:5.0f} kB, exports {len(exported)}, asks for {', '.join(asked)}")


# lief warns of signatures that it cannot parse.
lief.logging.disable()
wheels = sorted(Path(sys.argv[1]).glob("*.whl"))
if not wheels:
    sys.exit("error: there is no wheel")
for wheel in wheels:
    check(wheel)
