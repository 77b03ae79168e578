-- Queries of the Join Order Benchmark's shapes over movies_data.sql.

-- top_films_by_a_company
SELECT min(mc.note) AS note, min(t.title) AS title, min(t.production_year) AS year
FROM company_type ct, info_type it, movie_companies mc, movie_info_idx mi_idx, title t
WHERE ct.kind = 'production companies' AND it.info = 'top rank' AND mc.note NOT LIKE '%Metro Works%'
    AND (mc.note LIKE '%co-production%' OR mc.note LIKE '%presents%')
    AND ct.id = mc.company_type_id AND t.id = mc.movie_id AND t.id = mi_idx.movie_id AND mc.movie_id = mi_idx.movie_id AND it.id = mi_idx.info_type_id;

-- a_keyword_of_companies_abroad
SELECT min(t.title), count(*)
FROM company_name cn, keyword k, movie_companies mc, movie_keyword mk, title t
WHERE cn.country_code = '[de]' AND k.keyword = 'character-name-in-title'
    AND cn.id = mc.company_id AND mc.movie_id = t.id AND t.id = mk.movie_id AND mk.keyword_id = k.id AND mc.movie_id = mk.movie_id;

-- recent_films_with_a_keyword
SELECT min(t.title), max(t.production_year), count(*)
FROM keyword k, movie_info mi, movie_keyword mk, title t
WHERE k.keyword LIKE '%sequel%' AND mi.info IN ('Germany', 'Japan', 'German', 'Japanese') AND t.production_year > 2005
    AND t.id = mi.movie_id AND t.id = mk.movie_id AND mk.movie_id = mi.movie_id AND k.id = mk.keyword_id;

-- well_rated_with_a_keyword
SELECT min(mi_idx.info), min(t.title), count(*)
FROM info_type it, keyword k, movie_info_idx mi_idx, movie_keyword mk, title t
WHERE it.info = 'rating' AND k.keyword LIKE '%word-1%' AND mi_idx.info > '5.0' AND t.production_year > 1990
    AND t.id = mi_idx.movie_id AND t.id = mk.movie_id AND mk.movie_id = mi_idx.movie_id AND k.id = mk.keyword_id AND it.id = mi_idx.info_type_id;

-- sold_in_one_form
SELECT min(t.title), count(*)
FROM company_type ct, info_type it, movie_companies mc, movie_info mi, title t
WHERE ct.kind = 'production companies' AND mc.note LIKE '%(TV)%' AND mc.note LIKE '%(USA)%' AND mi.info IN ('USA', 'English', 'Drama', 'Horror')
    AND t.production_year > 1995
    AND t.id = mi.movie_id AND t.id = mc.movie_id AND mc.movie_id = mi.movie_id AND ct.id = mc.company_type_id AND it.id = mi.info_type_id;

-- an_actor_in_films_with_a_keyword
SELECT min(k.keyword), min(n.name), min(t.title), count(*)
FROM cast_info ci, keyword k, movie_keyword mk, name n, title t
WHERE k.keyword IN ('superhero', 'sequel', 'violence', 'hero') AND n.name LIKE '%Downey%B1%' AND t.production_year > 2000
    AND k.id = mk.keyword_id AND t.id = mk.movie_id AND t.id = ci.movie_id AND ci.movie_id = mk.movie_id AND n.id = ci.person_id;

-- known_by_another_name
SELECT min(n.name), min(t.title), count(*)
FROM aka_name an, cast_info ci, link_type lt, movie_link ml, name n, title t
WHERE an.name LIKE '%a%' AND lt.link = 'features' AND n.name_pcode_cf BETWEEN 'A' AND 'F' AND (n.gender = 'm' OR (n.gender = 'f' AND n.name LIKE 'B%'))
    AND t.production_year BETWEEN 1980 AND 2013
    AND n.id = an.person_id AND n.id = ci.person_id AND ci.movie_id = t.id AND ml.linked_movie_id = t.id AND lt.id = ml.link_type_id
    AND an.person_id = ci.person_id AND ci.movie_id = ml.linked_movie_id;

-- voices
SELECT min(an.name), min(t.title), count(*)
FROM aka_name an, cast_info ci, company_name cn, movie_companies mc, name n, role_type rt, title t
WHERE ci.note = '(voice: English version)' AND cn.country_code = '[us]' AND mc.note LIKE '%(USA)%' AND rt.role = 'actress'
    AND an.person_id = n.id AND n.id = ci.person_id AND ci.movie_id = t.id AND t.id = mc.movie_id AND mc.company_id = cn.id
    AND ci.role_id = rt.id AND an.person_id = ci.person_id AND ci.movie_id = mc.movie_id;

-- roles_played
SELECT min(an.name), min(chn.name), min(t.title), count(*)
FROM aka_name an, char_name chn, cast_info ci, company_name cn, movie_companies mc, name n, role_type rt, title t
WHERE ci.note IN ('(voice)', '(voice: English version)', '(uncredited)') AND cn.country_code = '[us]' AND n.gender = 'f' AND n.name LIKE '%An%'
    AND rt.role IN ('actress', 'actor') AND t.production_year BETWEEN 1990 AND 2015
    AND ci.movie_id = t.id AND t.id = mc.movie_id AND ci.movie_id = mc.movie_id AND mc.company_id = cn.id AND ci.role_id = rt.id
    AND n.id = ci.person_id AND chn.id = ci.person_role_id AND an.person_id = n.id AND an.person_id = ci.person_id;

-- characters_of_one_country
SELECT min(chn.name), min(t.title), count(*)
FROM char_name chn, cast_info ci, company_name cn, company_type ct, movie_companies mc, role_type rt, title t
WHERE ci.note LIKE '%(producer)%' AND cn.country_code = '[jp]' AND t.production_year > 1990
    AND t.id = mc.movie_id AND t.id = ci.movie_id AND ci.movie_id = mc.movie_id AND chn.id = ci.person_role_id AND rt.id = ci.role_id
    AND cn.id = mc.company_id AND ct.id = mc.company_type_id;

-- sequels_by_companies
SELECT min(cn.name), min(lt.link), min(t.title), count(*)
FROM company_name cn, company_type ct, keyword k, link_type lt, movie_companies mc, movie_keyword mk, movie_link ml, title t
WHERE cn.country_code <> '[pl]' AND (cn.name LIKE '%Film%' OR cn.name LIKE '%Warden%') AND ct.kind = 'production companies' AND k.keyword = 'sequel'
    AND lt.link LIKE '%follow%' AND mc.note IS NULL AND t.production_year BETWEEN 1950 AND 2013
    AND lt.id = ml.link_type_id AND ml.movie_id = t.id AND t.id = mk.movie_id AND mk.keyword_id = k.id AND t.id = mc.movie_id
    AND mc.company_type_id = ct.id AND mc.company_id = cn.id AND ml.movie_id = mk.movie_id AND ml.movie_id = mc.movie_id AND mk.movie_id = mc.movie_id;

-- rated_dramas
SELECT min(cn.name), min(mi_idx.info), min(t.title), count(*)
FROM company_name cn, company_type ct, info_type it1, info_type it2, movie_companies mc, movie_info mi, movie_info_idx mi_idx, title t
WHERE cn.country_code = '[us]' AND ct.kind = 'production companies' AND it1.info = 'genres' AND it2.info = 'rating' AND mi.info IN ('Drama', 'Horror')
    AND mi_idx.info > '6.0' AND t.production_year BETWEEN 1995 AND 2012
    AND t.id = mi.movie_id AND t.id = mi_idx.movie_id AND mi.info_type_id = it1.id AND mi_idx.info_type_id = it2.id AND t.id = mc.movie_id
    AND ct.id = mc.company_type_id AND cn.id = mc.company_id AND mc.movie_id = mi.movie_id AND mc.movie_id = mi_idx.movie_id AND mi.movie_id = mi_idx.movie_id;

-- releases_and_ratings_of_one_kind
SELECT min(mi.info), min(miidx.info), min(t.title), count(*)
FROM company_name cn, company_type ct, info_type it, info_type it2, kind_type kt, movie_companies mc, movie_info mi, movie_info_idx miidx, title t
WHERE cn.country_code = '[us]' AND ct.kind = 'distributors' AND it.info = 'rating' AND it2.info = 'release dates' AND kt.kind = 'movie'
    AND mi.movie_id = t.id AND it2.id = mi.info_type_id AND kt.id = t.kind_id AND mc.movie_id = t.id AND cn.id = mc.company_id
    AND ct.id = mc.company_type_id AND miidx.movie_id = t.id AND it.id = miidx.info_type_id
    AND mi.movie_id = miidx.movie_id AND mi.movie_id = mc.movie_id AND miidx.movie_id = mc.movie_id;

-- dark_films
SELECT min(mi_idx.info), min(t.title), count(*)
FROM info_type it1, info_type it2, keyword k, kind_type kt, movie_info mi, movie_info_idx mi_idx, movie_keyword mk, title t
WHERE it1.info = 'countries' AND it2.info = 'rating' AND k.keyword IN ('murder', 'blood', 'violence', 'revenge') AND kt.kind IN ('movie', 'episode')
    AND mi.info IN ('Germany', 'USA', 'Japan') AND mi_idx.info < '8.5' AND t.production_year > 2000
    AND kt.id = t.kind_id AND t.id = mi.movie_id AND t.id = mk.movie_id AND t.id = mi_idx.movie_id AND mk.movie_id = mi.movie_id
    AND mk.movie_id = mi_idx.movie_id AND mi.movie_id = mi_idx.movie_id AND k.id = mk.keyword_id AND it1.id = mi.info_type_id AND it2.id = mi_idx.info_type_id;

-- released_on_the_internet
SELECT min(mi.info), min(t.title), count(*)
FROM company_name cn, company_type ct, info_type it1, keyword k, movie_companies mc, movie_info mi, movie_keyword mk, title t
WHERE cn.country_code = '[us]' AND it1.info = 'release dates' AND mi.note LIKE '%internet%' AND mi.info LIKE 'USA:%' AND t.production_year > 1990
    AND mc.note IS NOT NULL
    AND t.id = mi.movie_id AND t.id = mk.movie_id AND t.id = mc.movie_id AND mk.movie_id = mi.movie_id AND mk.movie_id = mc.movie_id
    AND mi.movie_id = mc.movie_id AND k.id = mk.keyword_id AND it1.id = mi.info_type_id AND cn.id = mc.company_id AND ct.id = mc.company_type_id;

-- episodes_with_a_cast
SELECT min(an.name), min(t.title), count(*)
FROM aka_name an, cast_info ci, company_name cn, keyword k, movie_companies mc, movie_keyword mk, name n, title t
WHERE cn.country_code = '[us]' AND k.keyword = 'murder' AND t.episode_nr >= 5 AND t.episode_nr < 100
    AND an.person_id = n.id AND n.id = ci.person_id AND ci.movie_id = t.id AND t.id = mk.movie_id AND mk.keyword_id = k.id AND t.id = mc.movie_id
    AND mc.company_id = cn.id AND an.person_id = ci.person_id AND ci.movie_id = mc.movie_id AND ci.movie_id = mk.movie_id AND mc.movie_id = mk.movie_id;

-- casts_of_companies
SELECT min(n.name), count(DISTINCT n.id)
FROM cast_info ci, company_name cn, keyword k, movie_companies mc, movie_keyword mk, name n, title t
WHERE k.keyword = 'character-name-in-title' AND n.name LIKE 'Z%'
    AND n.id = ci.person_id AND ci.movie_id = t.id AND t.id = mk.movie_id AND mk.keyword_id = k.id AND t.id = mc.movie_id AND mc.company_id = cn.id
    AND ci.movie_id = mc.movie_id AND ci.movie_id = mk.movie_id AND mc.movie_id = mk.movie_id;

-- budgets_and_votes
SELECT min(mi.info), min(mi_idx.info), min(t.title), count(*)
FROM cast_info ci, info_type it1, info_type it2, movie_info mi, movie_info_idx mi_idx, name n, title t
WHERE ci.note IN ('(producer)', '(executive producer)') AND it1.info = 'budget' AND it2.info = 'votes' AND n.gender = 'm' AND n.name LIKE '%Bob%'
    AND t.id = mi.movie_id AND t.id = mi_idx.movie_id AND t.id = ci.movie_id AND ci.movie_id = mi.movie_id AND ci.movie_id = mi_idx.movie_id
    AND mi.movie_id = mi_idx.movie_id AND n.id = ci.person_id AND it1.id = mi.info_type_id AND it2.id = mi_idx.info_type_id;

-- complete_casts_of_heroes
SELECT min(t.title), count(*)
FROM complete_cast cc, comp_cast_type cct1, comp_cast_type cct2, char_name chn, cast_info ci, keyword k, kind_type kt, movie_keyword mk, name n, title t
WHERE cct1.kind = 'cast' AND cct2.kind LIKE '%complete%' AND (chn.name LIKE '%Tony%' OR chn.name LIKE '%Steel%' OR chn.name LIKE 'Role 1%')
    AND k.keyword IN ('superhero', 'sequel', 'murder', 'based-on-novel', 'revenge') AND kt.kind = 'movie' AND t.production_year > 1950
    AND kt.id = t.kind_id AND t.id = mk.movie_id AND t.id = ci.movie_id AND t.id = cc.movie_id AND mk.movie_id = ci.movie_id AND mk.movie_id = cc.movie_id
    AND ci.movie_id = cc.movie_id AND chn.id = ci.person_role_id AND n.id = ci.person_id AND k.id = mk.keyword_id AND cct1.id = cc.subject_id
    AND cct2.id = cc.status_id;

-- violent_films_with_complete_casts
SELECT min(mi.info), min(mi_idx.info), min(n.name), min(t.title), count(*)
FROM complete_cast cc, comp_cast_type cct1, comp_cast_type cct2, cast_info ci, info_type it1, info_type it2, keyword k, movie_info mi,
    movie_info_idx mi_idx, movie_keyword mk, name n, title t
WHERE cct1.kind IN ('cast', 'crew') AND cct2.kind = 'complete+verified' AND ci.note IN ('(writer)', '(producer)', '(voice)') AND it1.info = 'genres'
    AND it2.info = 'votes' AND k.keyword IN ('murder', 'violence', 'blood', 'revenge', 'hero') AND mi.info IN ('Horror', 'Action', 'Sci-Fi', 'Thriller', 'Drama')
    AND n.gender = 'm' AND t.production_year > 1970
    AND t.id = mi.movie_id AND t.id = mi_idx.movie_id AND t.id = ci.movie_id AND t.id = mk.movie_id AND t.id = cc.movie_id AND ci.movie_id = mi.movie_id
    AND ci.movie_id = mi_idx.movie_id AND ci.movie_id = mk.movie_id AND ci.movie_id = cc.movie_id AND mi.movie_id = mi_idx.movie_id
    AND mi.movie_id = mk.movie_id AND mi.movie_id = cc.movie_id AND mi_idx.movie_id = mk.movie_id AND mi_idx.movie_id = cc.movie_id
    AND mk.movie_id = cc.movie_id AND n.id = ci.person_id AND it1.id = mi.info_type_id AND it2.id = mi_idx.info_type_id AND k.id = mk.keyword_id
    AND cct1.id = cc.subject_id AND cct2.id = cc.status_id;

-- linked_series
SELECT min(cn1.name), min(cn2.name), min(mi_idx1.info), min(mi_idx2.info), min(t1.title), min(t2.title), count(*)
FROM company_name cn1, company_name cn2, info_type it1, info_type it2, kind_type kt1, kind_type kt2, link_type lt, movie_companies mc1,
    movie_companies mc2, movie_info_idx mi_idx1, movie_info_idx mi_idx2, movie_link ml, title t1, title t2
WHERE cn1.country_code <> '[gb]' AND it1.info = 'rating' AND it2.info = 'rating' AND kt1.kind IN ('movie', 'episode') AND kt2.kind IN ('movie', 'episode')
    AND lt.link IN ('follows', 'followed by', 'remake of') AND mi_idx2.info < '7.5' AND t2.production_year BETWEEN 1980 AND 2013
    AND lt.id = ml.link_type_id AND t1.id = ml.movie_id AND t2.id = ml.linked_movie_id
    AND it1.id = mi_idx1.info_type_id AND t1.id = mi_idx1.movie_id AND kt1.id = t1.kind_id AND cn1.id = mc1.company_id AND t1.id = mc1.movie_id
    AND ml.movie_id = mi_idx1.movie_id AND ml.movie_id = mc1.movie_id AND mi_idx1.movie_id = mc1.movie_id
    AND it2.id = mi_idx2.info_type_id AND t2.id = mi_idx2.movie_id AND kt2.id = t2.kind_id AND cn2.id = mc2.company_id AND t2.id = mc2.movie_id
    AND ml.linked_movie_id = mi_idx2.movie_id AND ml.linked_movie_id = mc2.movie_id AND mi_idx2.movie_id = mc2.movie_id;

-- links_backwards_in_time
SELECT min(t1.title), max(t2.title), min(t1.production_year - t2.production_year), count(*)
FROM movie_link ml, link_type lt, title t1, title t2, kind_type kt
WHERE t1.id = ml.movie_id AND t2.id = ml.linked_movie_id AND lt.id = ml.link_type_id AND kt.id = t1.kind_id AND t1.kind_id = t2.kind_id
    AND t1.production_year > t2.production_year AND t1.title <> t2.title AND lt.link NOT LIKE 'f%';

-- episodes_older_than_their_series
SELECT min(e.title), min(s.title), count(*)
FROM title e, title s, kind_type ke, kind_type ks, movie_companies mc, company_name cn
WHERE e.episode_of_id = s.id AND ke.id = e.kind_id AND ks.id = s.kind_id AND ke.kind = 'episode' AND ks.kind LIKE 'tv%'
    AND mc.movie_id = s.id AND cn.id = mc.company_id AND (cn.country_code IS NULL OR cn.country_code <> '[us]')
    AND e.production_year < s.production_year - 2;

-- pairs_of_actors
SELECT min(n1.name), min(n2.name), min(t.title), count(*)
FROM cast_info c1, cast_info c2, name n1, name n2, title t, role_type r1, role_type r2
WHERE c1.movie_id = c2.movie_id AND c1.movie_id = t.id AND c1.person_id = n1.id AND c2.person_id = n2.id AND c1.role_id = r1.id AND c2.role_id = r2.id
    AND n1.gender = 'f' AND n2.gender IS NULL AND r1.role = 'director' AND r2.role IN ('writer', 'editor') AND c1.nr_order < c2.nr_order
    AND (t.production_year > 2010 OR n1.name_pcode_cf < n2.name_pcode_cf);

-- everything_about_voices
SELECT min(chn.name), min(n.name), min(t.title), count(*)
FROM complete_cast cc, comp_cast_type cct1, comp_cast_type cct2, char_name chn, cast_info ci, company_name cn, info_type it, keyword k,
    movie_companies mc, movie_info mi, movie_keyword mk, name n, role_type rt, title t, aka_name an, info_type it3
WHERE cct1.kind = 'cast' AND cct2.kind LIKE 'complete%' AND ci.note LIKE '(voice%' AND cn.country_code = '[us]' AND it.info IN ('release dates', 'genres')
    AND it3.info = 'languages' AND k.keyword IN ('murder', 'sequel', 'hero') AND mi.info IS NOT NULL AND t.production_year BETWEEN 1970 AND 2013
    AND t.id = mi.movie_id AND t.id = mc.movie_id AND t.id = ci.movie_id AND t.id = mk.movie_id AND t.id = cc.movie_id AND cn.id = mc.company_id
    AND it.id = mi.info_type_id AND n.id = ci.person_id AND rt.id = ci.role_id AND n.id = an.person_id AND chn.id = ci.person_role_id
    AND it3.id < it.id + 2 AND k.id = mk.keyword_id AND cct1.id = cc.subject_id AND cct2.id = cc.status_id;

-- no_such_film
SELECT min(t.title), min(cn.name), count(*)
FROM title t, movie_companies mc, company_name cn, company_type ct
WHERE t.id = mc.movie_id AND mc.company_id = cn.id AND ct.id = mc.company_type_id AND ct.kind IS NULL AND t.production_year > 1900;

-- films_by_kind_and_country
SELECT kt.kind, cn.country_code, count(DISTINCT t.id) AS films, min(t.production_year) AS first
FROM title t, kind_type kt, movie_companies mc, company_name cn, movie_info_idx mi_idx, info_type it
WHERE t.kind_id = kt.id AND mc.movie_id = t.id AND mc.company_id = cn.id AND mi_idx.movie_id = t.id AND mi_idx.info_type_id = it.id AND it.info = 'votes'
GROUP BY kt.kind, cn.country_code
ORDER BY films DESC, kt.kind, cn.country_code NULLS FIRST;
