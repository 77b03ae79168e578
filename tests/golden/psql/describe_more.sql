-- What psql says about keys, checks, defaults, views and functions, in its longer forms too.
CREATE TABLE author (
    id int PRIMARY KEY,
    name varchar(40) NOT NULL,
    fee numeric(12,2) DEFAULT 0 CHECK (fee >= 0 AND fee < 1000),
    word text DEFAULT 'x' CHECK (word <> ''),
    kind varchar(5) DEFAULT 'new' CHECK (kind IN ('new', 'old')),
    born date CHECK (born BETWEEN '1900-01-01' AND '2100-01-01'),
    active boolean NOT NULL DEFAULT true
);
CREATE TABLE book (
    author_id int NOT NULL,
    number smallint NOT NULL,
    isbn char(13) UNIQUE,
    pages int DEFAULT -1,
    made timestamptz DEFAULT now(),
    PRIMARY KEY (author_id, number),
    FOREIGN KEY (author_id) REFERENCES author (id) ON DELETE CASCADE
);
CREATE TABLE page (a int, b smallint, note text, FOREIGN KEY (a, b) REFERENCES book (author_id, number) ON UPDATE SET NULL);
CREATE VIEW titles AS SELECT isbn, pages AS size FROM book WHERE pages > 10 AND isbn IS NOT NULL;
CREATE VIEW both_of AS SELECT a.name, b.isbn FROM author a JOIN book b ON a.id = b.author_id ORDER BY a.name;
CREATE SCHEMA attic;
CREATE TABLE attic."Old trunk" ("Id" int PRIMARY KEY, "select" text);
\d author
\d book
\d page
\d author_pkey
\d book_pkey
\d book_isbn_key
\d+ author
\d+ book
\d+ titles
\d+ both_of
\sv titles
\d attic."Old trunk"
\d attic.*
\dt
\dt a*
\dt attic.*
\di
\di attic.*
\dv
\ds
\df
\df lower
\df array_length
\dT
\dp
\dp author
\d nosuch
\dt nosuch*
\dD
\dO
\do nosuch
\dc nosuch
\dFp
\drds
\ddp
\dX
\dE
\des
\dew
\dRp
\dy
\dT int4
\dT+ int4
\db
\dA
DROP TABLE attic."Old trunk";
DROP SCHEMA attic;
DROP VIEW titles, both_of;
DROP TABLE page, book, author;
\d
