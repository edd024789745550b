//! Which hits of a lower tier are copied upwards.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{CacheError, CacheResult};

/// A user's rule: promote this key with this value, found in the tier of this level?
pub(crate) type PromotionCondition = Arc<dyn Fn(&str, &Bytes, usize) -> bool + Send + Sync>;

/// How a tier promotes its hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promotion {
    Never,
    /// One hit in this many, by lot.
    OneIn(usize),
}

impl Promotion {
    pub(crate) fn new(enabled: bool, frequency: usize, level: usize) -> CacheResult<Self> {
        match (enabled, frequency) {
            (_, 0) => Err(CacheError::ConfigError(format!(
                "the promotion frequency of tier {level} is 0; use 1 to promote every hit, or with_promotion(false)"
            ))),
            (true, one_in) => Ok(Self::OneIn(one_in)),
            (false, _) => Ok(Self::Never),
        }
    }

    /// Draws the lot for one hit.
    pub(crate) fn draw(self) -> bool {
        match self {
            Self::Never => false,
            Self::OneIn(1) => true,
            Self::OneIn(one_in) => fastrand::usize(..one_in) == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_n_hits_is_promoted() {
        let promotion = Promotion::new(true, 10, 2).expect("valid");
        let drawn = (0..100_000).filter(|_| promotion.draw()).count();
        assert!((9_000..11_000).contains(&drawn), "{drawn} of 100,000");
        assert!((0..1_000).all(|_| Promotion::OneIn(1).draw()));
        assert!(!(0..1_000).any(|_| Promotion::Never.draw()));
    }

    #[test]
    fn a_frequency_of_zero_is_refused() {
        assert!(Promotion::new(true, 0, 2).is_err());
        assert!(Promotion::new(false, 0, 2).is_err());
    }
}
