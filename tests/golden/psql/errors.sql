-- What psql shows when something is wrong: message, detail, hint and place.
SELEC 1;
SELECT 1 +;
SELECT * FROM missing;
SELECT missing FROM (SELECT 1 AS present) t;
SELECT 1/0;
SELECT 'abc'::int;
SELECT 300::smallint * 300::smallint;
CREATE TABLE strict (id int PRIMARY KEY, name varchar(5) NOT NULL, small smallint, CONSTRAINT positive CHECK (small > 0));
INSERT INTO strict VALUES (1, 'one', 1);
INSERT INTO strict VALUES (1, 'two', 2);
INSERT INTO strict VALUES (2, NULL, 2);
INSERT INTO strict VALUES (2, 'too long', 2);
INSERT INTO strict VALUES (2, 'two', 40000);
INSERT INTO strict VALUES (2, 'two', -1);
INSERT INTO strict (id, nothing) VALUES (3, 1);
CREATE TABLE strict (id int);
DROP TABLE missing;
DROP TABLE IF EXISTS missing;
BEGIN;
SELECT 1/0;
SELECT 1;
COMMIT;
SELECT count(*) FROM strict;
\set VERBOSITY sqlstate
SELECT * FROM missing;
INSERT INTO strict VALUES (1, 'two', 2);
\set VERBOSITY default
DROP TABLE strict;
