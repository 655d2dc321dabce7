#!/usr/bin/python3
"""The order service: the order book that warehouse and accounts work from."""

from branch_service import Service, number, serve, text


def create(cur, payload):
    cur.execute(
        "INSERT INTO order_book (order_no, customer, sku, qty, amount, status)"
        " VALUES (%s, %s, %s, %s, %s, 'created')",
        (
            number(payload, "order"),
            text(payload, "customer"),
            text(payload, "sku"),
            number(payload, "qty"),
            number(payload, "amount"),
        ),
    )
    return "created"


def cancel(cur, payload):
    cur.execute(
        "UPDATE order_book SET status = 'cancelled' WHERE order_no = %s",
        (number(payload, "order"),),
    )
    return "cancelled"


if __name__ == "__main__":
    serve(Service("order", "shop_order", {"/order/create": create, "/order/cancel": cancel}))
