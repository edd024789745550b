//! An endpoint with metrics, each time it is asked with the next of its texts.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

/// What an instance says first.
pub(crate) const FIRST: &str = r#"# HELP mtc_events_total What happened in each cache.
# TYPE mtc_events_total counter
mtc_events_total{cache="users",operation="get",activity="hit"} 950
mtc_events_total{cache="users",operation="get",activity="miss"} 50
mtc_events_total{cache="users",operation="load",activity="ok"} 50
# HELP mtc_tier_hits_total Requests that a tier answered.
# TYPE mtc_tier_hits_total counter
mtc_tier_hits_total{tier="L1",backend="QuickCache"} 900
mtc_tier_hits_total{tier="L2",backend="Redis"} 50
# HELP mtc_tier_operation_duration_seconds Time that an awaited tier took, failures included.
# TYPE mtc_tier_operation_duration_seconds histogram
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="0.0005"} 80
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="0.001"} 100
mtc_tier_operation_duration_seconds_bucket{tier="L2",backend="Redis",operation="get",le="+Inf"} 100
mtc_tier_operation_duration_seconds_sum{tier="L2",backend="Redis",operation="get"} 0.04
mtc_tier_operation_duration_seconds_count{tier="L2",backend="Redis",operation="get"} 100
# HELP mtc_bus_proof_age_seconds Time since everything in process was last known to reflect the log.
# TYPE mtc_bus_proof_age_seconds gauge
mtc_bus_proof_age_seconds 0.25
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 7
"#;

/// The same after another thousand reads, all of them hits.
pub(crate) fn second() -> String {
    FIRST.replace("\"hit\"} 950", "\"hit\"} 1950").replace("\"QuickCache\"} 900", "\"QuickCache\"} 1900")
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
