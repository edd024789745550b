//! The one place that chooses the lock: `parking_lot`, or the model checker's under `--cfg model_check`.

#[cfg(not(model_check))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

#[cfg(model_check)]
pub(crate) use checked::{Mutex, MutexGuard};

#[cfg(model_check)]
mod checked {
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
