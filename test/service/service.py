#!/usr/bin/python3
"""A scripted HTTP service: answers what a test tells it to, and remembers every call.

    service.py [--host H] [--port P] [--db DSN] [--schema S]

Prints "port N" and serves until it is killed or its parent is gone.

Control, each answered at once:
    GET  /_calls            the calls so far, a JSON array in the order of their arrival;
                            ?path=/x and any query parameter of the calls (?gid=g1&op=action) filter
    POST /_script           {"path": "/x", "query": {"op": "action"}, "answers": [A, ...], "then": A}
                            the answers to the next calls of that path ("*": of any), whose query
                            parameters contain "query"; when they are used up, "then" (without it
                            the default).  The rule with the longest "query" wins, then the newest.
    POST /_open             {"gate": "name"} lets go the answers that wait at that gate, now and later
    POST /_reset            forgets calls, scripts and gates

An answer A is an object; all members are optional:
    status (200), body (text, or any JSON value), headers {}, delay (s, before the answer),
    gate (wait until it is opened), close (no answer: the connection is closed),
    hang (no answer, until the caller goes away), raw (these characters instead of HTTP, then close),
    location (with status 302), size (a body of that many bytes), chunked (transfer encoding),
    drip (s between the bytes of the body), truncate (close after that many bytes of the body),
    rpc (the members beside jsonrpc and id of an answer by JSON-RPC; what is no request of that kind
    is answered with its error), keep_alive (true), before (with --db: answer without the effect)
The default is {"body": {"dtm_result": "SUCCESS"}}.

With --db, a call of /query_prepared is answered as the check-back of a message: what
dtm_barrier_query_prepared says of the raw query string, FAILURE with status 409; a scripted answer
with "before" replaces it.

With --db, a call of /effect/<anything> protects an effect by the barrier, in one transaction:
SELECT dtm_barrier(<the raw query string>), and when that is true a row in the table
effects(gid, branch_id, op, path).  Then the scripted answer is given, also when it is none.
"""
import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
import time
import urllib.parse

DEFAULT_ANSWER = {"body": {"dtm_result": "SUCCESS"}}
REASONS = {200: "OK", 302: "Found", 409: "Conflict", 425: "Too Early", 500: "Internal Server Error"}


class Service:
    def __init__(self, dsn, schema):
        self.dsn = dsn
        self.schema = schema
        self.connections = 0
        self.gates = {}
        self.reset()

    def reset(self):
        self.calls = []
        self.rules = []
        self.open_gates(None)
        self.gates = {}

    def open_gates(self, name):
        if name is not None:
            self.gates.setdefault(name, asyncio.Event())
        for known, event in self.gates.items():
            if name is None or known == name:
                event.set()

    # ------------------------------------------------------------ scripts

    def script(self, rule):
        self.rules.append({"path": rule["path"], "query": rule.get("query", {}),
                           "answers": list(rule.get("answers", [])),
                           "then": rule.get("then", DEFAULT_ANSWER)})

    def answer_for(self, call):
        best = None
        for rule in self.rules:
            if rule["path"] not in ("*", call["path"]):
                continue
            if any(call["query"].get(key) != value for key, value in rule["query"].items()):
                continue
            if best is None or len(rule["query"]) >= len(best["query"]):
                best = rule
        if best is None:
            return DEFAULT_ANSWER
        return best["answers"].pop(0) if best["answers"] else best["then"]

    # --------------------------------------------------------- connection

    async def serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        try:
            while await self.serve_one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            writer.close()

    async def serve_one(self, reader, writer, number):
        line = await reader.readline()
        if not line.strip():
            return False
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while (line := (await reader.readline()).decode("latin-1").rstrip("\r\n")):
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await read_body(reader, headers)
        path, _, query = target.partition("?")

        if path.startswith("/_"):
            status, answer = self.control(method, path, query, body)
            await send(writer, {"status": status, "body": answer})
            return True

        call = {"seq": len(self.calls), "connection": number, "method": method, "path": path,
                "target": target, "query_string": query,
                "query": dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
                "headers": headers, "body": body.decode("utf-8", "replace"),
                "start": time.time(), "end": None, "status": None}
        self.calls.append(call)
        answer = self.answer_for(call)
        if self.dsn and path.startswith("/effect/") and not answer.get("before"):
            loop = asyncio.get_running_loop()
            try:
                call["effect"] = await loop.run_in_executor(None, self.effect, call)
            except Exception as error:
                call["error"] = str(error)
                answer = {"status": 500, "body": f"effect: {error}"}
        if self.dsn and path == "/query_prepared" and not answer.get("before"):
            answer = await asyncio.get_running_loop().run_in_executor(None, self.query_prepared, call)
        if "rpc" in answer:
            answer = {**answer, "body": rpc_answer(call, answer["rpc"])}
        try:
            return await self.give(reader, writer, answer, call)
        finally:
            call["end"] = time.time()

    async def give(self, reader, writer, answer, call):
        waits = []
        if answer.get("delay"):
            waits.append(asyncio.sleep(answer["delay"]))
        if answer.get("gate"):
            waits.append(self.gates.setdefault(answer["gate"], asyncio.Event()).wait())
        if answer.get("hang"):
            waits.append(asyncio.Event().wait())
        for wait in waits:
            if not await wait_unless_gone(reader, wait):
                call["status"] = "gone"
                return False
        if answer.get("close"):
            call["status"] = "closed"
            return False
        if "raw" in answer:
            call["status"] = "raw"
            writer.write(answer["raw"].encode("latin-1"))
            await writer.drain()
            return False
        call["status"] = answer.get("status", 200)
        return await send(writer, answer)

    def control(self, method, path, query, body):
        if (method, path) == ("GET", "/_calls"):
            wanted = dict(urllib.parse.parse_qsl(query))
            path = wanted.pop("path", None)
            return 200, [call for call in self.calls
                         if (path is None or call["path"] == path)
                         and all(call["query"].get(key) == value for key, value in wanted.items())]
        if (method, path) == ("POST", "/_script"):
            self.script(json.loads(body))
        elif (method, path) == ("POST", "/_open"):
            self.open_gates(json.loads(body)["gate"])
        elif (method, path) == ("POST", "/_reset"):
            self.reset()
        else:
            return 404, f"there is no {method} {path}"
        return 200, "ok"

    # ------------------------------------------------------------- effect

    def effect(self, call):
        """True: done; False: the barrier said that it was done already, or must not be done."""
        import psycopg2

        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT {self.schema}.dtm_barrier(%s)", (call["query_string"],))
                run = cursor.fetchone()[0]
                if run:
                    query = call["query"]
                    cursor.execute("INSERT INTO effects (gid, branch_id, op, path) VALUES (%s, %s, %s, %s)",
                                   (query["gid"], query["branch_id"], query["op"], call["path"]))
            return run
        finally:
            connection.close()


    def query_prepared(self, call):
        """The answer to a check-back."""
        import psycopg2

        try:
            connection = psycopg2.connect(self.dsn)
            try:
                with connection, connection.cursor() as cursor:
                    cursor.execute(f"SELECT {self.schema}.dtm_barrier_query_prepared(%s)",
                                   (call["query_string"],))
                    result = cursor.fetchone()[0]
            finally:
                connection.close()
        except psycopg2.Error as error:
            return {"status": 500, "body": str(error)}
        return {"status": 200 if result == "SUCCESS" else 409, "body": {"dtm_result": result}}


def rpc_answer(call, members):
    """What a server of JSON-RPC 2.0 answers to this call."""
    answer = {"jsonrpc": "2.0", "id": None}
    try:
        request = json.loads(call["body"])
    except ValueError as error:
        return {**answer, "error": {"code": -32700, "message": str(error)}}
    if (call["method"] != "POST" or not isinstance(request, dict) or request.get("jsonrpc") != "2.0"
            or not isinstance(request.get("id"), str) or not isinstance(request.get("method"), str)
            or not isinstance(request.get("params"), dict)):
        return {**answer, "error": {"code": -32600, "message": "not a request"}}
    return {**answer, "id": request["id"], **members}


async def read_body(reader, headers):
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while (size := int((await reader.readline()).split(b";")[0], 16)):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return body


async def wait_unless_gone(reader, wait):
    """Wait; False when the caller closed the connection first."""
    task = asyncio.ensure_future(wait)
    while not task.done():
        await asyncio.wait([task], timeout=0.02)
        if reader.at_eof() or reader.exception():
            task.cancel()
            return False
    return True


async def send(writer, answer):
    """Write an answer; true when the connection may be used again."""
    body = answer.get("body", DEFAULT_ANSWER["body"])
    if "size" in answer:
        body = "x" * answer["size"]
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    status = answer.get("status", 200)
    keep = answer.get("keep_alive", True) and "truncate" not in answer
    headers = {"Content-Type": "text/plain" if isinstance(body, str) else "application/json"}
    if answer.get("chunked"):
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(len(data))
    if not keep:
        headers["Connection"] = "close"
    if "location" in answer:
        headers["Location"] = answer["location"]
    headers.update(answer.get("headers", {}))
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
    writer.write(head.encode("latin-1"))

    step = 1 if answer.get("drip") else 65536
    for offset in range(0, min(len(data), answer.get("truncate", len(data))), step):
        piece = data[offset:min(offset + step, answer.get("truncate", len(data)))]
        if answer.get("chunked"):
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        writer.write(piece)
        await writer.drain()
        if answer.get("drip"):
            await asyncio.sleep(answer["drip"])
    if answer.get("chunked") and "truncate" not in answer:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return keep


async def end_with(parent):
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    os._exit(0)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--db", help="libpq connection string: protect /effect/ by its barrier")
    parser.add_argument("--schema", default="public", help="where dtm_barrier lives")
    args = parser.parse_args()

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)      # PR_SET_PDEATHSIG
    service = Service(args.db, args.schema)
    server = await asyncio.start_server(service.serve, args.host, args.port, backlog=1024,
                                        reuse_address=True)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    watch = asyncio.create_task(end_with(parent))
    async with server:
        await server.serve_forever()
    await watch


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
