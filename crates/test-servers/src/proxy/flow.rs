//! One way of a connection: a bounded queue of what arrived, and the mode that decides when it leaves.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const CHUNK: usize = 16 * 1024;
/// Reads in one turn, so that one busy connection does not starve the rest.
const READS: usize = 16;
/// Beyond this nothing more is read: the sender's own buffers fill up.
const QUEUED_LIMIT: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Forward this long after arrival.
    Pass(Duration),
    Hold,
    Blackhole,
}

impl Mode {
    pub(super) const PASS: Self = Self::Pass(Duration::ZERO);
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    queue: VecDeque<(Instant, Piece)>,
    queued: usize,
    /// How much of the first piece has left.
    left: usize,
    /// The sender will send no more.
    ended: bool,
    /// The end has been delivered.
    over: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// The sender closed; kept in every mode, since a connection whose end is lost would never end.
    End,
    /// The sender's connection broke.
    Failure,
}

/// What a write achieved.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    /// The connection broke, on either side.
    pub(super) failed: bool,
}

impl Flow {
    /// The way from a server that could not be reached.
    pub(super) fn failed() -> Self {
        let queue = VecDeque::from([(Instant::now(), Piece::Failure)]);
        Self { queue, ended: true, ..Self::default() }
    }

    pub(super) fn wants_more(&self) -> bool {
        !self.ended && self.queued < QUEUED_LIMIT
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// When the first piece may leave; never in a mode that keeps it.
    pub(super) fn due(&self, mode: Mode) -> Option<Instant> {
        match mode {
            Mode::Pass(delay) => self.queue.front().map(|(arrived, _)| *arrived + delay),
            Mode::Hold | Mode::Blackhole => None,
        }
    }

    pub(super) fn ready(&self, mode: Mode, now: Instant) -> bool {
        self.due(mode).is_some_and(|due| due <= now)
    }

    /// Takes in what the source has.
    pub(super) fn read(&mut self, mut source: &TcpStream, now: Instant, mut seen: impl FnMut(&[u8])) {
        let mut buffer = [0; CHUNK];
        for _ in 0..READS {
            if !self.wants_more() {
                return;
            }
            match source.read(&mut buffer) {
                Ok(0) => self.end(now, Piece::End),
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    seen(bytes);
                    self.queued += length;
                    self.queue.push_back((now, Piece::Bytes(bytes.to_vec())));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.end(now, Piece::Failure),
            }
        }
    }

    /// Lets out, in order, what the mode allows, at most `room` bytes; a sink that is missing swallows.
    pub(super) fn write(&mut self, sink: Option<&TcpStream>, mode: Mode, now: Instant, room: &mut usize) -> Written {
        let mut written = Written::default();
        if mode == Mode::Blackhole {
            self.swallow();
        }
        while self.ready(mode, now)
            && let Some((_, piece)) = self.queue.front()
        {
            match piece {
                Piece::Bytes(bytes) => {
                    let rest = bytes.get(self.left..).unwrap_or_default();
                    let rest = rest.get(..*room).unwrap_or(rest);
                    match send(sink, rest) {
                        Ok(0) => break,
                        Ok(length) => {
                            *room -= length;
                            written.bytes += length as u64;
                            self.advance(length);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => {
                            written.failed = error.kind() != ErrorKind::WouldBlock;
                            break;
                        }
                    }
                }
                Piece::End => {
                    let _ = sink.map(|sink| sink.shutdown(Shutdown::Write));
                    self.over = true;
                    self.queue.clear();
                }
                Piece::Failure => {
                    written.failed = true;
                    break;
                }
            }
        }
        written
    }

    fn end(&mut self, now: Instant, piece: Piece) {
        self.ended = true;
        self.queue.push_back((now, piece));
    }

    fn swallow(&mut self) {
        self.queue.retain(|(_, piece)| !matches!(piece, Piece::Bytes(_)));
        (self.queued, self.left) = (0, 0);
    }

    fn advance(&mut self, length: usize) {
        self.left += length;
        if let Some((_, Piece::Bytes(bytes))) = self.queue.front()
            && self.left >= bytes.len()
        {
            self.queued -= bytes.len();
            self.left = 0;
            self.queue.pop_front();
        }
    }
}

fn send(sink: Option<&TcpStream>, bytes: &[u8]) -> io::Result<usize> {
    sink.map_or(Ok(bytes.len()), |mut sink| sink.write(bytes))
}
