-- Queries, and the many ways in which psql prints them.
SELECT 1 AS one, 'two' AS two, NULL AS nothing, true AS yes;
SELECT 1;
SELECT 'a' || 'b', 1 + 1;
CREATE TABLE goods (id int PRIMARY KEY, name varchar(20) NOT NULL, price numeric(10,2), sold date, notes text);
INSERT INTO goods VALUES (1, 'quill', 1.50, '2026-01-02', NULL), (2, 'ink', 12.00, '2026-01-03', 'black'), (3, 'vellum', 250.25, NULL, 'two
lines');
SELECT * FROM goods ORDER BY id;
SELECT count(*), sum(price), min(sold), max(name) FROM goods;
SELECT name, price * 2 AS double FROM goods WHERE price > 10 ORDER BY price DESC LIMIT 1;
SELECT * FROM goods WHERE false;
\x
SELECT * FROM goods WHERE id = 2;
\x
\pset null '(null)'
SELECT id, sold, notes FROM goods WHERE id <> 2 ORDER BY id;
\pset null ''
\pset format csv
SELECT * FROM goods ORDER BY id;
\pset format unaligned
SELECT id, name FROM goods ORDER BY id;
\pset format aligned
\t
SELECT name FROM goods ORDER BY name;
\t
SELECT id AS the_id, name AS the_name FROM goods WHERE id = 1 \gset
SELECT :the_id + 1 AS next, :'the_name' AS name;
SELECT 1 AS a \; SELECT 2 AS b;
SELECT id, name FROM goods WHERE id = 3 \gx
BEGIN;
INSERT INTO goods VALUES (4, 'wax', 3, NULL, NULL);
SELECT count(*) FROM goods;
ROLLBACK;
SELECT count(*) FROM goods;
SELECT 1::smallint, 2::bigint, 1.5::real, 2.5::double precision, 3.14::numeric(5,2), 'x'::char(3), '\x00ff'::bytea;
SELECT timestamp '2026-02-03 04:05:06.789', date '0044-03-15', time '23:59:59', interval '1 day 02:03:04';
TRUNCATE goods;
DROP TABLE goods;
