"""Reference pages written from the code: settings, commands, refusals, conformance.

`python -m preread.reference docs` writes them; a test renders them again and compares, so a page can never
describe what the code no longer does.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
import typer.main
from pydantic import BaseModel
from typer.core import TyperArgument, TyperGroup, TyperOption

from config.settings import Branch, PeerSettings, Settings

HEAD = "<!-- written by scripts/docs from the code; do not edit -->\n\n"


SECURITY = """\
DICOM over TLS, where `tls.port` is set: BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile
(PS3.15 B.12), as acceptor and, for peers with `tls`, as requestor; port 2762 is recommended. TLS 1.2 and
1.3, certificates on both sides. Cipher suites of TLS 1.2: ECDHE with AES-GCM or ChaCha20-Poly1305; of TLS
1.3: those of the OpenSSL in use. Certificates are verified against `tls.trusted`, and against
`peers[].certificates` where the AE title is bound; revocation is not asked. A failed handshake gets a TLS
alert, a bound AE title with another certificate, or without TLS, an A-ASSOCIATE-RJ (1, 1, 3).

Plain DICOM is taken from other machines only with `listener.plain`. STOW-RS beyond loopback: HTTPS and a
bearer token for each peer. User identity negotiation (PS3.7 D.3.3.7) is not used to admit anybody.
"""

NOTICES = """\
What peers state of a study, to know when it is whole (`docs/operating.md`). Explicit and Implicit VR Little
Endian, on an association that proposes no storage class. Answers: 0x0000; 0x0106, 0x0120 for a value that is
wrong or missing; 0x0110 for a dataset that cannot be read or names more than 20,000 instances; 0x0124 for a
peer that may not send; 0x0213 while the disk is full. An N-SET of an unknown procedure step is kept, one of a
final step changes nothing; both are answered 0x0000, as is a repeated N-CREATE. Of a step about several
studies nothing is concluded. Nothing of the patient is kept.
"""


def settings_page() -> str:
    """Every setting with its type, default and reason."""
    text = HEAD + (
        "# Settings\n\n"
        "One YAML file: `--config FILE`, else `PREREAD_CONFIG`, else `./preread.yaml`, else\n"
        "`/etc/preread/preread.yaml`. `preread config init` writes one with every default and its reason,\n"
        "`preread config check` names file, line, reason and remedy of each error. Any value can come from\n"
        "the environment, levels joined by two underscores: `PREREAD_LISTENER__PORT=11113`. Units are in\n"
        "the names.\n\n"
    )
    top = [name for name, field in Settings.model_fields.items() if not _is_branch(field.annotation)]
    text += "## Top level\n\n" + _table(Settings, "", only=top)
    text += "\n## peers[]\n\n" + (PeerSettings.__doc__ or "") + "\n\n" + _table(PeerSettings, "peers[].")
    for name, field in Settings.model_fields.items():
        if _is_branch(field.annotation):
            branch = field.annotation
            assert isinstance(branch, type)
            assert issubclass(branch, BaseModel)
            text += f"\n## {name}\n\n{branch.__doc__}\n\n" + _table(branch, f"{name}.")
    return text


def _is_branch(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Branch)


def _table(model: type[BaseModel], prefix: str, only: list[str] | None = None) -> str:
    rows = ["| setting | type | default | what it does |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if only is not None and name not in only:
            continue
        default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        rows.append(f"| `{prefix}{name}` | {_kind(field.annotation)} | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    if value is None or value == () or value == {}:
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(annotation: object) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}.get(
            annotation.__name__, "path" if issubclass(annotation, Path) else "list of blocks"
        )
    parts = [part for part in get_args(annotation) if part is not type(None) and part is not Ellipsis]
    if all(isinstance(part, str) for part in parts):
        return ", ".join(str(part) for part in parts)
    name = getattr(annotation, "__name__", "")
    if name == "tuple":
        return "list of " + ("blocks" if _is_branch(parts[0]) else _kind(parts[0]) + "s")
    if name == "dict":
        return "mapping"
    return _kind(parts[0])


def commands_page() -> str:
    """Every command with its options, from the command line's own definitions."""
    from preread.cli import app

    text = HEAD + (
        "# Commands\n\n"
        "Exit status: 0 it worked, 1 it failed, 2 used wrongly. `--json` prints for machines on standard\n"
        "output; progress and messages go to standard error.\n"
    )
    root = typer.main.get_command(app)
    for name, command, context in _walk("preread", root, typer.Context(root, info_name="preread")):
        usage = " ".join(command.collect_usage_pieces(context))
        text += f"\n## `{name}`\n\n{(command.help or '').strip()}\n\n    {name} {usage}\n"
        rows = [
            f"- `{', '.join((*parameter.opts, *parameter.secondary_opts))}`: {parameter.help}"
            for parameter in command.params
            if isinstance(parameter, TyperArgument | TyperOption) and parameter.help
        ]
        if rows:
            text += "\n" + "\n".join(rows) + "\n"
    return text


def _walk(name: str, command: Any, context: typer.Context) -> Iterator[tuple[str, Any, typer.Context]]:
    yield name, command, context
    if isinstance(command, TyperGroup):
        for word in command.list_commands(context):
            child = command.get_command(context, word)
            if child is not None and not child.hidden:
                yield from _walk(
                    f"{name} {word}", child, typer.Context(child, info_name=word, parent=context)
                )


def refusals_page() -> str:
    """Every coded reason of *not analysed*, with its sentence and remedy."""
    from pipeline.reading.refusals import REASONS

    rows = ["| code | when | what it says | remedy |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{code}` | {reason.meaning} | {reason.sentence} | {reason.remedy} |"
        for code, reason in sorted(REASONS.items())
    ]
    return (
        HEAD
        + (
            "# Why a study is not analysed\n\n"
            "Each reason is coded, kept on the job and shown on the page, in `--json` and, by setting, in a\n"
            "small structured report. Words in braces are filled in. A package adds codes of its own for\n"
            "what it is not made for; they stand in its `model.json`.\n\n"
        )
        + "\n".join(rows)
        + "\n"
    )


def conformance_page() -> str:
    """The DICOM services, classes and transfer syntaxes of this node."""
    from config.identity import IMPLEMENTATION_UID
    from listener.contexts import (
        IMAGE_CLASSES,
        NOTICE_CLASSES,
        OBJECT_CLASSES,
        TRANSFER_SYNTAXES,
        VERIFICATION,
    )

    def table(names: Mapping[str, str]) -> str:
        rows = ["| name | UID |", "| --- | --- |", *(f"| {name} | {uid} |" for uid, name in names.items())]
        return "\n".join(rows) + "\n"

    return (
        HEAD
        + (
            "# Conformance\n\n"
            f"Implementation class UID `{IMPLEMENTATION_UID}`. AE title, port and PDU size are settings.\n\n"
            f"Services as SCP: Verification ({VERIFICATION}), Storage of the classes below, and notices\n"
            "(N-CREATE, N-SET). As SCU: Storage of Segmentation, structured report and Secondary Capture,\n"
            "Verification (`preread doctor`), Study Root C-FIND at peers with `ask_counts`, C-MOVE or C-GET\n"
            "(Study Root; as SCP of the storage classes below) at peers with `fetch_missing`. Anything else\n"
            "is refused in the negotiation and listed among the refusals. A C-STORE or notice is answered\n"
            "0x0000 only when the bytes and the record that finds them are synced.\n\n"
            "By HTTP, where `stow.port` is set: STOW-RS as origin server (PS3.18 10.5), `POST /studies` and\n"
            "`POST /studies/{study}`, of the same classes and transfer syntaxes. Bodies: one\n"
            "`application/dicom`, or several as `multipart/related`; metadata and bulk data apart are not\n"
            "taken. Answers: `application/dicom+json` (default) or `application/dicom+xml`. An instance\n"
            "counts as stored only when it is synced. Failure reasons: those of PS3.18 table I.2-2 (A700,\n"
            "A900, C000, C122, 0122), 0124 not authorised, 0117 invalid SOP Instance, and A901 for an\n"
            "instance of another study than the address names.\n\n"
        )
        + f"## Images\n\nA model may read these.\n\n{table(IMAGE_CLASSES)}"
        + f"\n## Other objects\n\nStored and shown, never the input of a model.\n\n{table(OBJECT_CLASSES)}"
        + f"\n## Notices\n\n{NOTICES}\n{table(NOTICE_CLASSES)}"
        + f"\n## Transfer syntaxes of images and other objects\n\n{table(TRANSFER_SYNTAXES)}"
        + f"\n## Security\n\n{SECURITY}"
    )


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "refusals.md": refusals_page,
    "conformance.md": conformance_page,
}


def main(folder: Path) -> None:
    """Write every page below `folder`."""
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
