"""What the services of the examples have in common: HTTP and the barrier.

A service is a name, a database and a table of handlers.  Each handler gets a
cursor and the payload, runs its business SQL and returns a few words for the
log; it raises Refused for a business failure.  Everything that has to do with
the protocol is in Service.run_branch below, and that is four lines of SQL work:
begin, ask the barrier, run the handler, commit.

Needs Python 3.9 or newer and psycopg2.  The server of the databases comes from
PGHOST, PGPORT, PGUSER and friends, as for psql.
"""

import argparse
import contextlib
import http.server
import json
import queue
import socket
import sys
import time
import traceback
import urllib.parse

import psycopg2

MAX_BODY = 64 * 1024
MAX_IDLE_CONNECTIONS = 8


class Refused(Exception):
    """The business says no.  Answered by 409: the coordinator rolls back."""


class BadRequest(Exception):
    """The caller sent something that no repetition will mend.  Answered by 400."""


class Pool:
    """Open connections that wait for the next request; bounded, last in first out."""

    def __init__(self, dbname):
        self.dsn = "dbname=%s application_name=%s" % (dbname, dbname)
        self.idle = queue.LifoQueue(MAX_IDLE_CONNECTIONS)

    @contextlib.contextmanager
    def transaction(self):
        """A cursor in a transaction of its own: committed at the end of the
        block, rolled back when the block raises."""
        conn = self._take()
        try:
            with conn.cursor() as cur:
                yield cur
            conn.commit()
        except psycopg2.Error as err:
            if err.pgcode is None or err.pgcode.startswith("57P"):
                # Not the server's answer to a statement: the server went away. Then the
                # idle connections are dead as well.
                conn.close()
                self._drop_idle()
            else:
                conn.rollback()
            raise
        except BaseException:
            conn.rollback()
            raise
        finally:
            self._give_back(conn)

    def _take(self):
        try:
            return self.idle.get_nowait()
        except queue.Empty:
            return psycopg2.connect(self.dsn)

    def _give_back(self, conn):
        if conn.closed:
            return
        try:
            self.idle.put_nowait(conn)
        except queue.Full:
            conn.close()

    def _drop_idle(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self.idle.get_nowait().close()


class Service:
    """One service: `before`, when given, is called with the payload before the
    transaction of each branch call (for a service that takes its time, or hangs).

    `answers` has functions like handlers, which return what the caller gets to
    read.  They are asked also when the barrier skips the call: it is a repetition,
    and has to be answered like the first one."""

    def __init__(self, name, dbname, handlers, before=None, answers=None):
        self.name = name
        self.pool = Pool(dbname)
        self.handlers = handlers
        self.before = before
        self.answers = answers or {}

    def run_branch(self, path, query, body):
        """One branch call, answered as (HTTP status, content type, text, words for the log)."""
        handler = self.handlers.get(path)
        if handler is None:
            return 404, "text/plain", "no such path", "no such path"
        try:
            payload = parse_payload(body)
            if self.before:
                self.before(self, query, path, payload)
            with self.pool.transaction() as cur:
                # The barrier's row and the business rows are one transaction: whatever
                # arrives twice, too late or in the wrong order finds that row.
                cur.execute("SELECT dtm_barrier(%s)", (query,))
                if cur.fetchone()[0]:
                    note = handler(cur, payload)
                else:
                    note = "skipped by the barrier"
                answer = {"dtm_result": "SUCCESS"}
                if path in self.answers:
                    answer = self.answers[path](cur, payload)
            return 200, "application/json", json.dumps(answer), note
        except Refused as err:
            return 409, "text/plain", str(err), str(err)
        except BadRequest as err:
            return 400, "text/plain", str(err), str(err)
        except psycopg2.Error as err:
            # Includes a lost connection: nobody knows whether the commit arrived. The
            # coordinator asks again, and the barrier knows.
            lines = str(err).strip().splitlines() or [type(err).__name__]
            return 500, "text/plain", lines[0], lines[0]
        except Exception as err:    # a mistake of ours: an answer all the same
            traceback.print_exc()
            return 500, "text/plain", "internal error", "internal error: %r" % err

    def log(self, query, path, words):
        """One line per event on standard output, for the demo to pick out by gid."""
        param = urllib.parse.parse_qs(query)
        gid = param.get("gid", ["-"])[0]
        branch = param.get("branch_id", ["-"])[0]
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now)) + ".%03d" % (now % 1 * 1000)
        line = "%s  %s  branch %s  %-20s %s\n" % (clock, gid, branch, path, words)
        # A single write, so that the lines of four processes do not mix.
        sys.stdout.write(line)
        sys.stdout.flush()


def parse_payload(body):
    try:
        payload = json.loads(body)
    except ValueError:
        raise BadRequest("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise BadRequest("the body is not a JSON object")
    return payload


def number(payload, field):
    """A positive whole number out of the payload."""
    value = payload.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise BadRequest('"%s" is not a positive whole number' % field)
    return value


def text(payload, field):
    """A text out of the payload."""
    value = payload.get(field)
    if not isinstance(value, str) or not value:
        raise BadRequest('"%s" is not a text' % field)
    return value


class Handler(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive; an answer leaves as one packet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 16 * 1024
    timeout = 60
    service = None

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, "text/plain", self.service.name)
        else:
            self.answer(404, "text/plain", "no such path")

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            self.answer(413 if length.isdigit() else 411, "text/plain", "bad Content-Length")
            return
        body = self.rfile.read(int(length))
        url = urllib.parse.urlsplit(self.path)
        status, kind, words, note = self.service.run_branch(url.path, url.query, body)
        self.service.log(url.query, url.path, "%d %s" % (status, note))
        self.answer(status, kind, words)

    def answer(self, status, kind, words):
        data = words.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        # A coordinator that has given up waiting is not there any more: its loss.
        with contextlib.suppress(OSError):
            self.wfile.write(data)
            self.wfile.flush()

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        # Not HTTPServer's: that one asks the name service for our own name.
        socket_server = super(http.server.HTTPServer, self)
        socket_server.server_bind()
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, socket.timeout)):
            super().handle_error(request, client_address)


def serve(service):
    """Run a service for ever: `--port` (0 = any free one), `--port-file` to tell which."""
    parser = argparse.ArgumentParser(description="The %s service." % service.name)
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free port")
    parser.add_argument("--port-file", help="write the port here once it is open")
    args = parser.parse_args()

    with service.pool.transaction() as cur:     # fail at once when the database is not there
        cur.execute("SELECT 1")

    handler = type("ServiceHandler", (Handler,), {"service": service})
    server = Server(("127.0.0.1", args.port), handler)
    if args.port_file:
        with open(args.port_file, "w") as file:
            file.write("%d\n" % server.server_port)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
