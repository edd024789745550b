//! Switches protections of the library off, in builds with `test-util`: a run that stays clean then proves nothing.

use anyhow::{Result, bail};

/// Switches the protections with these names off in this process, for good.
#[cfg(feature = "test-util")]
pub(crate) fn switch_off(names: &[String]) -> Result<()> {
    use multi_tier_cache::testing::Protection;
    const ALL: [Protection; 22] = [
        Protection::StampBeforeFill,
        Protection::NewerValueStays,
        Protection::NoLateJoiners,
        Protection::HandOver,
        Protection::FreshStampAtHandOver,
        Protection::DropUnderLock,
        Protection::RevokeAtTheEnd,
        Protection::FillUnderLease,
        Protection::TokenPerLoad,
        Protection::AbsenceRefuses,
        Protection::RemoveBeforePublish,
        Protection::GapDetection,
        Protection::Replay,
        Protection::Fence,
        Protection::TagCheck,
        Protection::PutUnderLease,
        Protection::Tombstone,
        Protection::TakeBack,
        Protection::StalenessBound,
        Protection::PendingIsNotRead,
        Protection::ForkDetection,
        Protection::AtLeast,
    ];
    let mut off = Vec::new();
    for name in names {
        match ALL.into_iter().find(|protection| format!("{protection:?}") == *name) {
            Some(protection) => off.push(protection),
            None => bail!("there is no protection {name}; there are {ALL:?}"),
        }
    }
    if !off.is_empty() {
        std::mem::forget(Protection::without_all(&off));
    }
    Ok(())
}

/// There is nothing to switch.
#[cfg(not(feature = "test-util"))]
pub(crate) fn switch_off(names: &[String]) -> Result<()> {
    if !names.is_empty() {
        bail!("protections can be switched off with the feature test-util only");
    }
    Ok(())
}
