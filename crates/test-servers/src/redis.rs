//! A private redis-server.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, binary, connect};

/// A redis-server of the caller's own, empty at the start, without persistence, ended on drop.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    directory: TempDir,
    options: RedisBuilder,
}

/// What a [`RedisServer`] is started with.
#[derive(Debug, Clone, Default)]
pub struct RedisBuilder {
    binary: Option<PathBuf>,
    password: Option<String>,
    replica_of: Option<u16>,
    arguments: Vec<String>,
}

impl RedisBuilder {
    /// Starts this binary instead of the one that the environment names.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Requires this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Starts a read-only replica of `127.0.0.1:port`, which may be a proxy; a password is taken to be the master's too.
    #[must_use]
    pub fn replica_of(mut self, port: u16) -> Self {
        self.replica_of = Some(port);
        self
    }

    /// Appends arguments in redis-server's own form, such as `["--maxmemory", "10mb"]`.
    #[must_use]
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// When the binary is missing or the server does not come up within 20 s.
    pub fn start(self) -> io::Result<RedisServer> {
        let directory = tempfile::tempdir()?;
        let process = Process::start(|port| self.command(port, &directory), answers)?;
        Ok(RedisServer { process, directory, options: self })
    }

    fn command(&self, port: u16, directory: &TempDir) -> Command {
        let mut command =
            Command::new(self.binary.clone().map_or_else(|| binary("MTC_REDIS_SERVER", "redis-server"), Into::into));
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        // From disk a replica is in step within 0.2 s; without one it may take another second to be sent the first write.
        command.args(["--repl-diskless-sync", "no"]);
        command.arg("--dir").arg(directory.path());
        if let Some(password) = &self.password {
            command.args(["--requirepass", password, "--masterauth", password]);
        }
        if let Some(master) = self.replica_of {
            command.args(["--replicaof", "127.0.0.1", &master.to_string(), "--replica-read-only", "yes"]);
        }
        command.args(&self.arguments);
        command
    }
}

impl RedisServer {
    /// Starts a server with default options.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Options for a server.
    #[must_use]
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// `redis://…` with the password if one is required.
    #[must_use]
    pub fn url(&self) -> String {
        let user = self.options.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{}", self.port())
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.process.port
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
    /// As [`RedisBuilder::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.forget_snapshot()?;
        let (options, directory) = (&self.options, &self.directory);
        self.process = Process::start_on(self.process.port, |port| options.command(port, directory), answers)?;
        Ok(())
    }

    /// Sends one command and answers the raw reply: for what a test must do behind the cache's back.
    ///
    /// # Errors
    /// When the server does not answer within a second.
    pub fn command(&self, parts: &[&str]) -> io::Result<String> {
        let mut request = Vec::new();
        if let Some(password) = &self.options.password {
            encode(&mut request, &["AUTH", password]);
        }
        encode(&mut request, parts);
        encode(&mut request, &["QUIT"]);
        let mut stream = connect(self.port())?;
        stream.write_all(&request)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let reply = String::from_utf8_lossy(&reply);
        let greeting = if self.options.password.is_some() { "+OK\r\n" } else { "" };
        let reply = reply.strip_prefix(greeting).unwrap_or(&reply);
        Ok(reply.strip_suffix("+OK\r\n").unwrap_or(reply).to_owned())
    }

    /// Replication leaves one on both sides, and a server loads what it finds.
    fn forget_snapshot(&self) -> io::Result<()> {
        match fs::remove_file(self.directory.path().join("dump.rdb")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn encode(request: &mut Vec<u8>, parts: &[&str]) {
    request.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        request.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
}

/// Any complete reply, `-NOAUTH` included, means that the server serves.
fn answers(port: u16) -> bool {
    let ping = || -> io::Result<bool> {
        let mut stream = connect(port)?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply)?;
        Ok(reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAU"))
    };
    ping().unwrap_or(false)
}
