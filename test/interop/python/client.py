#!/usr/bin/env python3
"""Transactions by DTM's Python SDK, one a run.

    client.py DTM BANK DSN SCENARIO [NAME=VALUE ...]

DTM is http://host:port/api/dtmsvr, BANK the address of service.py.  The last line
of stdout is a JSON object: what the SDK has given back or raised, and the gid.
"""
import json
import sys

import psycopg
import requests
from dtmcli import msg, saga, tcc, utils

import dtm_token
import pg_barrier  # noqa: F401

dtm, bank, dsn, scenario = sys.argv[1:5]
options = dict(argument.split("=", 1) for argument in sys.argv[5:])
if "token" in options:
    dtm_token.use(dtm, options["token"])
gid = options.get("gid") or utils.gen_gid(dtm)
payload = {"amount": 30, **json.loads(options.get("payload", "{}"))}
result = {"gid": gid}


def transfer_saga():
    s = saga.Saga(dtm, gid)
    s.trans_base.wait_result = "wait" in options
    s.trans_base.timeout_to_fail = int(options.get("timeout_to_fail", 0))
    s.trans_base.branch_headers = json.loads(options.get("headers", "{}"))
    s.add(payload, bank + "/out", bank + "/out_undo")
    s.add(payload, bank + "/in", bank + "/in_undo")
    return s


def run_saga():
    transfer_saga().submit()


def run_saga_twice():
    s = transfer_saga()
    s.submit()
    s.submit()


def run_saga_concurrent():
    """What the SDK offers for it."""
    transfer_saga().set_concurrent().submit()


def run_saga_concurrent_raw():
    """What it was to send: the second step does not wait, the third waits for the first."""
    s = transfer_saga()
    s.add(payload, bank + "/in", bank + "/in_undo")
    s.trans_base.custom_data = json.dumps({"orders": {"2": [0]}, "concurrent": True})
    utils.check_result(requests.post(dtm + "/submit", json=s.trans_base.__dict__))


def transfer_msg():
    m = msg.Msg(dtm, gid)
    m.trans_base.timeout_to_fail = int(options.get("timeout_to_fail", 0))
    return m.add(payload, bank + "/in")


def out_of_account(fail):
    def work(cursor):
        cursor.execute("UPDATE account SET balance = balance - %(amount)s WHERE id = 'out'", payload)
        if fail is not None:
            raise fail
    return work


def run_msg():
    m = transfer_msg()
    m.prepare(bank + "/check")
    m.submit()


def run_msg_wait():
    transfer_msg().set_wait_result().submit()


def run_msg_prepare():
    """Prepared, and then silence."""
    transfer_msg().prepare(bank + "/check")


def run_msg_prepare_local():
    """Prepared, the local part is committed, and then silence."""
    def crash(branch):
        with psycopg.connect(dsn) as db:
            branch.call(db.cursor(), out_of_account(None))
        raise SystemExit

    m = transfer_msg()
    try:
        m.do_and_submit(bank + "/check", crash)
    except SystemExit:
        pass


def run_msg_local():
    """do_and_submit_db; fail=refuse: the business says no, fail=crash: something else went wrong."""
    failures = {"refuse": utils.DTMFailureError("refused"), "crash": RuntimeError("crashed")}
    with psycopg.connect(dsn) as db, db.cursor() as cursor:
        transfer_msg().do_and_submit_db(bank + "/check", cursor,
                                        out_of_account(failures.get(options.get("fail"))))


def transfer_tcc(t):
    t.call_branch(payload, bank + "/out_try", bank + "/out_confirm", bank + "/out_cancel")
    if options.get("nested"):
        t = tcc.tcc_from_req(dtm, gid, "01")
    t.call_branch(payload, bank + "/in_try", bank + "/in_confirm", bank + "/in_cancel")
    if options.get("fail"):
        raise RuntimeError("changed my mind")


def run_tcc():
    result["returned"] = tcc.tcc_global_transaction(dtm, gid, transfer_tcc)


def run_tcc_late():
    """A branch that registers itself after the end."""
    tcc.tcc_from_req(dtm, gid, "03").call_branch(payload, bank + "/out_try", bank + "/out_confirm", bank + "/out_cancel")


def run_call():
    """A call that comes late, or again: path, trans_type, branch_id, op."""
    r = requests.post(bank + options["path"], json=payload,
                      params={key: options[key] for key in ("gid", "trans_type", "branch_id", "op")})
    result["status"] = r.status_code


try:
    globals()["run_" + scenario]()
except Exception as error:
    result["raised"] = type(error).__name__
    result["message"] = str(error)
print(json.dumps(result))
