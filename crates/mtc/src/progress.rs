//! Bars on long work: on standard error, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps; without any, a count.
pub(crate) fn bar(what: &'static str, length: u64) -> ProgressBar {
    let (bar, template) = match length {
        0 => (ProgressBar::no_length(), "{msg:12} {human_pos} {elapsed}"),
        _ => (ProgressBar::new(length), "{msg:12} {wide_bar} {human_pos}/{human_len} {eta}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what)
}
