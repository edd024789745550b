//! An endpoint with metrics, each time it is asked with the next of its texts.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

/// What an instance says first.
pub(crate) const FIRST: &str = r#"# HELP multi_tier_cache_requests_total Requests.
# TYPE multi_tier_cache_requests_total counter
multi_tier_cache_requests_total{cache="users"} 1000
# TYPE multi_tier_cache_hits_total counter
multi_tier_cache_hits_total{cache="users",tier="L1"} 900
multi_tier_cache_hits_total{cache="users",tier="L2"} 50
# TYPE multi_tier_cache_misses_total counter
multi_tier_cache_misses_total{cache="users"} 50
# TYPE multi_tier_cache_operation_duration_seconds histogram
multi_tier_cache_operation_duration_seconds_bucket{tier="L2",operation="get",le="0.0005"} 80
multi_tier_cache_operation_duration_seconds_bucket{tier="L2",operation="get",le="0.001"} 100
multi_tier_cache_operation_duration_seconds_bucket{tier="L2",operation="get",le="+Inf"} 100
multi_tier_cache_operation_duration_seconds_sum{tier="L2",operation="get"} 0.04
multi_tier_cache_operation_duration_seconds_count{tier="L2",operation="get"} 100
# TYPE multi_tier_cache_bus_lag_seconds gauge
multi_tier_cache_bus_lag_seconds 0.25
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 7
"#;

/// The same after another thousand requests, all of them hits.
pub(crate) fn second() -> String {
    FIRST.replace("\"users\"} 1000", "\"users\"} 2000").replace("\"L1\"} 900", "\"L1\"} 1900")
}

/// Answers as many requests as there are texts; answers with its address. `None` is an error 500.
pub(crate) fn serve(texts: Vec<Option<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for text in texts {
            let (mut stream, _) = listener.accept().unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = request.take_while(|line| !line.is_empty()).next().unwrap_or_default();
            let known = first.starts_with("GET /metrics ");
            let (status, body) = match text {
                Some(text) if known => ("200 OK", text),
                Some(_) => ("404 Not Found", String::new()),
                None => ("500 Internal Server Error", String::new()),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    address
}
