"""What `ops secrets` writes: everything that is missing, once, and never another password."""

import pytest
import yaml

from ops.secrets import Place, Secret, load, plan
from slipway.errors import UserError

MASTER = Place(namespace="system", name="passwords")
DATABASE = Place(namespace="storage", name="database")
CLIENT = Place(namespace="app", name="client")
SPEC = {
    "master": {"namespace": "system", "name": "passwords"},
    "passwords": {"root": {}, "app": {}},
    "secrets": [
        {"namespace": "storage", "name": "database", "keys": {"root": "${root}", "app": "${app}"}},
        {
            "namespace": "app",
            "name": "client",
            "keys": {"url": "mysql://app:${app|url}@db/app", "price": "5$$"},
            "annotations": {"region": "here"},
        },
    ],
}


@pytest.fixture
def spec(tmp_path):
    def make(**changes):
        file = tmp_path / "secrets.yaml"
        file.write_text(yaml.safe_dump({**SPEC, **changes}, sort_keys=False))
        return load(file)

    return make


def after(spec, found):
    """The cluster, once what `plan` says has been written; and what was said."""
    found = {MASTER: None, DATABASE: None, CLIENT: None, **found}
    writes = plan(spec, found)
    return {**found, **{write.place: write.secret for write in writes}}, [w.told for w in writes]


def test_from_nothing_every_password_and_secret_is_made(spec):
    made, said = after(spec(), {})
    passwords = made[MASTER].data
    assert set(passwords) == {"root", "app"}
    assert all(len(value) == 32 and value.isalnum() for value in passwords.values())
    assert made[DATABASE].data == passwords
    assert made[CLIENT].data == {"url": f"mysql://app:{passwords['app']}@db/app", "price": "5$"}
    assert made[CLIENT].annotations == {"region": "here"}
    assert not any(value in line for line in said for value in passwords.values())


def test_a_second_run_writes_nothing(spec):
    made, _ = after(spec(), {})
    assert plan(spec(), made) == []


def test_a_secret_of_ours_that_was_lost_or_lacks_a_key_comes_back_the_same(spec):
    made, _ = after(spec(), {})
    hurt = {
        **made,
        DATABASE: None,
        CLIENT: Secret({"price": "5$", "mine": "kept"}, {"note": "kept"}, version="7"),
    }
    mended, said = after(spec(), hurt)
    assert mended[DATABASE].data == made[DATABASE].data
    assert mended[CLIENT].data == {**made[CLIENT].data, "mine": "kept"}
    assert mended[CLIENT].annotations == {"region": "here", "note": "kept"}
    assert mended[CLIENT].version == "7"
    assert said == ["made (root, app)", "brought up to date (url)"]


def test_a_lost_password_is_read_back_and_not_made_anew(spec):
    """The database knows the old one: a new one would lock everybody out."""
    made, _ = after(spec(), {})
    mended, _ = after(spec(), {**made, MASTER: None})
    assert mended[MASTER].data == made[MASTER].data


def test_a_new_address_reaches_the_secrets_of_ours(spec):
    made, _ = after(spec(), {})
    moved = spec(secrets=[{**SPEC["secrets"][1], "keys": {"url": "mysql://app:${app}@new/app"}}])
    mended, said = after(moved, made)
    assert mended[CLIENT].data["url"].endswith("@new/app")
    assert mended[MASTER].data == made[MASTER].data
    assert said == ["brought up to date (url)"]


def test_a_secret_that_somebody_else_made_is_left_alone(spec):
    theirs = Secret({"url": "mine", "price": "6"}, ours=False, version="1")
    made, said = after(spec(), {CLIENT: theirs})
    assert made[CLIENT] is theirs
    assert len(said) == 2


def test_a_secret_of_somebody_else_that_lacks_a_key_is_a_sentence_with_the_fix(spec):
    theirs = Secret({"price": "6"}, ours=False, version="1")
    with pytest.raises(UserError) as refused:
        after(spec(), {CLIENT: theirs})
    assert str(refused.value) == (
        "Secret app/client was not made by Slipway and lacks the key url. Run: "
        'kubectl -n app patch secret client -p \'{"stringData": {"url": "VALUE"}}\'; '
        "or delete the secret, and Slipway makes it."
    )


def test_a_password_that_is_given_is_asked_for_and_then_taken(spec):
    given = spec(passwords={"root": {}, "app": {"given": True}})
    with pytest.raises(UserError, match="create secret generic passwords --from-literal=app=VALUE"):
        after(given, {})
    with pytest.raises(UserError, match="patch secret passwords"):
        after(given, {MASTER: Secret({"root": "r"}, ours=False, version="1")})
    made, _ = after(given, {MASTER: Secret({"app": "p@ss/word"}, ours=False, version="1")})
    assert made[CLIENT].data["url"] == "mysql://app:p%40ss%2Fword@db/app"
    assert made[MASTER].data["app"] == made[DATABASE].data["app"] == "p@ss/word"
    assert len(made[MASTER].data["root"]) == 32


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"passwords": {"root": {}}}, "database: app: no password is called app. List it"),
        ({"passwords": {"root": {"give": True}}}, "passwords.root.give: extra inputs"),
        ({"master": "passwords"}, "secrets.yaml: master:"),
        (
            {"secrets": [{"namespace": "a", "name": "b", "keys": {"k": "$5"}}]},
            "a/b: k: a stray `\\$`",
        ),
    ],
)
def test_a_declaration_that_is_wrong_names_the_place(spec, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        spec(**changes)
