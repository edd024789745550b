//! What an instance sent and received.

/// Messages of the invalidation bus since the instance was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidationStats {
    /// Messages sent; counted before the verb that sent one returns.
    pub messages_sent: u64,
    /// Messages received, of any type.
    pub messages_received: u64,
    /// `Remove` messages received.
    pub removes_received: u64,
    /// `Update` messages received.
    pub updates_received: u64,
    /// `RemovePattern` messages received.
    pub patterns_received: u64,
    /// `RemoveBulk` messages received.
    pub bulk_removes_received: u64,
    /// Messages that could not be understood or applied.
    pub processing_errors: u64,
}
