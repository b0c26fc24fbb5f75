"""New files are in force when they are whole and can be used; until then the former ones are."""

from pathlib import Path

import pytest
from tls_files import Authority, Identity

from config.settings import TlsSettings
from config.tls import CertificateFault
from listener.served_certificate import ServedCertificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path)


@pytest.fixture
def tls(authority: Authority) -> TlsSettings:
    return TlsSettings.model_validate(authority.settings())


def put(tls: TlsSettings, identity: Identity) -> None:
    assert tls.certificate is not None
    assert tls.private_key is not None
    tls.certificate.write_bytes(identity.certificate.read_bytes())
    tls.private_key.write_bytes(identity.private_key.read_bytes())


def test_files_that_do_not_change_are_not_read_again(tls: TlsSettings) -> None:
    served = ServedCertificate(tls)
    before = served.context
    served.look()
    served.look()
    assert served.context is before


def test_new_files_are_read_once_they_do_not_change_any_more(tls: TlsSettings, authority: Authority) -> None:
    served = ServedCertificate(tls)
    before = served.context
    put(tls, authority.certify("new"))
    served.look()
    assert served.context is before, "half of it may still be on its way"
    put(tls, authority.certify("newer"))
    served.look()
    assert served.context is before
    served.look()
    assert served.context is not before


@pytest.mark.parametrize("name", ["certificate", "private_key", "trusted"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_files_that_cannot_be_used_leave_the_former_ones(
    tls: TlsSettings, name: str, content: bytes | None
) -> None:
    served = ServedCertificate(tls)
    before = served.context
    path: Path = getattr(tls, name)
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for _ in range(3):
        served.look()
    assert served.context is before
    path.write_bytes(good)
    served.look()
    served.look()
    assert served.context is not before


@pytest.mark.parametrize("name", ["certificate", "private_key", "trusted"])
def test_start_without_a_usable_file_fails_and_names_it(tls: TlsSettings, name: str) -> None:
    path: Path = getattr(tls, name)
    path.write_bytes(b"no PEM")
    with pytest.raises(CertificateFault) as error:
        ServedCertificate(tls)
    assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(CertificateFault, match="cannot be read") as error:
        ServedCertificate(tls)
    assert str(path) in str(error.value)
