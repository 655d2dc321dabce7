#!/usr/bin/python3
"""A service that holds branches of an xa: it commits or rolls back what was prepared in its database.

    xa.py --db DSN [--schema S] [--host H] [--port P]

A call of /effect/<database> with op=commit or op=rollback does COMMIT PREPARED or ROLLBACK PREPARED
'<gid>-<branch_id>' there.  That it does not exist is success: it was done before, or never prepared.
A rollback then leaves the barrier's row, which keeps a late first phase out; while a first phase is
still under way that waits for it, in vain after a second, is answered by 500, and asked for again.

Scripted answers as in service.py.
"""
import asyncio
import sys

import psycopg2
import psycopg2.errors

import service


class Branches(service.Service):
    def effect(self, call):
        """True: it was there."""
        query = call["query"]
        verb = {"commit": "COMMIT", "rollback": "ROLLBACK"}[query["op"]]
        connection = psycopg2.connect(self.dsn, dbname=call["path"].rsplit("/", 1)[1])
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '1s'")
                try:
                    cursor.execute(f"{verb} PREPARED %s", (f"{query['gid']}-{query['branch_id']}",))
                    found = True
                except psycopg2.errors.UndefinedObject:
                    found = False
                if query["op"] == "rollback":
                    cursor.execute(f"SELECT {self.schema}.dtm_barrier(%s)", (call["query_string"],))
            return found
        finally:
            connection.close()


if __name__ == "__main__":
    service.Service = Branches
    try:
        asyncio.run(service.main())
    except KeyboardInterrupt:
        sys.exit(0)
