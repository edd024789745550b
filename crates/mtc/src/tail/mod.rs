//! `mtc tail`: the log of invalidations, as it grows. Only reads, so that a log nobody has begun is not begun by looking.

mod events;
mod follow;

use std::time::Duration;

use multi_tier_cache::Position;
use multi_tier_cache::defaults::{LOG_PAGE, POLL_INTERVAL, RECONNECT_PAUSE_MAX};
use multi_tier_cache::inspect::{Bus, LogEntry};
use redis::{Value, cmd, pipe};
use tokio::time::sleep;

use self::events::{Event, Shown};
use self::follow::{Follow, Line};
use crate::cli::{Tail, Target};
use crate::connect::Session;
use crate::failure::{Failure, Kind, Verdict};
use crate::interrupt::Interrupt;
use crate::output::{Output, note};
use crate::units::millis;

pub(crate) async fn run(target: &Target, options: &Tail, output: &Output) -> Result<Verdict, Failure> {
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        outcome = follow(target, options, output) => outcome,
        () = interrupt.pressed() => Ok(Verdict::Fine),
    }
}

async fn follow(target: &Target, options: &Tail, output: &Output) -> Result<Verdict, Failure> {
    let mut session = Session::open(target).await?;
    let since = Since::parse(options.since.as_deref())?;
    let mut follow = begin(&mut session, since).await?;
    let at = follow.position();
    output.show(&Shown(Event::Start {
        server: session.server.to_string(),
        log: session.namespace.log().into(),
        at,
    }))?;
    let mut shown = 0;
    if options.count == Some(0) {
        return Ok(Verdict::Fine);
    }
    loop {
        let (bus, lines) = match look(&mut session, &follow).await {
            Ok(found) => found,
            Err(failure) if failure.kind == Kind::Unreachable => {
                reconnect(&mut session, &failure).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let idle = lines.is_empty();
        for event in follow.advance(bus, lines) {
            let is_entry = matches!(event, Event::Entry(_));
            output.show(&Shown(event))?;
            shown += u64::from(is_entry);
            if options.count == Some(shown) {
                return Ok(Verdict::Fine);
            }
        }
        if idle && let Err(failure) = wait(&mut session, &follow).await {
            reconnect(&mut session, &failure).await;
        }
    }
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Behind what the log has now.
    End,
    /// With the first entry that the log has.
    Start,
    Position(Position),
    /// Behind the entry of this number, in the present epoch.
    Number(u64),
}

impl Since {
    fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let Some(text) = text else { return Ok(Self::End) };
        if text == "start" {
            return Ok(Self::Start);
        }
        match (text.parse(), text.parse()) {
            (Ok(number), _) => Ok(Self::Number(number)),
            (_, Ok(position)) => Ok(Self::Position(position)),
            _ => Err(Failure::usage(format!("--since takes a position (m1-…), a number or `start`, not `{text}`"))),
        }
    }
}

async fn begin(session: &mut Session, since: Since) -> Result<Follow, Failure> {
    let end = session.bus().await?.map(|bus| bus.end);
    match since {
        Since::End => Ok(Follow::behind(end)),
        Since::Start => Ok(Follow::from_number(end, 0)),
        Since::Position(position) => Ok(Follow::behind(Some(position))),
        Since::Number(number) => {
            // The entry itself tells the name that the next one must be chained to.
            let id = format!("{number}-0");
            let lines: Lines = session.query(cmd("XRANGE").arg(session.namespace.log()).arg(&id).arg(&id)).await?;
            let entry = lines.into_iter().find_map(|line| Line::from(line).entry);
            Ok(entry.map_or_else(|| Follow::from_number(end, number), |entry| Follow::behind(Some(entry.position()))))
        }
    }
}

/// Entries of a stream: their ids, names of fields and values.
type Lines = Vec<(String, Vec<(String, Vec<u8>)>)>;

impl From<(String, Vec<(String, Vec<u8>)>)> for Line {
    fn from((id, fields): (String, Vec<(String, Vec<u8>)>)) -> Self {
        let message = fields.into_iter().find(|(name, _)| name == "m").map(|(_, message)| message);
        let entry = message.and_then(|message| LogEntry::decode(&id, &message));
        Self { id, entry }
    }
}

/// The state of the namespace, and what the log has next. In this order: what is beyond the end that was told came since.
async fn look(session: &mut Session, follow: &Follow) -> Result<(Option<Bus>, Vec<Line>), Failure> {
    let mut questions = pipe();
    questions.add_command(session.bus_command());
    questions.cmd("XRANGE").arg(session.namespace.log()).arg(format!("({}", follow.last_id())).arg("+");
    questions.arg("COUNT").arg(LOG_PAGE);
    let (bus, lines): ([Option<String>; 5], Lines) = session.pipeline(&questions).await?;
    Ok((Bus::decode(&bus), lines.into_iter().map(Line::from).collect()))
}

/// Until the log has another entry, or it is time to ask whether it was begun anew.
async fn wait(session: &mut Session, follow: &Follow) -> Result<(), Failure> {
    let longest = POLL_INTERVAL.min(session.timeout() / 2).max(Duration::from_millis(1));
    let mut read = cmd("XREAD");
    read.arg("COUNT").arg(1).arg("BLOCK").arg(millis(longest));
    read.arg("STREAMS").arg(session.namespace.log()).arg(follow.last_id());
    session.query::<Value>(&read).await.map(drop)
}

/// Until there is a connection again. What was missed meanwhile is in the log, or is told as a gap.
async fn reconnect(session: &mut Session, failure: &Failure) {
    note(&format!("mtc: {}; trying again\n", failure.message));
    while session.reopen().await.is_err() {
        sleep(RECONNECT_PAUSE_MAX).await;
    }
    note(&format!("mtc: connected to {} again\n", session.server));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_position_a_number_or_the_start() {
        assert_eq!(Since::parse(None), Ok(Since::End));
        assert_eq!(Since::parse(Some("start")), Ok(Since::Start));
        assert_eq!(Since::parse(Some("42")), Ok(Since::Number(42)));
        let position = "m1-00000000000000ff-42-0123456789abcdef";
        assert_eq!(Since::parse(Some(position)), Ok(Since::Position(position.parse().unwrap())));
        for bad in ["", "-1", "end", "m1-1"] {
            assert_eq!(Since::parse(Some(bad)).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
