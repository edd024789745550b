//! A private memcached.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::process::Command;

use crate::process::{Process, binary, connect};

/// A memcached of the caller's own, empty at the start, ended on drop.
#[derive(Debug)]
pub struct MemcachedServer {
    process: Process,
    binary: OsString,
}

impl MemcachedServer {
    /// Starts a server with 64 MiB and waits until it answers.
    ///
    /// # Errors
    /// When the binary is missing or the server does not come up within 20 s.
    pub fn start() -> io::Result<Self> {
        Self::start_binary(binary("MTC_MEMCACHED", "memcached"))
    }

    /// Starts this binary instead of the one that the environment names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_binary(binary: impl Into<OsString>) -> io::Result<Self> {
        let binary = binary.into();
        Ok(Self { process: Process::start(|port| command(&binary, port), answers)?, binary })
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.process.port)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops the process in its tracks (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn pause(&self) -> io::Result<()> {
        self.process.pause()
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resume(&self) -> io::Result<()> {
        self.process.resume()
    }

    /// Ends the process at once (SIGKILL) and keeps the port for [`restart`](Self::restart).
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Starts an empty server on the same port; a running one is killed first.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process = Process::start_on(self.process.port, |port| command(&self.binary, port), answers)?;
        Ok(())
    }
}

fn command(binary: &OsStr, port: u16) -> Command {
    let mut command = Command::new(binary);
    command.args(["-l", "127.0.0.1", "-p", &port.to_string(), "-U", "0", "-m", "64", "-I", "16m", "-u", "root"]);
    command
}

fn answers(port: u16) -> bool {
    let version = || -> io::Result<bool> {
        let mut stream = connect(port)?;
        stream.write_all(b"version\r\n")?;
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        Ok(reply.starts_with(b"VERSION"))
    };
    version().unwrap_or(false)
}
