//! Writes: first the database, then the invalidation; an acknowledgement is noted once the verb answered Ok.

use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use multi_tier_cache::{Arc, CacheResult, Position};
use tokio::time::{sleep, timeout};

use super::board::{Ack, now};
use super::keys::{Keys, Verb, value};
use super::report::Kind;
use super::worker::{HANG, Worker};

const PAUSE_MAX: u64 = 80;

/// What is written at once, and by which pattern it is found.
struct Write {
    verb: Verb,
    keys: Vec<usize>,
    tag: Option<usize>,
}

impl Worker {
    pub(crate) async fn write_forever(self: Arc<Self>, mut random: Rng) -> Result<()> {
        while self.is_running() {
            if random.u32(..100) == 0 {
                self.disturb(&mut random).await;
            } else {
                let write = self.any_write(&mut random);
                let patience = if random.u32(..100) < 4 { Duration::from_millis(random.u64(1..6)) } else { HANG };
                self.write(&write, patience).await?;
            }
            self.ended_one();
            sleep(Duration::from_millis(random.u64(..=PAUSE_MAX))).await;
        }
        Ok(())
    }

    fn any_write(&self, random: &mut Rng) -> Write {
        let me = self.part.id;
        let mut verb = match random.u32(..1_000) {
            0..380 => Verb::Remove,
            380..760 => Verb::Put,
            760..850 => Verb::RemoveMany,
            850..930 => Verb::RemoveTag,
            930..999 => Verb::RemovePattern,
            _ => Verb::Clear,
        };
        let tag = Keys::tag_to_write(random);
        let group = Some(self.keys.of(me, Some(tag))).filter(|group| !group.is_empty());
        let mut keys = group.unwrap_or_else(|| self.keys.of(me, None));
        let mut tag = self.keys.of(me, Some(tag)).first().map(|_| tag);
        match verb {
            Verb::Remove | Verb::Put => keys = random.choice(&keys).copied().into_iter().collect(),
            Verb::RemoveMany => {
                random.shuffle(&mut keys);
                keys.truncate(3);
            }
            Verb::RemoveTag => keys.retain(|key| self.keys.is_tagged(*key)),
            Verb::RemovePattern if random.u32(..50) == 0 => (tag, keys) = (None, self.keys.of(me, None)),
            Verb::RemovePattern => {}
            Verb::Clear => (tag, keys) = (None, self.keys.of(me, None)),
        }
        if verb == Verb::RemoveTag && tag.is_none() {
            verb = Verb::RemoveMany;
        }
        Write { verb, keys, tag }
    }

    async fn write(&self, write: &Write, patience: Duration) -> Result<()> {
        let mut versions = Vec::with_capacity(write.keys.len());
        for key in &write.keys {
            let version = self.board.version(*key)? + 1;
            self.board.set_version(*key, version)?;
            versions.push((*key, version));
        }
        self.count("writes");
        let began = now();
        match timeout(patience, self.invalidate(write, &versions)).await {
            Err(_) if patience == HANG => {
                let text = format!("{:?} of {:?} was not answered within {HANG:?}", write.verb, write.keys);
                self.violation(Kind::Hang, text, (began, now()));
            }
            Err(_) => self.count("cancelled writes"),
            Ok(Err(error)) => {
                self.count("writes not acknowledged");
                self.error("write", &error);
            }
            Ok(Ok(position)) => {
                let at = now();
                self.count("acknowledged");
                for (key, version) in versions {
                    self.board.acknowledge(key, Ack { version, at, verb: write.verb }, position)?;
                }
            }
        }
        Ok(())
    }

    async fn invalidate(&self, write: &Write, versions: &[(usize, u64)]) -> CacheResult<Option<Position>> {
        let names: Vec<String> = write.keys.iter().map(|key| self.keys.name(*key)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let me = self.part.id;
        match (write.verb, versions, names.as_slice()) {
            (Verb::Put, [(key, version)], [name]) => {
                self.cache.put(name, value(*key, *version), &self.keys.options(*key)).await
            }
            (Verb::Remove, _, [name]) => self.cache.remove(name).await,
            (Verb::RemoveTag, ..) => self.cache.remove_tag(&Keys::tag_name(me, write.tag.unwrap_or(0))).await,
            (Verb::RemovePattern, ..) => self.cache.remove_pattern(&Keys::pattern(me, write.tag)).await,
            (Verb::Clear, ..) => self.cache.clear().await,
            _ => self.cache.remove_many(&names).await,
        }
    }

    /// Invalidates somebody else's keys for nothing: nobody learns of its success.
    async fn disturb(&self, random: &mut Rng) {
        let key = random.usize(..self.keys.count);
        let name = self.keys.name(key);
        let outcome = match random.u32(..3) {
            0 => self.cache.remove(&name).await,
            1 => self.cache.remove_pattern(&format!("{name}*")).await,
            _ => self.cache.remove_tag(&self.keys.tag(key)).await,
        };
        self.count("needless removals");
        if let Err(error) = outcome {
            self.error("write", &error);
        }
    }

    /// Removes again what was not acknowledged.
    pub(crate) async fn acknowledge_all(&self) -> Result<()> {
        let began = Instant::now();
        for key in self.keys.of(self.part.id, None) {
            while self.board.acknowledged(key)? < self.board.version(key)? {
                self.write(&Write { verb: Verb::Remove, keys: vec![key], tag: None }, HANG).await?;
                if began.elapsed() > HANG {
                    let text = format!("{} cannot be removed although all is well", self.keys.name(key));
                    self.violation(Kind::Hang, text, (now(), now()));
                    return Ok(());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}
