-- books.sql: what was sold, and whether everything adds up.
SELECT * FROM (VALUES
	('phones free', (SELECT available FROM dtm.stocks WHERE resource = 'phone')),
	('phones reserved', (SELECT reserved FROM dtm.stocks WHERE resource = 'phone')),
	('phones sold', (SELECT sold FROM dtm.stocks WHERE resource = 'phone')),
	('orders paid', (SELECT count(*) FROM orders WHERE status = 'paid')),
	('orders cancelled (no money)', (SELECT count(*) FROM orders WHERE status = 'cancelled')),
	('told "sold out"', 1000 - (SELECT count(*) FROM orders))) AS t (what, how_many);

SELECT what AS rule, CASE WHEN holds THEN 'holds' ELSE 'BROKEN' END AS holds FROM (VALUES
	('every phone is free or sold', (SELECT available + sold = 400 AND reserved = 0 FROM dtm.stocks WHERE resource = 'phone')),
	('what is sold is paid', (SELECT sold = (SELECT sum(quantity) FROM orders WHERE status = 'paid') FROM dtm.stocks WHERE resource = 'phone')),
	('no order is left open', NOT EXISTS (SELECT FROM orders WHERE status = 'new')),
	('each customer has paid for what he got, and nothing is held', NOT EXISTS (
		SELECT FROM account AS a WHERE held <> 0
			OR balance <> CASE WHEN customer % 10 = 0 THEN 5 ELSE 500 END
				- 100 * (SELECT coalesce(sum(quantity), 0) FROM orders AS o WHERE o.customer = a.customer AND o.status = 'paid'))),
	('all transactions are final', NOT EXISTS (SELECT FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')))) AS t (what, holds);
