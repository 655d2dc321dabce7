#!/usr/bin/python3
"""The books of the shop, gathered from its five databases.

    books.py show      one line per order, and what is left on shelf and accounts
    books.py totals    shelf and accounts only, in one line: for before and after
    books.py check     the rules that must hold once nothing is in flight; exits 1
                       when one of them does not
"""

import sys

import psycopg2

TABLES = {
    "shop": ("shop", "SELECT order_no, status FROM orders"),
    "order": ("shop_order", "SELECT order_no, status FROM order_book"),
    "stock": ("shop_stock", "SELECT order_no, status, qty FROM movement"),
    "payment": ("shop_payment", "SELECT order_no, status, amount FROM payment"),
    "shipment": ("shop_shipping", "SELECT order_no, status FROM shipment"),
}

# What each part of a shop says of an order that was carried through.  Of one
# that was undone it has nothing, or says that it was undone.
DONE = {"order": "created", "stock": "taken", "payment": "charged", "shipment": "booked"}


def query(dbname, sql):
    conn = psycopg2.connect("dbname=" + dbname)
    try:
        with conn, conn.cursor() as cur:
            cur.execute(sql)
            return cur.fetchall()
    finally:
        conn.close()


class Books:
    def __init__(self):
        self.rows = {
            name: {row[0]: row[1:] for row in query(dbname, sql)}
            for name, (dbname, sql) in TABLES.items()
        }
        self.items = query(
            "shop_stock", "SELECT sku, opening, quantity, sold FROM item ORDER BY sku"
        )
        self.accounts = query(
            "shop_payment",
            "SELECT a.customer, a.opening, a.balance,"
            " coalesce(sum(p.amount) FILTER (WHERE p.status = 'charged'), 0)::int"
            " FROM account a LEFT JOIN payment p USING (customer) GROUP BY a.customer ORDER BY 1",
        )

    def orders(self):
        return sorted(set().union(*self.rows.values()))

    def status(self, name, order_no):
        row = self.rows[name].get(order_no)
        return row[0] if row else "-"

    def cell(self, name, order_no):
        """The status, with the quantity or amount where there is one."""
        row = self.rows[name].get(order_no, ("-",))
        return " ".join(str(word) for word in reversed(row))

    def totals(self):
        words = ["%s: %d left, %d sold" % (i[0], i[2], i[3]) for i in self.items]
        words += ["%s: balance %d" % (a[0], a[2]) for a in self.accounts]
        return "; ".join(words)

    def show(self):
        head = ["order", "shop", "order service", "stock", "payment", "shipping"]
        table = [
            [str(number)]
            + [self.cell(name, number) for name in ("shop", "order", "stock", "payment", "shipment")]
            for number in self.orders()
        ]
        if table:
            width = [max(len(row[i]) for row in [head] + table) for i in range(len(head))]
            for row in [head, ["-" * w for w in width]] + table:
                print("  ".join(cell.ljust(w) for cell, w in zip(row, width)).rstrip())
        else:
            print("no orders")
        print(self.totals())

    def problems(self):
        """Pairs of (rule, what breaks it): an empty list of breaches is a rule that holds."""
        orders = self.orders()
        undone = ("-", "cancelled", "returned", "refunded")

        yield "stock: quantity + sold = what was there in the beginning", [
            "%s: %d + %d, was %d" % (sku, quantity, sold, opening)
            for sku, opening, quantity, sold in self.items
            if quantity + sold != opening
        ]
        taken = sum(row[1] for row in self.rows["stock"].values() if row[0] == "taken")
        sold = sum(item[3] for item in self.items)
        yield "stock: sold = what the orders took", (
            [] if taken == sold else ["sold %d, taken %d" % (sold, taken)]
        )
        yield "accounts: balance + charged = what was there in the beginning", [
            "%s: %d + %d, was %d" % (customer, balance, charged, opening)
            for customer, opening, balance, charged in self.accounts
            if balance + charged != opening
        ]
        yield "every paid order has a shipment, every shipment is paid", [
            "order %d: payment %s, shipment %s"
            % (n, self.status("payment", n), self.status("shipment", n))
            for n in orders
            if (self.status("payment", n) == "charged") != (self.status("shipment", n) == "booked")
        ]
        yield "every order of the shop is confirmed or cancelled", [
            "order %d: %s" % (n, self.status("shop", n))
            for n in orders
            if self.status("shop", n) not in ("confirmed", "cancelled")
        ]
        yield "a confirmed order was carried through by all four services", [
            "order %d: %s %s" % (n, name, self.status(name, n))
            for n in orders
            for name in DONE
            if self.status("shop", n) == "confirmed" and self.status(name, n) != DONE[name]
        ]
        yield "a cancelled order was undone by all four services", [
            "order %d: %s %s" % (n, name, self.status(name, n))
            for n in orders
            for name in DONE
            if self.status("shop", n) == "cancelled" and self.status(name, n) not in undone
        ]


def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what == "show":
        Books().show()
    elif what == "totals":
        print(Books().totals())
    elif what == "check":
        broken = False
        for rule, breaches in Books().problems():
            print("%-4s  %s" % ("FAIL" if breaches else "ok", rule))
            for breach in breaches:
                print("      " + breach)
                broken = True
        sys.exit(1 if broken else 0)
    else:
        sys.exit("usage: books.py show | totals | check")


if __name__ == "__main__":
    main()
