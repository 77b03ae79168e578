use datafusion::common::extensions_options;
use datafusion::config::ConfigExtension;

extensions_options! {
    /// Which of the rules run, and of what else can be switched off: the session's parameters `quire.…` of the same names.
    pub struct OptimizerOptions {
        /// Joins in the order of least estimated cost.
        pub join_reordering: bool, default = true
        /// IN and EXISTS filter the relation that has the key before that is joined with others.
        pub semi_join_pushdown: bool, default = true
        /// A grouped sub-query is computed only for the keys that the outer query asks for.
        pub magic_sets: bool, default = true
        /// A part that occurs twice in a query is computed once.
        pub shared_subplans: bool, default = true
        /// Numerics whose values fit into 64 bits are calculated with in 64.
        pub narrow_decimals: bool, default = true
        /// Scans keep the answers of joins' conditions in tables.
        pub tabulated_conditions: bool, default = true
        /// Scans are told which keys the other side of a join has.
        pub join_keys: bool, default = true
        /// Rows are grouped as they come where a table lies in the order of what they are grouped by.
        pub ordered_grouping: bool, default = true
        /// Groups that come one after the other, and few groups of short strings, are told without a hash table.
        pub direct_grouping: bool, default = true
    }
}

impl ConfigExtension for OptimizerOptions {
    const PREFIX: &'static str = "quire";
}

impl PartialEq for OptimizerOptions {
    fn eq(&self, other: &Self) -> bool {
        let OptimizerOptions {
            join_reordering,
            semi_join_pushdown,
            magic_sets,
            shared_subplans,
            narrow_decimals,
            tabulated_conditions,
            join_keys,
            ordered_grouping,
            direct_grouping,
        } = self;
        *join_reordering == other.join_reordering
            && *semi_join_pushdown == other.semi_join_pushdown
            && *magic_sets == other.magic_sets
            && *shared_subplans == other.shared_subplans
            && *narrow_decimals == other.narrow_decimals
            && *tabulated_conditions == other.tabulated_conditions
            && *join_keys == other.join_keys
            && *ordered_grouping == other.ordered_grouping
            && *direct_grouping == other.direct_grouping
    }
}
