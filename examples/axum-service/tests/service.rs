//! Two instances of the service, as they would run: one database, one Redis, real processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use test_servers::RedisServer;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the library promises: a change is seen everywhere within this.
const BOUND: Duration = Duration::from_secs(2);
const POSITION: &str = "x-cache-position";

/// A running instance, ended on drop.
struct Instance {
    process: Child,
    address: String,
}

impl Instance {
    fn start(database: &Path, redis: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_axum-service"))
            .env("LISTEN", "127.0.0.1:0")
            .env("DATABASE", database)
            .env("REDIS_URL", redis)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    fn get(&self, path: &str) -> Response {
        self.ask("GET", path, "", "")
    }

    fn put(&self, path: &str, body: &str) -> Response {
        self.ask("PUT", path, "content-type: application/json\r\n", body)
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (address, length) = (&self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        Response::parse(&response)
    }

    /// The value of a sample of the metrics.
    fn metric(&self, sample: &str) -> u64 {
        let text = self.get("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in {text}")).parse().unwrap()
    }

    /// Sends SIGTERM and answers the exit code.
    fn terminate(self) -> Option<i32> {
        self.tell_to_end();
        self.ended()
    }

    fn tell_to_end(&self) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn ended(mut self) -> Option<i32> {
        until("the process to end", PATIENCE, || self.process.try_wait().unwrap().is_some());
        self.process.wait().unwrap().code()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {within:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn details(name: &str, category: &str) -> String {
    format!(r#"{{"name":"{name}","category":"{category}","cents":1250}}"#)
}

#[test]
fn two_instances_load_once_see_changes_outlive_redis_and_end_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("shop.db");
    let mut redis = RedisServer::start().unwrap();
    let [one, other] = [(); 2].map(|()| Instance::start(&database, &redis.url()));

    many_readers_cost_one_load(&one, &other);
    a_change_is_seen_by_the_other(&one, &other);
    a_client_reads_its_own_write_anywhere(&one, &other);
    what_does_not_exist_is_remembered_until_it_does(&one, &other);

    redis.kill().unwrap();
    without_redis_both_answer(&one, &other);
    redis.restart().unwrap();
    until("the other to see what changed meanwhile", PATIENCE, || other.get("/products/7").body.contains("Quiet lamp"));
    until("Redis to be back", PATIENCE, || one.get("/health").body.contains(r#""status":"ok""#));

    assert_eq!(a_request_under_way_is_answered_before_the_end(one), Some(0));
    until("the other to see it", BOUND, || other.get("/products/9").body.contains("Last order"));
    assert_eq!(other.terminate(), Some(0));
}

fn many_readers_cost_one_load(one: &Instance, other: &Instance) {
    thread::scope(|scope| {
        for instance in [one, other].into_iter().cycle().take(40) {
            scope.spawn(move || assert!(instance.get("/products/7").body.contains(r#""name":"Number 7""#)));
        }
    });
    let loads = r#"mtc_events_total{cache="products",operation="load",activity="ok"}"#;
    assert_eq!(one.metric(loads) + other.metric(loads), 1);
    for instance in [one, other] {
        let lamps = instance.get("/categories/lamps");
        assert_eq!(lamps.body.matches(r#""category":"lamps""#).count(), 250, "{lamps:?}");
        assert!(instance.get("/health").body.contains(r#""status":"ok""#));
    }
}

fn a_change_is_seen_by_the_other(one: &Instance, other: &Instance) {
    assert_eq!(one.put("/products/7", &details("Warm lamp", "lamps")).status, 204);
    assert!(one.get("/products/7").body.contains("Warm lamp"), "at once where it was made");
    until("the other to see it", BOUND, || other.get("/products/7").body.contains("Warm lamp"));
    // In both lists, too: product 7 was a kettle.
    until("the lists", BOUND, || {
        let [lamps, kettles] = ["lamps", "kettles"].map(|name| other.get(&format!("/categories/{name}")).body);
        lamps.contains("Warm lamp") && !kettles.contains("Warm lamp")
    });
}

fn a_client_reads_its_own_write_anywhere(one: &Instance, other: &Instance) {
    for price in 0..20 {
        let name = format!("Offer {price}");
        other.get("/products/8");
        let written = one.put("/products/8", &details(&name, "lamps"));
        let position = format!("{POSITION}: {}\r\n", written.header(POSITION).unwrap());
        let read = other.ask("GET", "/products/8", &position, "");
        assert!(read.body.contains(&name), "{read:?}");
    }
}

fn what_does_not_exist_is_remembered_until_it_does(one: &Instance, other: &Instance) {
    for _ in 0..3 {
        assert_eq!(one.get("/products/5000").status, 404);
    }
    assert_eq!(other.put("/products/5000", &details("New", "clocks")).status, 204);
    until("the new product", BOUND, || one.get("/products/5000").status == 200);
}

fn without_redis_both_answer(one: &Instance, other: &Instance) {
    for instance in [one, other] {
        assert!(instance.get("/products/8").body.contains("Offer 19"));
        assert_eq!(instance.get("/products/999").status, 200, "from the database");
        until("the outage to be reported", PATIENCE, || {
            let health = instance.get("/health");
            health.status == 200 && health.body.contains(r#""status":"degraded""#)
        });
    }
    let changed = one.put("/products/7", &details("Quiet lamp", "lamps"));
    assert_eq!(changed.status, 202, "others see it later");
    assert!(one.get("/products/7").body.contains("Quiet lamp"), "at once where it was made");
}

/// The service is told to end while it waits for the second half of a request. Answers the exit code.
fn a_request_under_way_is_answered_before_the_end(instance: Instance) -> Option<i32> {
    let body = details("Last order", "clocks");
    let mut stream = TcpStream::connect(&instance.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "PUT /products/9 HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        instance.address,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut go_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"), "{go_on:?}");
    instance.tell_to_end();
    until("no more connections to be taken", PATIENCE, || TcpStream::connect(&instance.address).is_err());
    stream.write_all(body.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert_eq!(Response::parse(&response).status, 204, "{response}");
    instance.ended()
}
