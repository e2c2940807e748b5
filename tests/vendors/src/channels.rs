//! The calendars of Airbnb and Booking.com, with the quirks that their real ones have.
//!
//! Sources: exports in the tests of public repositories, as of 2026-08. Airbnb: the end before the start,
//! no `DTSTAMP` in some, a folded description with a link and four digits of a phone number. Booking.com:
//! an escaped comma in `PRODID`, and one summary for bookings and blocks alike.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::state::{Bearer, Call, Shared, Vendor};

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Airbnb.
    Airbnb,
    /// Booking.com.
    Booking,
}

/// What the feed answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// The calendar.
    #[default]
    Well,
    /// A page to log in, with status 200, as an expired address gives.
    Login,
    /// 404.
    Gone,
    /// 503.
    Down,
}

/// Nights that were sold, or blocked by the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Night {
    /// The first night.
    pub from: Date,
    /// The day of departure.
    pub until: Date,
    /// Whether the host blocked them.
    #[serde(default)]
    pub blocked: bool,
}

/// One calendar.
#[derive(Clone, Debug)]
pub struct Feed {
    /// The secret in its address.
    pub token: String,
    /// What it answers.
    pub health: Health,
    /// What is taken.
    pub nights: Vec<Night>,
}

/// All calendars, by channel and listing.
#[derive(Clone, Debug)]
pub struct Channels {
    /// The calendars.
    pub feeds: BTreeMap<(Channel, String), Feed>,
}

impl Default for Channels {
    fn default() -> Self {
        let night = |from: (i8, i8), until: (i8, i8), blocked| Night {
            from: jiff::civil::date(2031, from.0, from.1),
            until: jiff::civil::date(2031, until.0, until.1),
            blocked,
        };
        let feed = |token: &str, nights| Feed {
            token: token.to_owned(),
            health: Health::Well,
            nights,
        };
        let airbnb = vec![
            night((1, 3), (1, 7), false),
            night((1, 7), (1, 8), false),
            night((2, 1), (2, 15), true),
        ];
        let booking = vec![night((1, 12), (1, 14), false), night((3, 2), (3, 5), true)];
        let feeds = [
            ((Channel::Airbnb, "1001"), feed("a1b2c3d4e5f6", airbnb)),
            ((Channel::Booking, "2002"), feed("0f9e8d7c6b5a", booking)),
        ];
        let feeds = feeds.map(|((channel, listing), feed)| ((channel, listing.to_owned()), feed));
        Self {
            feeds: feeds.into(),
        }
    }
}

impl Channels {
    /// The address of a calendar, below that of the server.
    pub fn path(&self, channel: Channel, listing: &str) -> Option<String> {
        let feed = self.feeds.get(&(channel, listing.to_owned()))?;
        Some(match channel {
            Channel::Airbnb => format!("/calendar/ical/{listing}.ics?s={}", feed.token),
            Channel::Booking => format!("/v1/export?t={}&property={listing}", feed.token),
        })
    }
}

/// All that is served.
pub fn router(state: Shared) -> Router {
    Router::new()
        .route("/calendar/ical/{file}", get(airbnb_feed))
        .route("/v1/export", get(booking_feed))
        .with_state(state)
}

#[derive(Deserialize)]
struct Secret {
    #[serde(alias = "s", alias = "t")]
    token: Option<String>,
    property: Option<String>,
}

async fn airbnb_feed(
    State(state): State<Shared>,
    Path(file): Path<String>,
    Query(secret): Query<Secret>,
    headers: HeaderMap,
) -> Response {
    let listing = file.trim_end_matches(".ics").to_owned();
    let path = format!("/calendar/ical/{file}");
    give(
        &state,
        (Channel::Airbnb, listing),
        (path, secret.token),
        &headers,
    )
}

async fn booking_feed(
    State(state): State<Shared>,
    Query(secret): Query<Secret>,
    headers: HeaderMap,
) -> Response {
    let listing = secret.property.unwrap_or_default();
    let path = "/v1/export".to_owned();
    give(
        &state,
        (Channel::Booking, listing),
        (path, secret.token),
        &headers,
    )
}

fn give(
    state: &Shared,
    key: (Channel, String),
    (path, token): (String, Option<String>),
    headers: &HeaderMap,
) -> Response {
    let channel = key.0;
    let found = state.world().channels.feeds.get(&key).cloned();
    let login = "<!doctype html><title>Log in</title><form><input name=\"email\"></form>";
    let response = match found.filter(|feed| token.as_ref() == Some(&feed.token)) {
        None => (StatusCode::NOT_FOUND, Html("<title>Not found</title>")).into_response(),
        Some(feed) => match feed.health {
            Health::Gone => {
                (StatusCode::NOT_FOUND, Html("<title>Not found</title>")).into_response()
            }
            Health::Down => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Health::Login => Html(login).into_response(),
            Health::Well => {
                let text = match channel {
                    Channel::Airbnb => airbnb(&feed.nights),
                    Channel::Booking => booking(&feed.nights),
                };
                (
                    [(header::CONTENT_TYPE, "text/calendar; charset=utf-8")],
                    text,
                )
                    .into_response()
            }
        },
    };
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok());
    let bearer = match authorization {
        None => Bearer::None,
        text => state.bearer(Vendor::Channels, text),
    };
    state.note_call(Call {
        vendor: Vendor::Channels,
        method: "GET".to_owned(),
        path,
        bearer,
        status: response.status().as_u16(),
    });
    response
}

fn day(date: Date) -> String {
    date.strftime("%Y%m%d").to_string()
}

/// A number that stays the same for the same nights, so that the UIDs do.
fn hash(night: &Night, length: usize) -> String {
    let text = format!("{}/{}", night.from, night.until);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut hex = data_encoding::HEXLOWER.encode(digest.as_ref());
    hex.truncate(length);
    hex
}

/// As Airbnb exports a listing.
pub fn airbnb(nights: &[Night]) -> String {
    let mut out = String::from(
        "BEGIN:VCALENDAR\r\nPRODID:-//Airbnb Inc//Hosting Calendar 1.0//EN\r\n\
         CALSCALE:GREGORIAN\r\nVERSION:2.0\r\n",
    );
    for (at, night) in nights.iter().enumerate() {
        let (id, code) = (hash(night, 32), hash(night, 8).to_uppercase());
        out.push_str("BEGIN:VEVENT\r\n");
        // Some have none, although it is required.
        if at % 2 == 0 {
            out.push_str("DTSTAMP:20261130T101500Z\r\n");
        }
        out.push_str(&format!(
            "DTEND;VALUE=DATE:{}\r\nDTSTART;VALUE=DATE:{}\r\nUID:1418fb94e984-{id}@airbnb.com\r\n",
            day(night.until),
            day(night.from),
        ));
        if night.blocked {
            out.push_str("SUMMARY:Airbnb (Not available)\r\n");
        } else {
            out.push_str(&format!(
                "DESCRIPTION:Reservation URL: https://www.airbnb.com/hosting/reservatio\r\n \
                 ns/details/HM{code}\\nPhone Number (Last 4 Digits): 1234\r\nSUMMARY:Reserved\r\n"
            ));
        }
        out.push_str("END:VEVENT\r\n");
    }
    out.push_str("END:VCALENDAR\r\n");
    out
}

/// As Booking.com exports a property.
pub fn booking(nights: &[Night]) -> String {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut out = String::from(
        "BEGIN:VCALENDAR\r\nPRODID:-//admin.booking.com\\, b.v.//NONSGML v1.0//EN\r\n\
         CALSCALE:GREGORIAN\r\nMETHOD:PUBLISH\r\nVERSION:2.0\r\n",
    );
    for night in nights {
        out.push_str(&format!(
            "BEGIN:VEVENT\r\nDTSTAMP:{stamp}\r\nDTSTART;VALUE=DATE:{}\r\nDTEND;VALUE=DATE:{}\r\n\
             UID:{}@booking.com\r\nSUMMARY:CLOSED - Not available\r\nEND:VEVENT\r\n",
            day(night.from),
            day(night.until),
            hash(night, 32),
        ));
    }
    out.push_str("END:VCALENDAR\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_has_its_quirks_and_its_uids_stay() {
        let channels = Channels::default();
        let nights: Vec<Night> = channels
            .feeds
            .values()
            .flat_map(|f| f.nights.clone())
            .collect();
        let text = airbnb(&nights);
        assert_eq!(text, airbnb(&nights));
        assert!(text.contains("DTEND;VALUE=DATE:20310107\r\nDTSTART;VALUE=DATE:20310103\r\n"));
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
        assert!(text.split("\r\n").all(|line| line.len() <= 75));
        assert!(text.matches("DTSTAMP").count() < nights.len());
        let text = booking(&nights);
        assert!(text.contains("admin.booking.com\\, b.v."));
        assert_eq!(
            text.matches("SUMMARY:CLOSED - Not available").count(),
            nights.len()
        );
    }
}
