//! The eight tables: names, columns, keys and sizes as the TPC-H specification (clauses 1.3 and 1.4) gives them.

/// One table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Region,
    Nation,
    Supplier,
    Part,
    PartSupp,
    Customer,
    Orders,
    LineItem,
}

impl Table {
    /// All of them, parents before children, so that foreign keys hold at every moment of a load.
    pub(crate) const ALL: [Table; 8] =
        [Table::Region, Table::Nation, Table::Supplier, Table::Part, Table::PartSupp, Table::Customer, Table::Orders, Table::LineItem];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Region => "region",
            Table::Nation => "nation",
            Table::Supplier => "supplier",
            Table::Part => "part",
            Table::PartSupp => "partsupp",
            Table::Customer => "customer",
            Table::Orders => "orders",
            Table::LineItem => "lineitem",
        }
    }

    /// Rows at `scale`. For lineitem it is the expected number: an order has 1 to 7 lines.
    pub(crate) fn rows_expected(self, scale: f64) -> u64 {
        let scaled = |base: f64| (base * scale) as u64;
        match self {
            Table::Region => 5,
            Table::Nation => 25,
            Table::Supplier => scaled(10_000.0),
            Table::Part => scaled(200_000.0),
            Table::PartSupp => scaled(800_000.0),
            Table::Customer => scaled(150_000.0),
            Table::Orders => scaled(1_500_000.0),
            Table::LineItem => scaled(6_001_215.0),
        }
    }

    /// Bytes of one row as COPY text, on average: what the progress bar expects.
    pub(crate) fn row_bytes(self) -> u64 {
        match self {
            Table::Region => 77,
            Table::Nation => 88,
            Table::Supplier => 140,
            Table::Part => 120,
            Table::PartSupp => 147,
            Table::Customer => 161,
            Table::Orders => 113,
            Table::LineItem => 125,
        }
    }

    /// The statement that makes the table.
    pub(crate) fn create_sql(self, foreign_keys: bool) -> String {
        let mut lines: Vec<&str> = self.columns().to_vec();
        lines.push(self.primary_key());
        if foreign_keys {
            lines.extend(self.foreign_keys());
        }
        format!("CREATE TABLE {} (\n    {}\n)", self.name(), lines.join(",\n    "))
    }

    fn columns(self) -> &'static [&'static str] {
        match self {
            Table::Region => &["r_regionkey integer NOT NULL", "r_name char(25) NOT NULL", "r_comment varchar(152) NOT NULL"],
            Table::Nation => &[
                "n_nationkey integer NOT NULL",
                "n_name char(25) NOT NULL",
                "n_regionkey integer NOT NULL",
                "n_comment varchar(152) NOT NULL",
            ],
            Table::Supplier => &[
                "s_suppkey integer NOT NULL",
                "s_name char(25) NOT NULL",
                "s_address varchar(40) NOT NULL",
                "s_nationkey integer NOT NULL",
                "s_phone char(15) NOT NULL",
                "s_acctbal numeric(15,2) NOT NULL",
                "s_comment varchar(101) NOT NULL",
            ],
            Table::Part => &[
                "p_partkey integer NOT NULL",
                "p_name varchar(55) NOT NULL",
                "p_mfgr char(25) NOT NULL",
                "p_brand char(10) NOT NULL",
                "p_type varchar(25) NOT NULL",
                "p_size integer NOT NULL",
                "p_container char(10) NOT NULL",
                "p_retailprice numeric(15,2) NOT NULL",
                "p_comment varchar(23) NOT NULL",
            ],
            Table::PartSupp => &[
                "ps_partkey integer NOT NULL",
                "ps_suppkey integer NOT NULL",
                "ps_availqty integer NOT NULL",
                "ps_supplycost numeric(15,2) NOT NULL",
                "ps_comment varchar(199) NOT NULL",
            ],
            Table::Customer => &[
                "c_custkey integer NOT NULL",
                "c_name varchar(25) NOT NULL",
                "c_address varchar(40) NOT NULL",
                "c_nationkey integer NOT NULL",
                "c_phone char(15) NOT NULL",
                "c_acctbal numeric(15,2) NOT NULL",
                "c_mktsegment char(10) NOT NULL",
                "c_comment varchar(117) NOT NULL",
            ],
            Table::Orders => &[
                "o_orderkey bigint NOT NULL",
                "o_custkey integer NOT NULL",
                "o_orderstatus char(1) NOT NULL",
                "o_totalprice numeric(15,2) NOT NULL",
                "o_orderdate date NOT NULL",
                "o_orderpriority char(15) NOT NULL",
                "o_clerk char(15) NOT NULL",
                "o_shippriority integer NOT NULL",
                "o_comment varchar(79) NOT NULL",
            ],
            Table::LineItem => &[
                "l_orderkey bigint NOT NULL",
                "l_partkey integer NOT NULL",
                "l_suppkey integer NOT NULL",
                "l_linenumber integer NOT NULL",
                "l_quantity numeric(15,2) NOT NULL",
                "l_extendedprice numeric(15,2) NOT NULL",
                "l_discount numeric(15,2) NOT NULL",
                "l_tax numeric(15,2) NOT NULL",
                "l_returnflag char(1) NOT NULL",
                "l_linestatus char(1) NOT NULL",
                "l_shipdate date NOT NULL",
                "l_commitdate date NOT NULL",
                "l_receiptdate date NOT NULL",
                "l_shipinstruct char(25) NOT NULL",
                "l_shipmode char(10) NOT NULL",
                "l_comment varchar(44) NOT NULL",
            ],
        }
    }

    /// The columns' names, joined by commas: the first line of a CSV file.
    pub(crate) fn header(self) -> String {
        let names: Vec<&str> = self.columns().iter().map(|column| column.split(' ').next().unwrap_or(column)).collect();
        names.join(",")
    }

    fn primary_key(self) -> &'static str {
        match self {
            Table::Region => "PRIMARY KEY (r_regionkey)",
            Table::Nation => "PRIMARY KEY (n_nationkey)",
            Table::Supplier => "PRIMARY KEY (s_suppkey)",
            Table::Part => "PRIMARY KEY (p_partkey)",
            Table::PartSupp => "PRIMARY KEY (ps_partkey, ps_suppkey)",
            Table::Customer => "PRIMARY KEY (c_custkey)",
            Table::Orders => "PRIMARY KEY (o_orderkey)",
            Table::LineItem => "PRIMARY KEY (l_orderkey, l_linenumber)",
        }
    }

    fn foreign_keys(self) -> &'static [&'static str] {
        match self {
            Table::Region | Table::Part => &[],
            Table::Nation => &["FOREIGN KEY (n_regionkey) REFERENCES region (r_regionkey)"],
            Table::Supplier => &["FOREIGN KEY (s_nationkey) REFERENCES nation (n_nationkey)"],
            Table::PartSupp => {
                &["FOREIGN KEY (ps_partkey) REFERENCES part (p_partkey)", "FOREIGN KEY (ps_suppkey) REFERENCES supplier (s_suppkey)"]
            }
            Table::Customer => &["FOREIGN KEY (c_nationkey) REFERENCES nation (n_nationkey)"],
            Table::Orders => &["FOREIGN KEY (o_custkey) REFERENCES customer (c_custkey)"],
            Table::LineItem => &[
                "FOREIGN KEY (l_orderkey) REFERENCES orders (o_orderkey)",
                "FOREIGN KEY (l_partkey, l_suppkey) REFERENCES partsupp (ps_partkey, ps_suppkey)",
            ],
        }
    }
}
