//! Ctrl-C, listened for before anything is begun that must be ended in order.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC as Signal, ctrl_c};

/// Ctrl-C, which from now on does not end the process.
pub(crate) struct Interrupt(Signal);

impl Interrupt {
    /// # Errors
    /// If the system refuses.
    pub(crate) fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        let interrupt = signal(SignalKind::interrupt())?;
        #[cfg(windows)]
        let interrupt = ctrl_c()?;
        Ok(Self(interrupt))
    }

    /// Returns when it was pressed since [`listen`](Self::listen).
    pub(crate) async fn pressed(&mut self) {
        self.0.recv().await;
    }
}
