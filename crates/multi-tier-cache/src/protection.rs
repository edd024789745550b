//! The protections of the protocol, one name each, so that a model or a test can switch one off and must then find a
//! failure: a checker that misses a known defect proves nothing.
//!
//! Every protection is a constant `true`, and costs nothing, unless the crate is built for the model checker or with
//! the feature `test-util`.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Protection {
    /// A fill is refused when its key was revoked after the stamp was taken.
    StampBeforeFill,
    /// A copy from a lower tier is refused when another value was filled after the stamp was taken.
    NewerValueStays,
    /// A revocation makes the key's flights unjoinable.
    NoLateJoiners,
    /// A cancelled leader hands over to a waiter.
    HandOver,
    /// The stamp of a waiter that takes over is taken then, not when it joined.
    FreshStampAtHandOver,
    /// A revocation drops local copies under the lock that fills take.
    DropUnderLock,
    /// A put or removal revokes a second time when it is done.
    RevokeAtTheEnd,
    /// A shared tier is filled only under a lease.
    FillUnderLease,
    /// Every load has a lease token of its own.
    TokenPerLoad,
    /// A fill whose lease is gone is refused.
    AbsenceRefuses,
    /// Shared copies are removed before the message is published.
    RemoveBeforePublish,
    /// A message that does not follow the last one, or a tail ahead of it, starts a resync.
    GapDetection,
    /// Lost invalidations are replayed from the journal.
    Replay,
    /// A removal by pattern or of everything moves the fence.
    Fence,
    /// A tagged value is compared with the tags' tokens, when it is stored and when it is read.
    TagCheck,
    /// A put leaves its own token as the lease.
    PutUnderLease,
    /// While a tombstone lives, nothing is read below the coordinator.
    Tombstone,
    /// A write below the coordinator is taken back if its key was revoked meanwhile.
    TakeBack,
    /// What was not proven fresh within the bound is bypassed or marked.
    StalenessBound,
    /// A key whose removal is still to be made up for is read from its source only.
    PendingIsNotRead,
    /// A tail whose history is not one's own begins a new epoch.
    ForkDetection,
    /// A read at a position bypasses what may not reflect it.
    AtLeast,
}

#[cfg(not(any(all(test, model_check), feature = "test-util")))]
impl Protection {
    #[inline]
    #[expect(clippy::unused_self, reason = "tests ask it")]
    pub(crate) const fn is_on(self) -> bool {
        true
    }
}

#[cfg(any(all(test, model_check), feature = "test-util"))]
mod switch {
    use std::fmt;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Protection;

    static OFF: AtomicU64 = AtomicU64::new(0);

    impl Protection {
        #[inline]
        pub(crate) fn is_on(self) -> bool {
            OFF.load(Ordering::Relaxed) & self.bit() == 0
        }

        /// Switches this one off in the whole process until the guard is dropped. Tests that do so must not run beside
        /// others.
        #[must_use]
        pub fn without(self) -> Off {
            Self::without_all(&[self])
        }

        /// The same for several.
        #[must_use]
        pub fn without_all(protections: &[Self]) -> Off {
            OFF.store(protections.iter().fold(0, |bits, protection| bits | protection.bit()), Ordering::SeqCst);
            Off(())
        }

        const fn bit(self) -> u64 {
            1 << self as u32
        }
    }

    /// Restores every protection when dropped.
    pub struct Off(());

    impl fmt::Debug for Off {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Off({:b})", OFF.load(Ordering::Relaxed))
        }
    }

    impl Drop for Off {
        fn drop(&mut self) {
            OFF.store(0, Ordering::SeqCst);
        }
    }
}
