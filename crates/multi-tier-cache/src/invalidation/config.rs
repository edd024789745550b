//! Where invalidations are announced.

/// The invalidation bus of the established API. Written literally by users: these fields and no others.
#[derive(Debug, Clone)]
pub struct InvalidationConfig {
    /// Pub/sub channel of the messages.
    pub channel: String,
    /// Whether plain writes are announced like invalidations.
    pub auto_broadcast_on_write: bool,
    /// Whether every invalidation is recorded in a stream.
    pub enable_audit_stream: bool,
    /// The stream's key.
    pub audit_stream: String,
    /// About how many entries the stream keeps; `None` keeps all.
    pub audit_stream_maxlen: Option<usize>,
}

impl Default for InvalidationConfig {
    fn default() -> Self {
        Self {
            channel: "cache:invalidate".to_owned(),
            auto_broadcast_on_write: false,
            enable_audit_stream: false,
            audit_stream: "cache:invalidations".to_owned(),
            audit_stream_maxlen: Some(10_000),
        }
    }
}
