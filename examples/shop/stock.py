#!/usr/bin/python3
"""The stock service: takes goods off the shelf, and puts them back."""

from branch_service import Refused, Service, number, serve, text


def deduct(cur, payload):
    order_no, sku, qty = number(payload, "order"), text(payload, "sku"), number(payload, "qty")
    cur.execute(
        "UPDATE item SET quantity = quantity - %s, sold = sold + %s"
        " WHERE sku = %s AND quantity >= %s",
        (qty, qty, sku, qty),
    )
    if cur.rowcount == 0:
        raise Refused("no stock")
    cur.execute(
        "INSERT INTO movement (order_no, sku, qty, status) VALUES (%s, %s, %s, 'taken')",
        (order_no, sku, qty),
    )
    return "took %d of %s" % (qty, sku)


def restore(cur, payload):
    cur.execute(
        "UPDATE movement SET status = 'returned' WHERE order_no = %s AND status = 'taken'"
        " RETURNING sku, qty",
        (number(payload, "order"),),
    )
    sku, qty = cur.fetchone()   # there is one: the barrier lets us in only after a deduct
    cur.execute(
        "UPDATE item SET quantity = quantity + %s, sold = sold - %s WHERE sku = %s",
        (qty, qty, sku),
    )
    return "returned %d of %s" % (qty, sku)


if __name__ == "__main__":
    serve(Service("stock", "shop_stock", {"/stock/deduct": deduct, "/stock/restore": restore}))
