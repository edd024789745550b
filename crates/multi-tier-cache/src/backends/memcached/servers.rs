//! Which server holds which key, and requests that concern many keys.

use futures_util::future::join_all;
use memcache::exp::Operation;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::link::Link;
use crate::error::{CacheError, CacheResult};

pub(crate) struct Servers(Vec<Link>);

impl Servers {
    /// Of at least one address.
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        Self(addresses.into_iter().map(Link::new).collect())
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.0
    }

    /// The link to the server of a key.
    pub(crate) fn of(&self, name: &str) -> CacheResult<&Link> {
        let none = || CacheError::ConfigError("no Memcached server is configured".into());
        self.0.get(self.place(name)).ok_or_else(none)
    }

    /// The place of the server of a key: the one that scores highest with it (rendezvous hashing), so that adding or
    /// removing a server moves only that server's keys. The hash is the same in every process and version.
    pub(crate) fn place(&self, name: &str) -> usize {
        let key = xxh3_64(name.as_bytes());
        let score = |link: &Link| xxh3_64_with_seed(link.address().as_bytes(), key);
        self.0.iter().enumerate().max_by_key(|(_, link)| score(link)).map_or(0, |(place, _)| place)
    }

    /// Runs every request at its [place](Self::place), in one round trip to each server concerned, and answers in the
    /// order of the requests.
    pub(crate) async fn batch<O>(
        &self,
        operation: &'static str,
        requests: Vec<(usize, O)>,
    ) -> CacheResult<Vec<O::Output>>
    where
        O: Operation + Send + Sync,
        O::Output: Send,
    {
        let mut shares: Vec<_> = self.0.iter().map(|link| (link, Vec::new(), Vec::new())).collect();
        let asked = requests.len();
        for (position, (place, request)) in requests.into_iter().enumerate() {
            if let Some((_, positions, share)) = shares.get_mut(place) {
                positions.push(position);
                share.push(request);
            }
        }
        let exchanges = shares.into_iter().filter(|(_, positions, _)| !positions.is_empty()).map(
            |(link, positions, share)| async move {
                let run = |client: memcache::exp::AsyncMetaClient| async move {
                    client.run_many(share).await?.into_iter().collect::<Result<Vec<_>, _>>()
                };
                Ok::<_, CacheError>(positions.into_iter().zip(link.exchange(operation, run).await?))
            },
        );
        let mut answers = Vec::with_capacity(asked);
        for share in join_all(exchanges).await {
            answers.extend(share?);
        }
        answers.sort_unstable_by_key(|(position, _)| *position);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(addresses: &[&str]) -> Servers {
        Servers::new(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_spread_and_only_those_of_a_removed_server_move() {
        let (all, fewer) = (servers(&["a:1", "b:1", "c:1"]), servers(&["c:1", "a:1"]));
        let mut held = [0; 3];
        for n in 0..3_000 {
            let name = format!("key:{n}");
            let place = all.place(&name);
            if let Some(count) = held.get_mut(place) {
                *count += 1;
            }
            match place {
                0 => assert_eq!(fewer.place(&name), 1),
                2 => assert_eq!(fewer.place(&name), 0),
                _ => {}
            }
        }
        assert!(held.iter().all(|count| (800..1_200).contains(count)), "{held:?}");
    }

    // Another process, perhaps of another version, must look for a key where this one put it.
    #[test]
    fn the_server_of_a_key_never_changes() {
        let all = servers(&["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211"]);
        let places: Vec<_> =
            ["user:1", "user:2", "user:3", "session:abc", "ü", "mtc~x"].map(|key| all.place(key)).into();
        assert_eq!(places, PLACES);
    }

    const PLACES: [usize; 6] = [0, 0, 0, 0, 1, 2];
}
