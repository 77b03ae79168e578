-- Queries of TPC-DS's shapes over retail_data.sql. Each ORDER BY leaves no ties.

-- returners_above_the_average_of_their_store
WITH total_return AS (
    SELECT sr_customer_sk AS customer, sr_store_sk AS store, sum(sr_return_amt) AS total
    FROM store_returns, date_dim
    WHERE sr_returned_date_sk = d_date_sk AND d_year = 2001
    GROUP BY sr_customer_sk, sr_store_sk
)
SELECT c_customer_id, r1.store, r1.total
FROM total_return r1, store, customer
WHERE r1.total > (SELECT avg(r2.total) * 1.2 FROM total_return r2 WHERE r1.store = r2.store)
    AND s_store_sk = r1.store AND s_state = 'OH' AND r1.customer = c_customer_sk
ORDER BY c_customer_id, r1.store
LIMIT 40;

-- weeks_of_two_channels_year_against_year
WITH both_channels AS (
    SELECT ws_sold_date_sk AS sold, ws_ext_sales_price AS price FROM web_sales
    UNION ALL
    SELECT cs_sold_date_sk, cs_ext_sales_price FROM catalog_sales
),
weekly AS (
    SELECT d_week_seq, sum(CASE WHEN d_dow = 0 THEN price END) AS sun, sum(CASE WHEN d_dow = 3 THEN price END) AS wed, sum(price) AS whole
    FROM both_channels, date_dim
    WHERE d_date_sk = sold
    GROUP BY d_week_seq
)
SELECT y.d_week_seq, round(y.sun / z.sun, 4), round(y.wed / z.wed, 4), round(y.whole / z.whole, 4)
FROM weekly y, weekly z
WHERE y.d_week_seq = z.d_week_seq - 52 AND y.d_week_seq BETWEEN 30 AND 60
    AND y.d_week_seq IN (SELECT d_week_seq FROM date_dim WHERE d_year = 2000)
ORDER BY y.d_week_seq;

-- brands_in_a_month
SELECT d_year, i_brand, sum(ss_ext_sales_price) AS sales
FROM date_dim, store_sales, item
WHERE d_date_sk = ss_sold_date_sk AND ss_item_sk = i_item_sk AND i_manufact_id IN (12, 34) AND d_moy = 11
GROUP BY d_year, i_brand
ORDER BY d_year, sales DESC, i_brand
LIMIT 50;

-- averages_for_a_demographic
SELECT i_item_id, round(avg(ss_quantity), 4), round(avg(ss_list_price), 4), round(avg(ss_sales_price), 4), count(*)
FROM store_sales, customer_demographics, date_dim, item, promotion
WHERE ss_sold_date_sk = d_date_sk AND ss_item_sk = i_item_sk AND ss_cdemo_sk = cd_demo_sk AND ss_promo_sk = p_promo_sk
    AND cd_gender = 'F' AND cd_marital_status = 'W' AND (p_channel_email = 'N' OR p_channel_event = 'N') AND d_year = 2000
GROUP BY i_item_id
ORDER BY i_item_id
LIMIT 40;

-- customers_of_a_store_and_one_of_two_channels
SELECT cd_gender, cd_marital_status, count(*), min(cd_dep_count), max(cd_dep_count), round(avg(cd_dep_count), 4)
FROM customer c, customer_address ca, customer_demographics
WHERE c.c_current_addr_sk = ca.ca_address_sk AND ca_county IN ('county 1', 'county 4', 'county 7', 'county 12', 'county 20')
    AND cd_demo_sk = c.c_current_cdemo_sk
    AND EXISTS (
        SELECT 1 FROM store_sales, date_dim WHERE c.c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk AND d_year = 2001 AND d_moy < 9
    )
    AND (
        EXISTS (SELECT 1 FROM web_sales, date_dim WHERE c.c_customer_sk = ws_bill_customer_sk AND ws_sold_date_sk = d_date_sk AND d_year = 2001)
        OR EXISTS (SELECT 1 FROM catalog_sales, date_dim WHERE c.c_customer_sk = cs_bill_customer_sk AND cs_sold_date_sk = d_date_sk AND d_year = 2001)
    )
GROUP BY cd_gender, cd_marital_status
ORDER BY cd_gender, cd_marital_status;

-- customers_of_stores_only
SELECT cd_gender, cd_education_status, count(*) AS customers
FROM customer c, customer_address ca, customer_demographics
WHERE c.c_current_addr_sk = ca.ca_address_sk AND ca_state IN ('KY', 'TX', 'NM') AND cd_demo_sk = c.c_current_cdemo_sk
    AND EXISTS (SELECT * FROM store_sales, date_dim WHERE c.c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk AND d_year = 2001)
    AND NOT EXISTS (
        SELECT * FROM web_sales, date_dim WHERE c.c_customer_sk = ws_bill_customer_sk AND ws_sold_date_sk = d_date_sk AND d_year = 2001 AND d_moy < 7
    )
    AND NOT EXISTS (
        SELECT * FROM catalog_sales, date_dim WHERE c.c_customer_sk = cs_bill_customer_sk AND cs_sold_date_sk = d_date_sk AND d_year = 2001 AND d_moy < 7
    )
GROUP BY cd_gender, cd_education_status
ORDER BY cd_gender, cd_education_status;

-- orders_from_two_warehouses
SELECT count(DISTINCT cs1.cs_order_number), sum(cs1.cs_ext_sales_price), sum(cs1.cs_net_profit)
FROM catalog_sales cs1, date_dim, customer, customer_address
WHERE d_date BETWEEN date '2001-02-01' AND date '2001-02-01' + interval '120' day AND cs1.cs_ship_date_sk = d_date_sk
    AND cs1.cs_bill_customer_sk = c_customer_sk AND c_current_addr_sk = ca_address_sk AND ca_state <> 'TX'
    AND EXISTS (SELECT * FROM catalog_sales cs2 WHERE cs1.cs_order_number = cs2.cs_order_number AND cs1.cs_warehouse_sk <> cs2.cs_warehouse_sk)
    AND NOT EXISTS (SELECT * FROM store_returns WHERE sr_customer_sk = cs1.cs_bill_customer_sk AND sr_return_amt > 400);

-- items_that_sell_everywhere
WITH everywhere AS (
    SELECT i_item_sk AS item_sk
    FROM item, (
        SELECT i_brand AS brand, i_class AS class FROM store_sales, item, date_dim WHERE ss_item_sk = i_item_sk AND ss_sold_date_sk = d_date_sk AND d_moy = 3
        INTERSECT
        SELECT i_brand, i_class FROM catalog_sales, item, date_dim WHERE cs_item_sk = i_item_sk AND cs_sold_date_sk = d_date_sk AND d_moy = 3
        INTERSECT
        SELECT i_brand, i_class FROM web_sales, item, date_dim WHERE ws_item_sk = i_item_sk AND ws_sold_date_sk = d_date_sk AND d_moy = 3
    ) AS common
    WHERE i_brand = brand AND i_class = class
),
average AS (
    SELECT avg(quantity * price) AS sales
    FROM (
        SELECT ss_quantity AS quantity, ss_list_price AS price FROM store_sales
        UNION ALL
        SELECT cs_quantity, cs_sales_price FROM catalog_sales
        UNION ALL
        SELECT ws_quantity, ws_sales_price FROM web_sales
    ) AS lines
)
SELECT channel, i_category, sum(sales), sum(lines) AS all_lines
FROM (
    SELECT 'store' AS channel, i_category, sum(ss_quantity * ss_list_price) AS sales, count(*) AS lines
    FROM store_sales, item
    WHERE ss_item_sk IN (SELECT item_sk FROM everywhere) AND ss_item_sk = i_item_sk
    GROUP BY i_category, i_brand HAVING sum(ss_quantity * ss_list_price) > (SELECT sales * 5 FROM average)
    UNION ALL
    SELECT 'catalog', i_category, sum(cs_quantity * cs_sales_price), count(*)
    FROM catalog_sales, item
    WHERE cs_item_sk IN (SELECT item_sk FROM everywhere) AND cs_item_sk = i_item_sk
    GROUP BY i_category, i_brand HAVING sum(cs_quantity * cs_sales_price) > (SELECT sales * 5 FROM average)
    UNION ALL
    SELECT 'web', i_category, sum(ws_quantity * ws_sales_price), count(*)
    FROM web_sales, item
    WHERE ws_item_sk IN (SELECT item_sk FROM everywhere) AND ws_item_sk = i_item_sk
    GROUP BY i_category, i_brand HAVING sum(ws_quantity * ws_sales_price) > (SELECT sales * 5 FROM average)
) AS channels
GROUP BY ROLLUP (channel, i_category)
ORDER BY channel NULLS LAST, i_category NULLS LAST, all_lines;

-- customers_of_all_channels_in_a_month
SELECT count(*), min(c_last_name), max(c_first_name)
FROM (
    SELECT c_last_name, c_first_name, d_moy FROM store_sales, date_dim, customer WHERE ss_sold_date_sk = d_date_sk AND ss_customer_sk = c_customer_sk AND d_year = 2001
    INTERSECT
    SELECT c_last_name, c_first_name, d_moy FROM catalog_sales, date_dim, customer
    WHERE cs_sold_date_sk = d_date_sk AND cs_bill_customer_sk = c_customer_sk AND d_year = 2001
) AS hot;

-- customers_of_one_channel_in_a_month
SELECT count(*), count(c_first_name), min(c_last_name)
FROM (
    SELECT DISTINCT c_last_name, c_first_name, d_moy FROM store_sales, date_dim, customer
    WHERE ss_sold_date_sk = d_date_sk AND ss_customer_sk = c_customer_sk AND d_year = 2001
    EXCEPT
    SELECT c_last_name, c_first_name, d_moy FROM catalog_sales, date_dim, customer
    WHERE cs_sold_date_sk = d_date_sk AND cs_bill_customer_sk = c_customer_sk AND d_year = 2001
    EXCEPT
    SELECT c_last_name, c_first_name, d_moy FROM web_sales, date_dim, customer
    WHERE ws_sold_date_sk = d_date_sk AND ws_bill_customer_sk = c_customer_sk AND d_year = 2001
) AS cool;

-- buckets_of_quantities
SELECT
    CASE WHEN (SELECT count(*) FROM store_sales WHERE ss_quantity BETWEEN 1 AND 20) > 4000
        THEN (SELECT round(avg(ss_ext_sales_price), 4) FROM store_sales WHERE ss_quantity BETWEEN 1 AND 20)
        ELSE (SELECT round(avg(ss_net_profit), 4) FROM store_sales WHERE ss_quantity BETWEEN 1 AND 20) END AS bucket1,
    CASE WHEN (SELECT count(*) FROM store_sales WHERE ss_quantity BETWEEN 21 AND 40) > 9000
        THEN (SELECT round(avg(ss_ext_sales_price), 4) FROM store_sales WHERE ss_quantity BETWEEN 21 AND 40)
        ELSE (SELECT round(avg(ss_net_profit), 4) FROM store_sales WHERE ss_quantity BETWEEN 21 AND 40) END AS bucket2,
    (SELECT sum(ss_quantity) FROM store_sales WHERE ss_quantity > 40) - (SELECT sum(cs_quantity) FROM catalog_sales WHERE cs_quantity > 40) AS difference
FROM store
WHERE s_store_sk = 1;

-- discounts_above_the_average_of_the_item
SELECT sum(cs_ext_discount_amt), count(*)
FROM catalog_sales, item, date_dim
WHERE i_manufact_id IN (7, 23, 45) AND i_item_sk = cs_item_sk AND d_date BETWEEN date '2000-03-01' AND date '2001-03-01' AND d_date_sk = cs_sold_date_sk
    AND cs_ext_discount_amt > (
        SELECT 1.3 * avg(cs_ext_discount_amt)
        FROM catalog_sales, date_dim
        WHERE cs_item_sk = i_item_sk AND d_date BETWEEN date '2000-03-01' AND date '2001-03-01' AND d_date_sk = cs_sold_date_sk
    );

-- small_quantities_of_few_items
SELECT i_item_id, sum(ss_ext_sales_price), count(*)
FROM store_sales, item
WHERE i_item_sk = ss_item_sk AND i_brand = 'brand 21' AND i_current_price > 20
    AND ss_quantity < (SELECT 0.3 * avg(ss_quantity) FROM store_sales WHERE ss_item_sk = i_item_sk)
GROUP BY i_item_id
ORDER BY i_item_id;

-- states_that_buy_expensive_items
SELECT ca_state, count(*) AS lines
FROM customer_address, customer, store_sales, date_dim, item i
WHERE ca_address_sk = c_current_addr_sk AND c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk AND ss_item_sk = i.i_item_sk
    AND d_moy = (SELECT DISTINCT d_moy FROM date_dim WHERE d_date = date '2001-05-17')
    AND i.i_current_price > 1.2 * (SELECT avg(j.i_current_price) FROM item j WHERE j.i_category = i.i_category)
GROUP BY ca_state HAVING count(*) >= 10
ORDER BY lines, ca_state;

-- frequent_items_and_the_best_customers
WITH frequent AS (
    SELECT ss_item_sk AS item_sk FROM store_sales, date_dim WHERE ss_sold_date_sk = d_date_sk AND d_year IN (2000, 2001) GROUP BY ss_item_sk HAVING count(*) > 60
),
spent AS (
    SELECT ss_customer_sk AS customer, sum(ss_quantity * ss_sales_price) AS total FROM store_sales WHERE ss_customer_sk IS NOT NULL GROUP BY ss_customer_sk
),
best AS (SELECT customer FROM spent WHERE total > 0.1 * (SELECT max(total) FROM spent))
SELECT channel, sum(sales), count(*)
FROM (
    SELECT 'catalog' AS channel, cs_quantity * cs_sales_price AS sales
    FROM catalog_sales, date_dim
    WHERE d_year = 2002 AND cs_sold_date_sk = d_date_sk AND cs_item_sk IN (SELECT item_sk FROM frequent) AND cs_bill_customer_sk IN (SELECT customer FROM best)
    UNION ALL
    SELECT 'web', ws_quantity * ws_sales_price
    FROM web_sales, date_dim
    WHERE d_year = 2002 AND ws_sold_date_sk = d_date_sk AND ws_item_sk IN (SELECT item_sk FROM frequent) AND ws_bill_customer_sk IN (SELECT customer FROM best)
) AS bought
GROUP BY channel
ORDER BY channel;

-- large_baskets
SELECT c_customer_id, ss_ticket_number, d_date, sum(ss_quantity) AS items, sum(ss_net_profit)
FROM customer, store_sales, date_dim
WHERE ss_ticket_number IN (SELECT ss_ticket_number FROM store_sales GROUP BY ss_ticket_number HAVING sum(ss_quantity) > 260)
    AND c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk
GROUP BY c_customer_id, ss_ticket_number, d_date
ORDER BY items DESC, ss_ticket_number
LIMIT 30;

-- states_and_counties_rolled_up
SELECT s_state, s_county, grouping(s_state) + grouping(s_county) AS level, sum(ss_net_profit), round(avg(ss_quantity), 4)
FROM store_sales, date_dim, store
WHERE ss_sold_date_sk = d_date_sk AND d_year = 2001 AND ss_store_sk = s_store_sk AND s_state IS NOT NULL
GROUP BY ROLLUP (s_state, s_county)
ORDER BY level, s_state, s_county;

-- ranks_within_a_rollup
WITH rolled AS (
    SELECT i_category, i_class, grouping(i_category) + grouping(i_class) AS level, sum(ss_net_profit) AS profit, sum(ss_ext_sales_price) AS price
    FROM store_sales, item, store
    WHERE i_item_sk = ss_item_sk AND s_store_sk = ss_store_sk AND s_state IN ('TX', 'OH') AND i_category IN ('Books', 'Music', 'Shoes')
    GROUP BY ROLLUP (i_category, i_class)
)
SELECT round(profit / price, 4), i_category, i_class, level, rank() OVER (PARTITION BY level, CASE WHEN level = 0 THEN i_category END ORDER BY profit / price, i_class) AS place
FROM rolled
ORDER BY level DESC, i_category, place;

-- sets_of_groups
SELECT cd_gender, cd_marital_status, ca_state, count(*) AS lines, sum(ss_quantity)
FROM store_sales, customer_demographics, customer_address
WHERE ss_cdemo_sk = cd_demo_sk AND ss_addr_sk = ca_address_sk AND cd_education_status = 'College' AND ca_state IN ('TX', 'OH') AND ss_list_price > 120
GROUP BY GROUPING SETS ((cd_gender, ca_state), (cd_marital_status), ())
ORDER BY cd_gender NULLS LAST, cd_marital_status NULLS LAST, ca_state NULLS LAST;

-- profits_of_three_channels
WITH ssr AS (
    SELECT s_store_name AS place, sum(ss_ext_sales_price) AS sales, sum(coalesce(sr_return_amt, 0)) AS returned, sum(ss_net_profit) AS profit
    FROM store_sales LEFT JOIN store_returns ON ss_ticket_number = sr_ticket_number AND ss_line = sr_line, date_dim, store, item
    WHERE ss_sold_date_sk = d_date_sk AND d_date BETWEEN date '2001-08-01' AND date '2001-10-01' AND ss_store_sk = s_store_sk
        AND ss_item_sk = i_item_sk AND i_current_price > 30
    GROUP BY s_store_name
),
csr AS (
    SELECT w_warehouse_name AS place, sum(cs_ext_sales_price) AS sales, 0 AS returned, sum(cs_net_profit) AS profit
    FROM catalog_sales LEFT JOIN warehouse ON cs_warehouse_sk = w_warehouse_sk, date_dim, item
    WHERE cs_sold_date_sk = d_date_sk AND d_date BETWEEN date '2001-08-01' AND date '2001-10-01' AND cs_item_sk = i_item_sk AND i_current_price > 30
    GROUP BY w_warehouse_name
)
SELECT channel, place, sum(sales), sum(returned), sum(profit), count(*) AS parts
FROM (
    SELECT 'store channel' AS channel, place, sales, returned, profit FROM ssr
    UNION ALL
    SELECT 'catalog channel', place, sales, returned, profit FROM csr
) AS x
GROUP BY ROLLUP (channel, place)
ORDER BY channel NULLS LAST, place NULLS LAST, parts;

-- share_of_the_class
SELECT i_item_id, i_class, sum(ss_ext_sales_price) AS revenue, round(sum(ss_ext_sales_price) * 100 / sum(sum(ss_ext_sales_price)) OVER (PARTITION BY i_class), 4) AS share
FROM store_sales, item, date_dim
WHERE ss_item_sk = i_item_sk AND i_category IN ('Sports', 'Home') AND ss_sold_date_sk = d_date_sk AND d_date BETWEEN date '2000-02-22' AND date '2000-05-22'
GROUP BY i_item_id, i_class
ORDER BY i_class, share DESC, i_item_id
LIMIT 50;

-- months_unlike_their_neighbours
WITH monthly AS (
    SELECT
        i_category, s_store_name, d_year, d_moy, sum(ss_sales_price) AS sales,
        avg(sum(ss_sales_price)) OVER (PARTITION BY i_category, s_store_name, d_year) AS average,
        rank() OVER (PARTITION BY i_category, s_store_name ORDER BY d_year, d_moy) AS place
    FROM item, store_sales, date_dim, store
    WHERE ss_item_sk = i_item_sk AND ss_sold_date_sk = d_date_sk AND ss_store_sk = s_store_sk AND (d_year = 2001 OR (d_year = 2000 AND d_moy = 12))
        AND i_category IN ('Books', 'Men')
    GROUP BY i_category, s_store_name, d_year, d_moy
)
SELECT v1.i_category, v1.s_store_name, v1.d_moy, v1.sales, round(v1.average, 4), v2.sales, v3.sales
FROM monthly v1, monthly v2, monthly v3
WHERE v1.i_category = v2.i_category AND v1.i_category = v3.i_category AND v1.s_store_name = v2.s_store_name
    AND v1.s_store_name = v3.s_store_name AND v1.place = v2.place + 1 AND v1.place = v3.place - 1
    AND v1.d_year = 2001 AND abs(v1.sales - v1.average) > 0.5 * v1.average
ORDER BY v1.i_category, v1.s_store_name, v1.d_moy;

-- running_totals_of_two_channels
WITH web AS (
    SELECT ws_item_sk AS item_sk, d_moy, sum(sum(ws_sales_price)) OVER (PARTITION BY ws_item_sk ORDER BY d_moy ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
    FROM web_sales, date_dim
    WHERE ws_sold_date_sk = d_date_sk AND d_year = 2001 AND ws_item_sk BETWEEN 1 AND 9
    GROUP BY ws_item_sk, d_moy
),
shop AS (
    SELECT ss_item_sk AS item_sk, d_moy, sum(sum(ss_sales_price)) OVER (PARTITION BY ss_item_sk ORDER BY d_moy ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS total
    FROM store_sales, date_dim
    WHERE ss_sold_date_sk = d_date_sk AND d_year = 2001 AND ss_item_sk BETWEEN 4 AND 12
    GROUP BY ss_item_sk, d_moy
)
SELECT coalesce(web.item_sk, shop.item_sk) AS sk, coalesce(web.d_moy, shop.d_moy) AS month, web.total, shop.total
FROM web FULL JOIN shop ON web.item_sk = shop.item_sk AND web.d_moy = shop.d_moy
WHERE web.total IS NULL OR shop.total IS NULL OR web.total > shop.total
ORDER BY sk, month;

-- best_of_each_category
SELECT i_category, i_brand, d_qoy, sales, place
FROM (
    SELECT i_category, i_brand, d_qoy, sales, rank() OVER (PARTITION BY i_category ORDER BY sales DESC, i_brand, d_qoy) AS place
    FROM (
        SELECT i_category, i_brand, d_qoy, sum(coalesce(ss_sales_price * ss_quantity, 0)) AS sales
        FROM store_sales, date_dim, store, item
        WHERE ss_sold_date_sk = d_date_sk AND ss_item_sk = i_item_sk AND ss_store_sk = s_store_sk AND d_year = 2002
        GROUP BY i_category, i_brand, d_qoy
    ) AS grouped
) AS ranked
WHERE place <= 3
ORDER BY i_category, place;

-- stores_year_against_year
WITH wss AS (
    SELECT d_week_seq, ss_store_sk, sum(CASE WHEN d_dow = 1 THEN ss_sales_price END) AS mon, sum(CASE WHEN d_dow = 5 THEN ss_sales_price END) AS fri
    FROM store_sales, date_dim
    WHERE d_date_sk = ss_sold_date_sk
    GROUP BY d_week_seq, ss_store_sk
)
SELECT this.name, this.week, round(this.mon / past.mon, 4), round(this.fri / past.fri, 4)
FROM
    (SELECT s_store_name AS name, wss.d_week_seq AS week, s_store_sk AS sk, mon, fri FROM wss, store WHERE ss_store_sk = s_store_sk AND wss.d_week_seq BETWEEN 60 AND 66) AS this,
    (SELECT wss.d_week_seq AS week, s_store_sk AS sk, mon, fri FROM wss, store WHERE ss_store_sk = s_store_sk AND wss.d_week_seq BETWEEN 8 AND 14) AS past
WHERE this.sk = past.sk AND this.week = past.week + 52
ORDER BY this.name, this.week;

-- bought_again_in_the_next_year
WITH cross_sales AS (
    SELECT i_item_id AS id, s_store_name AS store, d1.d_year AS year, count(*) AS lines, sum(ss_list_price) AS price
    FROM store_sales, store_returns, customer, customer_demographics cd1, customer_demographics cd2, household_demographics, customer_address, item, store,
        date_dim d1
    WHERE ss_store_sk = s_store_sk AND ss_sold_date_sk = d1.d_date_sk AND ss_customer_sk = c_customer_sk AND ss_cdemo_sk = cd1.cd_demo_sk
        AND c_current_cdemo_sk = cd2.cd_demo_sk AND cd1.cd_marital_status <> cd2.cd_marital_status AND ss_hdemo_sk = hd_demo_sk
        AND ss_addr_sk = ca_address_sk AND ss_item_sk = i_item_sk AND ss_ticket_number = sr_ticket_number AND ss_line = sr_line
        AND i_color IN ('red', 'blue', 'plum') AND hd_vehicle_count >= 0
    GROUP BY i_item_id, s_store_name, d1.d_year
)
SELECT cs1.id, cs1.store, cs1.lines, cs1.price, cs2.lines, cs2.price
FROM cross_sales cs1, cross_sales cs2
WHERE cs1.id = cs2.id AND cs1.year = 2000 AND cs2.year = 2001 AND cs2.lines <= cs1.lines AND cs1.store = cs2.store
ORDER BY cs1.id, cs1.store
LIMIT 40;

-- growth_on_the_web_above_growth_in_stores
WITH year_total AS (
    SELECT c_customer_id AS id, c_first_name AS first, d_year AS year, sum(ss_ext_sales_price) AS total, 's' AS sale
    FROM customer, store_sales, date_dim
    WHERE c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk
    GROUP BY c_customer_id, c_first_name, d_year
    UNION ALL
    SELECT c_customer_id, c_first_name, d_year, sum(ws_ext_sales_price), 'w'
    FROM customer, web_sales, date_dim
    WHERE c_customer_sk = ws_bill_customer_sk AND ws_sold_date_sk = d_date_sk
    GROUP BY c_customer_id, c_first_name, d_year
)
SELECT s2.id, s2.first
FROM year_total s1, year_total s2, year_total w1, year_total w2
WHERE s2.id = s1.id AND s1.id = w2.id AND s1.id = w1.id AND s1.sale = 's' AND w1.sale = 'w' AND s2.sale = 's' AND w2.sale = 'w'
    AND s1.year = 2000 AND s2.year = 2001 AND w1.year = 2000 AND w2.year = 2001 AND s1.total > 0 AND w1.total > 0
    AND CASE WHEN w1.total > 0 THEN w2.total / w1.total ELSE 0 END > CASE WHEN s1.total > 0 THEN s2.total / s1.total ELSE 0 END
ORDER BY s2.id
LIMIT 40;

-- kept_goods
WITH shop AS (
    SELECT d_year AS year, ss_item_sk AS item, ss_customer_sk AS customer, sum(ss_quantity) AS quantity
    FROM store_sales LEFT JOIN store_returns ON sr_ticket_number = ss_ticket_number AND ss_line = sr_line JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE sr_ticket_number IS NULL
    GROUP BY d_year, ss_item_sk, ss_customer_sk
),
web AS (
    SELECT d_year AS year, ws_item_sk AS item, ws_bill_customer_sk AS customer, sum(ws_quantity) AS quantity
    FROM web_sales JOIN date_dim ON ws_sold_date_sk = d_date_sk
    GROUP BY d_year, ws_item_sk, ws_bill_customer_sk
)
SELECT shop.item, shop.customer, shop.quantity, coalesce(web.quantity, 0) AS elsewhere
FROM shop LEFT JOIN web ON web.year = shop.year AND web.item = shop.item AND web.customer = shop.customer
WHERE shop.year = 2001 AND shop.customer < 12
ORDER BY elsewhere DESC, shop.quantity DESC, shop.item, shop.customer
LIMIT 30;

-- one_of_two_reasons
SELECT ca_zip, sum(ws_sales_price), count(*)
FROM web_sales, customer, customer_address, date_dim, item
WHERE ws_bill_customer_sk = c_customer_sk AND c_current_addr_sk = ca_address_sk AND ws_item_sk = i_item_sk AND ws_sold_date_sk = d_date_sk
    AND (ca_zip LIKE '8811%' OR i_item_id IN (SELECT i_item_id FROM item WHERE i_item_sk IN (2, 3, 5, 7, 11, 13, 17)))
    AND d_qoy = 2 AND d_year = 2001
GROUP BY ca_zip
ORDER BY ca_zip;

-- counts_side_by_side
SELECT s1.lines, s2.lines, s3.lines, s4.lines
FROM
    (SELECT count(*) AS lines FROM store_sales, household_demographics, store
     WHERE ss_hdemo_sk = hd_demo_sk AND ss_store_sk = s_store_sk AND hd_dep_count = 3 AND hd_vehicle_count <= 2 AND s_store_name = 'ese') AS s1,
    (SELECT count(*) AS lines FROM store_sales, household_demographics, store
     WHERE ss_hdemo_sk = hd_demo_sk AND ss_store_sk = s_store_sk AND hd_dep_count = 6 AND s_store_name = 'ese') AS s2,
    (SELECT count(*) AS lines FROM store_sales, household_demographics, store
     WHERE ss_hdemo_sk = hd_demo_sk AND ss_store_sk = s_store_sk AND hd_dep_count = 3 AND hd_vehicle_count <= 2 AND s_store_name = 'able') AS s3,
    (SELECT count(*) AS lines FROM store_sales, household_demographics, store
     WHERE ss_hdemo_sk = hd_demo_sk AND ss_store_sk = s_store_sk AND hd_dep_count = 3 AND hd_vehicle_count <= 2 AND s_store_name = 'ese') AS s4;

-- tickets_of_households
SELECT c_last_name, c_first_name, c_preferred_cust_flag, ss_ticket_number, lines
FROM (
    SELECT ss_ticket_number, ss_customer_sk, count(*) AS lines
    FROM store_sales, date_dim, store, household_demographics
    WHERE ss_sold_date_sk = d_date_sk AND ss_store_sk = s_store_sk AND ss_hdemo_sk = hd_demo_sk AND d_dow IN (0, 6) AND d_year = 2000
        AND (hd_buy_potential = '>10000' OR hd_buy_potential = '0-500') AND hd_vehicle_count > 0
        AND CASE WHEN hd_vehicle_count > 0 THEN hd_dep_count * 1.0 / hd_vehicle_count END > 1.2 AND s_county IN ('county 1', 'county 2')
    GROUP BY ss_ticket_number, ss_customer_sk
) AS dn, customer
WHERE ss_customer_sk = c_customer_sk AND lines BETWEEN 2 AND 5 AND c_birth_year < 1960
ORDER BY c_last_name, ss_ticket_number
LIMIT 40;

-- not_in_with_and_without_nulls
SELECT
    (SELECT count(*) FROM customer WHERE c_customer_sk NOT IN (SELECT ss_customer_sk FROM store_sales)) AS with_nulls,
    (SELECT count(*) FROM customer WHERE c_customer_sk NOT IN (SELECT ss_customer_sk FROM store_sales WHERE ss_customer_sk IS NOT NULL)) AS without,
    (SELECT count(*) FROM item, promotion
     WHERE p_promo_sk = i_item_sk AND i_color NOT IN (SELECT i_color FROM item WHERE i_item_sk BETWEEN 1 AND 2 AND i_color IS NOT NULL)) AS colors;

-- totals_beside_the_rows
SELECT
    i_item_sk, i_category, (SELECT max(s.ss_sales_price) FROM store_sales s WHERE s.ss_item_sk = i.i_item_sk) AS dearest,
    (SELECT count(*) FROM store_returns r WHERE r.sr_item_sk = i.i_item_sk AND r.sr_reason = 'gift') AS gifts
FROM item i
WHERE i.i_manufact_id = 45
ORDER BY i_item_sk;

-- items_with_or_without_sales_in_a_month
SELECT i_item_sk, i_brand, sold.quantity, sold.lines, returned.amount
FROM item
    LEFT JOIN (SELECT ss_item_sk, sum(ss_quantity) AS quantity, count(*) AS lines FROM store_sales GROUP BY ss_item_sk) AS sold ON sold.ss_item_sk = i_item_sk
    LEFT JOIN (SELECT sr_item_sk, sum(sr_return_amt) AS amount FROM store_returns GROUP BY sr_item_sk) AS returned ON returned.sr_item_sk = i_item_sk
WHERE i_category = 'Jewelry' AND i_color = 'plum'
ORDER BY i_item_sk;

-- weights
SELECT i_category, sum(ss_weight), avg(ss_weight), max(ss_weight)
FROM store_sales, item, customer
WHERE ss_item_sk = i_item_sk AND ss_customer_sk = c_customer_sk AND c_birth_year BETWEEN 1950 AND 1980
    AND c_customer_sk IN (SELECT cs_bill_customer_sk FROM catalog_sales WHERE cs_net_profit > 0)
GROUP BY i_category
ORDER BY i_category;

-- late_shipments_by_warehouse
SELECT w_warehouse_name, w_state, sum(CASE WHEN cs_ship_date_sk - cs_sold_date_sk <= 30 THEN 1 ELSE 0 END) AS in_time,
    sum(CASE WHEN cs_ship_date_sk - cs_sold_date_sk > 30 AND cs_ship_date_sk - cs_sold_date_sk <= 60 THEN 1 ELSE 0 END) AS late,
    sum(CASE WHEN cs_ship_date_sk - cs_sold_date_sk > 60 THEN 1 ELSE 0 END) AS very_late
FROM catalog_sales, warehouse, promotion, date_dim
WHERE cs_ship_date_sk = d_date_sk AND cs_warehouse_sk = w_warehouse_sk AND cs_promo_sk = p_promo_sk AND p_channel_tv = 'Y' AND d_year = 2001
GROUP BY w_warehouse_name, w_state
ORDER BY w_warehouse_name, w_state;

-- returned_and_bought_from_the_catalog
SELECT i_item_id, s_store_name, sum(ss_quantity) AS sold, sum(sr_return_quantity) AS returned, sum(cs_quantity) AS ordered
FROM store_sales, store_returns, catalog_sales, date_dim d1, date_dim d2, date_dim d3, store, item
WHERE d1.d_date_sk = ss_sold_date_sk AND i_item_sk = ss_item_sk AND s_store_sk = ss_store_sk AND ss_customer_sk = sr_customer_sk AND ss_item_sk = sr_item_sk
    AND ss_ticket_number = sr_ticket_number AND sr_returned_date_sk = d2.d_date_sk AND sr_customer_sk = cs_bill_customer_sk
    AND cs_sold_date_sk = d3.d_date_sk AND d1.d_year = 2000 AND d2.d_year <= 2001 AND d3.d_year IN (2000, 2001) AND d3.d_date > d2.d_date
GROUP BY i_item_id, s_store_name
ORDER BY i_item_id, s_store_name
LIMIT 40;
