"""The gate between data and training: Great Expectations, derived from the contract."""

from __future__ import annotations

from pathlib import Path

from slipway.errors import UserError
from slipway.files import write_text
from slipway.step import Step


def validate(step: Step, data_version: str, data_docs: Path) -> str:
    """Hold a data version against the contract and write the data docs, whatever comes out.

    Returns the same id. Raises `UserError`, with a line for each critical rule that is broken;
    broken warnings are facts, and are said.
    """
    from slipway.data import DataStore
    from slipway.fingerprint import TYPE_NAMES
    from slipway.profile import profile

    with step.importing():
        from components.validate.docs import render_docs
        from components.validate.failures import failures
        from components.validate.frame import make_frame
        from components.validate.run import run_suite
        from components.validate.suite import make_suite

    contract = step.project.contract
    store = DataStore(step.project.home.data_uri)
    results, found, profiles = {}, [], []
    for name, source in contract.sources.items():
        step.say(f"checking {name}")
        table = store.table(data_version, name)
        types = {column.name: TYPE_NAMES[column.type] for column in table.schema}
        results[name] = run_suite(
            make_suite(contract, name, types), make_frame(table, source, contract.timezone)
        )
        found += failures(name, source, table.num_rows, results[name])
        profiles += [{"source": name, **column} for column in profile(table)]
    write_text(data_docs, render_docs(contract.name, data_version, results))
    broken = [failure["message"] for failure in found if failure["severity"] == "critical"]
    for failure in found:
        if failure["severity"] == "warning":
            step.say(f"warning: {failure['message']}")
    if broken:
        raise UserError(
            f"data version {data_version} does not keep the contract:\n" + "\n".join(broken),
            f"\nMend the data, or the rule in {step.project.path}. Data docs: {data_docs}",
        )
    checks = sum(result.statistics["evaluated_expectations"] for result in results.values())
    warnings = "1 warning" if len(found) == 1 else f"{len(found)} warnings"
    step.say(f"{checks} rules checked, none critical is broken; {warnings}")
    step.facts.update(
        data_version=data_version, passed=True, checks=checks, failures=found, profile=profiles
    )
    return data_version
