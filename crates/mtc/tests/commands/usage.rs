//! The program as a whole: help, exit codes, servers that cannot be used, secrets.

use std::fs;
use std::process::{Command, Stdio};

use test_servers::RedisServer;

use crate::metrics::serve;
use crate::program::{Mtc, ended};
use crate::shop::{Shop, in_shop};

const COMMANDS: &[&str] =
    &["doctor", "get", "invalidate", "invalidate-tag", "invalidate-pattern", "tail", "stats", "bench", "completions"];

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let mtc = Mtc::nowhere();
    let help = mtc.run(["--help"]);
    assert_eq!(help.code, 0);
    for command in COMMANDS {
        assert!(help.out.contains(command), "{command}: {}", help.out);
        let help = mtc.run([command, "--help"]);
        for line in ["0  done", "1  the operation failed", "2  the arguments", "3  the server could not be reached"] {
            assert!(help.out.contains(line), "{command}: {}", help.out);
        }
    }
    assert!(mtc.run(["--version"]).out.starts_with("mtc "));
}

#[test]
fn arguments_that_cannot_be_used_end_with_2() {
    let mtc = Mtc::nowhere();
    for arguments in [
        &["nonsense"][..],
        &[],
        &["get"],
        &["invalidate"],
        &["get", "k", "--url", "http://host"],
        &["get", "k", "--timeout", "0s"],
        &["get", "k", "--ca", "/nowhere/ca.pem"],
        &["get", "k", "--raw", "--json"],
        &["invalidate-pattern", "a", "--show", "1"],
        &["stats", "localhost:1", "--count", "1"],
        &["bench", "--requests", "0"],
        &["completions", "nonsense"],
    ] {
        assert_eq!(mtc.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Mtc::nowhere().run(["completions", shell]);
        assert!(script.code == 0 && script.out.contains("invalidate-tag"), "{shell}: {script:?}");
    }
}

#[test]
fn without_a_server_every_command_says_where_it_looked_and_what_to_do() {
    let mut server = RedisServer::start().unwrap();
    server.kill().unwrap();
    let mtc = Mtc::at(server.url());
    for arguments in [
        &["doctor"][..],
        &["get", "k"],
        &["invalidate", "k"],
        &["invalidate-tag", "t"],
        &["invalidate-pattern", "p:*"],
        &["invalidate-pattern", "p:*", "--dry-run"],
        &["tail"],
        &["bench"],
    ] {
        let ended = mtc.run(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (3, ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(&server.url()) && ended.err.contains("--url"), "{arguments:?}: {}", ended.err);
    }
    let json = mtc.run(["--json", "get", "k"]);
    let complaint: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!((json.code, &complaint["exit_code"]), (3, &serde_json::json!(3)));
}

#[test]
fn a_server_that_does_not_answer_ends_with_3_in_time() {
    let server = RedisServer::start().unwrap();
    server.pause().unwrap();
    let ended = Mtc::at(server.url()).run(["get", "k", "--timeout", "200ms"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("no answer within"), "{ended:?}");
    server.resume().unwrap();
}

#[test]
fn a_server_that_is_no_redis_ends_with_3() {
    let address = serve(vec![None]);
    let ended = Mtc::nowhere().run(["get", "k", "--url", &format!("redis://{address}")]);
    assert!(ended.code == 3 && ended.err.contains("is this its address?"), "{ended:?}");
}

#[test]
fn a_wrong_password_is_told_and_none_is_shown() {
    let server = RedisServer::builder().password("correct-horse").start().unwrap();
    let port = server.port();
    for (url, words) in [
        (format!("redis://:battery-staple@127.0.0.1:{port}"), "refused the user or password"),
        (format!("redis://127.0.0.1:{port}"), "requires a password"),
    ] {
        for arguments in [&["get", "k"][..], &["doctor"], &["tail"], &["invalidate", "k"], &["--json", "get", "k"]] {
            let ended = Mtc::at(&url).run(arguments);
            assert!(ended.code == 3 && ended.err.contains(words), "{ended:?}");
            assert!(ended.err.contains("redis://user:password@host"), "{ended:?}");
            assert!(!format!("{ended:?}").contains("battery-staple"), "{ended:?}");
        }
    }
    let ended = Mtc::at(server.url()).run(["doctor"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!format!("{ended:?}").contains("correct-horse"), "{ended:?}");
    let ended = Mtc::nowhere().run(["get", "k", "--url", "redis://:battery-staple@:x"]);
    assert!(ended.code == 2 && !ended.err.contains("battery-staple"), "{ended:?}");
}

#[test]
fn the_rights_that_the_guide_names_are_enough() {
    let shop = Shop::open();
    let _instance = shop.stocked();
    let url = format!("redis://looks:pw@127.0.0.1:{}", shop.server.port());
    let run = |rights: &str, arguments: &[&str]| {
        let rule = ["ACL", "SETUSER", "looks", "reset", "on", ">pw", "~*", "+ping"];
        shop.command(&[&rule[..], &rights.split(' ').collect::<Vec<_>>()].concat());
        Mtc::at(&url).run(in_shop(arguments))
    };
    for (rights, arguments) in [
        ("+type +pttl +get +hmget +mget", &["get", "users:7"][..]),
        ("+scan", &["invalidate-pattern", "users:*", "--dry-run"]),
    ] {
        let ended = run(rights, arguments);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(shop.mtc.run(in_shop(&["invalidate", "users:7"])).code, 0);
    let ended = run("+hmget +xrange +xread", &["tail", "--since", "start", "--count", "1"]);
    assert!(ended.code == 0 && ended.out.contains("users:7"), "{ended:?}");
    let ended = run("+get", &["tail"]);
    assert!(ended.code == 1 && ended.err.contains("hmget"), "{ended:?}");
}

#[test]
fn the_address_is_found_as_the_library_finds_it() {
    let (here, there) = (Shop::open(), Shop::open());
    here.command(&["SET", "k", "here"]);
    there.command(&["SET", "k", "there"]);
    let raw = |arguments: &[&str]| here.mtc.run([arguments, &["get", "k", "--raw"]].concat()).out;
    assert_eq!(raw(&[]), "here", "REDIS_URL");
    assert_eq!(raw(&["--url", &there.server.url()]), "there", "an argument comes first");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".env"), format!("REDIS_URL={}\n", there.server.url())).unwrap();
    let mut command = Mtc::nowhere().command(["get", "k", "--raw"]);
    assert_eq!(ended(command.current_dir(&directory).output().unwrap()).out, "there", "a .env file");
}

#[test]
fn a_reader_that_is_not_there_is_no_panic() {
    let shop = Shop::open();
    shop.command(&["SET", "k", "v"]);
    for arguments in [&["doctor"][..], &["get", "k"], &["completions", "bash"], &["--help"]] {
        // `true` reads nothing.
        let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
        let pipe = reader.stdin.take().unwrap();
        reader.wait().unwrap();
        let ended = ended(shop.mtc.command(arguments).stdout(pipe).output().unwrap());
        assert!(!ended.err.contains("panic"), "{ended:?}");
        assert_ne!(ended.code, 101, "{ended:?}");
    }
}
