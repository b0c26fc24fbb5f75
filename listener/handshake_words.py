"""PURE: why a TLS handshake failed, in a sentence with its remedy, from what OpenSSL says of it."""

import ssl

_WHOSE = "If it may call, put its certificate, or that of the authority that made it, into tls.trusted."
_OURS = "Give the peer this node's certificate, or that of the authority that made it, to trust."
_PLAIN = (
    "what came is not TLS",
    "Switch TLS on at the peer, or let it call the plain port if listener.plain allows that.",
)
_OLD = ("it speaks no TLS 1.2 or 1.3", "Allow TLS 1.2 at the peer: older versions are broken (RFC 8996).")
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "it showed no certificate",
        "Give the peer a certificate of its own and switch on its use as a client.",
    ),
    "WRONG_VERSION_NUMBER": _PLAIN,
    "HTTP_REQUEST": _PLAIN,
    "HTTPS_PROXY_REQUEST": _PLAIN,
    "UNSUPPORTED_PROTOCOL": _OLD,
    "VERSION_TOO_LOW": _OLD,
    "NO_SHARED_CIPHER": (
        "it offers no cipher suite of BCP 195 that this node takes",
        "Allow ECDHE with AES-GCM or ChaCha20-Poly1305 at the peer (RFC 9325).",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": ("it does not trust this node's certificate", _OURS),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("it refuses this node's certificate", _OURS),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("it refuses this node's certificate", _OURS),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "it says that this node's certificate has expired",
        "Renew tls.certificate; it is read again at once. Or set the peer's clock.",
    ),
}


def in_words(error: ssl.SSLError) -> tuple[str, str]:
    """Why, and what to do.

    Parameters
    ----------
    error : of the accepting side's handshake
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        remedy = "Renew the peer's certificate." if "expired" in said else _WHOSE
        return f"TLS refused: its certificate is not taken ({said})", remedy
    reason = error.reason or "unknown"
    other = (reason.replace("_", " ").lower(), "Correct the TLS settings of the peer.")
    why, remedy = _REASONS.get(reason, other)
    return f"TLS refused: {why}", remedy
