//! What can be asked over HTTP.

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use multi_tier_cache::telemetry::names;
use multi_tier_cache::{CacheSystem, Position};

use crate::database::Details;
use crate::shop::{Changed, Error, Shop};

/// The place of a change in the log: a client that sends it back reads its own write, whichever instance it asks.
const POSITION: HeaderName = HeaderName::from_static("x-cache-position");

#[derive(Clone)]
struct App {
    system: CacheSystem,
    shop: Shop,
}

pub(crate) fn app(system: CacheSystem, shop: Shop) -> Router {
    Router::new()
        .route("/products/{id}", get(product).put(put_product))
        .route("/categories/{name}", get(category))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(App { system, shop })
}

async fn product(State(app): State<App>, Path(id): Path<i64>, headers: HeaderMap) -> Result<Response, Failed> {
    let position = headers.get(POSITION).and_then(|position| position.to_str().ok());
    // One that is not understood, as from another version, asks for nothing.
    let position: Option<Position> = position.and_then(|position| position.parse().ok());
    Ok(match app.shop.product(id, position).await? {
        Some(product) => Json(product).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn category(State(app): State<App>, Path(name): Path<String>) -> Result<Response, Failed> {
    Ok(Json(app.shop.category(&name).await?).into_response())
}

async fn put_product(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(details): Json<Details>,
) -> Result<Response, Failed> {
    match app.shop.put(id, details).await? {
        Changed::Seen(position) => {
            let position = position.and_then(|position| HeaderValue::try_from(position.to_string()).ok());
            let headers: HeaderMap = position.map(|position| (POSITION, position)).into_iter().collect();
            Ok((StatusCode::NO_CONTENT, headers).into_response())
        }
        Changed::SeenLater(error) => {
            tracing::warn!(%error, "other instances see a change later");
            Ok(StatusCode::ACCEPTED.into_response())
        }
    }
}

/// For a load balancer: whether this instance can answer. It can without Redis.
async fn health(State(app): State<App>) -> Response {
    let report = app.system.health_report().await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// For Prometheus.
async fn metrics(State(app): State<App>) -> Response {
    ([(CONTENT_TYPE, names::PROMETHEUS_CONTENT_TYPE)], app.system.metrics().prometheus()).into_response()
}

/// What the log gets to know of an error; the client learns that there was one.
struct Failed(String);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        tracing::error!(error = self.0, "a request failed");
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}
