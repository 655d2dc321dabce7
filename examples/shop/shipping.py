#!/usr/bin/python3
"""The shipping service: books a parcel, and cancels it.

It has a switch for the demo: a row in test_hang makes the calls for an order
hang a number of times before they do their work.  That is how a slow service
looks from outside: the caller has given up, and the work is done all the same.
"""

import time

from branch_service import Service, number, serve, text


def book(cur, payload):
    cur.execute(
        "INSERT INTO shipment (order_no, sku, qty, status) VALUES (%s, %s, %s, 'booked')",
        (number(payload, "order"), text(payload, "sku"), number(payload, "qty")),
    )
    return "booked"


def cancel(cur, payload):
    cur.execute(
        "UPDATE shipment SET status = 'cancelled' WHERE order_no = %s",
        (number(payload, "order"),),
    )
    return "cancelled"


def hang(service, query, path, payload):
    with service.pool.transaction() as cur:
        cur.execute(
            "UPDATE test_hang SET times_left = times_left - 1"
            " WHERE order_no = %s AND times_left > 0 RETURNING seconds",
            (number(payload, "order"),),
        )
        row = cur.fetchone()
    if row:
        service.log(query, path, "... hangs for %g s" % row[0])
        time.sleep(row[0])


if __name__ == "__main__":
    handlers = {"/shipping/book": book, "/shipping/cancel": cancel}
    serve(Service("shipping", "shop_shipping", handlers, before=hang))
