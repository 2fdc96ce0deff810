"""
A web service
=============

A saved student behind HTTP, in a process that loads neither torch nor any teacher. The service
needs the extra ``skdistill[serve]``. Start it with one of these::

    python examples/serve.py student.safetensors --sha256 5f70bf18...
    STUDENT_FILE=student.safetensors uvicorn --app-dir examples --factory serve:create_app

``POST /predict`` answers labels and probabilities, ``GET /health`` says what is served. A row is a
list in the order of the columns of ``fit`` or, where that was a DataFrame, an object by column
name. ``null`` is a missing value::

    curl localhost:8000/predict --json '{"rows": [[5.1, 3.5, 1.4, 0.2]]}'

What does not fit is refused with a status from 400 to 422 and a sentence that says what is wrong
and where. The service keeps no secrets and knows no users: encryption, authentication and limits
on time and on connections are the work of the proxy in front of it.
"""

# %%
# What a row may hold
# -------------------
# The student knows its columns, so the type of a request is made from them. Numbers are strict:
# the text "3" is no number, and neither is infinity. A missing number passes where the student saw
# missing values in ``fit``.

import argparse
import hashlib
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, FailFast, Field, create_model, with_config
from typing_extensions import TypedDict

from skdistill import BadArtefactError, StudentClassifier

MAX_BYTES = 1_000_000
MAX_ROWS = 1_000

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]


def cell_types(student):
    """Return what each column may hold."""
    encoder = student.preprocessor_
    if encoder is None:
        return [Number] * student.n_features_in_
    types = [Number | None if encoder.allow_missing_ else Number] * student.n_features_in_
    for j, categories in zip(encoder.category_columns_, encoder.categories_, strict=True):
        types[j] = Text | None if categories.dtype.kind == "U" else Flag | Number | None
    return types


def request_type(student):
    """Return the type of a request: a list of rows of the student's columns."""
    types = cell_types(student)
    if hasattr(student, "feature_names_in_"):
        columns = dict(zip(student.feature_names_in_, types, strict=True))
        row = with_config(ConfigDict(extra="forbid"))(TypedDict("Row", columns))
    else:
        row = tuple[tuple(types)]
    # The first error is enough: a body has room for a hundred thousand.
    rows = Annotated[list[row], FailFast(), Field(min_length=1, max_length=MAX_ROWS)]
    return create_model("Rows", __config__=ConfigDict(extra="forbid"), rows=(rows, ...))


def as_array(student, rows):
    """Return the rows of a checked request, in the order of the columns of fit."""
    if hasattr(student, "feature_names_in_"):
        rows = [[row[name] for name in student.feature_names_in_] for row in rows]
    encoder = student.preprocessor_
    mixed = encoder is not None and encoder.category_columns_.size
    return np.array(rows, dtype=object if mixed else np.float64)


# %%
# What is wrong, and where
# ------------------------


def place_of(location):
    """Write where in the body something is; names in it are the client's: cut and escaped."""
    first, *rest = location or ("body",)
    return ascii(first)[1:-1][:80] + "".join(f"[{ascii(part)[:80]}]" for part in rest)


def explain(error, student):
    """Say in a sentence what is wrong with a request."""
    kind, location = error["type"], error["loc"][1:4]
    if kind == "json_invalid":
        return f"The body is no JSON: {error['ctx']['error']} at position {location[0]}."
    place = place_of(location)
    if kind == "finite_number":
        return f"{place} is NaN or infinity, which are no JSON; null is a missing value."
    if kind == "float_type" and error["input"] is None:
        return f"{place} is null, a missing value, and the student saw none in fit."
    if len(location) > 1 and kind in {"missing", "too_long", "tuple_type", "dict_type"}:
        shape = "an object by name" if hasattr(student, "feature_names_in_") else "a list"
        wrong = "is missing" if kind == "missing" else "does not fit"
        return f"{place} {wrong}: a row is {shape} of {student.n_features_in_} columns."
    return f"{place}: {error['msg']}."


async def require_json(content_type: Annotated[str, Header()] = ""):
    """Refuse a body that does not say it is JSON."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "The content type must be application/json.")


# %%
# The service
# -----------
# The functions are ``async`` because an answer takes less time than handing it to a thread.


class Answer(BaseModel):
    """What ``/predict`` sends; probabilities stand in the order of the classes of ``/health``."""

    labels: list[Any]
    probabilities: list[list[float]]


def create_app(path=None, sha256=None):
    """Return the service for a file, by default the one that the environment names."""
    path = path or os.environ["STUDENT_FILE"]
    sha256 = sha256 or os.environ.get("STUDENT_SHA256")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    student = StudentClassifier.load(path, expected_sha256=sha256 or digest)
    # Columns are put in order by name above.
    warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
    app = FastAPI(title="skdistill student", max_body_size=MAX_BYTES)

    @app.exception_handler(RequestValidationError)
    async def refuse(request, error):
        return JSONResponse({"detail": explain(error.errors()[0], student)}, status_code=422)

    @app.get("/health")
    async def health():
        classes = student.classes_.tolist()
        return {"status": "ok", "sha256": digest, "classes": classes}

    @app.post("/predict", dependencies=[Depends(require_json)])
    async def predict(request: request_type(student)) -> Answer:
        X = as_array(student, request.rows)
        try:
            labels, proba = student.predict(X), student.predict_proba(X)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return Answer(labels=labels.tolist(), probabilities=proba.tolist())

    return app


def main():
    """Serve a file."""
    parser = argparse.ArgumentParser(description="Serve a student that save() wrote.")
    parser.add_argument("file", nargs="?", help="the file (default: $STUDENT_FILE)")
    parser.add_argument("--sha256", help="digest it must have (default: $STUDENT_SHA256)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    options = parser.parse_args()
    if not (options.file or "STUDENT_FILE" in os.environ):
        parser.error("name a file, or set STUDENT_FILE")
    try:
        app = create_app(options.file, options.sha256)
    except (BadArtefactError, OSError, ValueError) as error:
        sys.exit(f"{options.file or os.environ['STUDENT_FILE']}: {error}")
    uvicorn.run(app, host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
