"""What schemathesis loads: requests of its making get participants that exist."""

import os

import schemathesis

PARTICIPANT = os.environ["FUZZ_PARTICIPANT"]


@schemathesis.hook
def before_call(context, case, kwargs):
    """Addresses made up would all be refused, and no transaction would ever run. Whatever is not
    a web address stays as it is."""
    del context, kwargs
    body = case.body
    branches = body.get("branches") if isinstance(body, dict) else None
    for branch in branches if isinstance(branches, list) else []:
        if not isinstance(branch, dict):
            continue
        ops = branch.get("ops") if isinstance(branch.get("ops"), dict) else {}
        for owner in (branch, ops):
            for name, value in owner.items():
                if name != "id" and isinstance(value, str) and value.lower().startswith("http"):
                    owner[name] = PARTICIPANT
