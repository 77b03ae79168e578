-- \copy both ways, and COPY with its data in the script.
CREATE TABLE parts (id int PRIMARY KEY, name text, weight numeric(8,3));
COPY parts FROM STDIN;
1	bolt	0.125
2	\N	2.5
3	with\ttab and \\ backslash	\N
\.
COPY parts FROM STDIN (FORMAT csv, HEADER);
id,name,weight
4,"a ""quoted"", one",4
5,,
6,"",6
\.
SELECT * FROM parts ORDER BY id;
COPY parts TO STDOUT;
COPY (SELECT name, id FROM parts WHERE id < 5 ORDER BY id) TO STDOUT (FORMAT csv, HEADER);
COPY (SELECT id, name FROM parts WHERE id IN (5, 6) ORDER BY id) TO STDOUT (FORMAT csv, NULL 'nil', FORCE_QUOTE (name));
\copy parts TO 'parts.csv' CSV HEADER
\copy (SELECT id, name FROM parts ORDER BY id) TO 'names.txt' (DELIMITER '|', NULL '-')
\! cat names.txt
CREATE TABLE again (id int PRIMARY KEY, name text, weight numeric(8,3));
\copy again FROM 'parts.csv' CSV HEADER
SELECT count(*) FROM parts p JOIN again a ON a.id = p.id AND a.name IS NOT DISTINCT FROM p.name AND a.weight IS NOT DISTINCT FROM p.weight;
\copy again (id, name) FROM 'missing.txt'
\copy nowhere FROM 'parts.csv' CSV
COPY parts FROM STDIN;
7	seven	7
8	eight
9	nine	9
\.
COPY parts FROM STDIN;
7	seven	seven
\.
COPY parts FROM STDIN;
7	seven	7	7
\.
SELECT count(*) FROM parts;
DROP TABLE again;
DROP TABLE parts;
