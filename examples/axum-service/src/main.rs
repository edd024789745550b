//! A shop's catalogue over HTTP. Products are in a database; what was read is cached in process and in Redis, so that any
//! number of instances answer quickly, ask the database once, and show a change as soon as it is made.
//!
//! | environment | default | |
//! |---|---|---|
//! | `LISTEN` | `127.0.0.1:8080` | address and port; port 0 takes a free one |
//! | `DATABASE` | `shop.db` | the SQLite file that all instances share; made if it is missing |
//! | `REDIS_URL` | `redis://127.0.0.1:6379` | may be away: the service works without, and joins it when it comes up |

mod database;
mod routes;
mod shop;

use std::env;
use std::future::Future;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use multi_tier_cache::backends::RedisConfig;
use multi_tier_cache::{Arc, CacheSystem, CacheSystemBuilder, QuickCacheBackend};
use tokio::net::TcpListener;
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
    // Whoever reads that it listens may tell it to end.
    let ended = told_to_end()?;
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?)?;

    serve(listener, routes::app(system.clone(), shop), ended).await?;
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

/// Answers requests until `ended`; those under way then have [`DRAIN`].
async fn serve(listener: TcpListener, app: Router, ended: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    let (stop, mut stopped) = watch::channel(false);
    let ended = async move {
        ended.await;
        tracing::info!("told to end");
        stop.send_replace(true);
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(ended);
    let drained = async {
        // The sender is dropped only when the server has ended.
        let _ = stopped.wait_for(|stopped| *stopped).await;
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
#[cfg(unix)]
fn told_to_end() -> Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends at Ctrl-C.
#[cfg(not(unix))]
fn told_to_end() -> Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}
