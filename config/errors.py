"""The base of preread's typed errors: every message says what, where and the remedy."""


class PrereadError(Exception):
    """An error a person will read.

    Parameters
    ----------
    what : what went wrong, one clause
    where : file and line, UID, peer or setting it concerns
    remedy : what the reader can do about it, one sentence
    """

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if not self.remedy:
            return text
        return f"{text.rstrip('.')}. {self.remedy}"
