//! The stores that ship with the crate. Each serves as any tier.
