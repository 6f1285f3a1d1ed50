"""The environment is complete, JSON, and names no person or host."""

import getpass
import json
import platform

from pliant.train.environment import PACKAGES, environment


def test_environment_is_json_with_versions():
    record = json.loads(json.dumps(environment()))
    assert set(record["packages"]) == set(PACKAGES)
    assert record["packages"]["torch"]
    assert record["threads"] >= 1
    assert record["cpu"]


def test_no_names_of_people_or_hosts():
    words = json.dumps(environment()).split('"')
    assert platform.node() not in words
    assert getpass.getuser() not in words
