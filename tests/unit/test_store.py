import sqlite3

import numpy as np
import pytest

from mllmrisk.errors import StoreError
from mllmrisk.records import Estimate, RunSpec, Sample, Score
from mllmrisk.store import Store, Vector

SPEC = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2", images_digest="3")


def test_bytes_are_stored_once_under_their_hash(tmp_path):
    with Store.open(tmp_path / "run", SPEC) as store:
        first = store.add_image(b"abc", "jpg")
        assert store.add_image(b"abc", "jpg") == first
        path = store.image_path(first)
        assert path.read_bytes() == b"abc"
        assert path == tmp_path / "run" / "images" / first[:2] / f"{first}.jpg"


def test_another_spec_is_refused_and_the_keys_are_named(tmp_path):
    Store.open(tmp_path / "run", SPEC).close()
    Store.open(tmp_path / "run", SPEC).close()
    other = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2", images_digest="3", seed=7)
    with pytest.raises(StoreError, match="another seed"):
        Store.open(tmp_path / "run", other)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreError, match="not a run"):
        Store.open(tmp_path, SPEC)
    with pytest.raises(StoreError, match="not a run folder"):
        Store.load(tmp_path)


def test_a_broken_database_is_an_error_in_words(tmp_path):
    (tmp_path / "run.db").write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        Store.load(tmp_path)


def test_vectors_and_scores_come_back_as_they_went(tmp_path):
    with Store.open(tmp_path / "run", SPEC) as store:
        store.add_vectors("f", "native", {"a": Vector(np.float32([1, 2]), None), "b": Vector(None, "corrupt")})
        store.add_scores("d", "native", {"a": Score(0.25, None, 3), "b": Score(None, "corrupt")})
    with Store.load(tmp_path / "run") as store:
        found = store.vectors("f", "native")
        np.testing.assert_array_equal(found["a"].values, np.float32([1, 2]))
        assert found["b"] == (None, "corrupt")
        assert store.scores("d", "native") == {"a": Score(0.25, None, 3), "b": Score(None, "corrupt")}
        assert store.scores("d", "jpeg:75") == {}


def test_a_batch_of_scores_is_whole_or_absent(tmp_path):
    class Breaks(dict):
        def items(self):
            yield "a", Score(1.0)
            raise RuntimeError("killed here")

    with Store.open(tmp_path / "run", SPEC) as store:
        with pytest.raises(RuntimeError):
            store.add_scores("d", "native", Breaks())
        assert store.scores("d", "native") == {}


def test_text_is_data_never_sql(tmp_path):
    nasty = "x'); DROP TABLE samples; --"
    with Store.open(tmp_path / "run", SPEC) as store:
        store.add_samples([(0, Sample(id=nasty, label="fake", paradigm="mllm", prompt=nasty, path=nasty))])
        assert [s.prompt for s in store.samples()] == [nasty]


def test_samples_keep_their_order(tmp_path):
    rows = [(i, Sample(id=name, label="real", paradigm="real")) for i, name in enumerate("cab")]
    with Store.open(tmp_path / "run", SPEC) as store:
        store.add_samples(rows)
        assert [s.id for s in store.samples()] == ["c", "a", "b"]


def test_estimates_are_written_whole_and_read_back(tmp_path):
    row = Estimate(
        experiment="leak", metric="auc", unit="u", method="m", n_prompts=0, n_images=3, value=0.5, low=0.4, high=0.6
    )
    with Store.open(tmp_path / "run", SPEC) as store:
        with pytest.raises(StoreError, match="no estimates yet"):
            store.estimates()
        store.write_estimates({"seed": 0}, [row])
        facts, rows = store.estimates()
    assert facts == {"seed": 0}
    assert rows == [row]
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_of_another_schema_is_refused(tmp_path):
    Store.open(tmp_path / "run", SPEC).close()
    with sqlite3.connect(tmp_path / "run" / "run.db") as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    db.close()
    with pytest.raises(StoreError, match="schema 99"):
        Store.load(tmp_path / "run")
