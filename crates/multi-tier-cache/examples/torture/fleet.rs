//! The worker processes: started, ordered about, watched, stopped and ended.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::report::{Kind, Line, Order, Part, Report, Violation};

/// Who says nothing new for this long hangs.
const HANG: Duration = Duration::from_secs(20);
const START: Duration = Duration::from_secs(20);

pub(crate) struct Fleet {
    workers: Vec<Process>,
    lines: Receiver<(usize, Option<Line>)>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) sum: Report,
    reports: usize,
}

struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    ready: bool,
    settled: bool,
    operations: u64,
    advanced: Instant,
}

impl Fleet {
    pub(crate) fn start(parts: &[Part]) -> Result<Self> {
        let (sender, lines) = channel();
        let mut fleet = Self { workers: Vec::new(), lines, violations: Vec::new(), sum: Report::default(), reports: 0 };
        for part in parts {
            fleet.workers.push(Process::start(part, sender.clone())?);
        }
        fleet.until(START, |fleet| fleet.workers.iter().all(|worker| worker.ready)).context("the workers")?;
        Ok(fleet)
    }

    pub(crate) fn order(&mut self, order: Order) -> Result<()> {
        let line = serde_json::to_string(&order)? + "\n";
        for worker in &mut self.workers {
            worker.settled = false;
            worker.advanced = Instant::now();
            let orders = worker.orders.as_mut().context("no way to give orders")?;
            orders.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    pub(crate) fn settle(&mut self, patience: Duration) -> Result<()> {
        self.order(Order::Settle)?;
        self.until(patience, |fleet| fleet.workers.iter().all(|worker| worker.settled)).context("settling")
    }

    pub(crate) fn report(&mut self, patience: Duration) -> Result<()> {
        self.order(Order::Check)?;
        self.until(patience, |fleet| fleet.reports == fleet.workers.len()).context("reporting")
    }

    /// Takes what the workers say for a while.
    pub(crate) fn listen(&mut self, pause: Duration) -> Result<()> {
        let until = Instant::now() + pause;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((worker, line)) => self.take(worker, line)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("all workers are gone"),
            }
        }
    }

    /// Notes who has not advanced for too long.
    pub(crate) fn look_for_hangs(&mut self) {
        for (id, worker) in self.workers.iter_mut().enumerate() {
            if worker.advanced.elapsed() > HANG {
                worker.advanced = Instant::now();
                let text = format!("worker {id} has not ended an operation for {HANG:?}");
                self.violations.push(Violation { kind: Kind::Hang, text, from: 0, until: 0 });
            }
        }
    }

    pub(crate) fn pause(&self, worker: usize) -> Result<()> {
        self.signal(worker, Signal::STOP)
    }

    pub(crate) fn resume(&self, worker: usize) -> Result<()> {
        self.signal(worker, Signal::CONT)
    }

    fn signal(&self, worker: usize, signal: Signal) -> Result<()> {
        let worker = self.workers.get(worker).context("no such worker")?;
        let pid = i32::try_from(worker.child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    fn until(&mut self, patience: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !done(self) {
            if Instant::now() > deadline {
                bail!("not done within {patience:?}");
            }
            self.listen(Duration::from_millis(20))?;
        }
        Ok(())
    }

    fn take(&mut self, id: usize, line: Option<Line>) -> Result<()> {
        let Some(worker) = self.workers.get_mut(id) else { return Ok(()) };
        match line {
            None => bail!("worker {id} has ended: {:?}", worker.child.wait()),
            Some(Line::Ready) => worker.ready = true,
            Some(Line::Settled) => worker.settled = true,
            Some(Line::Alive(operations)) => {
                if operations != worker.operations {
                    (worker.operations, worker.advanced) = (operations, Instant::now());
                }
            }
            Some(Line::Violation(violation)) => self.violations.push(violation),
            Some(Line::Report(report)) => {
                self.sum.add(&report);
                self.reports += 1;
            }
        }
        Ok(())
    }
}

impl Process {
    /// In a process group of its own, so that Ctrl-C reaches the supervisor alone.
    fn start(part: &Part, lines: Sender<(usize, Option<Line>)>) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--worker").arg(serde_json::to_string(part)?).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().context("no stdout")?;
        let (id, orders) = (part.id, child.stdin.take());
        thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(line) => drop(lines.send((id, Some(line)))),
                    Err(_) => eprintln!("worker {id}: {line}"),
                }
            }
            let _ = lines.send((id, None));
        });
        Ok(Self { child, orders, ready: false, settled: false, operations: 0, advanced: Instant::now() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
