-- Films in the tables and keys of the Join Order Benchmark. Few films have most of the cast, the companies and the keywords; what is
-- said of a film depends on its kind, its year and its number, so that filters on two tables are far from independent.
CREATE TABLE kind_type (id int PRIMARY KEY, kind text NOT NULL);
INSERT INTO kind_type VALUES (1, 'movie'), (2, 'tv series'), (3, 'tv movie'), (4, 'video movie'), (5, 'tv mini series'), (6, 'video game'), (7, 'episode');
CREATE TABLE role_type (id int PRIMARY KEY, role text NOT NULL);
INSERT INTO role_type VALUES (1, 'actor'), (2, 'actress'), (3, 'producer'), (4, 'writer'), (5, 'cinematographer'), (6, 'composer'), (7, 'editor'), (8, 'director'), (9, 'guest');
CREATE TABLE company_type (id int PRIMARY KEY, kind text);
INSERT INTO company_type VALUES (1, 'distributors'), (2, 'production companies'), (3, 'special effects companies'), (4, NULL);
CREATE TABLE comp_cast_type (id int PRIMARY KEY, kind text NOT NULL);
INSERT INTO comp_cast_type VALUES (1, 'cast'), (2, 'crew'), (3, 'complete'), (4, 'complete+verified');
CREATE TABLE link_type (id int PRIMARY KEY, link text NOT NULL);
INSERT INTO link_type VALUES (1, 'follows'), (2, 'followed by'), (3, 'remake of'), (4, 'remade as'), (5, 'references'), (6, 'features'), (7, 'spin off'), (8, 'version of');
CREATE TABLE info_type (id int PRIMARY KEY, info text NOT NULL);
INSERT INTO info_type VALUES (1, 'runtimes'), (2, 'genres'), (3, 'languages'), (4, 'countries'), (5, 'budget'), (6, 'release dates'), (7, 'rating'), (8, 'votes'), (9, 'top rank'), (10, 'bottom rank'), (11, 'trivia'), (12, 'gross');
CREATE TABLE title (
    id int PRIMARY KEY, title text NOT NULL, kind_id int NOT NULL, production_year int, phonetic_code text, season_nr int, episode_nr int,
    episode_of_id int
);
INSERT INTO title
SELECT
    i,
    CASE i % 11 WHEN 0 THEN 'The ' WHEN 3 THEN 'Return of the ' WHEN 5 THEN 'A ' ELSE '' END
        || CASE i * 7 % 13 WHEN 0 THEN 'Champion' WHEN 1 THEN 'Iron Harbour' WHEN 2 THEN 'Dark Money' WHEN 3 THEN 'River' WHEN 4 THEN 'Freddy'
            WHEN 5 THEN 'Vampire' WHEN 6 THEN 'Kung Fu Monk' WHEN 7 THEN 'Summer' WHEN 8 THEN 'Saw' WHEN 9 THEN 'Murder' ELSE 'Train' END
        || ' ' || (i % 97)::text,
    CASE WHEN i % 10 < 5 THEN 1 WHEN i % 10 < 8 THEN 7 ELSE 2 + i / 10 % 5 END,
    CASE WHEN i % 23 = 0 THEN NULL ELSE 2013 - (i * 37 % 900) * (i * 53 % 1000) / 9000 END,
    CASE WHEN i % 4 <> 0 THEN chr(65 + i % 26) || (i % 900)::text END,
    CASE WHEN i % 10 BETWEEN 5 AND 7 THEN 1 + i % 12 END,
    CASE WHEN i % 10 BETWEEN 5 AND 7 THEN 1 + i * 17 % 120 END,
    CASE WHEN i % 10 BETWEEN 5 AND 7 THEN 8 + i * 31 % 290 * 10 END
FROM generate_series(1, 3000) AS s(i);
CREATE TABLE name (id int PRIMARY KEY, name text NOT NULL, gender text, name_pcode_cf text);
INSERT INTO name
SELECT
    i,
    CASE i % 12 WHEN 0 THEN 'Bert' WHEN 1 THEN 'Yo' WHEN 2 THEN 'Angela' WHEN 3 THEN 'Tim' WHEN 4 THEN 'Bob' WHEN 5 THEN 'Xenia' WHEN 6 THEN 'Anna'
        WHEN 7 THEN 'Zoltan' ELSE 'Downey' END || ', ' || chr(65 + i * 5 % 26) || (i % 311)::text,
    CASE WHEN i % 9 = 0 THEN NULL WHEN i % 3 = 0 THEN 'f' ELSE 'm' END,
    CASE WHEN i % 6 <> 0 THEN chr(65 + i % 7) || (i % 500)::text END
FROM generate_series(1, 2500) AS s(i);
CREATE TABLE aka_name (id int PRIMARY KEY, person_id int NOT NULL, name text NOT NULL, surname_pcode text);
INSERT INTO aka_name
SELECT i, 1 + (i * 613 % 2500) * (i * 31 % 100) / 100, CASE WHEN i % 3 = 0 THEN 'a' ELSE 'Z' END || 'ka ' || (i % 400)::text,
    CASE WHEN i % 5 <> 0 THEN chr(65 + i % 9) || (i % 70)::text END
FROM generate_series(1, 1500) AS s(i);
CREATE TABLE char_name (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO char_name
SELECT i, CASE i % 14 WHEN 0 THEN 'Queen' WHEN 1 THEN 'Tony Steel' WHEN 2 THEN 'Man in Hat' WHEN 3 THEN 'Steel Fist' ELSE 'Role' END || ' ' || (i % 640)::text
FROM generate_series(1, 2000) AS s(i);
CREATE TABLE company_name (id int PRIMARY KEY, name text NOT NULL, country_code text);
INSERT INTO company_name
SELECT i, CASE i % 8 WHEN 0 THEN 'Lionhead Films' WHEN 1 THEN 'Warden Bros' WHEN 2 THEN 'Fox Film' WHEN 3 THEN 'Metro Works' ELSE 'Studio' END || ' ' || i::text,
    CASE WHEN i % 13 = 0 THEN NULL WHEN i <= 160 THEN '[us]' WHEN i % 4 = 0 THEN '[de]' WHEN i % 4 = 1 THEN '[jp]' WHEN i % 4 = 2 THEN '[gb]' ELSE '[pl]' END
FROM generate_series(1, 400) AS s(i);
CREATE TABLE keyword (id int PRIMARY KEY, keyword text NOT NULL);
INSERT INTO keyword
SELECT i, CASE i WHEN 1 THEN 'murder' WHEN 2 THEN 'sequel' WHEN 3 THEN 'character-name-in-title' WHEN 4 THEN 'blood' WHEN 5 THEN 'based-on-novel'
    WHEN 6 THEN 'superhero' WHEN 7 THEN 'violence' WHEN 8 THEN 'revenge' WHEN 9 THEN 'hero' ELSE 'word-' || i::text END
FROM generate_series(1, 300) AS s(i);
CREATE TABLE cast_info (
    id int PRIMARY KEY, person_id int NOT NULL, movie_id int NOT NULL, person_role_id int, note text, nr_order int, role_id int NOT NULL
);
INSERT INTO cast_info
SELECT
    i,
    1 + (i * 7919 % 2500) * (i * 613 % 997) / 997,
    1 + (i * 5381 % 3000) * (i * 419 % 997) / 997,
    CASE WHEN i % 3 <> 0 THEN 1 + (i * 6007 % 2000) * (i * 89 % 100) / 100 END,
    CASE i * 11 % 17 WHEN 0 THEN '(voice)' WHEN 1 THEN '(producer)' WHEN 2 THEN '(writer)' WHEN 3 THEN '(voice: English version)'
        WHEN 4 THEN '(uncredited)' WHEN 5 THEN '(executive producer)' END,
    CASE WHEN i % 4 <> 0 THEN i % 40 END,
    CASE WHEN i % 7 < 3 THEN 1 WHEN i % 7 < 5 THEN 2 ELSE 3 + i / 7 % 7 END
FROM generate_series(1, 14000) AS s(i);
CREATE TABLE complete_cast (id int PRIMARY KEY, movie_id int, subject_id int NOT NULL, status_id int NOT NULL);
INSERT INTO complete_cast
SELECT i, CASE WHEN i % 50 <> 0 THEN 1 + (i * 997 % 3000) * (i * 71 % 100) / 100 END, 1 + i % 2, 3 + i / 2 % 2
FROM generate_series(1, 900) AS s(i);
CREATE TABLE movie_companies (id int PRIMARY KEY, movie_id int NOT NULL, company_id int NOT NULL, company_type_id int NOT NULL, note text);
INSERT INTO movie_companies
SELECT
    i,
    1 + (i * 4999 % 3000) * (i * 337 % 997) / 997,
    1 + (i * 3571 % 400) * (i * 211 % 997) / 997,
    1 + i * 7 % 3,
    CASE i * 3 % 11 WHEN 0 THEN '(presents)' WHEN 1 THEN '(co-production)' WHEN 2 THEN '(2006) (USA) (TV)' WHEN 3 THEN '(2011) (worldwide)'
        WHEN 4 THEN '(as Metro Works Pictures)' WHEN 5 THEN '(1997) (Japan) (VHS)' END
FROM generate_series(1, 6000) AS s(i);
CREATE TABLE movie_keyword (id int PRIMARY KEY, movie_id int NOT NULL, keyword_id int NOT NULL);
INSERT INTO movie_keyword
SELECT i, 1 + (i * 6151 % 3000) * (i * 443 % 997) / 997, 1 + (i * 2731 % 300) * (i * 131 % 997) * (i % 11) / 10967
FROM generate_series(1, 9000) AS s(i);
CREATE TABLE movie_info (id int PRIMARY KEY, movie_id int NOT NULL, info_type_id int NOT NULL, info text NOT NULL, note text);
INSERT INTO movie_info
SELECT
    i, m, t,
    CASE t
        WHEN 1 THEN (60 + m % 90)::text
        WHEN 2 THEN CASE m % 7 WHEN 0 THEN 'Horror' WHEN 1 THEN 'Thriller' WHEN 2 THEN 'Action' WHEN 3 THEN 'Sci-Fi' ELSE 'Drama' END
        WHEN 3 THEN CASE WHEN m % 5 < 3 THEN 'English' WHEN m % 5 = 3 THEN 'German' ELSE 'Japanese' END
        WHEN 4 THEN CASE WHEN m % 5 < 3 THEN 'USA' WHEN m % 5 = 3 THEN 'Germany' ELSE 'Japan' END
        WHEN 5 THEN '$' || (m * 1000)::text
        ELSE CASE WHEN m % 5 < 3 THEN 'USA:' ELSE 'Japan:' END || (1990 + m % 24)::text
    END,
    CASE WHEN i % 5 = 0 THEN 'internet' END
FROM (SELECT i, 1 + (i * 5003 % 3000) * (i * 379 % 997) / 997 AS m, 1 + i % 6 AS t FROM generate_series(1, 12000) AS s(i)) AS made;
CREATE TABLE movie_info_idx (id int PRIMARY KEY, movie_id int NOT NULL, info_type_id int NOT NULL, info text NOT NULL);
INSERT INTO movie_info_idx
SELECT
    i, 1 + i * 7 % 2000, t,
    CASE t WHEN 7 THEN (1 + i * 7 % 2000 % 9)::text || '.' || (i % 10)::text WHEN 8 THEN (i * 29 % 9000)::text ELSE (1 + i % 250)::text END
FROM (SELECT i, CASE WHEN i % 5 < 2 THEN 7 WHEN i % 5 < 4 THEN 8 WHEN i % 2 = 0 THEN 9 ELSE 10 END AS t FROM generate_series(1, 4000) AS s(i)) AS made;
CREATE TABLE movie_link (id int PRIMARY KEY, movie_id int NOT NULL, linked_movie_id int NOT NULL, link_type_id int NOT NULL);
INSERT INTO movie_link
SELECT i, 1 + (i * 811 % 3000) * (i * 37 % 100) / 100, 1 + (i * 1409 % 3000) * (i * 59 % 100) / 100, 1 + i % 8
FROM generate_series(1, 900) AS s(i);
