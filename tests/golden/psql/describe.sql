-- What psql says about tables and views.
CREATE TABLE author (
    id int PRIMARY KEY,
    name varchar(40) NOT NULL,
    born date,
    fee numeric(12,2) DEFAULT 0,
    active boolean NOT NULL DEFAULT true,
    CONSTRAINT fee_not_negative CHECK (fee >= 0)
);
CREATE TABLE book (
    author_id int NOT NULL REFERENCES author (id),
    number smallint NOT NULL,
    title text,
    isbn char(13) UNIQUE,
    printed timestamp,
    changed timestamptz,
    PRIMARY KEY (author_id, number)
);
CREATE TABLE bare (a bigint, b real, c double precision, d bytea, e time, f interval, g uuid, h json, i varchar, j char);
CREATE VIEW titles AS SELECT title, printed FROM book;
CREATE SCHEMA attic;
CREATE TABLE attic.trunk (id int);
\d
\dt
\dt attic.*
\dt *.trunk
\dv
\di
\d author
\d book
\d bare
\d attic.trunk
\d titles
\d missing
\dt missing
\dn attic
DROP VIEW titles;
DROP TABLE book;
DROP TABLE author;
DROP TABLE bare;
DROP TABLE attic.trunk;
DROP SCHEMA attic;
\d
\dt
