//! A server process: spawn on a free port, signal, end.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const START_BUDGET: Duration = Duration::from_secs(20);
const START_ATTEMPTS: usize = 5;
pub(crate) const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
}

impl Process {
    /// Starts `command(port)` on a free port, again on another if something else took it meanwhile.
    pub(crate) fn start(command: impl Fn(u16) -> Command, ready: impl Fn(u16) -> bool) -> io::Result<Self> {
        let mut last = io::Error::other("no attempt was made");
        for _ in 0..START_ATTEMPTS {
            match Self::start_on(free_port()?, &command, &ready) {
                Ok(process) => return Ok(process),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn start_on(
        port: u16,
        command: impl Fn(u16) -> Command,
        ready: impl Fn(u16) -> bool,
    ) -> io::Result<Self> {
        let mut command = command(port);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot start {}: {error}", command.get_program().to_string_lossy()),
                )
            })?;
        let mut process = Self { child, port };
        let deadline = Instant::now() + START_BUDGET;
        while !ready(port) {
            if let Some(status) = process.child.try_wait()? {
                return Err(io::Error::other(format!("the server on port {port} ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(ErrorKind::TimedOut, format!("no answer on port {port}")));
            }
            thread::sleep(POLL);
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns once every thread has stopped: until then the server may still answer.
    pub(crate) fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        waitpid(Some(self.id()?), WaitOptions::UNTRACED)?;
        Ok(())
    }

    pub(crate) fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(self.id()?, signal)?;
        Ok(())
    }

    fn id(&self) -> io::Result<Pid> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("the process has no pid"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

pub(crate) fn binary(variable: &str, name: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| name.into())
}
