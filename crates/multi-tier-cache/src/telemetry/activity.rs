//! What can happen to a request.

/// What was asked of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// A read, by whatever verb: `get`, `get_or_load`, `fetch` and their relatives.
    Get,
    /// A run of a loader.
    Load,
    /// A refresh in the background, from the source or from a lower tier.
    Refresh,
    /// A put.
    Put,
    /// A removal: of keys, by pattern, by tag, of everything.
    Remove,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Activity {
    /// A tier had the value, fresh or stale within its window.
    Hit,
    /// No tier had a value, whether or not a loader then made one.
    Miss,
    /// An entry was found whose time had ended; a miss, or a hit further below, follows.
    Expired,
    /// A value was put.
    Inserted,
    /// Keys were removed.
    Invalidated,
    /// A refresh in the background brought a value.
    RefreshHit,
    /// A refresh in the background brought none.
    RefreshMiss,
    /// A stale value was answered because its load failed or was too slow.
    Fallback,
    /// A value was copied from a lower tier into those above.
    Promotion,
    /// It failed.
    Error,
    /// A load brought a value, or that there is none.
    Ok,
}

/// Every operation, in the order of the labels.
pub(crate) const OPERATIONS: [Operation; 5] =
    [Operation::Get, Operation::Load, Operation::Refresh, Operation::Put, Operation::Remove];

/// What can come of each operation: the series of the metric of events.
pub(crate) const OUTCOMES: [(Operation, Activity); 14] = [
    (Operation::Get, Activity::Hit),
    (Operation::Get, Activity::Miss),
    (Operation::Get, Activity::Expired),
    (Operation::Get, Activity::Fallback),
    (Operation::Get, Activity::Promotion),
    (Operation::Get, Activity::Error),
    (Operation::Load, Activity::Ok),
    (Operation::Load, Activity::Error),
    (Operation::Refresh, Activity::RefreshHit),
    (Operation::Refresh, Activity::RefreshMiss),
    (Operation::Put, Activity::Inserted),
    (Operation::Put, Activity::Error),
    (Operation::Remove, Activity::Invalidated),
    (Operation::Remove, Activity::Error),
];

impl Operation {
    /// Its name in labels and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Load => "load",
            Self::Refresh => "refresh",
            Self::Put => "put",
            Self::Remove => "remove",
        }
    }
}

impl Activity {
    pub(crate) const COUNT: usize = Self::Ok as usize + 1;

    /// Its name in labels and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Inserted => "inserted",
            Self::Invalidated => "invalidated",
            Self::RefreshHit => "refresh_hit",
            Self::RefreshMiss => "refresh_miss",
            Self::Fallback => "fallback",
            Self::Promotion => "promotion",
            Self::Error => "error",
            Self::Ok => "ok",
        }
    }
}
