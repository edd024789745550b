//! What anybody may publish on the channel: garbage, messages over the limit, forgeries.

use multi_tier_cache::defaults;

use crate::harness::{Outcome, fresh, holds, until};
use crate::instance::Instance;
use crate::world::{Kind, World};

fn errors(instance: &Instance) -> u64 {
    instance.cache.invalidation_stats().unwrap().processing_errors
}

/// Two instances that have a key and another one.
async fn fleet(kind: Kind) -> (World, Instance, Instance) {
    let world = World::new(kind);
    let (a, b) = (world.join().await, world.join().await);
    for key in ["k", "warm"] {
        a.load(key).await;
        b.load(key).await;
    }
    (world, a, b)
}

async fn stays_warm(instance: &Instance) -> Outcome {
    let reads = instance.tier.reads();
    holds("nothing else was forgotten", instance.get("warm").await == Some(1) && instance.tier.reads() == reads)
}

scenario!(garbage_is_counted { redis: Redis, memory: Memory });

async fn garbage_is_counted(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let garbage = ["", "no JSON", "{}", "[]", "null", "\u{0}", r#"{"type":"Remove"}"#, r#"{"type":"Evil","key":"k"}"#];
    for payload in garbage {
        world.publish(payload);
    }
    b.hear_raw(b"\xff\xfe");
    until("the garbage", async || errors(&a) == 8 && errors(&b) == 9).await;
    stays_warm(&a).await?;
    stays_warm(&b).await?;
    let new = a.change("k").await;
    b.hear(10).await;
    world.is_clean(&[&b, &a], "k", new).await?;
    let stats = b.cache.coherence_stats();
    holds("its position is where it was", stats.gaps == 0 && stats.forks == 0 && stats.flushes == 0)
}

scenario!(a_message_over_the_limit_is_a_gap { redis: Redis, memory: Memory });

/// It may have said anything: the log tells what.
async fn a_message_over_the_limit_is_a_gap(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    let new = b.lose(a.change("k")).await;
    assert_eq!(b.get("k").await, Some(1), "nobody told it");
    let key = "x".repeat(defaults::MESSAGE_BYTES_MAX);
    world.publish(&format!(r#"{{"type":"Remove","key":"{key}"}}"#));
    until("the message", async || errors(&b) == 1 && b.heard() == 1).await;
    // It looks at the log on its own account.
    until("the look", async || b.get("k").await != Some(1)).await;
    stays_warm(&b).await?;
    world.is_clean(&[&b, &a], "k", new).await
}

scenario!(a_plain_message_of_another_program_is_applied { redis: Redis, memory: Memory });

async fn a_plain_message_of_another_program_is_applied(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    for (n, message) in (1..).zip([
        r#"{"type":"Remove","key":"k"}"#,
        r#"{"type":"RemoveBulk","keys":["k","other"]}"#,
        r#"{"type":"RemovePattern","pattern":"k*"}"#,
        r#"{"type":"Update","key":"k","value":[118,57],"ttl_secs":60}"#,
    ]) {
        b.load("k").await;
        let reads = b.tier.reads();
        world.publish(message);
        b.hear(n).await;
        assert_eq!(b.get("k").await, Some(1), "no value comes from a message");
        holds("the copy in process is dropped", b.tier.reads() == reads + 1)?;
        stays_warm(&b).await?;
    }
    let new = a.change("k").await;
    b.hear(5).await;
    world.is_clean(&[&b, &a], "k", new).await
}

/// Epoch, sequence number and nonce of the last entry, as anybody can hear them.
async fn tail(world: &World, a: &Instance) -> (String, u64, String) {
    let mut heard = world.hub().map(multi_tier_cache::testing::Hub::messages);
    a.change("probe").await;
    let text = match &mut heard {
        Some(heard) => String::from_utf8(heard.recv().await.unwrap()).unwrap(),
        None => world.command(&["XREVRANGE", &world.names("mtc:*:log").remove(0), "+", "-", "COUNT", "1"]),
    };
    let field = |name: &str| {
        let rest = text.split_once(&format!("\"{name}\":")).unwrap().1;
        rest.trim_start_matches('"').split(['"', ',', '}']).next().unwrap().to_owned()
    };
    (field("epoch"), field("seq").parse().unwrap(), field("nonce"))
}

fn forgery(kind: &str, epoch: &str, seq: u64, previous: &str) -> String {
    format!(
        r#"{{"type":"{kind}","key":"k","mtc":{{"v":1,"epoch":"{epoch}","seq":{seq},"prev":"{previous}","nonce":"00000000deadbeef"}}}}"#
    )
}

scenario!(forgeries_do_not_make_anything_stale { redis: Redis, memory: Memory });

/// Each kind of forgery, then a delete that must be seen by its message or by the next look at the log.
async fn forgeries_do_not_make_anything_stale(kind: Kind) -> Outcome {
    let (world, a, b) = fleet(kind).await;
    for forged in 0..6 {
        let (epoch, seq, nonce) = tail(&world, &a).await;
        let payload = match forged {
            0 => forgery("Remove", &epoch, seq + 7, &nonce),
            1 => forgery("Remove", &epoch, u64::MAX, &nonce),
            2 => forgery("Remove", &epoch, seq, &nonce),
            3 => forgery("Remove", "00000000000000ff", seq + 1, &nonce),
            // What nobody can tell from an entry of the log.
            4 => forgery("Remove", &epoch, seq + 1, &nonce),
            _ => forgery("NobodyKnows", &epoch, seq + 1, &nonce),
        };
        let heard = (a.heard(), b.heard());
        world.publish(&payload);
        until("the forgery", async || a.heard() > heard.0 && b.heard() > heard.1).await;
        b.load("k").await;
        let new = a.change("k").await;
        until("the delete", async || b.get("k").await.is_none_or(|seen| seen >= new)).await;
        until("the log", async || a.poll().await && b.poll().await).await;
        until("what is done again", async || a.poll().await && a.cache.coherence_stats().lag == 0).await;
        world.is_clean(&[&b, &a], "k", new).await?;
        // Without a message either.
        let newer = b.lose(a.change("k")).await;
        until("the log", async || b.poll().await).await;
        fresh("by the log alone", b.get("k").await, newer)?;
    }
    Ok(())
}
