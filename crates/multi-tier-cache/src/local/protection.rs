//! The protections of this folder, one name each, so that the model can switch one off and must then find a failure.
//!
//! Outside the model every protection is a constant `true` and costs nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// A fill is refused when its key was revoked after the stamp was taken.
    StampBeforeFill = 1,
    /// A copy from a lower tier is refused when another value was filled after the stamp was taken.
    NewerValueStays = 2,
    /// A revocation makes the key's flights unjoinable.
    NoLateJoiners = 4,
    /// A cancelled leader hands over to a waiter.
    HandOver = 8,
    /// The stamp of a waiter that takes over is taken then, not when it joined.
    FreshStampAtHandOver = 16,
    /// A revocation drops local copies under the lock that fills take.
    DropUnderLock = 32,
    /// A put or removal revokes a second time when it is done.
    RevokeAtTheEnd = 64,
}

#[cfg(not(all(test, model_check)))]
impl Protection {
    #[inline]
    #[expect(clippy::unused_self, reason = "the model asks it")]
    pub(crate) const fn is_on(self) -> bool {
        true
    }
}

#[cfg(all(test, model_check))]
mod switch {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Protection;

    static OFF: AtomicU32 = AtomicU32::new(0);

    impl Protection {
        pub(crate) fn is_on(self) -> bool {
            OFF.load(Ordering::Relaxed) & self as u32 == 0
        }

        /// Switches this one off until the guard is dropped; the model's tests run one at a time.
        pub(crate) fn without(self) -> impl Drop {
            OFF.store(self as u32, Ordering::Relaxed);
            Restore
        }
    }

    struct Restore;

    impl Drop for Restore {
        fn drop(&mut self) {
            OFF.store(0, Ordering::Relaxed);
        }
    }
}
