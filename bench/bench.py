"""Measures dtm_pg against bases of the same run; prints the table of bench/results.md.

Called by bench/run.sh, with PGHOST, PGPORT, PGUSER of a cluster that has dtm_pg preloaded.
"""
import argparse
import http.server
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import psycopg2

STUB_PORT = 18771
HTTP_PORT = 18772
HZ = os.sysconf("SC_CLK_TCK")
PARTS = ["base", "submit", "e2e", "http", "cpu", "latency", "claim", "memory", "barrier", "flash_sale"]
rows = []


def note(figure, value, base, ratio, goal, remark=""):
    rows.append((figure, value, base, ratio, goal, remark))
    print(f"  {figure}: {value} | base {base} | ratio {ratio} | goal {goal} {remark}", flush=True)


def connect(database="bench"):
    connection = psycopg2.connect(dbname=database)
    connection.autocommit = True
    return connection


def value(sql, *args):
    connection = connect()
    try:
        cursor = connection.cursor()
        cursor.execute(sql, args or None)
        return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def wait_until(sql, expected, seconds=120):
    end = time.time() + seconds
    while value(sql) != expected:
        if time.time() > end:
            raise SystemExit(f"timed out waiting for {expected!r} from {sql}")
        time.sleep(0.1)


def steps(port=STUB_PORT):
    one = ('{"action": "http://127.0.0.1:%d/%s", "compensate": "http://127.0.0.1:%d/%s-undo", '
           '"payload": %s}')
    return "[" + ", ".join([
        one % (port, "stock", port, "stock", '{"sku": "A1", "qty": 2}'),
        one % (port, "pay", port, "pay", '{"order": 1001, "amount": 30}'),
        one % (port, "ship", port, "ship", '{"order": 1001}')]) + "]"


SUBMIT = f"SELECT dtm_saga_submit('{steps()}');\n"
LATER = f"SELECT dtm_saga_submit('{steps()}', start_after => '1 day');\n"
INSERT = "INSERT INTO plain (v) VALUES ('one plain row of an order with some text in it, as a base');\n"


def script(name, text):
    path = os.path.join("build", "bench", name)
    with open(path, "w") as file:
        file.write(text)
    return path


def pgbench(path, seconds, clients=16, rate=None, count=None):
    command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-f", path]
    command += ["-t", str(count)] if count else ["-T", str(seconds)]
    if rate:
        command += ["-R", str(rate)]
    out = subprocess.run(command + ["bench"], capture_output=True, text=True,
                         env=dict(os.environ, PGOPTIONS="-c client_min_messages=error -c log_min_messages=error"))
    found = re.search(r"tps = ([0-9.]+) \(without", out.stdout)
    if not found:
        raise SystemExit(out.stdout + out.stderr)
    return float(found.group(1))


def coordinator():
    return value("SELECT pid FROM dtm.workers WHERE worker = 0 AND state IN ('running', 'paused')")


def cpu_us(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000000 / HZ


def private_kb(pid):
    """Without shared buffers, which every process that reads a table touches."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"RssAnon:\s+(\d+)", file.read()).group(1))


def clear():
    value("TRUNCATE dtm.trans, dtm.live, dtm.done, dtm.timer, dtm.barrier")
    value("CHECKPOINT")
    restart_worker()


def restart_worker():
    old = coordinator()
    os_signal_terminate(old)
    wait_until(f"SELECT count(*)::int FROM dtm.workers WHERE state IN ('running', 'paused') AND pid <> {old}", 1)


def os_signal_terminate(pid):
    value("SELECT pg_terminate_backend(%s)", pid)


class Stub:
    def __init__(self, port=STUB_PORT, delay_ms=0):
        command = ["build/bench/stub", str(port)] + ([str(delay_ms)] if delay_ms else [])
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(0.3)

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def median3(measure):
    return statistics.median(measure() for _ in range(3))


def bench_base(args):
    args.base = median3(lambda: pgbench(script("insert.sql", INSERT), args.seconds))
    note("plain 1-row insert, 16 clients", f"{args.base:.0f}/s", "", "", "")


class NoWorker:
    """Keeps the coordinator from driving what is submitted."""

    def __enter__(self):
        value("SELECT dtm_pause('benchmark of submits')")
        wait_until("SELECT count(*)::int FROM dtm.workers WHERE state = 'paused'", 1)

    def __exit__(self, *ignored):
        value("SELECT dtm_resume()")
        wait_until("SELECT count(*)::int FROM dtm.workers WHERE state = 'running'", 1)


def bench_submit(args):
    """Submits alone, without a worker on the same cores, in turns with the base."""
    path = script("submit.sql", SUBMIT)
    ratios = []
    for _ in range(3):
        with NoWorker():
            base = pgbench(script("insert.sql", INSERT), args.seconds)
            tps = pgbench(path, args.seconds)
            value("TRUNCATE dtm.trans, dtm.live")
        ratios.append((tps / base, tps, base))
    ratio, tps, base = sorted(ratios)[1]
    note("submits/s, saga of 3 steps, 16 clients", f"{tps:.0f}/s", f"{base:.0f}/s insert",
         f"{ratio:.2f}", ">= 0.6")


def bench_e2e(args):
    """The highest rate of submits that the worker keeps up with, all on the same cores."""
    path = script("submit.sql", SUBMIT)
    base = pgbench(script("insert.sql", INSERT), args.seconds)
    best = (0, 0, 0)
    with Stub():
        for share in (0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.35):
            rate = int(base * share)
            clear()
            before = time.time()
            pgbench(path, args.seconds * 2, rate=rate)
            backlog = value("SELECT count(*) FROM dtm.live")
            completed = value("SELECT count(*) FROM dtm.done")
            seconds = time.time() - before
            wait_until("SELECT count(*)::int FROM dtm.live", 0)
            print(f"    at {rate}/s: {completed / seconds:.0f}/s completed, backlog {backlog}", flush=True)
            if backlog > rate * 0.5:
                break
            p = value("SELECT format('p50 %s ms, p99 %s ms', round(extract(epoch FROM latency_p50) * 1000, 1), "
                      "round(extract(epoch FROM latency_p99) * 1000, 1)) FROM dtm.statistics WHERE trans_type = 'saga'")
            best = (completed / seconds, backlog, p)
        note("completed sagas/s, 3 HTTP branches, no backlog", f"{best[0]:.0f}/s",
             f"{base:.0f}/s insert", f"{best[0] / base:.2f}", ">= 0.25", f"submit to end {best[2]}")

        clear()
        seconds = args.seconds * 2
        started = time.time()
        tps = pgbench(path, seconds)
        wait_until("SELECT count(*)::int FROM dtm.live", 0, 300)
        total = value("SELECT count(*) FROM dtm.done")
        note("flood: 16 clients submit as fast as they can, until all are done",
             f"{total / (time.time() - started):.0f}/s", f"submitted {tps:.0f}/s", "", "")


def wait_for_port(seconds=30):
    """The coordinators start anew when a setting of the database has changed."""
    end = time.time() + seconds
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{HTTP_PORT}/api/ping", timeout=1):
                return
        except OSError:
            if time.time() > end:
                raise
            time.sleep(0.05)


def http_submits(connections, seconds, route="submit"):
    wait_for_port()
    out = subprocess.run(["build/bench/submit_loop", str(HTTP_PORT), str(connections), str(seconds), str(STUB_PORT),
                          route],
                         capture_output=True, text=True)
    found = re.search(r"per_second ([0-9.]+) p50_ms ([0-9.]+) p99_ms ([0-9.]+) errors 0$", out.stdout.strip())
    if not found:
        raise SystemExit(out.stdout + out.stderr)
    return tuple(float(group) for group in found.groups())


def bench_http(args):
    """Submits through the port and by SQL in turns, both with the coordinator that also drives them."""
    path = script("submit.sql", SUBMIT)
    value(f"ALTER DATABASE bench SET dtm.http_listen = '127.0.0.1:{HTTP_PORT}'")
    wait_for_port()
    seconds = args.seconds
    later = script("later.sql", LATER)

    # stored, and nothing to call yet
    for connections in (16, 64):
        runs = []
        for _ in range(3):
            clear()
            base = pgbench(later, seconds, clients=connections)
            clear()
            runs.append((http_submits(connections, seconds, "prepare"), base))
        (rate, p50, p99), base = sorted(runs)[1]
        note(f"sagas stored over HTTP, {connections} connections", f"{rate:.0f}/s",
             f"{base:.0f}/s by SQL", f"{rate / base:.2f}", "", f"answered p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    with Stub():
        for connections in (16, 64):
            clear()
            started = time.time()
            tps = pgbench(path, seconds, clients=connections)
            wait_until("SELECT count(*)::int FROM dtm.live", 0, 300)
            by_sql = value("SELECT count(*) FROM dtm.done") / (time.time() - started)
            clear()
            started = time.time()
            rate, p50, p99 = http_submits(connections, seconds)
            wait_until("SELECT count(*)::int FROM dtm.live", 0, 300)
            by_http = value("SELECT count(*) FROM dtm.done WHERE status = 4") / (time.time() - started)
            note(f"sagas/s over HTTP, 3 branches, submit to end, {connections} connections", f"{by_http:.0f}/s",
                 f"{by_sql:.0f}/s by SQL", f"{by_http / by_sql:.2f}", "",
                 f"submitted {rate:.0f}/s over HTTP (answered p50 {p50:.1f} ms, p99 {p99:.1f} ms), {tps:.0f}/s by SQL")
    old = coordinator()
    value("ALTER DATABASE bench RESET dtm.http_listen")
    wait_until(f"SELECT count(*)::int FROM dtm.workers WHERE state = 'running' AND pid <> {old}", 1)


def bench_cpu(args):
    """Drain a backlog; the worker's CPU per call beside a bare libcurl loop."""
    count = 2000 if args.quick else 20000
    with Stub():
        out = subprocess.run(["build/bench/curl_loop", f"http://127.0.0.1:{STUB_PORT}/stock?gid=abc",
                              str(count * 3), "100"], capture_output=True, text=True).stdout
        bare = float(re.search(r"cpu_us/call ([0-9.]+)", out).group(1))
        clear()
        value("SELECT dtm_pause('benchmark of the drain')")
        wait_until("SELECT count(*)::int FROM dtm.workers WHERE state = 'paused'", 1)
        pgbench(script("submit.sql", SUBMIT), 0, count=count // 16)
        total = value("SELECT count(*) FROM dtm.live")
        value("SELECT dtm_resume()")
        pid = coordinator()
        before = cpu_us(pid)
        started = time.time()
        wait_until("SELECT count(*)::int FROM dtm.live", 0, 300)
        seconds = time.time() - started
        per_saga = (cpu_us(pid) - before) / total
    note("drain of a backlog, 3 HTTP branches", f"{total / seconds:.0f} sagas/s", "", "", "",
         f"worker CPU {per_saga:.0f} us per saga")
    note("worker CPU per branch call, storage included", f"{per_saga / 3:.1f} us",
         f"{bare:.1f} us bare libcurl loop", f"{per_saga / 3 / bare:.2f}", "<= 2")


class Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    arrived = {}

    def do_POST(self):
        now = time.monotonic()
        gid = re.search(r"gid=([^&]+)", self.path).group(1)
        self.arrived.setdefault(gid, now)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *ignored):
        pass


def latencies(count, pause):
    connection = psycopg2.connect(dbname="bench")
    cursor = connection.cursor()
    result = []
    for _ in range(count):
        cursor.execute(f"SELECT dtm_saga_submit('[{{\"action\": \"http://127.0.0.1:{STUB_PORT + 1}/a\", "
                       "\"payload\": 1}]')")
        gid = cursor.fetchone()[0]
        before = time.monotonic()
        connection.commit()
        end = time.time() + 10
        while gid not in Recorder.arrived and time.time() < end:
            time.sleep(0.0005)
        result.append((Recorder.arrived[gid] - before) * 1000)
        time.sleep(pause)
    connection.close()
    result.sort()
    return result[len(result) // 2], result[int(len(result) * 0.99)]


def bench_latency(args):
    """From sending COMMIT to the arrival of the first call, so the commit's flush is in it."""
    clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", STUB_PORT + 1), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    count = 50 if args.quick else 300
    latencies(10, 0)
    p50, p99 = latencies(count, 0.01)
    note("COMMIT sent -> first call received, idle", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", "", "",
         "p50 <= 2 ms, p99 <= 10 ms")
    with Stub():
        path = script("submit.sql", SUBMIT)
        rate = int(getattr(args, "base", 10000) * 0.15)
        load = subprocess.Popen(["pgbench", "-n", "-M", "prepared", "-c", "16", "-j", "2", "-f", path, "-R",
                                 str(rate), "-T", str(args.seconds * 3), "bench"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        p50, p99 = latencies(count, 0.005)
        load.terminate()
        load.wait()
        note("the same while 16 clients submit sagas", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", f"{rate} sagas/s",
             "", "p50 <= 20 ms")
        wait_until("SELECT count(*)::int FROM dtm.live", 0)
    server.shutdown()


def drain_cost(count):
    """Worker CPU per saga for a batch of submits, one after the other by 4 clients."""
    pid = coordinator()
    before = cpu_us(pid)
    finished = value("SELECT count(*) FROM dtm.done WHERE id > 0")
    pgbench(script("submit.sql", SUBMIT), 0, clients=4, count=count // 4)
    wait_until("SELECT (count(*) FILTER (WHERE next_run_at < now() + interval '1 hour'))::int FROM dtm.live", 0)
    return (cpu_us(pid) - before) / (value("SELECT count(*) FROM dtm.done WHERE id > 0") - finished)


def fill(many):
    """Pending and finished transactions, copied from one that was submitted."""
    value("SELECT dtm_pause('filling')")
    value(LATER)
    copy = ("INSERT INTO dtm.trans SELECT nextval('dtm.trans_id_seq'), '{0}-' || n, 1, owner, created_at, spec "
            "FROM (SELECT * FROM dtm.trans ORDER BY id DESC LIMIT 1) AS t, generate_series(1, {1}) AS n")
    value(copy.format("pending", many))
    value("INSERT INTO dtm.live (id, status, next_run_at, updated_at) "
          "SELECT id, 2, created_at + interval '1 day', created_at FROM dtm.trans WHERE gid LIKE 'pending-%'")
    value("INSERT INTO dtm.timer SELECT next_run_at, id FROM dtm.live WHERE next_run_at > now() ON CONFLICT DO NOTHING")
    value(copy.format("finished", many))
    value("INSERT INTO dtm.done (id, trans_type, status, created_at, finished_at, attempts, retries) "
          "SELECT id, 1, 4, created_at, now(), 3, 0 FROM dtm.trans WHERE gid LIKE 'finished-%'")
    value("VACUUM ANALYZE dtm.trans, dtm.live, dtm.done, dtm.timer")
    value("SELECT dtm_resume()")


def bench_claim(args):
    count = 1000 if args.quick else 8000
    many = 20000 if args.quick else 1000000
    with Stub():
        clear()
        drain_cost(count)
        empty = drain_cost(count)
        fill(many)
        time.sleep(3)
        holder = psycopg2.connect(dbname="bench")
        holder.set_session(isolation_level="REPEATABLE READ")
        holder.cursor().execute("SELECT count(*) FROM plain")
        drain_cost(count)
        full = drain_cost(count)
        holder.close()
    note(f"worker CPU per saga with {many} pending, {many} finished, an old snapshot held",
         f"{full:.0f} us", f"{empty:.0f} us, empty tables", f"{full / empty:.2f}", "<= 1.5")
    clear()


def bench_memory(args):
    """Calls that hang: what each transaction in flight costs."""
    count = 400 if args.quick else 4000
    value("ALTER SYSTEM SET dtm.max_inflight = 20000")
    value("ALTER SYSTEM SET dtm.max_host_calls = 10")
    value("SELECT pg_reload_conf()")
    clear()
    with Stub():
        drain_cost(400)
    with Stub(delay_ms=20000):
        pid = coordinator()
        time.sleep(1)
        before = private_kb(pid)
        pgbench(script("hang.sql", f"SELECT dtm_saga_submit('{steps()}', request_timeout => '30 s');\n"), 0,
                clients=4, count=count // 4)
        time.sleep(1)
        inflight = value("SELECT transactions_in_flight FROM dtm.workers WHERE worker = 0 AND pid = %s", pid)
        grown = private_kb(pid) - before
        note("worker memory per transaction in flight", f"{grown / inflight:.1f} KB", f"{inflight} in flight", "",
             "<= 4 KB")
    value("SELECT dtm_stop(gid, 'benchmark over') FROM dtm.transactions WHERE finished_at IS NULL")
    value("ALTER SYSTEM RESET ALL")
    value("SELECT pg_reload_conf()")
    clear()


def bench_barrier(args):
    ratios = []
    subprocess.run(["pgbench", "-q", "-i", "-s", "1" if args.quick else "20", "bench"], check=True, capture_output=True)
    for _ in range(3):
        base = pgbench("bench/barrier_base.sql", args.seconds)
        tps = pgbench("bench/barrier_with.sql", args.seconds)
        ratios.append((tps / base, tps, base))
    ratio, tps, base = sorted(ratios)[1]
    note("BEGIN, dtm_barrier, UPDATE, COMMIT, 16 clients", f"{tps:.0f}/s", f"{base:.0f}/s without dtm_barrier",
         f"{ratio:.2f}", ">= 0.7")


# pgbench would take ":dtm_..." for a variable of its own: \\u003a is the colon for JSON
FLASH_TCC = ('[{"try": "sql\\u003a%s_try", "confirm": "sql\\u003a%s_confirm", "cancel": "sql\\u003a%s_cancel", '
             '"payload": {"resource": "hot", "quantity": 1}}]')
FLASH = """\\set n random(1, 1000000000000000)
BEGIN;
INSERT INTO flash_orders (gid) VALUES ('o-' || :n::text);
%s
SELECT dtm_tcc_submit('%s', gid => 'o-' || :n::text);
COMMIT;
"""
FLASH_SCHEMA = """
CREATE TABLE flash_orders (id bigserial PRIMARY KEY, gid text NOT NULL, at timestamptz DEFAULT now());
CREATE TABLE flash_plain (resource text PRIMARY KEY, quantity bigint CHECK (quantity >= 0), sold bigint DEFAULT 0,
    locked bigint DEFAULT 0 CHECK (locked BETWEEN 0 AND quantity)) WITH (fillfactor = 25);
CREATE FUNCTION plain_try(p jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION plain_confirm(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE flash_plain
    SET quantity = quantity - 1, locked = locked - 1, sold = sold + 1 WHERE resource = p->>'resource' $$;
CREATE FUNCTION plain_cancel(p jsonb) RETURNS void LANGUAGE sql AS $$ UPDATE flash_plain
    SET locked = locked - 1 WHERE resource = p->>'resource' $$;
CREATE FUNCTION flash_buy(of_gid text, tcc jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dtm_reserve('hot', 1, of_gid);
    INSERT INTO flash_orders (gid) VALUES (of_gid);
    PERFORM dtm_tcc_submit(tcc, gid => of_gid);
EXCEPTION WHEN SQLSTATE 'DTM01' THEN
    NULL;
END $$;
"""


def flash_stock(quantity):
    value("TRUNCATE dtm.reservation, flash_orders, flash_plain")
    value("SELECT dtm_stock_set('hot', %s, buckets => 64)", quantity)
    value("INSERT INTO flash_plain VALUES ('hot', %s)", quantity)


def bench_flash_sale(args):
    """Orders for one item: the buyer's transaction takes it, inserts the order, submits the TCC."""
    value(FLASH_SCHEMA)
    tcc = FLASH_TCC % (("dtm_reserve",) * 3)
    reserve = script("flash_reserve.sql", FLASH % ("SELECT dtm_reserve('hot', gid => 'o-' || :n::text);", tcc))
    plain = script("flash_plain.sql", FLASH % (
        "UPDATE flash_plain SET locked = locked + 1 WHERE resource = 'hot' AND quantity - locked >= 1;",
        FLASH_TCC % (("plain",) * 3)))
    ratios = []
    for _ in range(3):
        with NoWorker():
            flash_stock(1000000000)
            base = pgbench(plain, args.seconds)
            tps = pgbench(reserve, args.seconds)
            value("TRUNCATE dtm.trans, dtm.live")
        ratios.append((tps / base, tps, base))
    ratio, tps, base = sorted(ratios)[1]
    note("flash sale: accepted orders/s of one item, 16 clients", f"{tps:.0f}/s", f"{base:.0f}/s with one plain row",
         f"{ratio:.2f}", ">= 3000/s")

    # the coordinator and its executors confirm on the same cores meanwhile
    clear()
    flash_stock(1000000000)
    tps = pgbench(reserve, args.seconds)
    done = value("SELECT count(*) FROM dtm.done")
    wait_until("SELECT count(*)::int FROM dtm.live", 0, 600)
    bad = value("SELECT count(*) FROM dtm.done WHERE status <> 4")
    note("the same while they are confirmed on the same cores", f"{tps:.0f}/s", "", "", "",
         f"{done / args.seconds:.0f}/s confirmed meanwhile, {bad} failed")

    # it sells out in the middle
    clear()
    stock = 500 if args.quick else 5000
    flash_stock(stock)
    pgbench(script("flash_buy.sql", "\\set n random(1, 1000000000000000)\n"
                   f"SELECT flash_buy('o-' || :n::text, '{tcc}');\n"), args.seconds)
    wait_until("SELECT count(*)::int FROM dtm.live", 0, 600)
    accepted = value("SELECT count(*) FROM flash_orders")
    sold = value("SELECT sold FROM dtm.stocks WHERE resource = 'hot' AND available = 0 AND reserved = 0")
    note(f"flash sale: oversold of {stock}", f"{accepted - stock}", "", "", "0", f"{accepted} accepted, {sold} sold")
    clear()


def report():
    print("\n| figure | measured | base of the same run | ratio | goal | remark |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    print(f"\n{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), "
          f"{value('SELECT version()').split(' on ')[0]}, "
          + ", ".join(f"{n} = {value('SELECT current_setting(%s)', n)}" for n in
                      ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    args.seconds = 1 if args.quick else 6
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"unknown part {part}")
    admin = connect("postgres")
    admin.cursor().execute("CREATE DATABASE bench")
    value("CREATE EXTENSION dtm_pg")
    value("CREATE TABLE plain (id bigserial PRIMARY KEY, v text)")
    wait_until("SELECT count(*)::int FROM dtm.workers WHERE state = 'running'", 1)
    for part in PARTS:
        if not args.parts or part in args.parts:
            print(part, flush=True)
            globals()["bench_" + part](args)
    report()


if __name__ == "__main__":
    sys.exit(main())
