//! I3: the calendars that the application imports, read by their addresses. Pure but for the asking.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use secrecy::SecretString;

use super::{
    answer::{header, outcome},
    import::CHECKS,
    plan::Fetched,
    read,
};
use crate::{
    ical::{self, Class, Complaint, Rule},
    net::probe::ProbeError,
    phase::integrations::outcome::{Ended, Outcome},
};

/// Most calendars of one application.
pub const MAX_FEEDS: usize = 64;

/// Most calendars that are asked for at the same time: channels refuse crowds.
const WIDTH: usize = 4;

/// What is read of those. A larger one is asked for again, alone: a tenant has many calendars and decides
/// how large they are, and the memory is everybody's.
///
/// Unit: bytes.
const SMALL: usize = 1 << 20;

/// How long the answers of all large calendars of one application are awaited together: they are asked one after
/// the other, and hosts that let their answers drip must not use up the time of the whole set.
const LARGE: Duration = Duration::from_secs(180);

/// A calendar of another channel. Whoever has its address can read it: only the name is shown.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its name, or the number of its place.
    pub name: String,
    /// The host that it is at; HTTPS on port 443.
    pub host: String,
    /// Path and query, with the token of the channel.
    pub path: SecretString,
}

/// An entry of the list that is an address which Golive does not ask, and applications may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unasked {
    /// Its name, or the number of its place.
    pub name: String,
    /// Why not.
    pub why: Why,
}

/// Why an address is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not HTTPS.
    Scheme,
    /// It has another port than 443.
    Port,
    /// It has a user or a password.
    User,
    /// It has an address in numbers, and no name of a host.
    Number,
}

impl Why {
    const fn words(self) -> &'static str {
        match self {
            Self::Scheme => "has an address without https, so it is not asked",
            Self::Port => "has a port other than 443, so it is not asked",
            Self::User => "has a user in its address, so it is not asked",
            Self::Number => "has an IP address instead of a host name, so it is not asked",
        }
    }
}

/// An entry of the list.
pub type Entry = Result<Feed, Unasked>;

/// Why a list of feeds cannot be read. The entry is counted from 1 on, and never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedsFault {
    /// There is none.
    Empty,
    /// There are more than [`MAX_FEEDS`].
    Many,
    /// This entry is no address of a calendar.
    Address(usize),
}

impl fmt::Display for FeedsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the list of calendars is empty"),
            Self::Many => write!(f, "the list has more than {MAX_FEEDS} calendars"),
            Self::Address(entry) => write!(f, "entry {entry} of the list is no https:// address"),
        }
    }
}

/// Reads a list such as `airbnb=https://… booking=https://…`: addresses with or without a name, with blanks
/// or line breaks between.
///
/// # Errors
/// When an entry is no address, or there is none, or too many.
pub fn parse_feeds(text: &str) -> Result<Vec<Entry>, FeedsFault> {
    let feeds: Vec<Entry> = text
        .split_whitespace()
        .take(MAX_FEEDS + 1)
        .enumerate()
        .map(|(at, entry)| feed(at + 1, entry).ok_or(FeedsFault::Address(at + 1)))
        .collect::<Result<_, _>>()?;
    match feeds.len() {
        0 => Err(FeedsFault::Empty),
        1..=MAX_FEEDS => Ok(feeds),
        _ => Err(FeedsFault::Many),
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn feed(number: usize, entry: &str) -> Option<Entry> {
    // An address may have `=` in its query: a name has only letters, digits and few signs.
    let (name, address) = match entry.split_once('=') {
        Some((name, rest)) if !name.is_empty() && name.chars().all(is_of_a_name) => {
            (Some(name), rest)
        }
        _ => (None, entry),
    };
    let url = url::Url::parse(address).ok()?;
    let host = match (url.scheme(), url.host()?) {
        // Some applications take it for another name of http.
        ("http" | "webcal", _) => Err(Why::Scheme),
        ("https", _) if url.port().is_some() => Err(Why::Port),
        ("https", _) if !url.username().is_empty() || url.password().is_some() => Err(Why::User),
        ("https", url::Host::Domain(host)) => Ok(host.to_owned()),
        ("https", _) => Err(Why::Number),
        _ => return None,
    };
    if is_a_list(address) {
        return None;
    }
    let name = name.map_or_else(
        || number.to_string(),
        |name| name.chars().take(32).collect(),
    );
    let query = url.query().map(|query| format!("?{query}"));
    let path = format!("{}{}", url.path(), query.unwrap_or_default());
    Some(match host {
        Ok(host) => Ok(Feed {
            name,
            host,
            path: path.into(),
        }),
        Err(why) => Err(Unasked { name, why }),
    })
}

/// Whether an address is several with commas or semicolons between, or ends with one: as one address it would
/// hide all but the first.
fn is_a_list(address: &str) -> bool {
    let is_next = |rest: &str| {
        let name = rest.split_once("=https://").map(|(name, _)| name);
        let named = name.is_some_and(|name| name.len() <= 64 && name.chars().all(is_of_a_name));
        rest.is_empty() || rest.starts_with("https://") || named
    };
    let mut ends = address.match_indices([',', ';']);
    ends.any(|(at, _)| is_next(&address[at + 1..]))
}

/// What was found of one calendar: how it ended, and why.
type Found = (Ended, String);

/// I3 by the feeds themselves. `fetch` asks for one, and reads at most so many bytes of it; it takes the
/// place of what [`super::check`] says of I3. Several are asked at the same time, and large ones alone, for a
/// bounded time in all.
pub async fn feeds<F, A>(feeds: &[Entry], fetch: F) -> Outcome
where
    F: Fn(Feed, usize) -> A,
    A: Future<Output = Fetched>,
{
    feeds_within(feeds, LARGE, fetch).await
}

/// The same with the time for all large ones.
async fn feeds_within<F, A>(feeds: &[Entry], mut left: Duration, fetch: F) -> Outcome
where
    F: Fn(Feed, usize) -> A,
    A: Future<Output = Fetched>,
{
    let own: Vec<Entry> = feeds.to_vec();
    let asking = own.into_iter().map(|entry| {
        let asked = entry.map(|feed| fetch(feed, SMALL));
        async move {
            match asked {
                Err(unasked) => Some(of_unasked(&unasked)),
                Ok(asked) => match asked.await {
                    Err(ProbeError::TooLarge(_)) => None,
                    fetched => Some(judge(fetched).await),
                },
            }
        }
    });
    let small: Vec<Option<Found>> = stream::iter(asking).buffered(WIDTH).collect().await;
    let mut found: Vec<Found> = Vec::with_capacity(feeds.len());
    for (entry, small) in feeds.iter().zip(small) {
        let name = match entry {
            Ok(feed) => &feed.name,
            Err(unasked) => &unasked.name,
        };
        let (ended, what) = match (small, entry) {
            (Some(found), _) => found,
            (None, Ok(_)) if left.is_zero() => not_in_time(),
            (None, Ok(feed)) => {
                let began = Instant::now();
                let asked = fetch(feed.clone(), ical::MAX_BYTES);
                let asked = tokio::time::timeout(left, asked).await;
                let rest = left.saturating_sub(began.elapsed());
                left = asked.as_ref().map_or(Duration::ZERO, |_| rest);
                match asked {
                    Ok(fetched) => judge(fetched).await,
                    Err(_) => not_in_time(),
                }
            }
            (None, Err(unasked)) => of_unasked(unasked),
        };
        found.push((ended, format!("{name} {what}")));
    }
    conclude(&found)
}

fn of_unasked(unasked: &Unasked) -> Found {
    (Ended::Unproven, unasked.why.words().to_owned())
}

fn not_in_time() -> Found {
    let what = "is large and was not read, because the large calendars together took too long";
    (Ended::Unknown, what.to_owned())
}

/// I3 of what was found of each.
fn conclude(found: &[Found]) -> Outcome {
    let (id, name) = CHECKS[2];
    let has = |ended| found.iter().any(|(each, _)| *each == ended);
    // What is proven comes before what is not known.
    let worst = [
        Ended::Failed,
        Ended::Unknown,
        Ended::Warned,
        Ended::Unproven,
    ];
    let ended = worst.into_iter().find(|ended| has(*ended));
    let ended = ended.unwrap_or(Ended::Passed);
    let told: Vec<&str> = found
        .iter()
        .filter(|(each, _)| *each == ended)
        .map(|(_, what)| what.as_str())
        .collect();
    let evidence = match told.as_slice() {
        [] => "there is none".to_owned(),
        [first] => (*first).to_owned(),
        [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
    };
    let change = match ended {
        Ended::Failed | Ended::Warned => {
            "copy the address of the calendar again from the channel, into the Secret and into the application"
        }
        Ended::Unproven => {
            "leave it out of the Secret that spec.integrations.ical.feedsSecretRef names, or give it an https:// address on port 443 of a host on the public Internet"
        }
        Ended::Unknown => "if it stays so, compare the address with the one that the channel shows",
        Ended::Passed | Ended::Waiting => "",
    };
    outcome(id, name, ended, None, evidence, change.to_owned())
}

/// I3 of a list that cannot be read: nothing is known of the calendars.
pub fn unreadable(fault: FeedsFault) -> Outcome {
    let (id, name) = CHECKS[2];
    let change = "write the value that spec.integrations.ical.feedsSecretRef names as `NAME=https://…`, with blanks or line breaks between the calendars";
    let evidence = fault.to_string();
    outcome(id, name, Ended::Waiting, None, evidence, change.to_owned())
}

/// Whether the answer is a calendar whose nights can be read. Channels are no strict writers: what a lenient
/// reader can do without is no fault here.
async fn judge(fetched: Fetched) -> Found {
    let answer = match fetched {
        Ok(answer) => answer,
        Err(error) => return unanswered(&error),
    };
    match answer.status {
        200 => {}
        404 | 410 => {
            return (
                Ended::Failed,
                format!("answered {}: its address has expired", answer.status),
            );
        }
        status => return (Ended::Unknown, format!("answered {status}")),
    }
    if header(&answer, "content-encoding").is_some_and(|coding| coding != "identity") {
        let what = "answered with a compressed text, which was not asked for";
        return (Ended::Unknown, what.to_owned());
    }
    let Some(calendar) = read(answer.body).await else {
        return (Ended::Unknown, "was not read to the end".to_owned());
    };
    // A long line, such as a picture inside of an event, is left out, and the rest is read.
    let is_left_out =
        |complaint: &Complaint| complaint.rule == Rule::Bounds && complaint.class == Class::Line;
    let breaks = |rule: &Rule| {
        let mut complaints = calendar.complaints.iter();
        complaints.any(|complaint| complaint.rule == *rule && !is_left_out(complaint))
    };
    let fault = [Rule::NotACalendar, Rule::Truncated, Rule::Bounds]
        .into_iter()
        .find(breaks);
    if let Some(rule) = fault {
        let what = match rule {
            Rule::NotACalendar => "is no calendar: its address may have expired",
            Rule::Truncated => "is cut off before END:VCALENDAR",
            _ => "is larger than what is read",
        };
        return (Ended::Failed, what.to_owned());
    }
    let without = calendar.events.iter().find(|event| event.start.is_none());
    match without {
        Some(event) => (
            Ended::Failed,
            format!("has an event without a date in line {}", event.line),
        ),
        None => (
            Ended::Passed,
            format!("has {} events", calendar.events.len()),
        ),
    }
}

/// What it means that there is no answer. The host is part of a secret address: it is not named.
fn unanswered(error: &ProbeError) -> Found {
    let told = match error {
        ProbeError::TooLarge(limit) => {
            return (Ended::Failed, format!("is larger than {limit} bytes"));
        }
        ProbeError::RedirectLoop => (Ended::Failed, "redirects to itself for ever"),
        ProbeError::BadPath | ProbeError::BadToken => {
            (Ended::Failed, "has a path that cannot be requested")
        }
        ProbeError::Redirected => (
            Ended::Warned,
            "redirects to another host or too often, which not every application follows",
        ),
        ProbeError::NotPublic(_) => (
            Ended::Unproven,
            "has a host that is not on the public Internet, so it is not asked",
        ),
        ProbeError::TimedOut(limit) => {
            return (
                Ended::Unknown,
                format!("gave no answer within {} s", limit.as_secs()),
            );
        }
        ProbeError::NotResolved(_) | ProbeError::NoResolver(_) => {
            (Ended::Unknown, "has a host that was not resolved")
        }
        ProbeError::Connect(_) | ProbeError::NoRoute(_) => {
            (Ended::Unknown, "has a host that was not reached")
        }
        ProbeError::Tls(_) | ProbeError::TlsRefused(_) => {
            (Ended::Unknown, "has a host with which TLS fails")
        }
        ProbeError::Closed(_) | ProbeError::Http(_) => (Ended::Unknown, "did not answer with HTTP"),
    };
    (told.0, told.1.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::net::probe::Answer;

    const AIRBNB: &str = "BEGIN:VCALENDAR\r\nPRODID:-//Airbnb Inc//Hosting Calendar 1.0//EN\r\nCALSCALE:GREGORIAN\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nDTEND;VALUE=DATE:20261003\r\nDTSTART;VALUE=DATE:20261001\r\nUID:1418fb94e984@airbnb.com\r\nSUMMARY:Airbnb (Not available)\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    fn answered(status: u16, body: &str) -> Fetched {
        Ok(Answer {
            status,
            headers: hyper::HeaderMap::new(),
            body: body.to_owned().into(),
            took: std::time::Duration::ZERO,
        })
    }

    #[test]
    fn a_list_of_feeds_has_names_and_addresses_that_are_never_shown() {
        let list = "airbnb=https://www.airbnb.com.ar/calendar/ical/1.ics?s=canary\n https://admin.booking.com/x.html?t=canary ";
        let feeds = parse_feeds(list).unwrap();
        let names: Vec<_> = feeds
            .iter()
            .flatten()
            .map(|feed| (feed.name.as_str(), feed.host.as_str()))
            .collect();
        assert_eq!(
            names,
            [("airbnb", "www.airbnb.com.ar"), ("2", "admin.booking.com")]
        );
        assert_eq!(
            feeds[0].as_ref().unwrap().path.expose_secret(),
            "/calendar/ical/1.ics?s=canary"
        );
        assert!(!format!("{feeds:?}").contains("canary"));
        assert_eq!(parse_feeds(" \n").unwrap_err(), FeedsFault::Empty);
        assert_eq!(
            parse_feeds(&"https://h.example/ ".repeat(65)).unwrap_err(),
            FeedsFault::Many
        );
        for bad in ["file:///etc/passwd", "https://", "x=", "canary"] {
            let fault = parse_feeds(&format!("https://h.example/ {bad}")).unwrap_err();
            assert_eq!(fault, FeedsFault::Address(2), "{bad}");
            assert!(!fault.to_string().contains("canary"));
        }
    }

    #[tokio::test]
    async fn a_calendar_that_is_not_asked_is_unproven_by_its_name_and_hides_no_other() {
        for (address, why) in [
            ("http://h.example/canary", Why::Scheme),
            ("webcal://h.example/canary", Why::Scheme),
            ("https://h.example:8443/canary", Why::Port),
            ("https://canary@h.example/x", Why::User),
            ("https://127.0.0.1/canary", Why::Number),
            ("https://[::1]/canary", Why::Number),
        ] {
            let list = parse_feeds(&format!("own={address} b=https://h.example/1")).unwrap();
            let name = "own".to_owned();
            assert_eq!(list[0].as_ref().unwrap_err(), &Unasked { name, why });
            let with = async |status: u16| {
                let fetch = |_: Feed, _: usize| std::future::ready(answered(status, AIRBNB));
                feeds(&list, fetch).await
            };
            let alone = with(200).await;
            assert_eq!(alone.ended, Ended::Unproven, "{address}");
            assert_eq!(alone.evidence, format!("own {}", why.words()));
            assert_eq!(with(404).await.ended, Ended::Failed, "the other one");
        }
    }

    #[tokio::test]
    async fn a_feed_is_read_as_leniently_as_an_application_must_read_it() {
        let list = parse_feeds("a=https://h.example/1 b=https://h.example/2").unwrap();
        let with = async |second: Fetched| {
            feeds(&list, |feed, _limit| {
                let is_first = feed.name == "a";
                let answer = if is_first {
                    answered(200, AIRBNB)
                } else {
                    second.clone()
                };
                async { answer }
            })
            .await
        };
        let mut encoded = answered(200, AIRBNB);
        if let Ok(answer) = &mut encoded {
            let gzip = hyper::header::HeaderValue::from_static("gzip");
            answer.headers.insert("content-encoding", gzip);
        }
        for (second, ended) in [
            (answered(200, AIRBNB), Ended::Passed),
            (answered(200, &AIRBNB.replace("\r\n", "\n")), Ended::Passed),
            (
                answered(200, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n"),
                Ended::Passed,
            ),
            (answered(200, "<html>"), Ended::Failed),
            (
                answered(200, &AIRBNB.replace("END:VCALENDAR\r\n", "")),
                Ended::Failed,
            ),
            (
                answered(200, &AIRBNB.replace("20261001", "soon")),
                Ended::Failed,
            ),
            (answered(404, ""), Ended::Failed),
            // Channels refuse strangers and crowds.
            (answered(403, ""), Ended::Unknown),
            (answered(429, ""), Ended::Unknown),
            (answered(503, ""), Ended::Unknown),
            (encoded, Ended::Unknown),
            (
                Err(ProbeError::Connect("h.example".to_owned())),
                Ended::Unknown,
            ),
            (
                Err(ProbeError::NotPublic("h.example".to_owned())),
                Ended::Unproven,
            ),
            (Err(ProbeError::Redirected), Ended::Warned),
            (Err(ProbeError::TooLarge(8)), Ended::Failed),
        ] {
            let outcome = with(second.clone()).await;
            assert_eq!((outcome.id, outcome.ended), ("I3", ended), "{second:?}");
            assert!(
                ended == Ended::Passed || outcome.evidence.starts_with("b "),
                "{outcome:?}"
            );
            assert!(!outcome.evidence.contains("h.example"), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn of_large_calendars_one_is_held_at_a_time_and_all_are_read() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let list = "https://h.example/x ".repeat(MAX_FEEDS);
        let list = parse_feeds(&list).unwrap();
        let more = format!("X-NOTE:{}\r\n", "y".repeat(60)).repeat(SMALL / 60);
        let large = AIRBNB.replace("SUMMARY", &format!("{more}SUMMARY"));
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcome = feeds(&list, async |_, limit| {
            let now = held.fetch_add(limit, Ordering::SeqCst) + limit;
            most.fetch_max(now, Ordering::SeqCst);
            tokio::task::yield_now().await;
            held.fetch_sub(limit, Ordering::SeqCst);
            match large.len() <= limit {
                true => answered(200, &large),
                false => Err(ProbeError::TooLarge(limit)),
            }
        });
        assert_eq!(outcome.await.ended, Ended::Passed);
        let most = most.into_inner();
        assert!(most <= ical::MAX_BYTES, "{most} bytes at the same time");
    }

    #[tokio::test]
    async fn large_calendars_that_drip_use_up_only_the_time_of_large_calendars() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let list = "https://h.example/x ".repeat(MAX_FEEDS);
        let list = parse_feeds(&list).unwrap();
        let asked = AtomicUsize::new(0);
        let drips = async |_: Feed, limit: usize| -> Fetched {
            if limit == SMALL {
                return Err(ProbeError::TooLarge(limit));
            }
            asked.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        };
        let outcome = feeds_within(&list, Duration::from_millis(20), drips).await;
        assert_eq!(outcome.ended, Ended::Unknown, "{outcome:?}");
        assert!(
            outcome.evidence.contains("together took too long"),
            "{outcome:?}"
        );
        assert_eq!(asked.into_inner(), 1, "the others are not asked");
    }

    #[tokio::test]
    async fn a_long_line_of_a_feed_is_no_fault_of_its_channel() {
        // RFC 5545, 3.8.1.1: a picture of the cabin inside of the event.
        let picture = format!(
            "ATTACH;FMTTYPE=image/jpeg;ENCODING=BASE64;VALUE=BINARY:{}\r\n",
            "QUJD".repeat(30_000)
        );
        let list = parse_feeds("a=https://h.example/1").unwrap();
        let with = AIRBNB.replace("SUMMARY", &format!("{picture}SUMMARY"));
        let outcome = feeds(&list, async |_, _| answered(200, &with)).await;
        assert_eq!(outcome.ended, Ended::Passed, "{outcome:?}");
        // Too many events are: the rest of them was not read.
        let deep = AIRBNB.replace("BEGIN:VEVENT", &"BEGIN:X\r\n".repeat(9));
        let outcome = feeds(&list, async |_, _| answered(200, &deep)).await;
        assert_eq!(outcome.ended, Ended::Failed, "{outcome:?}");
    }

    #[test]
    fn a_list_with_commas_is_no_single_address() {
        for list in [
            "a=https://h.example/1?s=x,b=https://h.example/2?s=y",
            "https://h.example/1,https://h.example/2",
            "https://h.example/1;https://h.example/2",
            "a=https://h.example/1,",
        ] {
            let fault = parse_feeds(list).unwrap_err();
            assert_eq!(fault, FeedsFault::Address(1), "{list}");
        }
        let own = "https://h.example/x?dates=1,2&of=https://other.example/a";
        assert_eq!(parse_feeds(own).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_worst_feed_decides_and_of_a_list_that_cannot_be_read_nothing_is_known() {
        let list = "a=https://h.example/1 https://h.example/2 c=https://h.example/3";
        let list = parse_feeds(list).unwrap();
        let outcome = feeds(&list, async |feed: Feed, _limit| match feed.name.as_str() {
            "a" => answered(503, ""),
            "2" => answered(404, ""),
            _ => answered(410, ""),
        });
        let outcome = outcome.await;
        assert_eq!(outcome.ended, Ended::Failed);
        assert_eq!(
            outcome.evidence,
            "2 answered 404: its address has expired; and 1 more"
        );
        let fault = parse_feeds("https://h.example/1 canary").unwrap_err();
        let outcome = unreadable(fault);
        assert_eq!((outcome.id, outcome.ended), ("I3", Ended::Waiting));
        assert!(outcome.evidence.starts_with("entry 2 "), "{outcome:?}");
    }
}
