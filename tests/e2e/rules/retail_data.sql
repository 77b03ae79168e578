-- Sales in three channels, in TPC-DS's tables with fewer columns. A part of the items and customers has most of the sales, keys of sales may be
-- NULL, and what is bought depends on the customer and on the season.
CREATE TABLE date_dim (
    d_date_sk int PRIMARY KEY, d_date date NOT NULL, d_year int NOT NULL, d_moy int NOT NULL, d_qoy int NOT NULL, d_dow int NOT NULL,
    d_week_seq int NOT NULL
);
INSERT INTO date_dim
SELECT
    i, d, extract(year FROM d)::int, extract(month FROM d)::int, extract(quarter FROM d)::int, extract(dow FROM d)::int, 1 + (i - 1) / 7
FROM (SELECT i, date '1999-12-31' + i AS d FROM generate_series(1, 1096) AS s(i)) AS made;
CREATE TABLE item (
    i_item_sk int PRIMARY KEY, i_item_id text NOT NULL, i_brand text, i_class text, i_category text, i_manufact_id int,
    i_current_price numeric(7,2), i_color text
);
INSERT INTO item
SELECT
    i, 'ITEM' || lpad((i / 2)::text, 6, '0'), 'brand ' || (i * 7 % 40)::text, 'class ' || (i % 10 * 3 + i % 3)::text,
    CASE i % 10 WHEN 0 THEN NULL WHEN 1 THEN 'Books' WHEN 2 THEN 'Music' WHEN 3 THEN 'Home' WHEN 4 THEN 'Sports' WHEN 5 THEN 'Shoes'
        WHEN 6 THEN 'Jewelry' WHEN 7 THEN 'Men' WHEN 8 THEN 'Women' ELSE 'Children' END,
    1 + i * 11 % 60, (50 + i * 37 % 9900) * 0.01, CASE WHEN i % 7 <> 0 THEN CASE i % 4 WHEN 0 THEN 'red' WHEN 1 THEN 'blue' WHEN 2 THEN 'plum' ELSE 'snow' END END
FROM generate_series(1, 600) AS s(i);
CREATE TABLE customer_address (ca_address_sk int PRIMARY KEY, ca_city text, ca_county text, ca_state text, ca_zip text, ca_gmt_offset int);
INSERT INTO customer_address
SELECT
    i, 'city ' || (i % 60)::text, 'county ' || (i % 30)::text,
    CASE WHEN i % 19 = 0 THEN NULL WHEN i % 3 = 0 THEN 'TX' WHEN i % 5 = 0 THEN 'OH' WHEN i % 7 = 0 THEN 'OR' WHEN i % 2 = 0 THEN 'NM' ELSE 'KY' END,
    lpad((i * 173 % 1000)::text, 5, '8'), -5 - i % 4
FROM generate_series(1, 500) AS s(i);
CREATE TABLE customer_demographics (
    cd_demo_sk int PRIMARY KEY, cd_gender text, cd_marital_status text, cd_education_status text, cd_dep_count int
);
INSERT INTO customer_demographics
SELECT
    i, CASE WHEN i % 2 = 0 THEN 'M' ELSE 'F' END, CASE i % 5 WHEN 0 THEN 'M' WHEN 1 THEN 'S' WHEN 2 THEN 'D' WHEN 3 THEN 'W' ELSE 'U' END,
    CASE i % 7 WHEN 0 THEN 'College' WHEN 1 THEN 'Primary' WHEN 2 THEN 'Secondary' WHEN 3 THEN '4 yr Degree' ELSE 'Unknown' END, i % 6
FROM generate_series(1, 210) AS s(i);
CREATE TABLE household_demographics (hd_demo_sk int PRIMARY KEY, hd_buy_potential text, hd_dep_count int, hd_vehicle_count int);
INSERT INTO household_demographics
SELECT i, CASE i % 4 WHEN 0 THEN '>10000' WHEN 1 THEN '5001-10000' WHEN 2 THEN '0-500' ELSE 'Unknown' END, i % 10, i % 6 - 1
FROM generate_series(1, 60) AS s(i);
CREATE TABLE customer (
    c_customer_sk int PRIMARY KEY, c_customer_id text NOT NULL, c_current_cdemo_sk int, c_current_hdemo_sk int, c_current_addr_sk int,
    c_first_name text, c_last_name text, c_preferred_cust_flag text, c_birth_year int
);
INSERT INTO customer
SELECT
    i, 'CUST' || lpad(i::text, 6, '0'), CASE WHEN i % 30 <> 0 THEN 1 + i * 17 % 210 END, 1 + i * 7 % 60, 1 + i * 13 % 500,
    CASE WHEN i % 25 <> 0 THEN 'first ' || (i % 80)::text END, 'last ' || (i % 130)::text, CASE i % 3 WHEN 0 THEN 'Y' WHEN 1 THEN 'N' END,
    CASE WHEN i % 11 <> 0 THEN 1930 + i * 3 % 65 END
FROM generate_series(1, 1500) AS s(i);
CREATE TABLE store (s_store_sk int PRIMARY KEY, s_store_name text, s_state text, s_county text, s_gmt_offset int);
INSERT INTO store VALUES
    (1, 'able', 'TX', 'county 1', -6), (2, 'ought', 'TX', 'county 2', -6), (3, 'eing', 'OH', 'county 3', -5), (4, 'bar', 'KY', 'county 1', -5),
    (5, 'ation', 'NM', 'county 4', -7), (6, 'ese', 'OR', 'county 5', -8), (7, 'anti', NULL, NULL, NULL), (8, 'cally', 'TX', 'county 6', -6);
CREATE TABLE warehouse (w_warehouse_sk int PRIMARY KEY, w_warehouse_name text, w_state text);
INSERT INTO warehouse VALUES (1, 'north', 'OH'), (2, 'south', 'TX'), (3, NULL, 'OR'), (4, 'east', 'KY'), (5, 'west', NULL);
CREATE TABLE promotion (p_promo_sk int PRIMARY KEY, p_channel_email text, p_channel_event text, p_channel_tv text);
INSERT INTO promotion
SELECT i, CASE WHEN i % 9 = 0 THEN NULL WHEN i % 5 = 0 THEN 'Y' ELSE 'N' END, CASE WHEN i % 4 = 0 THEN 'Y' ELSE 'N' END, CASE WHEN i % 2 = 0 THEN 'Y' ELSE 'N' END
FROM generate_series(1, 30) AS s(i);
CREATE TABLE store_sales (
    ss_ticket_number int NOT NULL, ss_line int NOT NULL, ss_sold_date_sk int, ss_item_sk int NOT NULL, ss_customer_sk int, ss_cdemo_sk int,
    ss_hdemo_sk int, ss_addr_sk int, ss_store_sk int, ss_promo_sk int, ss_quantity int, ss_list_price numeric(7,2), ss_sales_price numeric(7,2),
    ss_ext_sales_price numeric(9,2), ss_net_profit numeric(9,2), ss_weight double precision, PRIMARY KEY (ss_ticket_number, ss_line)
);
INSERT INTO store_sales
SELECT
    t, i % 4, CASE WHEN t % 41 <> 0 THEN 1 + (t * 389 % 1096) END, 1 + (i * 7919 % 600) * (i * 613 % 997) / 997,
    CASE WHEN t % 29 <> 0 THEN 1 + (t * 1013 % 1500) * (t * 71 % 101) / 101 END, 1 + t * 17 % 210, 1 + t * 7 % 60, 1 + t * 13 % 500,
    CASE WHEN t % 37 <> 0 THEN 1 + (t % 8) * (t % 3) / 2 END, CASE WHEN i % 6 = 0 THEN 1 + i / 6 % 30 END, CASE WHEN i % 53 <> 0 THEN q END,
    p * 0.02, p * 0.01, p * q * 0.01, p * q * 0.01 - q * 20, (i % 1000 * 0.1)::double precision
FROM (SELECT i, i / 4 AS t, 1 + i * 31 % 97 AS q, 100 + i * 331 % 9000 AS p FROM generate_series(4, 24003) AS s(i)) AS made;
CREATE TABLE store_returns (
    sr_ticket_number int NOT NULL, sr_line int NOT NULL, sr_returned_date_sk int, sr_item_sk int NOT NULL, sr_customer_sk int, sr_store_sk int,
    sr_return_quantity int, sr_return_amt numeric(9,2), sr_reason text, PRIMARY KEY (sr_ticket_number, sr_line)
);
INSERT INTO store_returns
SELECT
    ss_ticket_number, ss_line, CASE WHEN ss_ticket_number % 31 <> 0 THEN ss_sold_date_sk + 1 + ss_ticket_number % 60 END, ss_item_sk, ss_customer_sk,
    ss_store_sk, 1 + ss_quantity / 3, ss_sales_price * (1 + ss_quantity / 3), CASE ss_ticket_number % 4 WHEN 0 THEN 'broken' WHEN 1 THEN 'too late' WHEN 2 THEN 'gift' END
FROM store_sales
WHERE (ss_ticket_number * 4 + ss_line) * 7 % 10 = 3;
CREATE TABLE catalog_sales (
    cs_order_number int NOT NULL, cs_line int NOT NULL, cs_sold_date_sk int, cs_ship_date_sk int, cs_item_sk int NOT NULL, cs_bill_customer_sk int,
    cs_bill_cdemo_sk int, cs_warehouse_sk int, cs_promo_sk int, cs_quantity int, cs_sales_price numeric(7,2), cs_ext_discount_amt numeric(9,2),
    cs_ext_sales_price numeric(9,2), cs_net_profit numeric(9,2), PRIMARY KEY (cs_order_number, cs_line)
);
INSERT INTO catalog_sales
SELECT
    o, i % 3, d, d + 2 + i % 95, 1 + (i * 4999 % 600) * (i * 419 % 997) / 997, CASE WHEN o % 33 <> 0 THEN 1 + (o * 811 % 1500) * (o * 53 % 101) / 101 END,
    1 + o * 19 % 210, CASE WHEN i % 47 <> 0 THEN 1 + o % 5 * (i % 4) / 3 END, CASE WHEN i % 5 = 0 THEN 1 + i / 5 % 30 END, q, p * 0.01, p * q * (i % 4) / 10 * 0.01,
    p * q * 0.01, p * q * 0.01 - q * 25
FROM (
    SELECT i, i / 3 AS o, CASE WHEN i / 3 % 43 <> 0 THEN 1 + i / 3 * 401 % 1000 END AS d, 1 + i * 29 % 89 AS q, 100 + i * 457 % 9500 AS p
    FROM generate_series(3, 12002) AS s(i)
) AS made;
CREATE TABLE web_sales (
    ws_order_number int NOT NULL, ws_line int NOT NULL, ws_sold_date_sk int, ws_item_sk int NOT NULL, ws_bill_customer_sk int, ws_bill_addr_sk int,
    ws_warehouse_sk int, ws_quantity int, ws_sales_price numeric(7,2), ws_ext_sales_price numeric(9,2), ws_net_profit numeric(9,2),
    PRIMARY KEY (ws_order_number, ws_line)
);
INSERT INTO web_sales
SELECT
    o, i % 2, CASE WHEN o % 39 <> 0 THEN 1 + o * 467 % 1096 END, 1 + (i * 3571 % 600) * (i * 337 % 997) / 997,
    CASE WHEN o % 27 <> 0 THEN 1 + (o * 577 % 1500) * (o * 37 % 101) / 101 END, 1 + o * 23 % 500, CASE WHEN i % 45 <> 0 THEN 1 + i % 5 END, q, p * 0.01, p * q * 0.01,
    p * q * 0.01 - q * 22
FROM (SELECT i, i / 2 AS o, 1 + i * 23 % 83 AS q, 100 + i * 521 % 9300 AS p FROM generate_series(2, 8001) AS s(i)) AS made;
