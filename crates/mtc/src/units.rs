//! Times, sizes and names as people read and write them.

use std::time::Duration;

/// Digits of a number that is shown with a unit.
const DIGITS: usize = 3;

/// A time such as `500ms`, `2s` or `1.5m`; a number without a unit is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("expected a time such as 500ms, 2s or 1m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "expected a time such as 500ms, 2s or 1m".to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| "the time is too long".to_owned())?;
    if time.is_zero() { Err("the time is zero".to_owned()) } else { Ok(time) }
}

/// `1.25 ms`, `28.0 s`, `4 min 32 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match time.as_nanos() {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{} ns", time.as_nanos()),
        1_000..1_000_000 => format!("{} µs", significant(time.as_secs_f64() * 1e6)),
        1_000_000..1_000_000_000 => format!("{} ms", significant(time.as_secs_f64() * 1e3)),
        _ if seconds < 60 => format!("{} s", significant(time.as_secs_f64())),
        _ if seconds < 3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `512 B`, `1.25 KiB`, `3.00 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut units = ["KiB", "MiB", "GiB"].into_iter();
    let Some(mut unit) = units.next().filter(|_| bytes >= 1_024) else { return format!("{bytes} B") };
    let mut number = float(bytes) / 1_024.0;
    for larger in units {
        if number < 1_024.0 {
            break;
        }
        (number, unit) = (number / 1_024.0, larger);
    }
    format!("{} {unit}", significant(number))
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 key`, `2 keys`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number with three digits or all that are before the point.
pub(crate) fn significant(number: f64) -> String {
    let before = (0..).take(DIGITS).find(|digits| number.abs() < 10_f64.powi(*digits)).unwrap_or(3);
    let after = DIGITS.saturating_sub(usize::try_from(before.max(1)).unwrap_or(DIGITS));
    format!("{number:.after$}")
}

/// A length as a number that is counted with.
pub(crate) fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// `text` without the characters that would command a terminal; line breaks stay if `lines` is set.
pub(crate) fn printable(text: &str, lines: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !(lines && matches!(c, '\n' | '\t')) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, millis) in [("500ms", 500), ("2s", 2_000), ("2", 2_000), ("0.5", 500), ("1.5m", 90_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "0s", "-1s", "1 s", "1d", "1e9h", "1e99", ".", "999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_with_three_digits() {
        for (time, text) in [
            (Duration::ZERO, "0 s"),
            (Duration::from_nanos(900), "900 ns"),
            (Duration::from_micros(59), "59.0 µs"),
            (Duration::from_micros(1_254), "1.25 ms"),
            (Duration::from_millis(28_040), "28.0 s"),
            (Duration::from_secs(272), "4 min 32 s"),
            (Duration::from_secs(7_260), "2 h 1 min"),
            (Duration::from_secs(90_000), "1 d 1 h"),
        ] {
            assert_eq!(duration(time), text);
        }
        assert_eq!((bytes(0), bytes(1_023), bytes(1_280)), ("0 B".into(), "1023 B".into(), "1.25 KiB".into()));
        assert_eq!(bytes(3 << 30), "3.00 GiB");
        assert_eq!((count(0), count(1_234), count(1_234_567)), ("0".into(), "1,234".into(), "1,234,567".into()));
        assert_eq!((counted(1, "key"), counted(0, "key")), ("1 key".into(), "0 keys".into()));
        assert_eq!(
            (significant(0.0), significant(12.34), significant(1234.5)),
            ("0.00".into(), "12.3".into(), "1234".into())
        );
    }

    #[test]
    fn what_would_command_a_terminal_is_escaped() {
        assert_eq!(printable("a\x1b[2J\nb", false), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("a\nü\t", true), "a\nü\t");
    }
}
