//! Finds out whether a client has subscribed, across the borders of chunks.

const COMMAND: &[u8] = b"SUBSCRIBE";
/// One byte on either side of the command.
const WINDOW: usize = COMMAND.len() + 2;

/// Looks for `SUBSCRIBE`, `PSUBSCRIBE` or `SSUBSCRIBE` as a word of its own; `UNSUBSCRIBE` is none.
#[derive(Debug)]
pub(super) struct SubscribeScan {
    tail: Vec<u8>,
    pub(super) found: bool,
}

impl Default for SubscribeScan {
    fn default() -> Self {
        Self { tail: b"\n".to_vec(), found: false }
    }
}

impl SubscribeScan {
    pub(super) fn see(&mut self, bytes: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(bytes);
        self.found = self.tail.windows(WINDOW).any(subscribes);
        self.tail.drain(..self.tail.len().saturating_sub(WINDOW - 1));
    }
}

fn subscribes(window: &[u8]) -> bool {
    let [before, command @ .., after] = window else { return false };
    let begins = matches!(before, b'\n' | b'P' | b'p' | b'S' | b's');
    begins && command.eq_ignore_ascii_case(COMMAND) && matches!(after, b'\r' | b'\n' | b' ')
}

#[cfg(test)]
mod tests {
    use super::SubscribeScan;

    fn found(chunks: &[&str]) -> bool {
        let mut scan = SubscribeScan::default();
        chunks.iter().for_each(|chunk| scan.see(chunk.as_bytes()));
        scan.found
    }

    #[test]
    fn every_kind_of_subscription_is_found_in_any_case() {
        for command in ["SUBSCRIBE", "subscribe", "PSubscribe", "SSUBSCRIBE"] {
            assert!(found(&[&format!("*2\r\n${}\r\n{command}\r\n$1\r\na\r\n", command.len())]), "{command}");
            assert!(found(&[&format!("{command} a\r\n")]), "{command}");
        }
    }

    #[test]
    fn a_command_split_anywhere_is_found() {
        let request = "*1\r\n$4\r\nPING\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n";
        for border in 0..request.len() {
            let (first, second) = request.split_at(border);
            assert!(found(&[first, second]), "{border}");
        }
        let bytes: Vec<String> = request.chars().map(String::from).collect();
        assert!(found(&bytes.iter().map(String::as_str).collect::<Vec<_>>()));
    }

    #[test]
    fn other_words_are_not_subscriptions() {
        for request in ["UNSUBSCRIBE\r\n", "$12\r\npunsubscribe\r\n", "GET subscribers\r\n", "$13\r\nkey:subscribe\r\n"]
        {
            assert!(!found(&[request]), "{request}");
        }
    }
}
