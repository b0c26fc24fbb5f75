"""Fuzz one target, guided by coverage: `python -m fuzz_run <target> [options of libFuzzer]`."""

import sys

import atheris

with atheris.instrument_imports(include=["listener", "db"]):
    from fuzz_targets import TARGETS


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
