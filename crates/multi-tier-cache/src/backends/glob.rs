//! Redis's glob rules, for stores that match keys themselves.
//!
//! `*` any run of bytes, `?` one byte, `[abc]` one of them, `[^abc]` none of them, `[a-z]` a range in either
//! direction, `\x` the byte `x`. As in redis-server: a class ends at its first `]` or with the pattern, a range may
//! end in `]` or `\`, a trailing `\` is itself, and the empty key matches only the empty pattern and a lone `*`.

/// A Redis glob pattern, parsed once.
///
/// Matches bytes as redis-server's `KEYS` and `SCAN` do, ranges included: their ends are compared as signed bytes,
/// which is what a server on x86-64 does. Time is at most pattern length × key length.
///
/// ```
/// use multi_tier_cache::backends::glob::Glob;
///
/// let users = Glob::new("user:[0-9]*");
/// assert!(users.matches("user:42"));
/// assert!(!users.matches("user:x"));
/// assert_eq!(users.literal_prefix(), "user:");
/// assert!(Glob::new(&Glob::escape("what?")).matches("what?"));
/// ```
#[derive(Debug, Clone)]
pub struct Glob {
    tokens: Vec<Token>,
    prefix: String,
    matches_empty: bool,
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Star,
    Any,
    Byte(u8),
    Class(ByteSet),
}

impl Glob {
    /// Parses `pattern`; every string is a pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern.as_bytes();
        while let Some((token, tail)) = next_token(rest) {
            if !matches!((token, tokens.last()), (Token::Star, Some(Token::Star))) {
                tokens.push(token);
            }
            rest = tail;
        }
        // Every other token takes a byte, and redis-server tries a `*` on no empty key but by its shortcut for "*".
        let matches_empty = matches!(pattern, "" | "*");
        Self { prefix: literal_prefix(&tokens), tokens, matches_empty }
    }

    /// Whether `key` as a whole matches.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        if key.is_empty() { self.matches_empty } else { self.run(key.as_bytes()) }
    }

    /// What every matching key begins with: the pattern up to its first wildcard, unescaped.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        &self.prefix
    }

    /// The pattern that matches exactly `text`.
    #[must_use]
    pub fn escape(text: &str) -> String {
        let mut pattern = String::with_capacity(text.len());
        for character in text.chars() {
            if matches!(character, '*' | '?' | '[' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern
    }

    /// Only the last `*` ever needs a longer run: what an earlier one could take, the last one can take as well.
    fn run(&self, key: &[u8]) -> bool {
        let (mut token, mut byte) = (0, 0);
        let mut last_star = None;
        loop {
            match (self.tokens.get(token), key.get(byte)) {
                (None, None) => return true,
                (Some(Token::Star), _) if token + 1 == self.tokens.len() => return true,
                (Some(Token::Star), _) => {
                    token += 1;
                    last_star = Some((token, byte));
                }
                (Some(expected), Some(&found)) if expected.accepts(found) => {
                    token += 1;
                    byte += 1;
                }
                _ => match last_star {
                    Some((after, start)) if start < key.len() => {
                        token = after;
                        byte = start + 1;
                        last_star = Some((after, byte));
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Byte(expected) => *expected == byte,
            Self::Class(set) => set.contains(byte),
        }
    }
}

fn literal_prefix(tokens: &[Token]) -> String {
    let literal = tokens.iter().map_while(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None });
    // Wildcards are ASCII, so a literal run ends between characters; an empty prefix would be right as well.
    String::from_utf8(literal.collect()).unwrap_or_default()
}

fn next_token(pattern: &[u8]) -> Option<(Token, &[u8])> {
    Some(match pattern {
        [] => return None,
        [b'*', rest @ ..] => (Token::Star, rest),
        [b'?', rest @ ..] => (Token::Any, rest),
        [b'[', b'^', rest @ ..] => {
            let (set, rest) = class(rest);
            (Token::Class(set.complement()), rest)
        }
        [b'[', rest @ ..] => {
            let (set, rest) = class(rest);
            (Token::Class(set), rest)
        }
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Token::Byte(*byte), rest),
    })
}

/// The members of a class and what follows its `]`.
fn class(mut pattern: &[u8]) -> (ByteSet, &[u8]) {
    let mut set = ByteSet::EMPTY;
    loop {
        pattern = match pattern {
            [] => return (set, pattern),
            [b'\\', byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
            [b']', rest @ ..] => return (set, rest),
            [from, b'-', to, rest @ ..] => {
                set.insert_range(*from, *to);
                rest
            }
            [byte, rest @ ..] => {
                set.insert(*byte);
                rest
            }
        };
    }
}

#[derive(Debug, Clone, Copy)]
struct ByteSet {
    low: u128,
    high: u128,
}

impl ByteSet {
    const EMPTY: Self = Self { low: 0, high: 0 };

    fn insert(&mut self, byte: u8) {
        let half = if byte < 128 { &mut self.low } else { &mut self.high };
        *half |= 1 << (byte % 128);
    }

    fn insert_range(&mut self, one_end: u8, other_end: u8) {
        let (one_end, other_end) = (one_end.cast_signed(), other_end.cast_signed());
        for byte in one_end.min(other_end)..=one_end.max(other_end) {
            self.insert(byte.cast_unsigned());
        }
    }

    fn contains(self, byte: u8) -> bool {
        let half = if byte < 128 { self.low } else { self.high };
        half >> (byte % 128) & 1 == 1
    }

    fn complement(self) -> Self {
        Self { low: !self.low, high: !self.high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pattern, keys that match, keys that do not.
    const RULES: &[(&str, &[&str], &[&str])] = &[
        ("", &[""], &["a"]),
        ("*", &["", "a", "a:b/c", "ü"], &[]),
        ("**", &["a"], &[""]),
        ("a*", &["a", "abc"], &["", "ba"]),
        ("*a", &["a", "ba", "aa"], &["ab"]),
        ("a*c*e", &["ace", "abcde", "accee"], &["acd", "aec"]),
        ("?", &["a"], &["", "ab", "ü"]),
        ("??", &["ü", "ab"], &["a"]),
        ("[abc]", &["a", "c"], &["d", "ab", ""]),
        ("[^abc]", &["d", "^"], &["a", ""]),
        ("[a^]", &["a", "^"], &["b"]),
        ("[a-c]x", &["ax", "cx"], &["dx", "-x"]),
        ("[c-a]", &["a", "b", "c"], &["d"]),
        ("[a-]", &["]", "^", "_", "a"], &["-", "b"]),
        ("[a-", &["a", "-"], &["b"]),
        ("[-a]", &["-", "a"], &["b"]),
        ("[]", &[], &["", "]", "[]"]),
        ("[^]", &["a", "]"], &["", "ab"]),
        ("[]a]", &[], &["a", "]"]),
        ("[", &[], &["", "["]),
        ("[^", &["a", "["], &["", "ab"]),
        ("[ab", &["a", "b"], &["[", "[ab"]),
        ("[\\]]", &["]"], &["\\"]),
        ("[\\", &["\\"], &["["]),
        ("[a\\-c]", &["a", "-", "c"], &["b"]),
        ("\\*", &["*"], &["a", "\\*"]),
        ("a\\", &["a\\"], &["a"]),
        ("\\\\", &["\\"], &["\\\\"]),
        ("]", &["]"], &["a"]),
        ("{a,b}", &["{a,b}"], &["a", "b"]),
    ];

    #[test]
    fn matches_what_redis_matches() {
        for (pattern, matching, others) in RULES {
            let glob = Glob::new(pattern);
            for key in *matching {
                assert!(glob.matches(key), "{pattern:?} must match {key:?}");
            }
            for key in *others {
                assert!(!glob.matches(key), "{pattern:?} must not match {key:?}");
            }
        }
    }

    #[test]
    fn a_pattern_of_many_stars_does_not_explode() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!Glob::new(&pattern).matches(&"a".repeat(20_000)));
    }

    #[test]
    fn the_literal_prefix_is_unescaped_and_ends_at_the_first_wildcard() {
        for (pattern, prefix) in
            [("a:b*c", "a:b"), ("*", ""), ("a\\*b?", "a*b"), ("ü[x]", "ü"), ("whole", "whole"), ("a\\", "a\\")]
        {
            assert_eq!(Glob::new(pattern).literal_prefix(), prefix, "{pattern}");
        }
    }

    #[test]
    fn an_escaped_text_matches_itself_alone() {
        for text in ["", "a*b", "[x]", "a\\b?", "^-]"] {
            let glob = Glob::new(&Glob::escape(text));
            assert!(glob.matches(text), "{text}");
            assert!(!glob.matches(&format!("{text}x")), "{text}");
            assert_eq!(glob.literal_prefix(), text);
        }
    }
}
