#!/usr/bin/python3
"""The payment service: charges the customer's account, and pays back."""

from branch_service import Refused, Service, number, serve, text


def charge(cur, payload):
    order_no, customer = number(payload, "order"), text(payload, "customer")
    amount = number(payload, "amount")
    cur.execute("SELECT balance FROM account WHERE customer = %s FOR UPDATE", (customer,))
    row = cur.fetchone()
    if row is None:
        raise Refused("card declined: no account of %s" % customer)
    if row[0] < amount:
        raise Refused("card declined: balance %d, needed %d" % (row[0], amount))
    cur.execute(
        "UPDATE account SET balance = balance - %s WHERE customer = %s", (amount, customer)
    )
    cur.execute(
        "INSERT INTO payment (order_no, customer, amount, status) VALUES (%s, %s, %s, 'charged')",
        (order_no, customer, amount),
    )
    return "charged %d" % amount


def refund(cur, payload):
    cur.execute(
        "UPDATE payment SET status = 'refunded' WHERE order_no = %s AND status = 'charged'"
        " RETURNING customer, amount",
        (number(payload, "order"),),
    )
    customer, amount = cur.fetchone()
    cur.execute(
        "UPDATE account SET balance = balance + %s WHERE customer = %s", (amount, customer)
    )
    return "refunded %d" % amount


if __name__ == "__main__":
    serve(Service("payment", "shop_payment", {"/pay/charge": charge, "/pay/refund": refund}))
