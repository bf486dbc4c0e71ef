"""Recipes that are no file of this machine: at an address, on standard input."""

import io
import os

import pytest
from s3_server import S3Server

from xner_ray.errors import RecipeError, StorageError
from xner_ray.recipe.load import load_recipe

TEXT = b"input: {path: ../data/a.conll}\ntargets: [deu_Latn]\nalign: {encoder: ./encoder}\n"


def test_paths_of_a_recipe_on_an_object_store_start_there(s3: S3Server) -> None:
    s3.put("/bucket/recipes/one.yaml", TEXT)
    recipe = load_recipe(s3.uri("bucket/recipes/one.yaml"), ["input.parallel={deu_Latn: b.conll}"])
    assert recipe.input.path == s3.uri("bucket/data/a.conll")
    assert recipe.input.parallel == {"deu_Latn": os.path.abspath("b.conll")}  # a setting's
    assert recipe.align.encoder == s3.uri("bucket/recipes/encoder")


def test_what_is_wrong_with_one_is_said_with_its_address(s3: S3Server) -> None:
    with pytest.raises(RecipeError, match=r"^s3://bucket/none\.yaml.*: no such recipe file$"):
        load_recipe(s3.uri("bucket/none.yaml"))
    s3.put("/bucket/bad.yaml", b"input: [")
    with pytest.raises(RecipeError, match=r"^s3://bucket/bad\.yaml.*: not a readable YAML file"):
        load_recipe(s3.uri("bucket/bad.yaml"))
    s3.put("/bucket/one.yaml", TEXT)
    s3.fault = lambda method, path, query: "AccessDenied"
    with pytest.raises(StorageError, match=r"bucket/one\.yaml.*cannot be (read|reached)"):
        load_recipe(s3.uri("bucket/one.yaml"))


def test_a_recipe_on_standard_input_starts_in_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("input: {path: a.conll}\ntargets: [deu_Latn]\n"))
    assert str(load_recipe("-").input.path).endswith("/a.conll")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(RecipeError, match=r"^-: it is empty"):
        load_recipe("-")
