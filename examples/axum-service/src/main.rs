//! A shop's catalogue over HTTP. Products are in a database; what was read is cached in process and in Redis, so that any
//! number of instances answer quickly, ask the database once, and show a change as soon as it is made.
//!
//! | environment | default | |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:8080` | address and port; port 0 takes a free one |
//! | `DATABASE` | `shop.db` | the SQLite file that all instances share; made if it is missing |
//! | `REDIS_URL` | `redis://127.0.0.1:6379` | may be away: the service works without, and joins it when it comes up |

mod database;
mod observe;
mod routes;
mod shop;

use std::env;
use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result};
use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::{Arc, CacheSystem, CacheSystemBuilder, QuickCacheBackend};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::database::Database;
use crate::shop::Shop;

/// Memory for what is cached in process.
const L1_BYTES: u64 = 64 * 1024 * 1024;
/// How long requests under way may take once the service is told to end.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();

    let system = cache().await?;
    let database = Database::open(&variable("DATABASE", "shop.db"))?;
    let shop = Shop::new(&system, database)?;

    let listen = variable("LISTEN", "127.0.0.1:8080");
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;

    serve(listener, system.clone(), shop).await?;
    system.shutdown().await;
    tracing::info!("ended");
    Ok(())
}

/// QuickCache in front of Redis, on the invalidation bus.
async fn cache() -> Result<CacheSystem> {
    let builder = CacheSystemBuilder::new()
        .with_l1(Arc::new(QuickCacheBackend::with_max_bytes(L1_BYTES)?))
        .with_redis_config(RedisConfig::default().with_prefix("shop:"));
    Ok(builder.build().await?)
}

/// Answers requests until the service is told to end; those under way then have [`DRAIN`].
async fn serve(listener: TcpListener, system: CacheSystem, shop: Shop) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let ended = told_to_end()?;
    tokio::spawn(async move {
        ended.await;
        stop.send_replace(true);
    });
    let told = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let app = routes::app(system, shop);
    let server = axum::serve(listener, app).with_graceful_shutdown(told(stopped.clone()));
    let drained = async {
        told(stopped).await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { server.await } => served.context("the server failed"),
        () = drained => {
            tracing::warn!("requests were under way for too long and are given up");
            Ok(())
        }
    }
}

/// Ends at SIGTERM, as orchestrators send it, or Ctrl-C.
fn told_to_end() -> Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
    })
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
