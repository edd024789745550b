//! What all processes share: a file of cells, each written by one process at a time and read by all.
//!
//! For every key it holds the database's version, the latest acknowledged version, a position in the log that covers
//! it, and when each version was acknowledged. A cell carries its own check, so that a reader tells a torn one apart.

use std::fs::{File, OpenOptions};
use std::hint;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use multi_tier_cache::Position;
use rustix::time::{ClockId, clock_gettime};

use super::keys::Verb;

const CELL_BYTES: usize = 16;
const CELL: u64 = CELL_BYTES as u64;
const LOSSES_MAX: u64 = 1_000;
const HEADER: u64 = CELL * (1 + 2 * LOSSES_MAX);
const SLOT: usize = 128;
const ACK: u64 = 2 * CELL;
/// Acknowledgements that are remembered of one key.
const ACKS: u64 = 1 << 15;
const KEY: u64 = 2 * CELL + SLOT as u64 + ACKS * ACK;
const TRIES: usize = 1_000_000;

/// Now on `CLOCK_MONOTONIC`, which is one for all processes of a machine; in nanoseconds.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// The shared file.
#[derive(Debug)]
pub(crate) struct Board(File);

/// An acknowledged invalidation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) version: u64,
    pub(crate) at: u64,
    pub(crate) verb: Verb,
}

impl Board {
    pub(crate) fn create(path: &Path, keys: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(key_at(keys))?;
        Ok(Self(file))
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    /// The version of `key` in the database.
    pub(crate) fn version(&self, key: usize) -> io::Result<u64> {
        self.cell(key_at(key))
    }

    /// Called by the key's writer alone.
    pub(crate) fn set_version(&self, key: usize, version: u64) -> io::Result<()> {
        self.set_cell(key_at(key), version)
    }

    /// The latest acknowledged version: no read that begins from now on may be older.
    pub(crate) fn acknowledged(&self, key: usize) -> io::Result<u64> {
        self.cell(key_at(key) + CELL)
    }

    /// Called by the key's writer alone.
    pub(crate) fn acknowledge(&self, key: usize, ack: Ack, position: Option<Position>) -> io::Result<()> {
        let slot = ack_at(key, ack.version);
        self.set_cell(slot + CELL, ack.verb.code())?;
        self.set_cell(slot, ack.at)?;
        self.set_cell(key_at(key) + CELL, ack.version)?;
        match position {
            Some(position) => self.set_position(key, ack.version, position),
            None => Ok(()),
        }
    }

    /// The earliest acknowledgement of a version after `version`, up to `last`.
    pub(crate) fn first_after(&self, key: usize, version: u64, last: u64) -> io::Result<Option<Ack>> {
        for version in (version + 1).max(last.saturating_sub(ACKS - 1))..=last {
            let slot = ack_at(key, version);
            let at = self.cell(slot)?;
            if at != 0 {
                return Ok(Some(Ack { version, at, verb: Verb::from_code(self.cell(slot + CELL)?) }));
            }
        }
        Ok(None)
    }

    /// An acknowledged version and its place in the log.
    pub(crate) fn position(&self, key: usize) -> io::Result<Option<(u64, Position)>> {
        let mut slot = [0; SLOT];
        for _ in 0..TRIES {
            self.0.read_exact_at(&mut slot, key_at(key) + 2 * CELL)?;
            if slot == [0; SLOT] {
                return Ok(None);
            }
            let (body, check) = slot.split_at(SLOT - 8);
            if digest(body).to_le_bytes() == check {
                let (version, text) = body.split_at(8);
                let text = String::from_utf8_lossy(text);
                let position = text.trim_end_matches('\0').parse().map_err(io::Error::other)?;
                return Ok(Some((word(version), position)));
            }
            hint::spin_loop();
        }
        Err(io::Error::other("a position stays torn"))
    }

    fn set_position(&self, key: usize, version: u64, position: Position) -> io::Result<()> {
        let mut slot = version.to_le_bytes().to_vec();
        slot.extend_from_slice(position.to_string().as_bytes());
        slot.resize(SLOT - 8, 0);
        slot.extend_from_slice(&digest(&slot).to_le_bytes());
        self.0.write_all_at(&slot, key_at(key) + 2 * CELL)
    }

    /// Notes that a server begins to forget. Called by the supervisor alone, like its end.
    pub(crate) fn loss_begins(&self) -> io::Result<()> {
        let count = self.cell(0)?;
        let at = CELL * (1 + 2 * (count % LOSSES_MAX));
        self.set_cell(at, now())?;
        self.set_cell(at + CELL, u64::MAX)?;
        self.set_cell(0, count + 1)
    }

    pub(crate) fn loss_ends(&self) -> io::Result<()> {
        let last = self.cell(0)?.saturating_sub(1) % LOSSES_MAX;
        self.set_cell(CELL * (2 + 2 * last), now())
    }

    /// Whether a read may miss what was acknowledged at `acknowledged` because a server forgot it: it overlaps the time
    /// from a loss to its `repair`. Answers how long after the loss it began.
    pub(crate) fn lost(&self, acknowledged: u64, read: (u64, u64), repair: Duration) -> io::Result<Option<Duration>> {
        for loss in (0..self.cell(0)?.min(LOSSES_MAX)).rev() {
            let at = CELL * (1 + 2 * loss);
            let (from, until) = (self.cell(at)?, self.cell(at + CELL)?);
            let since = Duration::from_nanos(read.0.saturating_sub(until));
            if acknowledged <= until && read.1 >= from && since <= repair {
                return Ok(Some(since));
            }
        }
        Ok(None)
    }

    fn cell(&self, at: u64) -> io::Result<u64> {
        let mut bytes = [0; CELL_BYTES];
        for _ in 0..TRIES {
            self.0.read_exact_at(&mut bytes, at)?;
            let (value, check) = bytes.split_at(8);
            if word(value) == !word(check) || bytes == [0; CELL_BYTES] {
                return Ok(word(value));
            }
            hint::spin_loop();
        }
        Err(io::Error::other("a cell stays torn"))
    }

    fn set_cell(&self, at: u64, value: u64) -> io::Result<()> {
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(!value).to_le_bytes());
        self.0.write_all_at(&bytes, at)
    }
}

fn key_at(key: usize) -> u64 {
    HEADER + KEY * key as u64
}

fn ack_at(key: usize, version: u64) -> u64 {
    key_at(key) + 2 * CELL + SLOT as u64 + version % ACKS * ACK
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
