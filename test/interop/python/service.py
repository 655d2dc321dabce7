#!/usr/bin/env python3
"""A bank as a service behind the barrier of DTM's Python SDK.

    service.py DSN        prints "port N", serves until its parent is gone

Every call is written down in the table interop_calls, then its effect happens
behind the barrier: a row of account changes.  What goes wrong is said in the
payload, {"amount": 30, "refuse": ["/in"]}:

    refuse       these paths say no behind the barrier: 409
    lose_call    these paths say 409 before the barrier, as if the call had not come
    hold         these paths wait for a row of the transaction in interop_open
    lose_answer  these paths do their work and answer 500, once each
"""
import ctypes
import http.server
import json
import os
import signal
import sys
import time
import urllib.parse

import psycopg
from dtmcli import barrier, utils

import pg_barrier  # noqa: F401

OUT = "UPDATE account SET balance = balance - %(amount)s WHERE id = 'out'"
IN = "UPDATE account SET balance = balance + %(amount)s WHERE id = 'in'"
EFFECTS = {
    "/out": OUT,
    "/out_undo": "UPDATE account SET balance = balance + %(amount)s WHERE id = 'out'",
    "/in": IN,
    "/in_undo": "UPDATE account SET balance = balance - %(amount)s WHERE id = 'in'",
    "/out_try": "UPDATE account SET frozen = frozen + %(amount)s WHERE id = 'out'",
    "/out_confirm": "UPDATE account SET balance = balance - %(amount)s, frozen = frozen - %(amount)s WHERE id = 'out'",
    "/out_cancel": "UPDATE account SET frozen = frozen - %(amount)s WHERE id = 'out'",
    "/in_try": "UPDATE account SET frozen = frozen + %(amount)s WHERE id = 'in'",
    "/in_confirm": "UPDATE account SET balance = balance + %(amount)s, frozen = frozen - %(amount)s WHERE id = 'in'",
    "/in_cancel": "UPDATE account SET frozen = frozen - %(amount)s WHERE id = 'in'",
}
lost = set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def log_message(self, *args):
        pass

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        try:
            status, answer = self.work(url.path, query, body)
        except utils.DTMFailureError as refused:
            status, answer = 409, {"error": str(refused)}
        except Exception as error:
            status, answer = 500, {"error": repr(error)}
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute("INSERT INTO interop_calls (method, path, gid, trans_type, branch_id, op, body, headers, status)"
                       " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                       (self.command, url.path, query.get("gid"), query.get("trans_type"), query.get("branch_id"),
                        query.get("op"), body, str(self.headers), status))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def work(self, path, query, body):
        branch = barrier.BranchBarrier(query["trans_type"], query["gid"], query["branch_id"], query["op"])
        request = json.loads(body) if body else {}
        if path in request.get("lose_call", []):
            return 409, {"error": "as if it had never come"}
        if path in request.get("hold", []):
            with psycopg.connect(dsn, autocommit=True) as db:
                while db.execute("SELECT FROM interop_open WHERE gid = %s", (query["gid"],)).fetchone() is None:
                    time.sleep(0.02)

        def effect(cursor):
            cursor.execute(EFFECTS[path], request)
            if path in request.get("refuse", []):
                raise utils.DTMFailureError("refused")

        with psycopg.connect(dsn) as db, db.cursor() as cursor:
            if path == "/check":
                branch.query_prepared(cursor)
            else:
                branch.call(cursor, effect)
        key = (query["gid"], path)
        if path in request.get("lose_answer", []) and key not in lost:
            lost.add(key)
            return 500, {"error": "the answer is lost"}
        return 200, {"dtm_result": "SUCCESS"}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


dsn = sys.argv[1]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)    # PR_SET_PDEATHSIG
server = Server(("127.0.0.1", 0), Handler)
print("port", server.server_address[1], flush=True)
os.dup2(2, 1)    # the SDK talks on stdout
server.serve_forever()
