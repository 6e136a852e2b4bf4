"""The exceptions of the study: for what its user can put right, and for having been asked to stop."""


class StudyError(ValueError):
    """A wrong input or a damaged file, told in one line that names what was wrong and what would be right."""

    def __str__(self) -> str:
        """The line; what a stranger put into it to break it or to steer a terminal is written out."""
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in super().__str__())


class Unusable(StudyError):
    """A file that is damaged or not the one that was expected: it is set aside, and made anew."""


class Unreadable(StudyError):
    """A file that cannot be read here and now, for no fault of its content: it is left as it is."""


class Stopped(StudyError):
    """The work was stopped before its end, when asked to; the same call goes on."""
