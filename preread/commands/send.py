"""`preread send`: push the DICOM studies below a folder to a peer, as they are."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.settings import Settings
from preread.commands.options import (
    EXIT_FAILED,
    Config,
    Json,
    let_libraries_be_quiet,
    print_json,
    settings_and_logs,
    wrong_use,
)

if TYPE_CHECKING:
    from preread.demo.sender import Address


def send(
    folder: Annotated[Path, typer.Argument(help="Folder with DICOM files or zip files, at any depth.")],
    to: Annotated[str, typer.Option(metavar="PEER", help="Name of a peer in the settings, or AE@host:port.")],
    calling: Annotated[str | None, typer.Option(help="Calling AE title; the node's own else.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send every DICOM study found below a folder; what cannot be sent is named and the rest goes on."""
    from preread.demo.found import find_studies
    from preread.demo.sender import Address, send_study

    settings = settings_and_logs(config)
    let_libraries_be_quiet()
    try:
        address = _peer_address(settings, to) or Address.parse(to)
    except ValueError as error:
        raise wrong_use(f"--to: no peer is called so, and {error}") from None
    if not folder.is_dir():
        raise wrong_use(f"{folder} is not a folder")
    studies, unsendable = find_studies(folder)
    report = []
    for study in studies:
        sending = send_study(study, address, calling_ae=calling or settings.node.ae_title)
        unsendable += sending.refused
        report.append({"study_uid": study.study_uid, "objects": len(study.objects), "sent": sending.sent})
        if not as_json:
            sys.stdout.write(f"{study.study_uid}: {sending.sent} of {len(study.objects)} sent to {address}\n")
    for item in unsendable:
        sys.stderr.write(f"{item}\n")
    if as_json:
        print_json({"to": str(address), "studies": report, "not_sent": [vars(item) for item in unsendable]})
    if unsendable or not studies:
        raise typer.Exit(EXIT_FAILED)


def _peer_address(settings: Settings, name: str) -> "Address | None":
    from preread.demo.sender import Address

    for peer in settings.peers:
        if peer.name == name and peer.host is not None and peer.port is not None:
            return Address(peer.ae_title, peer.host, peer.port)
    return None
