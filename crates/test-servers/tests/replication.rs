//! A master and its replica.

use test_servers::{Direction, FaultProxy, RedisServer};

#[test]
fn a_replica_gets_what_was_there_and_what_comes_later() {
    let master = RedisServer::start().unwrap();
    master.command(&["SET", "before", "1"]).unwrap();
    let replica = RedisServer::builder().replica_of(master.port()).start().unwrap();
    replica.wait_synced().unwrap();
    assert_eq!(replica.command(&["GET", "before"]).unwrap(), "$1\r\n1\r\n");
    master.command(&["SET", "after", "2"]).unwrap();
    replica.wait_caught_up(&master).unwrap();
    assert_eq!(replica.command(&["GET", "after"]).unwrap(), "$1\r\n2\r\n");
    assert!(replica.offset().unwrap() > 0);
    assert!(replica.command(&["SET", "k", "v"]).unwrap().starts_with("-READONLY"));
}

#[test]
fn a_promoted_replica_keeps_the_data_and_takes_writes() {
    let mut master = RedisServer::builder().password("secret").start().unwrap();
    let replica = RedisServer::builder().password("secret").replica_of(master.port()).start().unwrap();
    replica.wait_synced().unwrap();
    master.command(&["SET", "k", "v"]).unwrap();
    replica.wait_caught_up(&master).unwrap();
    master.kill().unwrap();
    replica.promote().unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap(), "$1\r\nv\r\n");
    assert_eq!(replica.command(&["SET", "k", "w"]).unwrap(), "+OK\r\n");
}

#[test]
fn a_replica_behind_a_held_proxy_lags_until_it_is_released() {
    let master = RedisServer::start().unwrap();
    let proxy = FaultProxy::start(master.port()).unwrap();
    let replica = RedisServer::builder().replica_of(proxy.port()).start().unwrap();
    replica.wait_synced().unwrap();
    proxy.hold(Direction::ToClient);
    master.command(&["SET", "k", "v"]).unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap(), "$-1\r\n");
    assert!(replica.offset().unwrap() < master.offset().unwrap());
    proxy.pass();
    replica.wait_caught_up(&master).unwrap();
    assert_eq!(replica.command(&["GET", "k"]).unwrap(), "$1\r\nv\r\n");
}

#[test]
fn catching_up_means_the_present_life_of_the_master() {
    let mut master = RedisServer::start().unwrap();
    master.command(&["SET", "old", "1"]).unwrap();
    let replica = RedisServer::builder().replica_of(master.port()).start().unwrap();
    replica.wait_synced().unwrap();
    replica.wait_caught_up(&master).unwrap();
    master.restart().unwrap();
    assert_eq!(master.command(&["EXISTS", "old"]).unwrap(), ":0\r\n");
    master.command(&["SET", "new", "1"]).unwrap();
    replica.wait_caught_up(&master).unwrap();
    assert_eq!(replica.command(&["EXISTS", "old", "new"]).unwrap(), ":1\r\n");
}
