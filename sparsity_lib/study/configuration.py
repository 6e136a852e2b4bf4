"""Base class of training configurations: frozen, validated, with one-line messages for wrong values."""

import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from sparsity_lib.study.errors import StudyError


class Configuration(BaseModel):
    """Configuration of a training. Raises `StudyError` (one line) for an unknown field or value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    subfolder: ClassVar[str] = ""  # subfolder of the folder of runs

    device: str = "auto"  # "auto" is a GPU if there is one; or "cpu", "cuda", "cuda:1", "mps"

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise StudyError(_one_line(error, type(self))) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with the fields of `update`, without validation."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]  # a cached property of the old fields
        return copied

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (typing.get_args(annotation) or (annotation,)):
            raise ValueError(f"{info.field_name} = {value}: give a number or a name, not true or false")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
            raise ValueError(f"unknown device '{device}'; known: auto, cpu, cuda, cuda:N, mps")
        return device


def is_plain(name: str) -> bool:
    """Whether a name is safe in HTML, Markdown, tables and messages."""
    return name.isprintable() and not set(name) & set('<>"`|\\[]{}$*~^')


def file_name(*parts: str) -> str:
    """File name from the parts, joined by `-`, that is valid on every file system."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in parts)


def _one_line(error: ValidationError, model: type[BaseModel]) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, model.model_fields, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"unknown parameter '{name}'; {hint}known: {', '.join(model.model_fields)}"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return (
        message if not name or first["type"] == "value_error" else f"{name} = {first['input']!r}: {message}"
    )
