//! Each fault of the proxy, shown on a real redis-server.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod common;

use std::time::{Duration, Instant};

use common::{Client, End, until};
use test_servers::{Direction, FaultProxy, RedisServer};

const PING: &str = "PING\r\n";
const PONG: &str = "+PONG\r\n";
const OK: &str = "+OK\r\n";

fn pair() -> (RedisServer, FaultProxy) {
    let server = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(server.port()).unwrap();
    (server, proxy)
}

/// A client that has been served, so that both of its connections stand.
fn served(proxy: &FaultProxy) -> Client {
    let mut client = Client::connect(proxy.port());
    client.ask(PING, PONG);
    client
}

fn subscribed(proxy: &FaultProxy) -> Client {
    let mut client = Client::connect(proxy.port());
    client.ask("subscribe news\r\n", "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    client
}

#[test]
fn without_a_fault_everything_passes_and_is_counted() {
    let (_server, proxy) = pair();
    let mut clients = [served(&proxy), served(&proxy)];
    clients.iter_mut().for_each(|client| client.ask(PING, PONG));
    assert_eq!((proxy.connections(), proxy.subscriptions()), (2, 0));
    assert_eq!((proxy.bytes_to_server(), proxy.bytes_to_client()), (4 * 6, 4 * 7));
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}", proxy.port()));
    drop(clients);
    until("the clients are gone", || proxy.connections() == 0);
}

#[test]
fn a_large_value_survives_holding_and_delaying() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    let value: String = (0_u32..400_000).map(|number| format!("{number:08}")).collect();
    proxy.hold(Direction::Both);
    client.send(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n", value.len()));
    proxy.delay(Direction::Both, Duration::from_millis(5));
    client.expect(OK);
    client.ask("GET k\r\n", &format!("${}\r\n{value}\r\n", value.len()));
}

#[test]
fn a_slow_reader_holds_up_nobody_else_and_loses_nothing() {
    let (server, proxy) = pair();
    let value = "v".repeat(1_000_000);
    server.command(&["SET", "k", &value]).unwrap();
    let (mut slow, mut quick) = (served(&proxy), served(&proxy));
    let reply = format!("${}\r\n{value}\r\n", value.len());
    slow.send(&"GET k\r\n".repeat(30));
    quick.ask("GET k\r\n", &reply);
    slow.expect(&reply.repeat(30));
}

#[test]
fn held_requests_reach_the_server_on_release_in_order() {
    let (server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.hold(Direction::ToServer);
    let mut newcomer = Client::connect(proxy.port());
    client.send("APPEND k a\r\n");
    client.send("APPEND k b\r\n");
    newcomer.send(PING);
    client.expect_silence();
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":0\r\n");
    proxy.pass();
    client.expect(":1\r\n:2\r\n");
    newcomer.expect(PONG);
    assert_eq!(server.command(&["GET", "k"]).unwrap(), "$2\r\nab\r\n");
}

#[test]
fn held_replies_arrive_on_release_although_the_server_has_acted_and_gone() {
    let (mut server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.hold(Direction::ToClient);
    client.send("SET k v\r\n");
    until("the server acts", || server.command(&["EXISTS", "k"]).unwrap() == ":1\r\n");
    client.expect_silence();
    server.kill().unwrap();
    client.expect_silence();
    proxy.pass();
    client.expect(OK);
    client.end();
}

#[test]
fn a_silent_partition_swallows_both_ways_and_hides_that_the_server_ended() {
    let (mut server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.blackhole(Direction::Both);
    let mut newcomer = Client::connect(proxy.port());
    client.send("SET k v\r\n");
    newcomer.send(PING);
    client.expect_silence();
    newcomer.expect_silence();
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":0\r\n");
    server.kill().unwrap();
    let mut latecomer = Client::connect(proxy.port());
    latecomer.send(PING);
    latecomer.expect_silence();
    client.expect_silence();
    assert_eq!(proxy.connections(), 3);
    proxy.pass();
    for mut client in [client, newcomer, latecomer] {
        client.end();
    }
}

#[test]
fn a_partition_may_be_one_sided_and_heals() {
    let (server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.blackhole(Direction::ToClient);
    client.send("SET k v\r\n");
    until("the server acts", || server.command(&["EXISTS", "k"]).unwrap() == ":1\r\n");
    client.expect_silence();
    proxy.blackhole(Direction::ToServer);
    proxy.delay(Direction::ToClient, Duration::ZERO);
    client.send("DEL k\r\n");
    client.expect_silence();
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":1\r\n");
    proxy.pass();
    client.ask(PING, PONG);
}

#[test]
fn what_was_held_when_the_partition_came_is_lost() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.hold(Direction::ToClient);
    client.send("SET k v\r\n");
    client.expect_silence();
    proxy.blackhole(Direction::ToClient);
    proxy.pass();
    client.ask(PING, PONG);
}

#[test]
fn a_reset_cuts_all_connections_and_no_later_one() {
    let (server, proxy) = pair();
    let mut clients = [served(&proxy), served(&proxy)];
    assert_eq!(proxy.reset(), 2);
    assert_eq!(clients.each_mut().map(Client::end), [End::Reset, End::Reset]);
    assert_eq!(proxy.connections(), 0);
    until("the server noticed", || server.command(&["INFO", "clients"]).unwrap().contains("connected_clients:1\r\n"));
    served(&proxy);
}

#[test]
fn refusing_closes_new_connections_only() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.refuse(true);
    assert_eq!(Client::connect(proxy.port()).end(), End::Closed);
    client.ask(PING, PONG);
    assert_eq!(proxy.connections(), 1);
    proxy.refuse(false);
    served(&proxy);
}

#[test]
fn a_delay_applies_to_each_way_and_keeps_the_order() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    let delay = Duration::from_millis(60);
    for (direction, expected) in
        [(Direction::ToServer, delay), (Direction::ToClient, delay), (Direction::Both, 2 * delay)]
    {
        proxy.pass();
        proxy.delay(direction, delay);
        let begin = Instant::now();
        client.send("ECHO a\r\n");
        client.send("ECHO b\r\n");
        client.expect("$1\r\na\r\n$1\r\nb\r\n");
        assert!(begin.elapsed() >= expected, "{direction:?}: {:?}", begin.elapsed());
    }
}

#[test]
fn the_end_of_a_long_delay_releases_at_once() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.delay(Direction::Both, Duration::from_secs(3600));
    client.send(PING);
    client.expect_silence();
    proxy.pass();
    client.expect(PONG);
}

#[test]
fn a_reply_is_torn_after_so_many_bytes_on_every_connection() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.cut_after(10);
    let mut newcomer = Client::connect(proxy.port());
    for client in [&mut client, &mut newcomer] {
        client.ask(PING, PONG);
        client.ask(PING, "+PO");
        assert_eq!(client.end(), End::Closed);
    }
    proxy.pass();
    let mut client = served(&proxy);
    client.ask(PING, PONG);
}

#[test]
fn a_reply_is_lost_although_the_server_acted() {
    let (server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.cut_after(0);
    client.expect_silence();
    client.send("SET k v\r\n");
    client.end();
    assert_eq!(server.command(&["EXISTS", "k"]).unwrap(), ":1\r\n");
}

#[test]
fn subscriptions_alone_are_cut() {
    let (_server, proxy) = pair();
    let (mut plain, mut listener) = (served(&proxy), Client::connect(proxy.port()));
    let half = "*2\r\n$10\r\nPSub";
    listener.send(half);
    until("the first half arrives", || proxy.bytes_to_server() == (PING.len() + half.len()) as u64);
    assert_eq!(proxy.subscriptions(), 0);
    listener.ask("scribe\r\n$1\r\n*\r\n", "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n");
    assert_eq!((proxy.connections(), proxy.subscriptions()), (2, 1));
    assert_eq!(proxy.reset_subscriptions(), 1);
    assert_eq!(listener.end(), End::Reset);
    plain.ask(PING, PONG);
    assert_eq!((proxy.connections(), proxy.subscriptions(), proxy.reset_subscriptions()), (1, 0, 0));
}

#[test]
fn subscriptions_alone_go_deaf() {
    let (server, proxy) = pair();
    let (mut plain, mut listener) = (served(&proxy), subscribed(&proxy));
    proxy.blackhole_subscriptions();
    let mut latecomer = Client::connect(proxy.port());
    latecomer.send("SUBSCRIBE news\r\n");
    until("both listen", || server.command(&["PUBLISH", "news", "lost"]).unwrap() == ":2\r\n");
    listener.expect_silence();
    latecomer.expect_silence();
    plain.ask(PING, PONG);
    proxy.pass();
    server.command(&["PUBLISH", "news", "heard"]).unwrap();
    for mut client in [listener, latecomer] {
        client.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nheard\r\n");
    }
}

#[test]
fn new_connections_go_where_the_proxy_points() {
    let (_first, proxy) = pair();
    let second = RedisServer::start().unwrap();
    second.command(&["SET", "name", "second"]).unwrap();
    let mut old = served(&proxy);
    proxy.retarget(second.port());
    served(&proxy).ask("GET name\r\n", "$6\r\nsecond\r\n");
    old.ask("GET name\r\n", "$-1\r\n");
}

#[test]
fn an_end_on_one_side_ends_the_other_after_the_bytes_before_it() {
    let (server, proxy) = pair();
    let mut leaving = served(&proxy);
    leaving.send(PING);
    leaving.close_own_side();
    leaving.expect(PONG);
    assert_eq!(leaving.end(), End::Closed);
    let mut dismissed = served(&proxy);
    dismissed.ask("QUIT\r\n", OK);
    assert_eq!(dismissed.end(), End::Closed);
    drop((leaving, dismissed));
    until("the server noticed", || server.command(&["INFO", "clients"]).unwrap().contains("connected_clients:1\r\n"));
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn without_a_server_a_connection_is_cut() {
    let (mut server, proxy) = pair();
    server.kill().unwrap();
    assert_eq!(Client::connect(proxy.port()).end(), End::Reset);
    server.restart().unwrap();
    served(&proxy);
}

#[test]
fn a_dropped_proxy_leaves_no_connection() {
    let (_server, proxy) = pair();
    let mut client = served(&proxy);
    proxy.hold(Direction::Both);
    drop(proxy);
    client.end();
}

#[test]
fn threads_may_share_a_proxy() {
    fn shareable<T: Send + Sync + 'static>(_: &T) {}
    let (_server, proxy) = pair();
    shareable(&proxy);
}
