"""The one exception that the study raises for what its user can put right."""


class StudyError(ValueError):
    """A wrong input or a damaged file, told in one line that names what was wrong and what would be right."""


class Stopped(StudyError):
    """The work was stopped before its end, when asked to; the same call goes on."""
