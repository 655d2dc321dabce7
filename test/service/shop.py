#!/usr/bin/python3
"""The shop's services over HTTP: service.py, with the shop's business instead of rows in effects.

    shop.py --db DSN [--schema S] [--host H] [--port P]

A call of /effect/<service>/<verb> runs SELECT shop.<service>_<verb>(<body>) behind the barrier, in
one transaction.  dtm_fail there is answered by 409, dtm_ongoing by 425, any other error by 500.
Each delivery leaves a row in call_log, committed before anything else, also when there is no effect.

Scripted answers as in service.py, and one more member:
    late (s)  no answer in time: the effect comes so much later, whether the caller still waits or not
"""
import asyncio
import re
import sys

import psycopg2

import service

PATH = re.compile(r"^/effect/([a-z]+)/([a-z]+)$")
ANSWERS = {"DTM01": 409, "DTM02": 425}


class Shop(service.Service):
    def answer_for(self, call):
        query = call["query"]
        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO call_log (gid, branch_id, op, url) VALUES (%s, %s, %s, %s)"
                               " RETURNING seq",
                               (query.get("gid"), query.get("branch_id"), query.get("op"), call["path"]))
                call["log"] = cursor.fetchone()[0]
        finally:
            connection.close()
        answer = super().answer_for(call)
        return dict(answer, before=True) if answer.get("late") else answer

    def effect(self, call):
        """True: done; False: the barrier said that it was done already, or must not be done."""
        query = call["query"]
        name = "shop." + "_".join(PATH.match(call["path"]).groups())
        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"SELECT {self.schema}.dtm_barrier(%s)", (call["query_string"],))
                run = cursor.fetchone()[0]
                if run:
                    cursor.execute("INSERT INTO effects (gid, branch_id, op, url) VALUES (%s, %s, %s, %s)",
                                   (query["gid"], query["branch_id"], query["op"], call["path"]))
                    cursor.execute(f"SELECT {name}(%s)", (call["body"],))
            return run
        except psycopg2.Error as error:
            if error.pgcode in ANSWERS:
                call["answer"] = {"status": ANSWERS[error.pgcode], "body": error.diag.message_primary}
            raise
        finally:
            connection.close()

    async def give(self, reader, writer, answer, call):
        if answer.get("late"):
            asyncio.create_task(self.effect_later(answer["late"], call))
            answer = dict(answer, hang=True)
        given = await super().give(reader, writer, call.get("answer", answer), call)
        await asyncio.get_running_loop().run_in_executor(None, self.log_end, call)
        return given

    async def effect_later(self, delay, call):
        await asyncio.sleep(delay)
        try:
            call["effect"] = await asyncio.get_running_loop().run_in_executor(None, self.effect, call)
        except psycopg2.Error as error:
            call["error"] = str(error)

    def log_end(self, call):
        connection = psycopg2.connect(self.dsn)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("UPDATE call_log SET ended = clock_timestamp() WHERE seq = %s", (call["log"],))
        finally:
            connection.close()


if __name__ == "__main__":
    service.Service = Shop
    try:
        asyncio.run(service.main())
    except KeyboardInterrupt:
        sys.exit(0)
