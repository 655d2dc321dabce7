#!/usr/bin/python3
"""The consumers outside of the database: mail and a search index.

Standard library only.  Both may get a message twice, and each has its way to
bear it: the index writes the same state again; mail cannot be called back, so
it remembers what it has sent by gid, branch and op, which a repetition has in
common with the first call.  (Here in memory.  A service with a database asks
the barrier: see docs/barrier.md.)

Switches for the demo:
    --lose-answer GID   the mail is sent and the connection cut without an answer, once
    --away GID          the index answers 503, twice
"""

import argparse
import http.server
import json
import sys
import threading
import time
import urllib.parse


LOST = 0        # no status of HTTP


class Consumers:
    def __init__(self, lose_answer, away):
        self.lock = threading.Lock()
        self.sent = set()
        self.index = {}
        self.answers_to_lose = {lose_answer: 1}
        self.calls_to_miss = {away: 2}

    def mail(self, call, event):
        again = call in self.sent
        self.sent.add(call)
        if self.use_up(self.answers_to_lose, call[0]):
            return LOST, "sent: dear %s, order %d is %s; the answer is lost" % (
                event["customer"], event["order"], event["status"])
        if again:
            return 200, "sent before, not again"
        return 200, "sent: dear %s, order %d is %s" % (event["customer"], event["order"], event["status"])

    def update_index(self, call, event):
        if self.use_up(self.calls_to_miss, call[0]):
            return 503, "out for maintenance"
        self.index[event["order"]] = event["status"]
        return 200, "order %d is %s" % (event["order"], event["status"])

    @staticmethod
    def use_up(switch, gid):
        """True as often as the switch says."""
        left = switch.get(gid, 0)
        switch[gid] = left - 1
        return left > 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1       # an answer leaves as one packet
    consumers = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        call = tuple(query.get(key, ["-"])[0] for key in ("gid", "branch_id", "op"))
        work = {"/mail": self.consumers.mail, "/index": self.consumers.update_index}.get(url.path)
        if work is None:
            status, words = 404, "no such path"
        else:
            with self.consumers.lock:
                status, words = work(call, json.loads(body))
        now = time.time()
        sys.stdout.write(
            "%s.%03d  %s  branch %s  %-7s %s %s\n"
            % (time.strftime("%H:%M:%S", time.localtime(now)), now % 1 * 1000,
               call[0], call[1], url.path, status or "---", words)
        )
        sys.stdout.flush()
        data = words.encode()
        self.send_response(status or 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if status == LOST:
            self.close_connection = True
        else:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def main():
    parser = argparse.ArgumentParser(description="Mail and search index.")
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free port")
    parser.add_argument("--port-file", help="write the port here once it is open")
    parser.add_argument("--lose-answer", metavar="GID")
    parser.add_argument("--away", metavar="GID")
    args = parser.parse_args()

    Handler.consumers = Consumers(args.lose_answer, args.away)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    if args.port_file:
        with open(args.port_file, "w") as file:
            file.write("%d\n" % server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    main()
