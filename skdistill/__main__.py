"""``python -m skdistill inspect FILE``: what a saved student says, once its digest is verified."""

import argparse
import json
import sys
from collections.abc import Sequence

from skdistill.files import BadArtefactError, decode, from_parts, read_bytes, sha256_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 1 if the file is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m skdistill", description="Look at saved students without loading them."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser(
        "inspect",
        help="verify a file and print its manifest as JSON",
        description="Verify a file that StudentClassifier.save wrote; print its manifest as JSON.",
    )
    inspect.add_argument("file", help="the file")
    inspect.add_argument(
        "--sha256", metavar="DIGEST", help="digest the file must have, as sha256sum prints it"
    )
    options = parser.parse_args(arguments)
    try:
        print(_describe(options.file, options.sha256))
    except (BadArtefactError, OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    return 0


def _describe(path: str, expected_sha256: str | None) -> str:
    """Verify a file and write what it says."""
    content = read_bytes(path, expected_sha256)
    manifest, tensors = decode(content)
    from_parts(manifest, tensors)
    shown = {
        "file": {"bytes": len(content), "sha256": sha256_of(content)},
        "manifest": manifest,
        "tensors": {name: f"{a.dtype.name} {list(a.shape)}" for name, a in tensors.items()},
    }
    # One fact a line; an indented dump would give every number a line of its own.
    sections = []
    for section, facts in shown.items():
        lines = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items()]
        sections.append(f"  {json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(sections) + "\n}"


if __name__ == "__main__":
    sys.exit(main())
