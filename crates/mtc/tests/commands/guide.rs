//! The examples of `docs/guide/mtc.md` run as they stand and answer what the page says, numbers and times aside.
//!
//! With `MTC_BLESS=1` the page gets the answers of this run.

use std::path::Path;
use std::{env, fs};

use crate::metrics::{FIRST, serve};
use crate::program::Ended;
use crate::shop::Shop;

/// Where the page says that the metrics are.
const METRICS: &str = "localhost:9000";
/// What stands for the exit code of the command before.
const TELLS_CODE: &str = "; echo $?";

/// An example: a command, and what the page says it answers.
struct Example {
    command: String,
    answer: Vec<String>,
}

/// The page: prose, and examples in their places.
enum Part {
    Line(String),
    Example(Example),
}

#[test]
fn the_examples_of_the_guide_run_and_answer_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../multi-tier-cache/docs/guide/mtc.md");
    let mut parts = read(&fs::read_to_string(&path).unwrap());
    let shop = Shop::open();
    let _instance = shop.stocked();
    let mut examples = 0;
    for part in &mut parts {
        let Part::Example(example) = part else { continue };
        let answer = run(&shop, &example.command);
        examples += 1;
        if env::var_os("MTC_BLESS").is_some() {
            example.answer = answer;
        } else {
            assert_eq!(shape(&answer), shape(&example.answer), "{}: {answer:#?}", example.command);
        }
    }
    assert!(examples > 10, "{examples}");
    if env::var_os("MTC_BLESS").is_some() {
        fs::write(&path, written(&parts)).unwrap();
    }
}

fn read(page: &str) -> Vec<Part> {
    let (mut parts, mut in_console): (Vec<Part>, bool) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
        }
        match (in_console, line.strip_prefix("$ mtc "), parts.last_mut()) {
            (true, Some(command), _) => {
                parts.push(Part::Example(Example { command: command.to_owned(), answer: Vec::new() }));
            }
            (true, None, Some(Part::Example(example))) => example.answer.push(line.to_owned()),
            _ => parts.push(Part::Line(line.to_owned())),
        }
    }
    parts
}

fn written(parts: &[Part]) -> String {
    let lines = parts.iter().flat_map(|part| match part {
        Part::Line(line) => vec![line.clone()],
        Part::Example(Example { command, answer }) => [&[format!("$ mtc {command}")], &answer[..]].concat(),
    });
    lines.map(|line| line + "\n").collect()
}

/// What a terminal shows: the answer, complaints, and the exit code if the command asks for it.
fn run(shop: &Shop, command: &str) -> Vec<String> {
    let (command, tells_code) = command.strip_suffix(TELLS_CODE).map_or((command, false), |command| (command, true));
    let mut arguments = words(command);
    for argument in arguments.iter_mut().filter(|argument| *argument == METRICS) {
        *argument = serve(vec![Some(FIRST.to_owned())]);
    }
    let metrics = arguments.iter().find(|argument| argument.starts_with("127.0.0.1:")).cloned().unwrap_or_default();
    let Ended { code, out, err } = shop.mtc.run(&arguments);
    assert!(tells_code || code == 0, "{command}: {out} {err}");
    let text = (out + &err).replace(&shop.server.url(), "redis://127.0.0.1:6379");
    let text = if metrics.is_empty() { text } else { text.replace(&metrics, METRICS) };
    text.lines().map(str::to_owned).chain(tells_code.then(|| code.to_string())).collect()
}

/// As a shell cuts them: at blanks, but not within single quotes.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// The lines without what differs from run to run: words with digits, and units.
fn shape(lines: &[String]) -> Vec<String> {
    const UNITS: &[&str] = &["ns", "µs", "ms", "s", "min", "h", "B", "KiB", "MiB", "GiB", "ahead", "of", "behind"];
    let lasts = |word: &&str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        !word.contains(|c: char| c.is_ascii_digit()) && !UNITS.contains(&bare)
    };
    lines.iter().map(|line| line.split_whitespace().filter(lasts).collect::<Vec<_>>().join(" ")).collect()
}
