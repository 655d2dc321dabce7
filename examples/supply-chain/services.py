#!/usr/bin/python3
"""The services of the supply chain: services.py inventory | payment | shipping.

Each runs as a process of its own with a database of its own.  HTTP and the
barrier are in ../branch_service.py; here is what they do with their tables.
The databases have no extension, only the barrier's plain SQL file.
"""

import sys
import time

from branch_service import Refused, Service, number, serve, text

# ---------------------------------------------------------------- inventory


def take(cur, payload):
    order_no, part, qty = number(payload, "order"), text(payload, "part"), number(payload, "qty")
    cur.execute(
        "UPDATE item SET quantity = quantity - %s WHERE part = %s AND quantity >= %s",
        (qty, part, qty),
    )
    if cur.rowcount == 0:
        raise Refused("no stock")
    cur.execute("INSERT INTO taken VALUES (%s, %s, %s)", (order_no, part, qty))
    return "took %d of %s" % (qty, part)


def put_back(cur, payload):
    cur.execute(
        "DELETE FROM taken WHERE order_no = %s RETURNING part, qty", (number(payload, "order"),)
    )
    part, qty = cur.fetchone()  # there is one: the barrier lets us in only after a take
    cur.execute("UPDATE item SET quantity = quantity + %s WHERE part = %s", (qty, part))
    return "put back %d of %s" % (qty, part)


# ------------------------------------------------------------------ payment
#
# For a saga: charge, and refund.  For Try, Confirm, Cancel: hold, pay what is
# held, release it.  A released amount was never taken: nobody has to be told.


def charge(cur, payload):
    change_account(cur, payload, "balance = balance - %s")
    record(cur, payload, "paid")
    return "charged %d" % payload["amount"]


def refund(cur, payload):
    buyer, amount = change_record(cur, payload, "paid", "refunded")
    cur.execute("UPDATE account SET balance = balance + %s WHERE buyer = %s", (amount, buyer))
    return "refunded %d" % amount


def hold(cur, payload):
    change_account(cur, payload, "held = held + %s")
    record(cur, payload, "held")
    return "held %d" % payload["amount"]


def pay(cur, payload):
    buyer, amount = change_record(cur, payload, "held", "paid")
    cur.execute(
        "UPDATE account SET balance = balance - %s, held = held - %s WHERE buyer = %s",
        (amount, amount, buyer),
    )
    return "paid %d" % amount


def release(cur, payload):
    buyer, amount = change_record(cur, payload, "held", "released")
    cur.execute("UPDATE account SET held = held - %s WHERE buyer = %s", (amount, buyer))
    return "released %d" % amount


def change_account(cur, payload, change):
    buyer, amount = text(payload, "buyer"), number(payload, "amount")
    cur.execute(
        "UPDATE account SET " + change + " WHERE buyer = %s AND balance - held >= %s",
        (amount, buyer, amount),
    )
    if cur.rowcount == 0:
        raise Refused("card declined")


def record(cur, payload, status):
    cur.execute(
        "INSERT INTO payment VALUES (%s, %s, %s, %s)",
        (number(payload, "order"), payload["buyer"], payload["amount"], status),
    )


def change_record(cur, payload, old, new):
    cur.execute(
        "UPDATE payment SET status = %s WHERE order_no = %s AND status = %s RETURNING buyer, amount",
        (new, number(payload, "order"), old),
    )
    return cur.fetchone()


# ----------------------------------------------------------------- shipping


def truck(cur, payload):
    where = text(payload, "ship_to")
    if where != "town":
        raise Refused("no road to: " + where)
    return book(cur, payload, "truck")


def boat(cur, payload):
    return book(cur, payload, "boat")


def book(cur, payload, carrier):
    cur.execute(
        "INSERT INTO shipment VALUES (%s, %s, 'booked')", (number(payload, "order"), carrier)
    )
    return "booked a " + carrier


def cancel(cur, payload):
    cur.execute(
        "UPDATE shipment SET status = 'cancelled' WHERE order_no = %s", (number(payload, "order"),)
    )
    return "cancelled"


def shipment(cur, payload):
    """What the caller wants to know of a booking; the same when it asks twice."""
    cur.execute("SELECT carrier FROM shipment WHERE order_no = %s", (number(payload, "order"),))
    row = cur.fetchone()
    return {"carrier": row[0]} if row else {}


def take_some_time(service, query, path, payload):
    time.sleep(0.2)


SERVICES = {
    "inventory": {"/inventory/take": take, "/inventory/put_back": put_back},
    "payment": {
        "/payment/charge": charge,
        "/payment/refund": refund,
        "/payment/hold": hold,
        "/payment/pay": pay,
        "/payment/release": release,
    },
    "shipping": {"/shipping/truck": truck, "/shipping/boat": boat, "/shipping/cancel": cancel},
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    serve(
        Service(
            name,
            "supply_" + name,
            SERVICES[name],
            before=take_some_time,
            answers={"/shipping/truck": shipment, "/shipping/boat": shipment},
        )
    )
