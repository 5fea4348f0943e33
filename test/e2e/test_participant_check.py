"""assent participant check: what it says of participants that are right, and of those that are not."""

import json
import os
import re
import signal
import subprocess

import pytest

from harness.contract import ROOT
from harness.guard import Guard
from harness.participant import Answer, Participant
from harness.system import BUILD, Assentd, Service, Shop, binary
from harness.tokens import write_secret
from harness.wait import wait_until
from harness.wrong import FAULTS, OPS, Wrong

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
GOOD, REFUSED = '{"n":1}', '{"n":100000}'
HERE = ["--payload", GOOD, "--refused-payload", REFUSED, "--timeout", "2"]


def run(*args, **options):
    return subprocess.run([binary("assent"), "participant", "check", *args], text=True, timeout=120,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, **options)


def report(*args):
    """Exit status and the JSON that it prints."""
    done = run(*args, "-o", "json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def names(found, result):
    return {r["name"] for r in found["rules"] if r["result"] == result}


@pytest.fixture
def wrong(request):
    made = []

    def make(*faults, secret=None):
        made.append(Wrong(*faults, secret=secret))
        return made[-1]
    yield make
    for participant in made:
        participant.close()


@pytest.fixture(scope="module")
def secret_file(session_guard):
    return write_secret(session_guard.path("check-secret"), SECRET)


def restart_of(participant):
    return ["--restart", "curl -fsS -X POST %s" % participant.url("it", "restart"),
            "--probe", "curl -fsS %s" % participant.url("it", "left")]


# ---- a participant that is right ----

def test_right(wrong, secret_file):
    """Every rule, of every mode it has; nothing is left but what was committed."""
    participant = wrong(secret=SECRET)
    status, found = report(participant.address, *HERE, *restart_of(participant), "--secret-file",
                           secret_file)
    assert status == 0 and found["left_behind"] == []
    assert names(found, "fail") == names(found, "skipped") == set()
    assert {n.split(".")[0] for n in names(found, "pass")} == {
        *OPS, "call", "signature", "answers"}
    states = [r.state for r in participant.rows.values()]
    assert set(states) == {"undone", "finished", "new"} and participant.restarts
    gids = {c.headers["Assent-Gid"] for c in participant.calls() if "Assent-Gid" in c.headers}
    assert all(re.fullmatch("assent-check-[0-9a-f]{8}-[0-9]+", g) for g in gids)
    assert found["run"] in gids.pop()


def test_no_commit(wrong):
    participant = wrong()
    status, found = report(participant.address, *HERE, "--no-commit")
    assert status == 0 and "2pc.commit" in names(found, "skipped")
    assert {r.state for r in participant.rows.values()} == {"undone", "new"}
    assert participant.left == 1000


# ---- one that is not ----

FIRST = {m: ops[0] for m, ops in OPS.items()}
ALL = tuple(OPS)
ENDS = ("2pc", "tcc", "3pc")
HOLDS = ("2pc", "3pc")  # whoever is prepared keeps others waiting


def named(*templates, modes=ALL):
    """The rules of that name, in the words of each mode."""
    found = set()
    for mode in modes:
        words = dict(zip(("first", "finish", "undo"), OPS[mode]))
        found |= {"%s.%s" % (mode, t.format(**words)) for t in templates
                  if words["finish"] or "{finish}" not in t}
    return found


# What it breaks (if it is not the rule of the same name alone), and what may depend on who is first.
BREAKS = {
    "first": (named("{first}") | {"2pc.one_phase", "2pc.rollback_after_one_phase"}, set()),
    "first_repeated": (named("{first}_repeated", "{first}_at_once", "{first}_restart"), set()),
    "refusal_leaves_nothing": (named("refusal_leaves_nothing", modes=ENDS), set()),
    "undo_repeated": (named("{undo}_repeated", "{undo}_at_once") |
                      named("{first}_again_after_{undo}", modes=("tcc", "saga")) |
                      {"tcc.cancel_after_confirm_allowed"},
                      named("{first}_races_{undo}", modes=("tcc", "saga"))),
    "undo_empty": (named("refusal_leaves_nothing", "{undo}_empty", "{first}_after_{undo}",
                         "{first}_restart", "{finish}_after_{undo}") |
                   {"2pc.one_phase_after_rollback"}, named("{first}_races_{undo}")),
    "undo_empty_repeated": (named("{undo}_empty"), named("{first}_races_{undo}")),
    "first_after_undo": (named("{first}_after_{undo}", "{first}_restart"),
                         named("{first}_races_{undo}")),
    "first_again_after_undo": (
        named("{first}_again_after_{undo}", modes=ENDS),
        named("{first}_races_{undo}")),
    "first_races_undo": (named("{first}_races_{undo}", modes=ENDS), set()),
    "first_in_time": (named("{first}_in_time", modes=HOLDS), set()),
    "undo_has_room": (named("{undo}_has_room", modes=HOLDS), set()),
    "finish_restart": (named("{first}_restart", "{finish}_restart"), set()),
    "finish": (named("{finish}", "{finish}_repeated", "{finish}_at_once", "{undo}_after_{finish}",
                     "{finish}_restart", modes=ENDS) |
               named("{first}_after_{finish}", modes=("2pc", "tcc")) | {"tcc.cancel_after_confirm_allowed"}, set()),
    "finish_repeated": (named("{finish}_repeated", "{finish}_at_once", modes=ENDS), set()),
    "finish_unknown": (named("{finish}_unknown", "{first}_late", "refusal_leaves_nothing",
                             modes=ENDS), set()),
    "finish_after_undo": (named("{finish}_after_{undo}", modes=ENDS) |
                          {"tcc.try_again_after_cancel", "tcc.confirm_after_cancel_allowed"},
                          named("{first}_races_{undo}")),
    "one_phase_unknown": ({"2pc.one_phase", "2pc.rollback_after_one_phase"}, set()),
}
for _name in ("can_commit_after_abort", "abort_after_can_commit", "pre_commit_after_do_commit",
              "do_commit_binds", "intent", "intent_empty", "intent_after_do_commit",
              "status_after_can_commit", "status_after_do_commit", "abort_after_vouching",
              "do_commit_after_vouching", "status_races_intent", "pre_commit_races_status",
              "vouching_restart", "status_restart", "status_unsigned", "captured_intent"):
    BREAKS[_name] = ({"3pc." + _name}, set())
BREAKS["status_unknown"] = ({"3pc.status_unknown", "3pc.status_after_can_commit",
                             "3pc.status_restart"}, {"3pc.pre_commit_races_status"})
BREAKS["status_after_pre_commit"] = (
    {"3pc." + n for n in ("status_after_pre_commit", "intent_after_vouching",
                          "abort_after_vouching", "do_commit_after_vouching", "vouching_restart")},
    set())
BREAKS["status_after_abort"] = ({"3pc.status_after_abort"},
                                {"3pc.status_races_intent", "3pc.pre_commit_races_status"})
BREAKS["intent_after_vouching"] = ({"3pc.intent_after_vouching", "3pc.vouching_restart"},
                                   {"3pc.status_races_intent"})
BREAKS["signature.other_operation"] = ({"signature.other_operation"}, {"3pc.captured_intent"})
# What the faults of all modes break beyond that under three-phase commit, or do not.
MORE = {
    "undo_empty": "can_commit_after_abort abort_after_can_commit intent_empty",
    "undo_empty_repeated": "refusal_leaves_nothing",
    "first_after_undo": "abort_after_can_commit do_commit_binds intent_empty status_unknown"
                        " status_after_can_commit status_restart",
    "first_restart": "status_restart",
    "finish_restart": "vouching_restart",
    "finish": "pre_commit_after_do_commit intent_after_do_commit status_after_do_commit"
              " do_commit_after_vouching",
    "finish_unknown": "do_commit_binds",
    "finish_after_undo": "intent intent_empty status_unknown abort_after_vouching",
    "undo_after_finish": "intent_after_do_commit",
}
LESS = {"undo_empty": {"3pc.refusal_leaves_nothing"}}
for _name in ("first_after_undo", "undo_empty", "pre_commit_races_status"):
    _must, _may = BREAKS[_name]
    BREAKS[_name] = (_must, _may | {"3pc.pre_commit_races_status", "3pc.pre_commit_races_abort"})
THREE_PHASE = [n for n in FAULTS if BREAKS.get(n, ({""}, 0))[0] <= {"3pc." + f for f in FAULTS}]
for _name in ("one_phase", "one_phase_late", "one_phase_after_rollback",
              "rollback_after_one_phase"):
    BREAKS[_name] = ({"2pc." + _name}, set())
for _name in ("cancel_after_confirm_allowed", "confirm_after_cancel_allowed"):
    BREAKS[_name] = ({"tcc." + _name}, set())
# Where the participant waits for the other of two, or everything would fail.
ONLY = {
    "first_at_once": ("saga.*", "saga.action_[aru]*"),
    "undo_at_once": ("saga.*", "saga.compensate_[ae]*"),
    "first_races_undo": ("tcc.*", "tcc.try_races_*"),
    "first_unread": ("saga.*", "saga.action_[ur]*"),
    "first_in_time": ("2pc.*", "2pc.prepare_[ir]*"),
    "undo_has_room": ("2pc.*", "2pc.rollback_[hr]*"),
    "undo": ("saga.*", "saga.compensate"),
    "abort_after_vouching": ("3pc.*", "3pc.abort_after_vouching"),
}


def broken(fault):
    must, may = broken_in_all(fault)
    return (must | {"3pc." + n for n in MORE.get(fault, "").split()}) - LESS.get(fault, set()), may


def broken_in_all(fault):
    if fault in BREAKS:
        return BREAKS[fault]
    if "." in fault:
        return {fault}, set()
    modes = ENDS if "finish" in fault else ALL
    if fault == "first_after_finish":
        modes = ("2pc", "tcc")
    template = "_".join("{%s}" % w if w in ("first", "finish", "undo") else w
                        for w in fault.split("_"))
    return named(template, modes=modes), set()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_by_name(wrong, fault, secret_file):
    """It is found, under its name, and nothing else is."""
    signed = fault.startswith("signature") or fault in ("status_unsigned", "captured_intent")
    participant = wrong(fault, secret=SECRET if signed else None)
    modes = ["3pc"] if fault in THREE_PHASE else OPS
    args = HERE + sum((["--mode", m] for m in modes), []) + (
        ["--secret-file", secret_file] if signed else [])
    must, may = broken(fault)
    if fault in ONLY:
        prefix, pattern = ONLY[fault]
        args += ["--rule", pattern]
        must = {n for n in must if n.startswith(prefix[:-1])}
        assert must
    if "restart" in fault or any("restart" in n for n in must):
        args += restart_of(participant)[:2]
    status, found = report(participant.address, *args)
    failed = names(found, "fail")
    assert must <= failed <= must | may, FAULTS[fault]
    assert status == 1
    for rule in found["rules"]:
        if rule["result"] == "fail":
            assert rule["reason"] and any(x["shows"] for x in rule["exchanges"]), rule["name"]
            assert "signature" not in json.dumps(rule["exchanges"]).replace("not shown", "") or \
                participant.secret


def test_every_rule_is_broken_by_a_fault():
    rules = {r["name"] for r in report("--list-rules")[1]}
    seen = set().union(*(broken(f)[0] for f in FAULTS)) | {"answers.json", "answers.bounded"}
    ours = {n for n in rules if n.split(".")[0] in OPS or n.startswith(("call.", "signature."))}
    # Only under 2pc and 3pc does the participant lock anything.
    waiting = named("{first}_in_time", "{undo}_has_room", modes=("tcc", "saga"))
    # Its being answered at all is what all others are about.
    assert ours - waiting - {"3pc.can_commit"} <= seen, ours - waiting - seen


# ---- the samples ----

class Restarter(Participant):
    """What --restart calls: kills the service, and starts it again."""

    def __init__(self, service):
        self.service = service
        super().__init__()

    def arrived(self, call):
        if call.op == "restart":
            self.service.kill9()
            self.service.start()
            return Answer(200)
        return Answer(200, "%s" % self.service.db.query(PROBE[self.service.name]))


PROBE = {"stock": "SELECT * FROM stock ORDER BY sku", "coupon": "SELECT * FROM coupon ORDER BY code"}
PAYLOADS = {
    "stock": ('{"sku":"tea","n":1}', '{"sku":"tea","n":1000}', ALL),
    "account": ('{"user":7,"amount":3}', '{"user":7,"amount":100000}', ALL),
    "coupon": ('{"code":"SPRING"}', '{"code":"NONE"}', ("saga",)),
    "order": ('{"id":"{{unique}}","sku":"tea","n":1,"user":7,"amount":3}', '{"id":null}',
              ALL),
    "ledger": ('{}', '{"refuse":true}', ALL)}


@pytest.fixture(scope="module")
def shop(secret_file):
    with Guard() as guard:
        assentd = Assentd(guard).start()
        shop = Shop(assentd)
        for service in shop.services:
            service.args = ["--coordinator", assentd.url, "--secret-file", secret_file]
            service.start()
        shop.ledger = Service(guard, "ledger", assentd.database("ledger"), args=[
            "--coordinator", assentd.url, "--secret-file", secret_file])
        shop.ledger.program = os.path.join(BUILD, "test", "ledger")
        shop.ledger.start()
        yield shop


def options_for(name, restarter):
    """Killing and asking takes time; they share libassent, and the ledger shows what it did."""
    if name in PROBE:
        return restart_of(restarter)
    return restart_of(restarter)[:2] if name == "ledger" else []


@pytest.mark.parametrize("name", PAYLOADS)
def test_samples(shop, secret_file, name):
    """Every rule of every mode; three of them over a kill -9 between the phases, too."""
    service = getattr(shop, name)
    good, refused, modes = PAYLOADS[name]
    restarter = Restarter(service)
    options = options_for(name, restarter)
    try:
        status, found = report("%s/%s" % (service.url, name), "--payload", good,
                               "--refused-payload", refused, "--secret-file", secret_file, *options)
    finally:
        restarter.close()
    wrong = [(r["name"], r["reason"]) for r in found["rules"] if r["result"] != "pass"]
    if not options:
        assert {n for n, why in wrong if why == "needs --restart"} == {
            n for n, _ in wrong} != set()
        wrong = []
    assert (status, wrong, found["left_behind"]) == (0, [], [])
    assert {n.split(".")[0] for n in names(found, "pass")} == {
        *modes, "call", "signature", "answers"}
    assert not service.db.prepared()


# ---- the command ----

def test_table_and_the_exchange_that_shows_it(wrong, secret_file):
    participant = wrong("undo_empty", secret=SECRET)
    done = run(participant.address, *HERE, "--mode", "tcc", "--secret-file", secret_file)
    assert done.returncode == 1 and "assent-check-" in done.stderr
    assert re.search(r"^pass +tcc\.try +a try whose payload is good", done.stdout, re.M)
    assert re.search(r"^skipped +tcc\.try_restart +needs --restart$", done.stdout, re.M)
    assert re.search(r"^fail +tcc\.cancel_empty +200 was expected, and 404 came$", done.stdout,
                     re.M)
    shown = done.stdout.partition("\ntcc.cancel_empty\n")[2].partition("\n\n")[0]
    for part in ("rule: ", "why: ", "source: participants/README.md", "POST cancel of assent-check-",
                 "> POST %s/cancel" % participant.address, "> Assent-Op: cancel", '> {"n":1}',
                 "< 404 application/json", "> webhook-signature: (not shown)"):
        assert part in shown, part
    assert "v1," not in done.stdout and SECRET not in done.stdout + done.stderr
    assert re.search(r"\n\d+ passed, \d+ failed, \d+ skipped\n$", done.stdout)


def test_probe_shows_what_the_answers_hide(wrong):
    """A try that is done twice, and says nothing of it."""
    participant = wrong("first_repeated")
    participant.stored = lambda row: Answer(200)
    participant.work = lambda *args: Wrong.work(participant, *args) and Answer(200)
    args = [participant.address, *HERE, "--mode", "saga", "--rule", "saga.action_repeated"]
    assert report(*args)[0] == 0
    participant.undo = lambda call, row, key, mode: undo_once(participant, row)
    status, found = report(*args, *restart_of(participant)[2:])
    assert status == 1 and names(found, "fail") == {"saga.action_repeated"}
    assert "--probe" in found["rules"][0]["reason"]


def undo_once(participant, row):
    participant.left += 1 if row.state == "done" else 0
    row.state = "undone"
    return Answer(200)


def test_which_modes_it_has(wrong, part):
    assert {n.split(".")[0] for n in names(report(wrong().address, *HERE)[1], "pass")} == {
        *OPS, "call", "answers"}
    for op in ("try", "confirm", "cancel"):
        part.on("goods", op, Answer(409, '{"outcome":"aborted"}'))
    for op in ("prepare", "commit", "rollback", "action", "compensate", "can_commit", "pre_commit",
               "do_commit", "abort", "assent_check_unknown"):
        part.on("goods", op, Answer(404))
    found = report(part.url("goods"), *HERE)[1]
    assert {r["name"].split(".")[0] for r in found["rules"]} == {"tcc", "call", "signature", "answers"}


@pytest.mark.parametrize("args, hint", [
    ([], "http://127.0.0.1:7481/stock"), (["http://127.0.0.1:1/x"], "--payload"),
    (["ftp://x/y", "--payload", "1"], "ftp://x/y"), (["a", "b", "--payload", "1"], "one participant"),
    (["http://127.0.0.1:1/x", "--payload", "{"], "must be JSON"),
    (["http://127.0.0.1:1/x", "--payload", "1", "--mode", "4pc"], "2pc, tcc, saga or 3pc"),
    (["http://127.0.0.1:1/x", "--payload", "1", "--timeout", "soon"], "0.1 to 300"),
    (["http://127.0.0.1:1/x", "--payload", "1", "-o", "xml"], "text or json"),
    (["http://127.0.0.1:1/x", "--paylod", "1"], "--payload"),
    (["http://127.0.0.1:1/x", "--payload"], "--payload"),
    (["http://127.0.0.1:1/x", "--payload", "1", "--secret-file", "/nonexistent"], "/nonexistent"),
    (["http://192.0.2.1/x", "--payload", "1"], "--yes"),
    (["http://127.0.0.1:1/x", "--payload", "1", "--restart", "x", "--restart-by-hand"], "not both"),
    (["--list-rules", "--rule", "2pc.nothing"], "--list-rules"),
])
def test_usage(args, hint):
    done = run(*args)
    assert done.returncode == 2 and hint in done.stderr and done.stdout == ""


def test_nobody_there(part):
    done = run("http://127.0.0.1:1/x", "--payload", "1")
    assert done.returncode == 3 and "http://127.0.0.1:1/x" in done.stderr
    for op in ("prepare", "commit", "rollback", "try", "confirm", "cancel", "action", "compensate",
               "can_commit", "pre_commit", "do_commit", "abort", "assent_check_unknown"):
        part.on("gone", op, Answer(404))
    done = run(part.url("gone"), "--payload", "1")
    assert done.returncode == 3 and "address" in done.stderr


def test_dry_run_calls_nobody(part):
    done = run(part.url("goods"), "--payload", GOOD, "--dry-run", "--mode", "2pc")
    assert done.returncode == 0 and not part.calls()
    assert "POST %s/rollback" % part.url("goods") in done.stdout
    assert "2pc.commit_repeated (commits)" in done.stdout
    assert "2pc.rollback_repeated\n" in done.stdout


def test_list_of_rules():
    rules = report("--list-rules")[1]
    assert {"answers.json", "answers.bounded"} < {r["name"] for r in rules}
    assert not any(re.search(r"\ba [aeiou](?!ne_|ne\b|nique)", r["what"] + r["why"]) for r in rules)
    assert len({r["name"] for r in rules}) == len(rules) > 80
    for rule in rules:
        assert rule["what"] and rule["why"] and rule["source"] and "{first}" not in str(rule)
    text = run("--list-rules", "--rule", "tcc.*")
    assert text.returncode == 0 and "tcc.try_repeated\n" in text.stdout
    assert "2pc." not in text.stdout


def test_help_and_manual():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    options = set(re.findall(r"^  --([a-z-]+)", done.stdout, re.M))
    with open(os.path.join(ROOT, "api/cli/assent.1"), encoding="utf-8") as f:
        manual = set(re.findall(r"^\.It Fl -([a-z-]+)", f.read(), re.M))
    assert options == manual - {"help"}
    plain = subprocess.run([binary("assent")], capture_output=True, text=True, check=False)
    assert plain.returncode == 2 and "participant check" in plain.stderr
    typo = subprocess.run([binary("assent"), "participant", "chekc"], capture_output=True,
                          text=True, check=False)
    assert typo.returncode == 2 and "chekc" in typo.stderr


def test_interrupted(wrong):
    """Ctrl-C in the middle: what is prepared is rolled back."""
    participant = wrong("first_in_time")
    process = subprocess.Popen(
        [binary("assent"), "participant", "check", participant.address, *HERE, "--rule",
         "2pc.prepare_in_time", "--mode", "2pc"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
    wait_until(lambda: len(participant.calls(op="prepare")) == 2, 20, "the call that waits")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in out
    assert "left behind" not in out and participant.left == 1000
