//! Names of what a member of a group counts, beside what
//! [every source](crate::metrics) does.

/// Rebalances that concerned this member, by `kind`: `assigned`, `revoked`, or `lost` where
/// the partitions were somebody else's before they could be given back.
pub const REBALANCES: &str = "fanout_group_rebalances_total";
/// Partitions that were given back before all that was handed out of them was accepted: it
/// is handed out twice.
pub const OVERDUE: &str = "fanout_group_drains_overdue_total";
/// Commits, by `result`: `ok` or `failed`. What failed is tried again.
pub const COMMITS: &str = "fanout_group_commits_total";
/// Times that reading paused because nobody took what was read.
pub const PAUSES: &str = "fanout_group_pauses_total";
/// Partitions that this member has.
pub const ASSIGNED: &str = "fanout_group_assigned_partitions";
